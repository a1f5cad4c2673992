/* Guest memory: sizes, backings, the hole, and the gate with every kind of bad range. */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/hugepages.h"
#include "vmm/memory.h"

#define MIB (UINT64_C(1) << 20)

static struct memory *make(uint64_t bytes, enum mem_backing backing)
{
    struct memory *mem = NULL;
    struct error err = { "" };
    int rc = memory_create(&mem, bytes, backing, &err);

    if (rc == -ENOMEM) {
        print_message("skipped: %s\n", err.text);
        skip();
    }
    if (rc < 0)
        fail_msg("%s", err.text);
    return mem;
}

static void refused(uint64_t bytes, enum mem_backing backing, const char *word)
{
    struct memory *mem = NULL;
    struct error err = { "" };

    assert_true(memory_create(&mem, bytes, backing, &err) < 0);
    assert_null(mem);
    if (!strstr(err.text, word))
        fail_msg("'%s' does not say '%s'", err.text, word);
    assert_null(strchr(err.text, '\n'));
}

static void names_round_trip(void **state)
{
    struct error err;
    enum mem_backing b;

    (void)state;
    for (int i = 0; i <= MEM_HUGETLB_1G; i++) {
        assert_non_null(mem_backing_name((enum mem_backing)i));
        assert_int_equal(mem_backing_parse(mem_backing_name((enum mem_backing)i), &b, &err), 0);
        assert_int_equal(b, i);
    }
    assert_null(mem_backing_name((enum mem_backing)(MEM_HUGETLB_1G + 1)));
    assert_int_equal(mem_backing_parse("hugetlb", &b, &err), -EINVAL);
    assert_non_null(strstr(err.text, "hugetlb-2m"));
    assert_int_equal(mem_backing_parse("", &b, &err), -EINVAL);
}

static void bad_sizes_are_refused(void **state)
{
    (void)state;
    refused(0, MEM_ANON, "0 bytes");
    refused(4095, MEM_ANON, "multiple");
    refused(MIB + 1, MEM_MEMFD, "multiple");
    refused(3 * MIB, MEM_HUGETLB_2M, "2 MiB");
    refused(512 * MIB, MEM_HUGETLB_1G, "1 GiB");
    refused(UINT64_MAX & ~UINT64_C(4095), MEM_ANON, "more than");
    refused(UINT64_C(1) << 63, MEM_ANON, "more than");
    refused(UINT64_C(1) << 50, MEM_ANON, "more than");
    refused(MIB, (enum mem_backing)77, "backing");
}

static void more_than_the_host_has(void **state)
{
    FILE *file = fopen("/proc/sys/vm/overcommit_memory", "re");
    int mode = file ? fgetc(file) : EOF;

    (void)state;
    if (file)
        (void)fclose(file);
    if (mode != '0' && mode != '2') {
        print_message("skipped: vm.overcommit_memory lets any mapping through\n");
        skip();
    }
    refused(UINT64_C(7) << 40, MEM_ANON, "more than this host");
}

static void fresh_memory_is_zero_and_writable(void **state)
{
    const enum mem_backing backings[] = { MEM_ANON, MEM_THP, MEM_MEMFD };

    (void)state;
    for (size_t b = 0; b < 3; b++) {
        struct memory *mem = make(8 * MIB, backings[b]);
        size_t count;
        const struct mem_slot *slot = memory_slots(mem, &count);
        uint64_t value = 1;

        assert_int_equal(count, 1);
        assert_int_equal(slot->base.v, 0);
        assert_int_equal(slot->size, 8 * MIB);
        assert_int_equal(slot->backing, backings[b]);
        assert_int_equal((uintptr_t)slot->host % PAGE_SIZE_2M, 0);
        assert_int_equal(memory_size(mem), 8 * MIB);
        assert_int_equal(memory_read(mem, gpa(8 * MIB - 8), &value, 8), 0);
        assert_int_equal(value, 0);
        value = UINT64_C(0x1122334455667788);
        assert_int_equal(memory_write(mem, gpa(8 * MIB - 8), &value, 8), 0);
        assert_memory_equal(memory_at(mem, gpa(8 * MIB - 8), 8), &value, 8);
        memory_destroy(mem);
    }
}

static void ram_goes_around_the_hole(void **state)
{
    struct memory *mem = make(MEMORY_HOLE_START + 16 * MIB, MEM_ANON);
    uint8_t byte = 0x5a, back = 0;
    const struct mem_slot *slot;
    size_t count;

    (void)state;
    slot = memory_slots(mem, &count);
    assert_int_equal(count, 2);
    assert_int_equal(slot[0].size, MEMORY_HOLE_START);
    assert_int_equal(slot[1].base.v, MEMORY_HOLE_END);
    assert_int_equal(slot[1].size, 16 * MIB);
    assert_int_equal(((uintptr_t)slot[1].host - slot[1].base.v) % PAGE_SIZE_2M, 0);

    assert_non_null(memory_at(mem, gpa(MEMORY_HOLE_START - 1), 1));
    assert_null(memory_at(mem, gpa(MEMORY_HOLE_START - 1), 2));
    assert_null(memory_at(mem, gpa(MEMORY_HOLE_START), 1));
    assert_null(memory_at(mem, gpa(MEMORY_HOLE_END - 1), 1));
    assert_null(memory_at(mem, gpa(MEMORY_HOLE_END - 1), 2));
    assert_int_equal(memory_write(mem, gpa(MEMORY_HOLE_END), &byte, 1), 0);
    assert_int_equal(memory_read(mem, gpa(MEMORY_HOLE_END), &back, 1), 0);
    assert_int_equal(back, 0x5a);
    assert_int_equal(memory_write(mem, gpa(MEMORY_HOLE_END + 16 * MIB), &byte, 1), -EFAULT);
    memory_destroy(mem);
}

/* The last size without a high slot, and the first one with it. */
static void the_hole_starts_at_3_gib(void **state)
{
    struct memory *mem = make(MEMORY_HOLE_START, MEM_ANON);
    size_t count;

    (void)state;
    (void)memory_slots(mem, &count);
    assert_int_equal(count, 1);
    memory_destroy(mem);
    mem = make(MEMORY_HOLE_START + PAGE_SIZE_4K, MEM_ANON);
    assert_int_equal(memory_slots(mem, &count)[1].size, PAGE_SIZE_4K);
    assert_int_equal(count, 2);
    memory_destroy(mem);
}

static void the_gate_refuses_bad_ranges(void **state)
{
    struct memory *mem = make(MIB, MEM_ANON);
    char buf[16] = "untouched";

    (void)state;
    assert_null(memory_at(mem, gpa(0), 0));
    assert_non_null(memory_at(mem, gpa(0), MIB));
    assert_null(memory_at(mem, gpa(0), MIB + 1));
    assert_null(memory_at(mem, gpa(1), MIB));
    assert_null(memory_at(mem, gpa(MIB), 1));
    assert_null(memory_at(mem, gpa(UINT64_MAX), 1));
    assert_null(memory_at(mem, gpa(UINT64_MAX), 2)); /* wraps to 0 */
    assert_null(memory_at(mem, gpa(4096), UINT64_MAX));
    assert_null(memory_at(mem, gpa(4096), UINT64_MAX - 4095)); /* ends at 0 */
    assert_int_equal(memory_read(mem, gpa(MIB - 4), buf, 8), -EFAULT);
    assert_string_equal(buf, "untouched");
    assert_int_equal(memory_write(mem, gpa(MIB - 4), buf, 8), -EFAULT);
    assert_int_equal(*(char *)memory_at(mem, gpa(MIB - 4), 1), 0);
    assert_int_equal(memory_read(mem, gpa(UINT64_MAX - 3), buf, 8), -EFAULT);
    assert_int_equal(memory_read(mem, gpa(0), buf, UINT64_MAX), -EFAULT);
    assert_int_equal(memory_read(mem, gpa(0), buf, 0), 0);
    memory_destroy(mem);
}

/* The gate against an oracle that looks at each byte by itself. */
static void the_gate_agrees_with_bytes(void **state)
{
    const uint64_t high = 3 * PAGE_SIZE_4K;
    struct memory *mem = make(MEMORY_HOLE_START + high, MEM_ANON);
    const uint64_t near[] = { 0, MEMORY_HOLE_START, MEMORY_HOLE_END, MEMORY_HOLE_END + high };

    (void)state;
    for (size_t i = 0; i < sizeof(near) / sizeof(near[0]); i++) {
        for (int delta = -9; delta <= 9; delta++) {
            for (uint64_t len = 1; len <= 12; len++) {
                uint64_t at = near[i] + (uint64_t)delta;
                bool all = true;

                for (uint64_t b = at; b != at + len; b++)
                    all = all && (b < MEMORY_HOLE_START ||
                                  (b >= MEMORY_HOLE_END && b < MEMORY_HOLE_END + high));
                /* A range that wraps from the top to RAM at 0 is no range of one slot. */
                if (at + len < at)
                    all = false;
                assert_int_equal(memory_at(mem, gpa(at), len) != NULL, all);
            }
        }
    }
    memory_destroy(mem);
}

static void missing_huge_pages_are_counted(void **state)
{
    const enum mem_backing backings[] = { MEM_HUGETLB_2M, MEM_HUGETLB_1G };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        uint64_t page = mem_backing_page(backings[i]);
        struct hugepages pool;
        char missing[64];

        if (hugepages_read(page, &pool) < 0) {
            refused(page, backings[i], "none of that size");
            continue;
        }
        /* Three more than there are. */
        (void)snprintf(missing, sizeof(missing), "free, 3 missing: echo %" PRIu64 " > ",
                       pool.total + 3);
        refused((pool.free - pool.reserved + 3) * page, backings[i], missing);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_round_trip),
        cmocka_unit_test(bad_sizes_are_refused),
        cmocka_unit_test(more_than_the_host_has),
        cmocka_unit_test(fresh_memory_is_zero_and_writable),
        cmocka_unit_test(ram_goes_around_the_hole),
        cmocka_unit_test(the_hole_starts_at_3_gib),
        cmocka_unit_test(the_gate_refuses_bad_ranges),
        cmocka_unit_test(the_gate_agrees_with_bytes),
        cmocka_unit_test(missing_huge_pages_are_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
