/* What the map learns from the host, against memory whose pages the test has made. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "vmm/numa.h"
#include "vmm/pages.h"
#include "vmm/uapi.h"

#define MIB  (UINT64_C(1) << 20)
#define PAGE PAGE_SIZE_4K
#define RAM  (16 * MIB)

static struct memory *mem;
static struct pages *pages;
static uint8_t *ram;

static void on_fail(void *ctx, const char *why)
{
    (void)ctx;
    fail_msg("the fault thread failed: %s", why);
}

static void make(enum mem_backing backing, enum populate populate)
{
    const struct pages_config cfg = { .populate = populate, .fault_around = PAGE };
    struct error err = { "" };

    if (memory_create(&mem, RAM, backing, &err) < 0)
        fail_msg("%s", err.text);
    if (pages_create(&pages, mem, &cfg, on_fail, NULL, &err) < 0) {
        print_message("skipped: %s\n", err.text);
        skip();
    }
    ram = memory_at(mem, gpa(0), RAM);
}

static int unmake(void **state)
{
    (void)state;
    pages_destroy(pages);
    memory_destroy(mem);
    pages = NULL;
    mem = NULL;
    return 0;
}

static void is(uint64_t at, enum gp_state state, unsigned shift)
{
    struct gp_page page;

    /* Who waited for the page is woken by the ioctl that brings it, and the map is told after that,
     * both under its lock. */
    gpmap_lock(pages_map(pages));
    gpmap_unlock(pages_map(pages));
    assert_int_equal(gpmap_get(pages_map(pages), gpa(at), &page), 0);
    assert_int_equal(page.state, state);
    if (state == GP_PRESENT)
        assert_int_equal(page.shift, shift);
}

static void learn(void)
{
    assert_int_equal(pages_learn(pages, gpa(0), RAM), 0);
}

static void pages_come_and_go(void **state)
{
    struct gpmap_stats s;

    (void)state;
    make(MEM_ANON, POPULATE_KERNEL);
    learn();
    is(0, GP_UNTOUCHED, 0);
    ram[0] = ram[5 * PAGE] = 1;
    (void)*(volatile uint8_t *)(ram + 7 * PAGE);
    /* Only what is asked for. */
    assert_int_equal(pages_learn(pages, gpa(0), 5 * PAGE), 0);
    is(0, GP_PRESENT, 12);
    is(5 * PAGE, GP_UNTOUCHED, 0);
    learn();
    is(5 * PAGE, GP_PRESENT, 12);
    is(7 * PAGE, GP_ZERO, 12);
    gpmap_stats(pages_map(pages), &s);
    assert_int_equal(s.bytes[GP_PRESENT], 2 * PAGE);
    assert_int_equal(s.bytes[GP_ZERO], PAGE);
    assert_int_equal(s.bytes[GP_UNTOUCHED], RAM - 3 * PAGE);
    /* A zero page is written, another page discarded. */
    ram[7 * PAGE] = 1;
    assert_int_equal(madvise(ram, PAGE, MADV_DONTNEED), 0);
    learn();
    is(0, GP_UNTOUCHED, 0);
    is(7 * PAGE, GP_PRESENT, 12);
    /* No RAM: nothing to learn, nothing wrong. */
    assert_int_equal(pages_learn(pages, gpa(RAM), PAGE), 0);
    assert_int_equal(pages_learn(pages, gpa(~PAGE + 1), 2 * PAGE), 0);
}

static void a_file_keeps_what_is_not_mapped(void **state)
{
    (void)state;
    make(MEM_MEMFD, POPULATE_KERNEL);
    ram[0] = ram[600 * PAGE] = 1;
    learn();
    is(0, GP_PRESENT, 12);
    is(1 * PAGE, GP_UNTOUCHED, 0);
    assert_int_equal(madvise(ram, RAM, MADV_DONTNEED), 0);
    learn();
    is(0, GP_PRESENT, 12);
    is(600 * PAGE, GP_PRESENT, 12);
    is(601 * PAGE, GP_UNTOUCHED, 0);
    assert_int_equal(madvise(ram, PAGE, MADV_REMOVE), 0);
    learn();
    is(0, GP_UNTOUCHED, 0);
    is(600 * PAGE, GP_PRESENT, 12);
}

static void huge_pages_are_split_and_made(void **state)
{
    (void)state;
    make(MEM_THP, POPULATE_KERNEL);
    memset(ram, 1, 4 * MIB);
    if (madvise(ram, 4 * MIB, MADV_COLLAPSE) < 0) {
        print_message("skipped: no huge page can be had: %s\n", strerror(errno));
        skip();
    }
    learn();
    is(0, GP_PRESENT, 21);
    is(2 * MIB, GP_PRESENT, 21);
    /* Or khugepaged might be faster than the next look. */
    assert_int_equal(madvise(ram, 2 * MIB, MADV_NOHUGEPAGE), 0);
    assert_int_equal(madvise(ram + PAGE, PAGE, MADV_DONTNEED), 0);
    learn();
    is(0, GP_PRESENT, 12);
    is(PAGE, GP_UNTOUCHED, 0);
    is(2 * MIB, GP_PRESENT, 21);
    ram[PAGE] = 1;
    learn();
    is(PAGE, GP_PRESENT, 12);
    assert_int_equal(madvise(ram, 2 * MIB, MADV_HUGEPAGE), 0);
    assert_int_equal(madvise(ram, 2 * MIB, MADV_COLLAPSE), 0);
    learn();
    is(PAGE, GP_PRESENT, 21);
}

/* There the map knows better, but for zero pages that the kernel has replaced. */
static void managed_pages_are_never_lost(void **state)
{
    (void)state;
    make(MEM_ANON, POPULATE_LAZY);
    (void)*(volatile uint8_t *)ram;
    ram[PAGE] = 1;
    learn();
    is(0, GP_ZERO, 12);
    is(PAGE, GP_PRESENT, 12);
    is(2 * PAGE, GP_UNTOUCHED, 0);
    ram[0] = 1;
    assert_int_equal(madvise(ram + PAGE, PAGE, MADV_DONTNEED), 0);
    learn();
    is(0, GP_PRESENT, 12);
    is(PAGE, GP_PRESENT, 12);
    /* And it is served again, rather than waited for. */
    assert_int_equal(ram[PAGE], 0);
}

/* Taken over while pages are there already. */
static void a_range_becomes_managed(void **state)
{
    struct error err = { "" };

    (void)state;
    make(MEM_ANON, POPULATE_KERNEL);
    ram[3 * PAGE] = 9;
    if (pages_manage(pages, gpa(0), 8 * PAGE, &err) < 0) {
        print_message("skipped: %s\n", err.text);
        skip();
    }
    is(3 * PAGE, GP_PRESENT, 12);
    is(4 * PAGE, GP_UNTOUCHED, 0);
    assert_int_equal(ram[3 * PAGE], 9);
    ram[4 * PAGE] = 1;
    is(4 * PAGE, GP_PRESENT, 12);
    assert_true(pages_managed(pages, gpa(0), 8 * PAGE));
    assert_false(pages_managed(pages, gpa(0), 9 * PAGE));
}

/* --- NUMA: what is asked for, and what is there ------------------------------------ */

static void numa_words(void **state)
{
    static const struct {
        const char *text;
        enum numa_policy policy;
        uint64_t nodes;
    } good[] = {
        { "local", NUMA_LOCAL, 0 },
        { "bind:0", NUMA_BIND, 1 },
        { "bind:0,2-4,63", NUMA_BIND, UINT64_C(0x800000000000001d) },
        { "interleave:1-1", NUMA_INTERLEAVE, 2 },
        { "preferred:5", NUMA_PREFERRED, 32 },
    };
    static const char *const bad[] = {
        "",        "bind",     "bind:",         "bind:,",        "bind:0,",
        "bind:1-", "bind:2-1", "bind:x",        "bind:-1",       "bind:64",
        "bind:0 ", "local:",   "local:0",       "Bind:0",        "bin:0",
        "binds:0", ":0",       "preferred:0,1", "preferred:0-1", "bind:99999999999999999999",
    };
    struct numa_place place;
    struct error err;
    char buf[64];

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(numa_parse(good[i].text, &place, &err), 0);
        assert_int_equal(place.policy, good[i].policy);
        assert_true(place.nodes == good[i].nodes);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (numa_parse(bad[i], &place, &err) != -EINVAL)
            fail_msg("'%s' was taken", bad[i]);
    assert_string_equal(numa_nodes_name(UINT64_C(0x800000000000001d), buf, sizeof(buf)),
                        "0,2-4,63");
    assert_string_equal(numa_nodes_name(0, buf, sizeof(buf)), "");
    assert_true(strlen(numa_nodes_name(UINT64_C(0x5555555555555555), buf, 8)) < 8);
}

static void numa_counts(void **state)
{
    uint64_t bytes[NUMA_NODES_MAX], sum = 0, nodes = numa_nodes();
    struct numa_config cfg = { .places = 1,
                               .place = { { .policy = NUMA_BIND, .nodes = UINT64_C(1) << 63 } } };
    struct error err = { "" };

    (void)state;
    make(MEM_ANON, POPULATE_KERNEL);
    if (!nodes || numa_usage(mem, bytes) < 0) {
        print_message("skipped: this kernel knows no NUMA\n");
        skip();
    }
    if (!(nodes >> 63))
        assert_int_equal(numa_place(mem, &cfg, &err), -EINVAL);
    cfg.place[0].nodes = nodes & -nodes;
    cfg.place[0].base = gpa(2 * MIB);
    cfg.place[0].size = RAM;
    assert_int_equal(numa_place(mem, &cfg, &err), -EINVAL);
    cfg.place[0].size = 4 * MIB;
    assert_int_equal(numa_place(mem, &cfg, &err), 0);
    memset(ram + 2 * MIB, 1, 4 * MIB);
    assert_int_equal(numa_usage(mem, bytes), 0);
    assert_int_equal(bytes[__builtin_ctzll(nodes)], 4 * MIB);
    for (size_t n = 0; n < NUMA_NODES_MAX; n++)
        sum += bytes[n];
    assert_int_equal(sum, 4 * MIB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(pages_come_and_go, unmake),
        cmocka_unit_test_teardown(a_file_keeps_what_is_not_mapped, unmake),
        cmocka_unit_test_teardown(huge_pages_are_split_and_made, unmake),
        cmocka_unit_test_teardown(managed_pages_are_never_lost, unmake),
        cmocka_unit_test_teardown(a_range_becomes_managed, unmake),
        cmocka_unit_test(numa_words),
        cmocka_unit_test_teardown(numa_counts, unmake),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
