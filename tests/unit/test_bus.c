/* The buses: who answers an address, at the ends of ranges and of the spaces. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/bus.h"

/* A device that remembers its last access and answers with a pattern. */
struct recorder {
    uint64_t offset, value, answer;
    unsigned size, reads, writes;
};

static uint64_t on_read(void *dev, uint64_t offset, unsigned size)
{
    struct recorder *r = dev;

    r->offset = offset;
    r->size = size;
    r->reads++;
    return r->answer;
}

static void on_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct recorder *r = dev;

    r->offset = offset;
    r->size = size;
    r->value = value;
    r->writes++;
}

static const struct bus_ops both = { .read = on_read, .write = on_write };
static const struct bus_ops deaf = { .read = NULL, .write = NULL };

static struct bus *make(void)
{
    struct bus *bus = NULL;
    struct error err;

    assert_int_equal(bus_create(&bus, &err), 0);
    return bus;
}

static void an_access_reaches_its_device(void **state)
{
    struct bus *bus = make();
    struct recorder a = { .answer = UINT64_C(0xffeeddccbbaa9988) }, b = { .answer = 7 };
    struct error err;
    uint64_t value;

    (void)state;
    assert_int_equal(bus_add(bus, BUS_PIO, 0x3f8, 8, &both, &a, "a", &err), 0);
    assert_int_equal(bus_add(bus, BUS_MMIO, 0x3f8, 8, &both, &b, "b", &err), 0);
    assert_true(bus_read(bus, BUS_PIO, 0x3fc, 2, &value));
    assert_int_equal(value, 0x9988); /* no more bits than were asked for */
    assert_int_equal(a.offset, 4);
    assert_int_equal(a.size, 2);
    assert_true(bus_read(bus, BUS_PIO, 0x3f8, 8, &value));
    assert_int_equal(value, UINT64_C(0xffeeddccbbaa9988));
    assert_true(bus_write(bus, BUS_MMIO, 0x3ff, 1, 0x1234));
    assert_int_equal(b.value, 0x34);
    assert_int_equal(b.offset, 7);
    assert_int_equal(a.writes, 0);
    bus_destroy(bus);
}

static void ends_of_a_range(void **state)
{
    struct bus *bus = make();
    struct recorder r = { .answer = 0 };
    struct error err;
    uint64_t value;

    (void)state;
    assert_int_equal(bus_add(bus, BUS_PIO, 0x100, 4, &both, &r, "r", &err), 0);
    assert_false(bus_read(bus, BUS_PIO, 0xff, 1, &value));
    assert_int_equal(value, 0xff);
    assert_false(bus_read(bus, BUS_PIO, 0xff, 2, &value)); /* runs into it from below */
    assert_int_equal(value, 0xffff);
    assert_true(bus_read(bus, BUS_PIO, 0x100, 4, &value));
    assert_false(bus_read(bus, BUS_PIO, 0x101, 4, &value)); /* runs over its end */
    assert_int_equal(value, 0xffffffff);
    assert_false(bus_write(bus, BUS_PIO, 0x103, 2, 1));
    assert_false(bus_read(bus, BUS_PIO, 0x104, 1, &value));
    assert_false(bus_read(bus, BUS_PIO, 0x104, 8, &value));
    assert_int_equal(value, UINT64_MAX);
    assert_int_equal(r.reads, 1);
    assert_int_equal(r.writes, 0);
    assert_int_equal(bus_unclaimed(bus), 6);
    bus_destroy(bus);
}

static void ends_of_the_spaces(void **state)
{
    struct bus *bus = make();
    struct recorder r = { .answer = 1 };
    struct error err;
    uint64_t value;

    (void)state;
    assert_int_equal(bus_add(bus, BUS_PIO, 0xffff, 1, &both, &r, "last port", &err), 0);
    assert_int_equal(bus_add(bus, BUS_MMIO, UINT64_MAX - 7, 8, &both, &r, "top", &err), 0);
    assert_int_equal(bus_add(bus, BUS_MMIO, 0, 1, &both, &r, "bottom", &err), 0);
    assert_true(bus_read(bus, BUS_PIO, 0xffff, 1, &value));
    assert_false(bus_read(bus, BUS_PIO, 0xffff, 2, &value));
    assert_true(bus_read(bus, BUS_MMIO, UINT64_MAX, 1, &value));
    assert_false(bus_read(bus, BUS_MMIO, UINT64_MAX, 2, &value)); /* wraps */
    assert_true(bus_read(bus, BUS_MMIO, UINT64_MAX - 7, 8, &value));
    bus_destroy(bus);
}

static void bad_ranges_are_refused(void **state)
{
    struct bus *bus = make();
    struct error err;

    (void)state;
    assert_int_equal(bus_add(bus, BUS_PIO, 0x10, 0, &both, NULL, "x", &err), -EINVAL);
    assert_int_equal(bus_add(bus, BUS_PIO, 0xfff8, 9, &both, NULL, "x", &err), -EINVAL);
    assert_int_equal(bus_add(bus, BUS_PIO, 0x10000, 1, &both, NULL, "x", &err), -EINVAL);
    assert_int_equal(bus_add(bus, BUS_MMIO, UINT64_MAX, 2, &both, NULL, "x", &err), -EINVAL);
    assert_int_equal(bus_add(bus, BUS_MMIO, 1, UINT64_MAX, &both, NULL, "all", &err), 0);
    bus_destroy(bus);
}

static void overlaps_are_refused(void **state)
{
    struct bus *bus = make();
    struct error err;

    (void)state;
    assert_int_equal(bus_add(bus, BUS_PIO, 0x20, 0x10, &both, NULL, "first", &err), 0);
    assert_int_equal(bus_add(bus, BUS_PIO, 0x2f, 1, &both, NULL, "second", &err), -EEXIST);
    assert_non_null(strstr(err.text, "first"));
    assert_non_null(strstr(err.text, "second"));
    assert_int_equal(bus_add(bus, BUS_PIO, 0x1f, 2, &both, NULL, "x", &err), -EEXIST);
    assert_int_equal(bus_add(bus, BUS_PIO, 0x10, 0x40, &both, NULL, "x", &err), -EEXIST);
    assert_int_equal(bus_add(bus, BUS_PIO, 0x24, 2, &both, NULL, "x", &err), -EEXIST);
    assert_int_equal(bus_add(bus, BUS_PIO, 0x1f, 1, &both, NULL, "below", &err), 0);
    assert_int_equal(bus_add(bus, BUS_PIO, 0x30, 1, &both, NULL, "above", &err), 0);
    bus_destroy(bus);
}

static void an_op_that_is_missing(void **state)
{
    struct bus *bus = make();
    struct error err;
    uint64_t value;

    (void)state;
    assert_int_equal(bus_add(bus, BUS_MMIO, 0x1000, 0x1000, &deaf, NULL, "deaf", &err), 0);
    assert_true(bus_read(bus, BUS_MMIO, 0x1000, 4, &value));
    assert_int_equal(value, 0xffffffff);
    assert_true(bus_write(bus, BUS_MMIO, 0x1000, 4, 0));
    assert_int_equal(bus_unclaimed(bus), 0);
    bus_destroy(bus);
}

/* Many ranges added in a random order, each address against a plain table. */
static void lookup_agrees_with_a_table(void **state)
{
    enum { RANGES = 40, SPAN = 1024 };
    static struct recorder dev[RANGES];
    struct bus *bus = make();
    struct error err;
    int owner[SPAN];

    (void)state;
    srand(1);
    memset(owner, -1, sizeof(owner));
    for (int i = 0; i < RANGES; i++) {
        unsigned base = (unsigned)rand() % SPAN, length = 1 + (unsigned)rand() % 16;
        bool free = true;
        int rc;

        if (base + length > SPAN)
            length = SPAN - base;
        for (unsigned a = base; a < base + length; a++)
            free = free && owner[a] < 0;
        dev[i].answer = (uint64_t)i;
        rc = bus_add(bus, BUS_PIO, base, length, &both, &dev[i], "range", &err);
        assert_int_equal(rc, free ? 0 : -EEXIST);
        for (unsigned a = base; free && a < base + length; a++)
            owner[a] = i;
    }
    for (unsigned a = 0; a < SPAN; a++) {
        for (unsigned size = 1; size <= 8; size *= 2) {
            uint64_t value;
            bool one = a + size <= SPAN && owner[a] >= 0;

            for (unsigned b = 1; one && b < size; b++)
                one = owner[a + b] == owner[a];
            assert_int_equal(bus_read(bus, BUS_PIO, a, size, &value), one);
            if (one)
                assert_int_equal(value, owner[a]);
        }
    }
    bus_destroy(bus);
}

/* A register that shares its addresses with others by the width of the access. */
static void an_exact_access_comes_first(void **state)
{
    struct bus *bus = make();
    struct recorder wide = { .answer = UINT32_MAX }, byte = { .answer = 2 }, rest = { .answer = 3 };
    struct bus_range_stat stat[4];
    struct error err;
    uint64_t value;

    (void)state;
    assert_int_equal(bus_add_exact(bus, BUS_PIO, 0xcf8, 4, &both, &wide, "wide", &err), 0);
    assert_int_equal(bus_add(bus, BUS_PIO, 0xcf9, 1, &both, &byte, "byte", &err), 0);
    assert_true(bus_read(bus, BUS_PIO, 0xcf8, 4, &value));
    assert_int_equal(value, UINT32_MAX);
    assert_true(bus_read(bus, BUS_PIO, 0xcf9, 1, &value));
    assert_int_equal(value, 2);
    assert_false(bus_read(bus, BUS_PIO, 0xcf8, 1, &value));
    assert_false(bus_read(bus, BUS_PIO, 0xcf8, 2, &value));
    assert_false(bus_write(bus, BUS_PIO, 0xcf8, 8, 0));
    assert_false(bus_write(bus, BUS_PIO, 0xcfa, 4, 0));
    assert_false(bus_read(bus, BUS_MMIO, 0xcf8, 4, &value));
    assert_true(bus_write(bus, BUS_PIO, 0xcf8, 4, 5));
    assert_int_equal(wide.value, 5);
    assert_int_equal(bus_add(bus, BUS_PIO, 0xcfa, 6, &both, &rest, "rest", &err), 0);
    assert_true(bus_read(bus, BUS_PIO, 0xcfa, 2, &value)); /* a range may lie below it */
    assert_int_equal(bus_stats(bus, stat, 4), 3);
    assert_string_equal(stat[2].name, "wide");
    assert_int_equal(stat[2].length, 4);
    assert_int_equal(stat[2].reads + stat[2].writes, 2);
    assert_int_equal(bus_add_exact(bus, BUS_PIO, 0xcf8, 4, &both, &rest, "x", &err), -EEXIST);
    assert_non_null(strstr(err.text, "wide"));
    assert_int_equal(bus_add_exact(bus, BUS_PIO, 0xfffe, 4, &both, &rest, "x", &err), -EINVAL);
    assert_int_equal(bus_add_exact(bus, BUS_PIO, 0xcf8, 1, &both, &rest, "b", &err), 0);
    assert_int_equal(bus_add_exact(bus, BUS_PIO, 0xcf8, 2, &both, &rest, "c", &err), -ENOSPC);
    bus_destroy(bus);
}

static void a_full_bus_says_so(void **state)
{
    struct bus *bus = make();
    struct error err;
    int rc = 0;
    uint64_t base = 0;

    (void)state;
    while (rc == 0 && base < 1000)
        rc = bus_add(bus, BUS_PIO, base++, 1, &both, NULL, "many", &err);
    assert_int_equal(rc, -ENOSPC);
    bus_destroy(bus);
}

static void accesses_are_counted(void **state)
{
    struct bus *bus = make();
    struct recorder r = { .answer = 0 };
    struct bus_range_stat stat[4];
    struct error err;
    uint64_t value;

    (void)state;
    assert_int_equal(bus_add(bus, BUS_MMIO, 0x2000, 0x10, &both, &r, "m", &err), 0);
    assert_int_equal(bus_add(bus, BUS_PIO, 0x20, 2, &both, &r, "p", &err), 0);
    for (int i = 0; i < 3; i++)
        (void)bus_read(bus, BUS_PIO, 0x20, 1, &value);
    (void)bus_write(bus, BUS_MMIO, 0x2000, 4, 1);
    assert_int_equal(bus_stats(bus, stat, 4), 2);
    assert_string_equal(stat[0].name, "p");
    assert_int_equal(stat[0].reads, 3);
    assert_int_equal(stat[0].writes, 0);
    assert_string_equal(stat[1].name, "m");
    assert_int_equal(stat[1].base, 0x2000);
    assert_int_equal(stat[1].length, 0x10);
    assert_int_equal(stat[1].writes, 1);
    stat[1].name = "kept";
    assert_int_equal(bus_stats(bus, stat, 1), 2); /* tells how many there are, fills one */
    assert_string_equal(stat[1].name, "kept");
    assert_int_equal(bus_stats(bus, NULL, 0), 2);
    bus_destroy(bus);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_access_reaches_its_device),
        cmocka_unit_test(ends_of_a_range),
        cmocka_unit_test(ends_of_the_spaces),
        cmocka_unit_test(bad_ranges_are_refused),
        cmocka_unit_test(overlaps_are_refused),
        cmocka_unit_test(an_op_that_is_missing),
        cmocka_unit_test(lookup_agrees_with_a_table),
        cmocka_unit_test(a_full_bus_says_so),
        cmocka_unit_test(accesses_are_counted),
        cmocka_unit_test(an_exact_access_comes_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
