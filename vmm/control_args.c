#include "vmm/control_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* strtoull() would take blanks, signs and an empty string. */
static bool parse_u64(const char *text, uint64_t *value)
{
    bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    char *end;

    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    *value = strtoull(text, &end, hex ? 16 : 10); /* which takes the 0x itself, once */
    return errno == 0 && *end == '\0';
}

int control_get_u64(const json_t *arguments, const char *key, bool needed, uint64_t *value,
                    struct error *err)
{
    const json_t *got = json_object_get(arguments, key);

    if (!got)
        return needed ? error_set(err, -EINVAL, "\"%s\" is missing", key) : 0;
    if (json_is_integer(got) && json_integer_value(got) >= 0) {
        *value = (uint64_t)json_integer_value(got);
        return 0;
    }
    if (json_is_string(got) && parse_u64(json_string_value(got), value))
        return 0;
    return error_set(err, -EINVAL, "\"%s\" is no number: give 4096 or \"0x1000\"", key);
}

int control_get_bool(const json_t *arguments, const char *key, bool *value, struct error *err)
{
    const json_t *got = json_object_get(arguments, key);

    if (got && !json_is_boolean(got))
        return error_set(err, -EINVAL, "\"%s\" is neither true nor false", key);
    if (got)
        *value = json_is_true(got);
    return 0;
}

int control_get_string(const json_t *arguments, const char *key, const char **value,
                       struct error *err)
{
    const json_t *got = json_object_get(arguments, key);

    if (got && !json_is_string(got))
        return error_set(err, -EINVAL, "\"%s\" is no string", key);
    if (got)
        *value = json_string_value(got);
    return 0;
}

json_t *control_hex(uint64_t value)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "0x%" PRIx64, value);
    return json_string(text);
}

json_t *control_number(uint64_t value)
{
    return json_integer((json_int_t)value);
}
