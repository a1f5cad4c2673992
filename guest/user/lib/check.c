/*
 * Checks of a test program: silent when true.
 */
#include "guest/user/lib/lib.h"

static unsigned failed;

bool check(bool ok, const char *fmt, ...)
{
    char line[256];
    va_list ap;

    if (ok)
        return true;
    failed++;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    printf("%s: check failed: %s\n", program_name(), line);
    return false;
}

int check_end(void)
{
    return failed > 0;
}
