/*
 * Tracking, with threads of our own in place of a guest: exactly what the test touches is accessed,
 * exactly what it writes through the gate is dirty, and no content is ever lost.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/track_impl.h"

#define MIB   (UINT64_C(1) << 20)
#define PAGE  PAGE_SIZE_4K
#define RAM   (16 * MIB)
#define PAGES (RAM / PAGE)

static struct memory *mem;
static struct pages *pages;
static struct track *track;
static uint8_t *ram;

static void on_fail(void *ctx, const char *why)
{
    (void)ctx;
    fail_msg("the fault thread failed: %s", why);
}

static void make(enum mem_backing backing, const struct pages_config *cfg)
{
    struct error err = { "" };

    if (memory_create(&mem, RAM, backing, &err) < 0) {
        print_message("skipped: %s\n", err.text);
        skip();
    }
    if (pages_create(&pages, mem, cfg, on_fail, NULL, &err) < 0 ||
        track_create(&track, pages, -1, &err) < 0)
        fail_msg("%s", err.text);
    ram = memory_at(mem, gpa(0), RAM);
    assert_non_null(ram);
}

static int unmake(void **state)
{
    (void)state;
    pages_destroy(pages);
    track_destroy(track);
    memory_destroy(mem);
    pages = NULL;
    track = NULL;
    mem = NULL;
    return 0;
}

/* Starts watching, or skips where this kernel can't. */
static void watch(uint64_t at, uint64_t len)
{
    struct error err = { "" };
    int rc = track_start(track, TRACK_ACCESSED, gpa(at), len, &err);

    if (rc == -ENOTSUP || rc == -EPERM) {
        print_message("skipped: %s\n", err.text);
        skip();
    }
    if (rc < 0)
        fail_msg("%s", err.text);
}

static void clear(unsigned what, uint64_t at, uint64_t len)
{
    struct error err = { "" };

    if (track_clear(track, what, gpa(at), len, &err) < 0)
        fail_msg("%s", err.text);
}

static int add_flagged(void *ctx, gpa_t at, uint64_t len, const struct gp_page *page)
{
    uint64_t *sums = ctx;

    (void)at;
    sums[0] += page->flags & GP_ACCESSED ? len : 0;
    sums[1] += page->flags & GP_DIRTY ? len : 0;
    sums[2] += page->flags & GP_WATCHED ? len : 0;
    return 0;
}

static uint64_t flagged(unsigned which, uint64_t at, uint64_t len)
{
    uint64_t sums[3] = { 0 };

    assert_int_equal(gpmap_runs(pages_map(pages), gpa(at), len, add_flagged, sums), 0);
    return sums[which];
}
#define ACCESSED 0
#define DIRTY    1
#define WATCHED  2

/* A page that is new is noted after whoever touched it was let go. */
static void soon(uint64_t accessed)
{
    for (int i = 0; i < 1000 && flagged(ACCESSED, 0, RAM) != accessed; i++)
        (void)usleep(1000);
    assert_int_equal(flagged(ACCESSED, 0, RAM), accessed);
}

/* Accessed or watched. */
static uint64_t flagged_both(uint64_t at, uint64_t len)
{
    uint64_t sums[3] = { 0 };

    assert_int_equal(gpmap_runs(pages_map(pages), gpa(at), len, add_flagged, sums), 0);
    return sums[ACCESSED] + sums[WATCHED];
}

static uint64_t mark(uint64_t page)
{
    return page * 0x9e3779b97f4a7c15 + 1;
}

static void fill(uint64_t first, uint64_t n)
{
    for (uint64_t i = first; i < first + n; i++)
        *(uint64_t *)(ram + i * PAGE + 8 * (i % 500)) = mark(i);
}

static void check(uint64_t first, uint64_t n)
{
    for (uint64_t i = first; i < first + n; i++)
        assert_int_equal(*(volatile uint64_t *)(ram + i * PAGE + 8 * (i % 500)), mark(i));
}

/* --- accessed ------------------------------------------------------------------------------ */

static void accessed_small(enum mem_backing backing)
{
    const struct pages_config cfg = { .populate = POPULATE_KERNEL };
    struct track_info info;
    struct error err;

    make(backing, &cfg);
    fill(0, 1000);
    watch(0, RAM);
    assert_int_equal(flagged(WATCHED, 0, RAM), 1000 * PAGE);
    assert_int_equal(flagged(ACCESSED, 0, RAM), 0);

    check(10, 3);
    check(500, 1);
    ram[700 * PAGE] = 1;
    assert_int_equal(flagged(ACCESSED, 0, RAM), 5 * PAGE);
    assert_int_equal(flagged(ACCESSED, 10 * PAGE, 3 * PAGE), 3 * PAGE);
    assert_int_equal(flagged(ACCESSED, 500 * PAGE, PAGE), PAGE);
    assert_int_equal(flagged(WATCHED, 0, RAM), 995 * PAGE);
    track_info(track, &info);
    assert_int_equal(info.on, TRACK_ACCESSED);
    assert_int_equal(info.faults, 5);
    assert_int_equal(info.kept_bytes, 0);
    assert_non_null(info.accessed_method);

    /* The same page once more is no new one; a page that comes is. */
    check(11, 1);
    ram[2000 * PAGE] = 7;
    soon(6 * PAGE);

    /* Part of it is cleared. */
    clear(TRACK_ACCESSED, 0, 600 * PAGE);
    assert_int_equal(flagged(ACCESSED, 0, RAM), 2 * PAGE);
    check(0, 1);
    assert_int_equal(flagged(ACCESSED, 0, RAM), 3 * PAGE);

    /* The end: nothing is out, nothing is marked, all is as it was. */
    assert_int_equal(track_stop(track, TRACK_ACCESSED, &err), 0);
    assert_int_equal(flagged(WATCHED, 0, RAM), 0);
    assert_int_equal(flagged(ACCESSED, 0, RAM), 0);
    check(0, 1000);
    assert_int_equal(ram[2000 * PAGE], 7);
    assert_int_equal(flagged(ACCESSED, 0, RAM), 0);
    track_info(track, &info);
    assert_int_equal(info.on, 0);
}

static void accessed_memfd(void **state)
{
    (void)state;
    accessed_small(MEM_MEMFD);
}

static void accessed_anon(void **state)
{
    (void)state;
    accessed_small(MEM_ANON);
}

/* Huge pages go out and come back whole, where the host has some. */
static void accessed_thp(void **state)
{
    const struct pages_config cfg = { .populate = POPULATE_KERNEL };
    struct gp_page page;

    (void)state;
    make(MEM_THP, &cfg);
    fill(0, PAGES);
    watch(0, RAM);
    assert_int_equal(flagged(WATCHED, 0, RAM), RAM);
    assert_int_equal(gpmap_get(pages_map(pages), gpa(5 * MIB), &page), 0);
    check(5 * MIB / PAGE, 1);
    assert_int_equal(flagged(ACCESSED, 0, RAM), UINT64_C(1) << page.shift);
    clear(TRACK_ACCESSED, 0, RAM);
    check(0, PAGES);
    assert_int_equal(flagged(ACCESSED, 0, RAM), RAM);
    /* No huge page was split by this. */
    assert_int_equal(pages_learn(pages, gpa(0), RAM), 0);
    if (page.shift == PAGE_SHIFT_2M) {
        assert_int_equal(gpmap_get(pages_map(pages), gpa(5 * MIB), &page), 0);
        assert_int_equal(page.shift, PAGE_SHIFT_2M);
    }
}

static void accessed_hugetlb(void **state)
{
    const struct pages_config cfg = { .populate = POPULATE_KERNEL };

    (void)state;
    make(MEM_HUGETLB_2M, &cfg);
    fill(0, 4 * MIB / PAGE);
    watch(0, RAM);
    assert_int_equal(flagged(WATCHED, 0, RAM), 4 * MIB);
    check(600, 2);
    assert_int_equal(flagged(ACCESSED, 0, RAM), 2 * MIB);
    check(0, 4 * MIB / PAGE);
    assert_int_equal(flagged(ACCESSED, 0, RAM), 4 * MIB);
}

/* Outside of the range that was asked for nothing happens. */
static void accessed_part(void **state)
{
    const struct pages_config cfg = { .populate = POPULATE_LAZY, .fault_around = 64 << 10 };

    (void)state;
    make(MEM_MEMFD, &cfg);
    fill(0, 2000);
    watch(100 * PAGE, 50 * PAGE);
    assert_int_equal(flagged(WATCHED, 0, RAM), 50 * PAGE);
    check(0, 2000);
    ram[3000 * PAGE] = 1;
    assert_int_equal(flagged(ACCESSED, 0, RAM), 50 * PAGE);
    /* Another range takes its place. */
    watch(0, 10 * PAGE);
    assert_int_equal(flagged(WATCHED, 0, RAM), 10 * PAGE);
    assert_int_equal(flagged(ACCESSED, 0, RAM), 0);
}

/* Of what a fault brings in around a page, only the page itself was touched. */
static void fresh_pages(void **state)
{
    const struct pages_config cfg = { .populate = POPULATE_LAZY, .fault_around = 64 << 10 };

    (void)state;
    make(MEM_ANON, &cfg);
    watch(0, RAM);
    ram[100 * PAGE] = 1;
    soon(PAGE);
    assert_int_equal(flagged(ACCESSED, 100 * PAGE, PAGE), PAGE);
}

static void locked_memory_is_refused(void **state)
{
    const struct pages_config cfg = { .populate = POPULATE_KERNEL };
    struct error err = { "" };

    (void)state;
    make(MEM_ANON, &cfg);
    assert_int_equal(memory_pin(mem, gpa(0)), 0);
    assert_int_equal(track_start(track, TRACK_ACCESSED, gpa(0), RAM, &err), -EBUSY);
    assert_non_null(strstr(err.text, "device"));
    assert_int_equal(track_start(track, TRACK_DIRTY, gpa(0), RAM, &err), -EBUSY);
    assert_non_null(strstr(err.text, "device"));
    assert_int_equal(memory_unpin(mem, gpa(0)), 0);
    assert_int_equal(track_start(track, TRACK_DIRTY, gpa(0), RAM, &err), 0);
    assert_true(track_start(track, TRACK_ACCESSED, gpa(5), 100, &err) < 0);
}

/* --- nothing is lost ------------------------------------------------------------------------ */

static atomic_bool over;
static atomic_uint_fast64_t wrong;

/* Counts up in each page of its own, in leaps that meet all of them. */
static void *hammer(void *arg)
{
    uint64_t first = (uintptr_t)arg, round = 0;

    while (!atomic_load(&over) || round < 3) {
        for (uint64_t i = first; i < PAGES; i += 2) {
            volatile uint64_t *word = (volatile uint64_t *)(ram + i * PAGE);

            if (*word != round)
                atomic_fetch_add(&wrong, 1);
            *word = round + 1;
        }
        round++;
    }
    return NULL;
}

static void nothing_lost(enum mem_backing backing)
{
    const struct pages_config cfg = { .populate = POPULATE_KERNEL };
    struct error err;
    pthread_t thread[2];
    unsigned missed = 0;

    make(backing, &cfg);
    for (uint64_t i = 0; i < PAGES; i++)
        ram[i * PAGE + 4000] = 1;
    watch(0, RAM);
    over = false;
    wrong = 0;
    for (uintptr_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, hammer, (void *)i), 0);
    for (int i = 0; i < 150; i++) {
        clear(TRACK_ACCESSED, 0, RAM);
        /* Each page is still out, or was touched since. */
        missed += flagged_both(0, RAM) != RAM;
        if (i % 5 == 4) {
            assert_int_equal(track_stop(track, TRACK_ACCESSED, &err), 0);
            assert_int_equal(flagged(WATCHED, 0, RAM), 0);
            watch(0, RAM);
        }
    }
    over = true;
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_join(thread[i], NULL), 0);
    /* Not before: the threads must not outlive the memory. */
    assert_int_equal(wrong, 0);
    assert_int_equal(missed, 0);
}

static void nothing_lost_memfd(void **state)
{
    (void)state;
    nothing_lost(MEM_MEMFD);
}

static void nothing_lost_anon(void **state)
{
    (void)state;
    nothing_lost(MEM_ANON);
}

static void nothing_lost_thp(void **state)
{
    (void)state;
    nothing_lost(MEM_THP);
}

/* --- dirty: the monitor's own writes ----------------------------------------------- */

static void dirty(void **state)
{
    const struct pages_config cfg = { .populate = POPULATE_KERNEL };
    static const uint8_t bytes[3 * PAGE];
    struct error err = { "" };

    (void)state;
    make(MEM_ANON, &cfg);
    assert_int_equal(memory_write(mem, gpa(0), bytes, sizeof(bytes)), 0);
    assert_int_equal(track_start(track, TRACK_DIRTY, gpa(0), RAM, &err), 0);
    assert_int_equal(track_update(track, &err), 0);
    assert_int_equal(track_dirty_bytes(track, gpa(0), RAM), 0);

    /* 1 byte; 2 bytes across a border; 2 pages and 1 byte; refused; through a pointer; last byte.
     */
    assert_int_equal(memory_write(mem, gpa(10 * PAGE), bytes, 1), 0);
    assert_int_equal(memory_write(mem, gpa(21 * PAGE - 1), bytes, 2), 0);
    assert_int_equal(memory_write(mem, gpa(64 * PAGE), bytes, 2 * PAGE + 1), 0);
    assert_int_equal(memory_write(mem, gpa(RAM - 1), bytes, 2), -EFAULT);
    memory_wrote(mem, gpa(100 * PAGE + 5), 8);
    memory_wrote(mem, gpa(RAM), 8);
    assert_int_equal(memory_write(mem, gpa(RAM - 1), bytes, 1), 0);
    assert_int_equal(pages_learn(pages, gpa(0), RAM), 0);
    assert_int_equal(track_update(track, &err), 0);
    assert_int_equal(track_dirty_bytes(track, gpa(0), RAM), 8 * PAGE);
    assert_int_equal(track_dirty_bytes(track, gpa(20 * PAGE), 2 * PAGE), 2 * PAGE);
    assert_int_equal(track_dirty_bytes(track, gpa(63 * PAGE), 130 * PAGE), 4 * PAGE);
    assert_int_equal(track_dirty_bytes(track, gpa(UINT64_C(1) << 40), PAGE), 0);
    /* In the map those that are present: nobody touched page 100. */
    assert_int_equal(flagged(DIRTY, 0, RAM), 7 * PAGE);

    clear(TRACK_DIRTY, 0, 64 * PAGE);
    assert_int_equal(track_dirty_bytes(track, gpa(0), RAM), 5 * PAGE);
    assert_int_equal(flagged(DIRTY, 0, RAM), 4 * PAGE);
    assert_int_equal(track_stop(track, TRACK_DIRTY, &err), 0);
    assert_int_equal(flagged(DIRTY, 0, RAM), 0);
    /* Off: costs and notes nothing. */
    assert_int_equal(memory_write(mem, gpa(10 * PAGE), bytes, 1), 0);
    assert_int_equal(track_start(track, TRACK_DIRTY, gpa(0), RAM, &err), 0);
    assert_int_equal(track_update(track, &err), 0);
    assert_int_equal(track_dirty_bytes(track, gpa(0), RAM), 0);
}

/* A dirty page marks the leaf that it is in, and doesn't cut it. */
static void dirty_in_a_huge_page(void **state)
{
    const struct pages_config cfg = { .populate = POPULATE_KERNEL };
    struct error err = { "" };
    struct gp_page page;

    (void)state;
    make(MEM_THP, &cfg);
    assert_int_equal(track_start(track, TRACK_DIRTY, gpa(0), RAM, &err), 0);
    fill(0, PAGES);
    assert_int_equal(pages_learn(pages, gpa(0), RAM), 0);
    assert_int_equal(gpmap_get(pages_map(pages), gpa(2 * MIB), &page), 0);
    if (page.shift != PAGE_SHIFT_2M) {
        print_message("skipped: the host gave no huge page\n");
        skip();
    }
    assert_int_equal(memory_write(mem, gpa(3 * MIB), "x", 1), 0);
    assert_int_equal(track_update(track, &err), 0);
    assert_int_equal(track_dirty_bytes(track, gpa(0), RAM), PAGE);
    assert_int_equal(flagged(DIRTY, 0, RAM), 2 * MIB);
    assert_int_equal(gpmap_get(pages_map(pages), gpa(3 * MIB), &page), 0);
    assert_int_equal(page.shift, PAGE_SHIFT_2M);
    /* Cleared beside the page, it is dirty still. */
    clear(TRACK_DIRTY, 2 * MIB, MIB);
    assert_int_equal(track_dirty_bytes(track, gpa(0), RAM), PAGE);
    assert_true(flagged(DIRTY, 3 * MIB, PAGE) == PAGE);
}

/* What the kernel says of the mapping at this address: left out of core dumps. */
static bool left_out(const uint8_t *at)
{
    FILE *maps = fopen("/proc/self/smaps", "r");
    unsigned long first = 0, end = 0, from, to;
    bool out = false;
    char line[512];

    assert_non_null(maps);
    while (fgets(line, sizeof(line), maps)) {
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            first = from, end = to;
        if (!strncmp(line, "VmFlags:", 8) && (uintptr_t)at >= first && (uintptr_t)at < end)
            out = strstr(line, " dd");
    }
    (void)fclose(maps);
    return out;
}

/* A page that is out is in a core dump no more than it would be at its place. */
static void watched_pages_are_not_dumped(void **state)
{
    const struct pages_config cfg = { .populate = POPULATE_LAZY };
    struct error err = { "" };

    (void)state;
    make(MEM_ANON, &cfg);
    fill(0, 8);
    assert_int_equal(pages_guard(pages, gpa(5 * PAGE), PAGE, PAGE_GUARD_NODUMP, &err), 0);
    watch(0, RAM);
    assert_int_equal(pages_guard(pages, gpa(3 * PAGE), PAGE, PAGE_GUARD_NODUMP, &err), 0);
    for (uint64_t i = 0; i < 8; i++) {
        assert_int_equal(left_out(ram + i * PAGE), i == 3 || i == 5);
        assert_int_equal(left_out(track->shadow + i * PAGE), i == 3 || i == 5);
    }
    check(0, 8);
    assert_int_equal(pages_guard(pages, gpa(0), 8 * PAGE, PAGE_GUARD_OFF, &err), 0);
    for (uint64_t i = 0; i < 8; i++)
        assert_false(left_out(ram + i * PAGE) || left_out(track->shadow + i * PAGE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(accessed_memfd, unmake),
        cmocka_unit_test_teardown(accessed_anon, unmake),
        cmocka_unit_test_teardown(accessed_thp, unmake),
        cmocka_unit_test_teardown(accessed_hugetlb, unmake),
        cmocka_unit_test_teardown(accessed_part, unmake),
        cmocka_unit_test_teardown(fresh_pages, unmake),
        cmocka_unit_test_teardown(locked_memory_is_refused, unmake),
        cmocka_unit_test_teardown(nothing_lost_memfd, unmake),
        cmocka_unit_test_teardown(nothing_lost_anon, unmake),
        cmocka_unit_test_teardown(nothing_lost_thp, unmake),
        cmocka_unit_test_teardown(watched_pages_are_not_dumped, unmake),
        cmocka_unit_test_teardown(dirty, unmake),
        cmocka_unit_test_teardown(dirty_in_a_huge_page, unmake),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
