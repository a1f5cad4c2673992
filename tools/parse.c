#include "tools/parse.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SECONDS_MAX 1e9 /* thirty years; keeps every conversion to nanoseconds in range */

static int bad_size(const char *what, const char *text, struct error *err)
{
    return error_set(err, -EINVAL, "%s: '%s' is not a size; say it like 512M or 2G", what, text);
}

/* "K", "MiB"...: its power of two, and where it ends; 0 when there is none. */
static int unit_shift(const char *text, const char **end)
{
    static const char letters[] = "KMGT";
    const char *at = *text ? strchr(letters, *text & ~0x20) : NULL;

    *end = text;
    if (!at || !*at)
        return 0;
    *end = text + 1;
    if (!strncasecmp(*end, "iB", 2))
        *end += 2;
    else if (!strncasecmp(*end, "B", 1))
        *end += 1;
    return 10 * (int)(at - letters + 1);
}

/* strtoull() takes signs and blanks, and 0x twice; a value of ours starts with a digit. */
static int digits(const char *text, int base, uint64_t *value, char **end)
{
    *value = 0;
    if (*text < '0' || *text > '9')
        return -EINVAL;
    errno = 0;
    *value = strtoull(text, end, base);
    return errno ? -ERANGE : 0;
}

int parse_size(const char *what, const char *text, uint64_t *bytes, struct error *err)
{
    uint64_t value;
    const char *rest;
    char *unit;
    int code = digits(text, 10, &value, &unit), shift;

    if (code == -EINVAL)
        return bad_size(what, text, err);
    shift = *unit ? unit_shift(unit, &rest) : 20;
    if (*unit && (!shift || *rest))
        return bad_size(what, text, err);
    if (code || value > UINT64_MAX >> shift)
        return error_set(err, -EINVAL, "%s: '%s' is more than an address can name", what, text);
    *bytes = value << shift;
    return 0;
}

int parse_address(const char *what, const char *text, uint64_t *value, const char **end,
                  struct error *err)
{
    bool hex = text[0] == '0' && (text[1] | 0x20) == 'x';
    const char *rest;
    char *after;
    int shift = 0;

    if (digits(text, hex ? 16 : 10, value, &after))
        goto bad;
    rest = after;
    if (!hex)
        shift = unit_shift(after, &rest);
    if (*value > UINT64_MAX >> shift || (!end && *rest))
        goto bad;
    *value <<= shift;
    if (end)
        *end = rest;
    return 0;
bad:
    return error_set(err, -EINVAL, "%s: '%s' is no address; say it like 0x200000 or 64M", what,
                     text);
}

int parse_range(const char *what, const char *text, uint64_t *first, uint64_t *size,
                struct error *err)
{
    const char *at = text;
    uint64_t second;
    bool plus;
    int rc = parse_address(what, text, first, &at, err);

    if (rc < 0)
        return rc;
    if (*at != '-' && *at != '+')
        return error_set(err, -EINVAL, "%s: '%s' is no range; say it like 0-64M or 0x100000+4K",
                         what, text);
    plus = *at == '+';
    rc = parse_address(what, at + 1, &second, NULL, err);
    if (rc < 0)
        return rc;
    if (plus ? !second || second - 1 > UINT64_MAX - *first : second <= *first)
        return error_set(err, -EINVAL, "%s: '%s' is empty or ends beyond all addresses", what,
                         text);
    *size = plus ? second : second - *first;
    return 0;
}

int parse_number(const char *what, const char *text, uint64_t min, uint64_t max, uint64_t *out,
                 struct error *err)
{
    uint64_t value;
    char *end;

    if (digits(text, 10, &value, &end) || *end || value < min || value > max)
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
