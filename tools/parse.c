#include "tools/parse.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SECONDS_MAX 1e9 /* thirty years; keeps every conversion to nanoseconds in range */

static int bad_size(const char *what, const char *text, struct error *err)
{
    return error_set(err, -EINVAL, "%s: '%s' is not a size; say it like 512M or 2G", what, text);
}

static int unit_shift(const char *unit)
{
    static const char letters[] = "KMGT";
    const char *at;

    if (!*unit)
        return 20;
    at = strchr(letters, *unit & ~0x20);
    if (!at || !*at)
        return -1;
    if (unit[1] && strcasecmp(unit + 1, "B") != 0 && strcasecmp(unit + 1, "iB") != 0)
        return -1;
    return 10 * (int)(at - letters + 1);
}

/* strtoull() takes signs and blanks; a value of ours starts with a digit. */
static int digits(const char *text, uint64_t *value, char **end)
{
    if (*text < '0' || *text > '9')
        return -EINVAL;
    errno = 0;
    *value = strtoull(text, end, 10);
    return errno ? -ERANGE : 0;
}

int parse_size(const char *what, const char *text, uint64_t *bytes, struct error *err)
{
    uint64_t value;
    char *unit;
    int code = digits(text, &value, &unit);
    int shift;

    if (code == -EINVAL)
        return bad_size(what, text, err);
    shift = unit_shift(unit);
    if (shift < 0)
        return bad_size(what, text, err);
    if (code || value > UINT64_MAX >> shift)
        return error_set(err, -EINVAL, "%s: '%s' is more than an address can name", what, text);
    *bytes = value << shift;
    return 0;
}

int parse_number(const char *what, const char *text, uint64_t min, uint64_t max, uint64_t *out,
                 struct error *err)
{
    uint64_t value;
    char *end;

    if (digits(text, &value, &end) || *end || value < min || value > max)
        return error_set(err, -EINVAL,
                         "%s: '%s' does not do; give a number from %" PRIu64 " to %" PRIu64, what,
                         text, min, max);
    *out = value;
    return 0;
}

static double unit_seconds(const char *unit)
{
    static const struct {
        const char *name;
        double seconds;
    } units[] = { { "", 1 }, { "s", 1 }, { "ms", 1e-3 }, { "m", 60 }, { "h", 3600 } };

    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (!strcmp(unit, units[i].name))
            return units[i].seconds;
    }
    return 0;
}

int parse_seconds(const char *what, const char *text, double *seconds, struct error *err)
{
    char *unit = NULL;
    double value = 0;

    /* No signs, blanks, hexadecimal, "inf" or "nan", all of which strtod() takes. */
    if (strspn(text, "0123456789.") > 0 && text[1] != 'x' && text[1] != 'X')
        value = strtod(text, &unit);
    if (unit)
        value *= unit_seconds(unit);
    if (!unit || !(value > 0) || value > SECONDS_MAX)
        return error_set(err, -EINVAL,
                         "%s: '%s' is not a time; say it like 10, 0.5, 500ms or 2m, more than 0",
                         what, text);
    *seconds = value;
    return 0;
}
