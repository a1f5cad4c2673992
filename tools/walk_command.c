#include "tools/walk_command.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/parse.h"

static int bad_address(const char *what, const char *text, const char *why, struct error *err)
{
    return error_set(err, -EINVAL, "%s '%.60s': %s", what, text, why);
}

int walk_parse_address(const char *what, const char *text, uint64_t *out, struct error *err)
{
    bool prefix = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    const char *from = prefix ? text + 2 : text;
    bool hex = prefix || from[strcspn(from, "abcdefABCDEF")] != '\0';
    char digits[32];
    size_t n = 0;

    for (const char *c = from; *c; c++) {
        bool between = c > from && isxdigit((unsigned char)c[-1]) && isxdigit((unsigned char)c[1]);

        if (*c == '_' && between)
            continue;
        if (!(hex ? isxdigit((unsigned char)*c) : isdigit((unsigned char)*c)))
            return bad_address(what, text, "is no address; give 0x7ffd12345678", err);
        if (n + 1 >= sizeof(digits))
            return bad_address(what, text, "is wider than 64 bits", err);
        digits[n++] = *c;
    }
    digits[n] = '\0';
    if (n == 0)
        return bad_address(what, text, "is no address; give 0x7ffd12345678", err);
    if (!hex && n > 1 && digits[0] == '0')
        return bad_address(what, text, "could be hexadecimal; write 0x in front of it, or no zeros",
                           err);
    errno = 0;
    *out = strtoull(digits, NULL, hex ? 16 : 10);
    return errno ? bad_address(what, text, "is wider than 64 bits", err) : 0;
}

int walk_add_address(json_t *arguments, const char *key, const char *what, const char *text,
                     struct error *err)
{
    uint64_t value = 0;
    char hex[24];
    int rc = walk_parse_address(what, text, &value, err);

    if (rc < 0)
        return rc;
    (void)snprintf(hex, sizeof(hex), "0x%" PRIx64, value);
    return json_object_set_new(arguments, key, json_string(hex));
}

int walk_add_number(json_t *arguments, const char *key, const char *what, const char *text,
                    uint64_t max, struct error *err)
{
    uint64_t value = 0;
    int rc = parse_number(what, text, 0, max, &value, err);

    return rc < 0 ? rc : json_object_set_new(arguments, key, json_integer((json_int_t)value));
}

int walk_status(int code)
{
    return code == -EINVAL ? STATUS_USAGE : STATUS_FAILED;
}
