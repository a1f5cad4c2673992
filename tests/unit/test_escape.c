/* The Ctrl-A keys: every way to split the same keys into reads gives the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/escape.h"

/* What comes out of `in`: the bytes for the guest, with H and X where help and leave were. */
static void feed(struct escape *e, const char *in, size_t len, size_t room, char *seen)
{
    size_t end = strlen(seen);

    while (len) {
        unsigned char out[64];
        size_t used, n;
        enum escape_action what =
            escape_feed(e, (const unsigned char *)in, len, &used, out, room, &n);

        assert_true(used > 0 && used <= len && n <= room);
        memcpy(seen + end, out, n);
        end += n;
        if (what != ESCAPE_NONE)
            seen[end++] = what == ESCAPE_HELP ? 'H' : 'X';
        in += used;
        len -= used;
    }
    seen[end] = 0;
}

static const struct {
    const char *keys, *seen;
} cases[] = {
    { "plain", "plain" },   { "a\001hb", "aHb" },     { "a\001xb", "aXb" },
    { "\001\001", "\001" }, { "\001\001x", "\001x" }, { "\001\001\001x", "\001X" },
    { "\001cd", "\001cd" }, { "\001", "" },           { "\001h\001h\001x", "HHX" },
};

static void keys_in_all_splits(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t len = strlen(cases[i].keys);

        for (size_t cut = 0; cut <= len; cut++) {
            for (size_t room = 2; room < 8; room++) {
                struct escape e = { 0 };
                char seen[64] = "";

                feed(&e, cases[i].keys, cut, room, seen);
                feed(&e, cases[i].keys + cut, len - cut, room, seen);
                assert_string_equal(seen, cases[i].seen);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(keys_in_all_splits) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
