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

int error_of_kernel(int code)
{
    switch (code) {
    case -EINVAL:
    case -ENOEXEC:
    case -E2BIG:
    case -EFBIG:
    case -ERANGE:
    case -ENAMETOOLONG:
        return -EIO;
    default:
        return code;
    }
}
