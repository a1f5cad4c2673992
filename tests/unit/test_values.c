/*
 * Values as people type them and as they are shown to people: options' sizes, addresses, ranges,
 * numbers and times; bytes and seconds as text. Expectations are arithmetic.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tools/parse.h"
#include "tools/table.h"

#define COUNT(all) (sizeof(all) / sizeof((all)[0]))
#define GIB        (UINT64_C(1) << 30)

struct good {
    const char *text;
    uint64_t value;
};

static void sizes(void **state)
{
    static const struct good good[] = {
        { "0", 0 },           { "1", 1 << 20 },         { "512M", 512 << 20 },
        { "4k", 4096 },       { "4KiB", 4096 },         { "4kb", 4096 },
        { "2G", 2 * GIB },    { "3t", 3 * 1024 * GIB }, { "16777215T", UINT64_C(16777215) << 40 },
        { "017M", 17 << 20 }, /* never octal */
    };
    static const char *const bad[] = { "",
                                       " 1",
                                       "-1",
                                       "+1",
                                       "M",
                                       "1X",
                                       "1KK",
                                       "1Ki",
                                       "1KiBx",
                                       "1 M",
                                       "0x10",
                                       "1.5G",
                                       "1M ",
                                       "1\x0b",
                                       "1*",
                                       "16777216T",
                                       "18446744073709551616",
                                       "17592186044416" };
    struct error err;
    uint64_t value;

    (void)state;
    for (size_t i = 0; i < COUNT(good); i++) {
        assert_int_equal(parse_size("--x", good[i].text, &value, &err), 0);
        assert_int_equal(value, good[i].value);
    }
    for (size_t i = 0; i < COUNT(bad); i++)
        if (parse_size("--x", bad[i], &value, &err) != -EINVAL || !strstr(err.text, "--x"))
            fail_msg("'%s' was taken, or not explained", bad[i]);
}

static void addresses(void **state)
{
    static const struct good good[] = {
        { "0", 0 },
        { "4096", 4096 },
        { "0x1000", 4096 },
        { "0XfF", 255 },
        { "64K", 65536 },
        { "3GiB", 3 * GIB },
        { "0x0", 0 },
        { "0xb", 11 },
        { "0xffffffffffffffff", UINT64_MAX },
        { "010", 10 },
        { "18446744073709551615", UINT64_MAX },
    };
    static const char *const bad[] = { "",
                                       " 0",
                                       "-1",
                                       "+1",
                                       "0x",
                                       "0x 1",
                                       "0x-1",
                                       "0x+1",
                                       "0x0x1000",
                                       "0x0X1",
                                       "x10",
                                       "0xg",
                                       "ff",
                                       "1.5",
                                       "1KK",
                                       "0x1K",
                                       "16777216T",
                                       "0x10000000000000000",
                                       "18446744073709551616" };
    const char *end = NULL;
    struct error err;
    uint64_t value;

    (void)state;
    for (size_t i = 0; i < COUNT(good); i++) {
        assert_int_equal(parse_address("x", good[i].text, &value, NULL, &err), 0);
        assert_int_equal(value, good[i].value);
    }
    for (size_t i = 0; i < COUNT(bad); i++)
        if (parse_address("x", bad[i], &value, NULL, &err) != -EINVAL)
            fail_msg("'%s' was taken", bad[i]);
    assert_int_equal(parse_address("x", "64K-1M", &value, &end, &err), 0);
    assert_int_equal(value, 65536);
    assert_string_equal(end, "-1M");
}

static void ranges(void **state)
{
    static const struct {
        const char *text;
        uint64_t first, size;
    } good[] = {
        { "0-64M", 0, 64 << 20 },
        { "0x100000+4K", 0x100000, 4096 },
        { "4096-4097", 4096, 1 },
        { "0xffffffffffffffff+1", UINT64_MAX, 1 },
        { "0+0xffffffffffffffff", 0, UINT64_MAX },
    };
    static const char *const bad[] = { "",
                                       "0",
                                       "0-",
                                       "-4K",
                                       "0-0",
                                       "4K-4K",
                                       "8K-4K",
                                       "0+0",
                                       "2+0xffffffffffffffff",
                                       "0x0x1-0x2000",
                                       "0-0x0x2000",
                                       "0x-4K",
                                       "0-64Mx",
                                       "0-1-2",
                                       "0 - 4K",
                                       "0xffffffffffffffff+2" };
    uint64_t first, size;
    struct error err;

    (void)state;
    for (size_t i = 0; i < COUNT(good); i++) {
        assert_int_equal(parse_range("x", good[i].text, &first, &size, &err), 0);
        assert_int_equal(first, good[i].first);
        assert_int_equal(size, good[i].size);
    }
    for (size_t i = 0; i < COUNT(bad); i++)
        if (parse_range("x", bad[i], &first, &size, &err) != -EINVAL)
            fail_msg("'%s' was taken", bad[i]);
}

static void numbers_and_times(void **state)
{
    static const char *const bad_number[] = { "",   "0",  "9",   "2x",
                                              "+2", " 2", "0x2", "18446744073709551618" };
    static const char *const bad_time[] = { "",     "0",   "-1",   "+1",   " 1",      "1 s", "x",
                                            ".",    "0x5", "00x5", "inf",  "nan",     "1d",  "1ss",
                                            "1e99", "s",   "0ms",  "0.0h", "1000001h" };
    static const struct {
        const char *text;
        double seconds;
    } times[] = { { "10", 10 },     { "0.5", 0.5 }, { ".25s", 0.25 },
                  { "500ms", 0.5 }, { "2m", 120 },  { "1h", 3600 } };
    struct error err;
    uint64_t value;
    double seconds;

    (void)state;
    assert_int_equal(parse_number("x", "8", 1, 8, &value, &err), 0);
    assert_int_equal(value, 8);
    for (size_t i = 0; i < COUNT(bad_number); i++)
        if (parse_number("x", bad_number[i], 1, 8, &value, &err) != -EINVAL)
            fail_msg("'%s' was taken", bad_number[i]);
    for (size_t i = 0; i < COUNT(times); i++) {
        assert_int_equal(parse_seconds("x", times[i].text, &seconds, &err), 0);
        assert_true(seconds == times[i].seconds);
    }
    for (size_t i = 0; i < COUNT(bad_time); i++)
        if (parse_seconds("x", bad_time[i], &seconds, &err) != -EINVAL)
            fail_msg("'%s' was taken", bad_time[i]);
}

/* Three digits or so, and never 1024 of a unit or 60.0 s where there is a next one. */
static void as_text(void **state)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } bytes[] = {
        { 0, "0" },
        { 1, "1 bytes" },
        { 1023, "1023 bytes" },
        { 1024, "1 KiB" },
        { 1536, "1.5 KiB" },
        { (1 << 20) - 1, "1.0 MiB" },
        { 1000 * 1024, "1000 KiB" },
        { 1000 * 1024 - 1, "1000 KiB" },
        { 1023 * 1024, "1023 KiB" },
        { 512 << 20, "512 MiB" },
        { UINT64_MAX, "16 EiB" },
    };
    static const struct {
        double seconds;
        const char *text;
    } times[] = {
        { 0, "0 us" },          { 850e-6, "850 us" },    { 999.4e-6, "999 us" },
        { 999.7e-6, "1.0 ms" }, { 12.34e-3, "12.3 ms" }, { 0.99994, "999.9 ms" },
        { 0.99996, "1.0 s" },   { 4.2, "4.2 s" },        { 59.94, "59.9 s" },
        { 59.96, "1m 0s" },     { 200, "3m 20s" },       { 3599.6, "1h 0m" },
        { 7260, "2h 1m" },      { 183600, "2d 3h" },
    };
    char buf[32];

    (void)state;
    for (size_t i = 0; i < COUNT(bytes); i++)
        assert_string_equal(format_bytes(bytes[i].bytes, buf, sizeof(buf)), bytes[i].text);
    for (size_t i = 0; i < COUNT(times); i++)
        assert_string_equal(format_seconds(times[i].seconds, buf, sizeof(buf)), times[i].text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),   cmocka_unit_test(addresses),
        cmocka_unit_test(ranges),  cmocka_unit_test(numbers_and_times),
        cmocka_unit_test(as_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
