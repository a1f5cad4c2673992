#include "vmm/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

int error_set(struct error *err, int code, const char *fmt, ...)
{
    va_list ap;

    if (code >= 0)
        code = -EIO;
    if (!err)
        return code;
    va_start(ap, fmt);
    (void)vsnprintf(err->text, sizeof(err->text), fmt, ap);
    va_end(ap);
    return code;
}

bool error_is_usage(int code)
{
    switch (code) {
    case -EINVAL:
    case -ENOEXEC:
    case -E2BIG:
    case -EFBIG:
    case -ERANGE:
    case -ENAMETOOLONG:
        return true;
    default:
        return false;
    }
}

int error_of_kernel(int code)
{
    return error_is_usage(code) ? -EIO : code;
}
