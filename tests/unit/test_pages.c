/*
 * Population without KVM: threads of this test touch guest memory as vCPUs would, and the number of
 * messages, the states in the map and what is refused are predicted.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/pages_fixture.h"
#include "vmm/pages_impl.h"

/* --- lazy ------------------------------------------------------------------------------------- */

/* Pages [0, 64) written in order: one message a window. */
static void one_message_a_window(void **state)
{
    const uint64_t around[] = { 4 * KIB, 8 * KIB, 64 * KIB, 128 * KIB, 2 * MIB };
    const enum mem_backing backing[] = { MEM_ANON, MEM_MEMFD };

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        for (size_t b = 0; b < 2; b++) {
            struct pages_config cfg = lazy_config(around[i]);
            uint64_t windows = 64 * PAGE > around[i] ? 64 * PAGE / around[i] : 1;
            struct world w;

            world_make(&w, 16 * MIB, backing[b], &cfg);
            for (uint64_t n = 0; n < 64; n++)
                *world_at(&w, n * PAGE) = (uint8_t)(n + 1);
            assert_int_equal(world_stat(&w).faults_missing, windows);
            assert_int_equal(world_stat(&w).faults_spurious, 0);
            assert_int_equal(world_stat(&w).around_bytes, windows * (around[i] - PAGE));
            assert_int_equal(world_stat(&w).map.bytes[GP_PRESENT], windows * around[i]);
            assert_int_equal(world_stat(&w).map.bytes[GP_UNTOUCHED],
                             16 * MIB - windows * around[i]);
            for (uint64_t n = 0; n < 64; n++)
                assert_int_equal(*world_at(&w, n * PAGE), n + 1);
            assert_int_equal(world_page(&w, windows * around[i]).state, GP_UNTOUCHED);
            world_drop(&w);
        }
    }
}

/* A window is aligned, not centred: the last page of one brings in what is before it. */
static void windows_are_aligned(void **state)
{
    struct pages_config cfg = lazy_config(64 * KIB);
    struct world w;

    (void)state;
    world_make(&w, 16 * MIB, MEM_ANON, &cfg);
    *world_at(&w, 3 * 64 * KIB - 1) = 1;
    for (uint64_t n = 0; n < 64; n++)
        assert_int_equal(world_page(&w, n * PAGE).state,
                         n >= 32 && n < 48 ? GP_PRESENT : GP_UNTOUCHED);
    world_drop(&w);
}

static void reads_get_the_zero_page(void **state)
{
    struct pages_config cfg = lazy_config(16 * KIB);
    struct world w;

    (void)state;
    world_make(&w, 4 * MIB, MEM_ANON, &cfg);
    assert_int_equal(*world_at(&w, 5 * PAGE), 0);
    assert_int_equal(world_stat(&w).map.bytes[GP_ZERO], 16 * KIB);
    assert_int_equal(world_stat(&w).map.bytes[GP_PRESENT], 0);
    assert_int_equal(world_page(&w, 4 * PAGE).state, GP_ZERO);
    /* Written, it is a page of its own; the kernel makes it so without a word, and learning tells.
     */
    *world_at(&w, 5 * PAGE) = 7;
    assert_int_equal(world_stat(&w).faults_missing, 1);
    if (pages_learn(w.pages, gpa(0), 4 * MIB) == 0) {
        assert_int_equal(world_page(&w, 5 * PAGE).state, GP_PRESENT);
        assert_int_equal(world_page(&w, 4 * PAGE).state, GP_ZERO);
        assert_int_equal(world_page(&w, 8 * PAGE).state, GP_UNTOUCHED);
    }
    assert_int_equal(*world_at(&w, 5 * PAGE), 7);
    world_drop(&w);
}

/* What is there already is passed over: page 5 alone first, then a window around it. */
static void a_window_fills_what_is_missing(void **state)
{
    const struct gp_change gone = {
        .from = GP_ANY,
        .to = { .state = GP_UNTOUCHED, .shift = PAGE_SHIFT_4K },
    };
    struct pages_config cfg = lazy_config(64 * KIB);
    struct world w;

    (void)state;
    world_make(&w, 4 * MIB, MEM_ANON, &cfg);
    for (uint64_t n = 0; n < 16; n++)
        *world_at(&w, n * PAGE) = (uint8_t)(n + 1);
    /* Discard pages 0-3 and 8 as a balloon would: at the host, then in the map. */
    assert_int_equal(madvise((void *)world_at(&w, 0), 4 * PAGE, MADV_DONTNEED), 0);
    assert_int_equal(madvise((void *)world_at(&w, 8 * PAGE), PAGE, MADV_DONTNEED), 0);
    assert_int_equal(gpmap_change(pages_map(w.pages), gpa(0), 4 * PAGE, &gone, NULL), 0);
    assert_int_equal(gpmap_change(pages_map(w.pages), gpa(8 * PAGE), PAGE, &gone, NULL), 0);
    assert_int_equal(*world_at(&w, 8 * PAGE), 0);
    assert_int_equal(world_stat(&w).faults_missing, 2);
    for (uint64_t n = 0; n < 16; n++)
        assert_int_equal(*world_at(&w, n * PAGE), n < 4 || n == 8 ? 0 : n + 1);
    assert_int_equal(world_stat(&w).faults_missing, 2);
    world_drop(&w);
}

/* Lost behind the map's back, and EEXIST: the faulter goes on in both cases, and is counted. */
static void a_lost_page_does_not_hang(void **state)
{
    struct pages_config cfg = lazy_config(64 * KIB);
    struct world w;

    (void)state;
    world_make(&w, 4 * MIB, MEM_ANON, &cfg);
    *world_at(&w, 0) = 1;
    assert_int_equal(madvise((void *)world_at(&w, 0), PAGE, MADV_DONTNEED), 0);
    assert_int_equal(*world_at(&w, 0), 0);
    assert_int_equal(world_stat(&w).faults_missing, 2);
    assert_int_equal(world_stat(&w).faults_spurious, 1);
    world_drop(&w);
}

static void the_kernel_faults_too(void **state)
{
    struct pages_config cfg = lazy_config(4 * KIB);
    struct world w;
    int fd[2];

    (void)state;
    world_make(&w, 4 * MIB, MEM_ANON, &cfg);
    assert_int_equal(pipe(fd), 0);
    assert_int_equal(write(fd[1], "twofold", 7), 7);
    assert_int_equal(read(fd[0], (void *)world_at(&w, MIB), 7), 7); /* copy_to_user() faults */
    assert_memory_equal((const void *)world_at(&w, MIB), "twofold", 7);
    assert_int_equal(world_stat(&w).faults_missing, 1);
    (void)close(fd[0]);
    (void)close(fd[1]);
    world_drop(&w);
}

static void huge_blocks_get_huge_pages(void **state)
{
    struct pages_config cfg = lazy_config(64 * KIB);
    struct world w;

    (void)state;
    world_make(&w, 8 * MIB, MEM_THP, &cfg);
    *world_at(&w, 2 * MIB + 12345) = 9;
    assert_int_equal(world_stat(&w).faults_missing, 1);
    if (world_stat(&w).huge_installed == 0) {
        world_drop(&w);
        print_message("skipped: this host has no huge page at the moment\n");
        skip();
    }
    assert_int_equal(world_stat(&w).map.present_2m, 2 * MIB);
    assert_int_equal(world_stat(&w).map.bytes[GP_PRESENT], 2 * MIB);
    assert_int_equal(world_page(&w, 3 * MIB).shift, PAGE_SHIFT_2M);
    assert_int_equal(*world_at(&w, 2 * MIB + 12345), 9);
    for (uint64_t n = 0; n < 512; n++) /* all of it is there: no message more */
        assert_int_equal(*world_at(&w, 2 * MIB + n * PAGE), 0);
    assert_int_equal(world_stat(&w).faults_missing, 1);
    world_drop(&w);
}

/* The same without UFFDIO_MOVE, as Linux before 6.8 has it: populated while unregistered. */
static void huge_pages_without_move(void **state)
{
    struct pages_config cfg = lazy_config(64 * KIB);
    struct world w;

    (void)state;
    world_make(&w, 8 * MIB, MEM_THP, &cfg);
    if (w.pages->staging) { /* nobody faults yet: the thread doesn't look */
        (void)munmap(w.pages->staging, PAGE_SIZE_2M);
        w.pages->staging = NULL;
    }
    *world_at(&w, 4 * MIB) = 1;
    assert_int_equal(world_stat(&w).faults_missing, 1);
    assert_int_equal(world_stat(&w).map.bytes[GP_PRESENT], 2 * MIB);
    assert_int_equal(world_page(&w, 4 * MIB).shift,
                     world_stat(&w).huge_installed ? PAGE_SHIFT_2M : PAGE_SHIFT_4K);
    *world_at(&w, 6 * MIB) = 1; /* registered again: this one is seen */
    assert_int_equal(world_stat(&w).faults_missing, 2);
    world_drop(&w);
}

/* A part that cuts a block can't have it whole: small pages, within the part. */
static void a_cut_block_gets_small_pages(void **state)
{
    struct pages_config cfg = { .fault_around = 64 * KIB, .ranges = 1 };
    struct world w;

    (void)state;
    cfg.range[0] = (struct populate_range){ gpa(MIB + 8 * KIB), MIB, POPULATE_LAZY };
    world_make(&w, 8 * MIB, MEM_THP, &cfg);
    *world_at(&w, MIB + 8 * KIB) = 1;
    assert_int_equal(world_stat(&w).faults_missing, 1);
    assert_int_equal(world_stat(&w).huge_installed, 0);
    assert_int_equal(world_stat(&w).map.bytes[GP_PRESENT], 56 * KIB); /* 64K less what is before */
    *world_at(&w, 4 * MIB) = 1;                                       /* the kernel's */
    assert_int_equal(world_stat(&w).faults_missing, 1);
    world_drop(&w);
}

static void hugetlb_comes_by_whole_pages(void **state)
{
    struct pages_config cfg = lazy_config(64 * KIB);
    struct world w;

    (void)state;
    world_make(&w, 4 * MIB, MEM_HUGETLB_2M, &cfg);
    *world_at(&w, 3 * MIB) = 5;
    assert_int_equal(world_stat(&w).faults_missing + world_stat(&w).faults_minor, 1);
    assert_int_equal(world_stat(&w).map.present_2m, 2 * MIB);
    assert_int_equal(world_stat(&w).huge_installed, 1);
    assert_int_equal(*world_at(&w, 2 * MIB), 0);
    assert_int_equal(*world_at(&w, 3 * MIB), 5);
    world_drop(&w);
}

/* A page of a memfd that exists but isn't mapped: a minor fault, whose content is kept. */
static void minor_faults_keep_content(void **state)
{
    struct pages_config cfg = lazy_config(4 * KIB);
    struct world w;

    (void)state;
    world_make(&w, 4 * MIB, MEM_MEMFD, &cfg);
    *world_at(&w, MIB) = 42;
    assert_int_equal(madvise((void *)world_at(&w, MIB), PAGE, MADV_DONTNEED), 0); /* unmaps only */
    assert_int_equal(*world_at(&w, MIB), 42);
    assert_int_equal(world_stat(&w).faults_missing, 1);
    assert_int_equal(world_stat(&w).faults_minor, 1);
    assert_int_equal(world_page(&w, MIB).state, GP_PRESENT);
    world_drop(&w);
}

/* --- many threads --------------------------------------------------------------------------- */

#define THREADS 4
#define SHARED  512 /* pages */

struct toucher {
    struct world *w;
    unsigned id;
};

static void *touch_all(void *arg)
{
    const struct toucher *t = arg;

    for (uint64_t n = 0; n < SHARED; n++) {
        uint64_t page = t->id & 1 ? SHARED - 1 - n : n;

        *world_at(t->w, page * PAGE + t->id) = (uint8_t)(page + t->id);
    }
    return NULL;
}

static void threads_lose_nothing(void **state)
{
    struct pages_config cfg = lazy_config(8 * KIB);
    struct toucher t[THREADS];
    pthread_t thread[THREADS];
    struct world w;

    (void)state;
    world_make(&w, 16 * MIB, MEM_ANON, &cfg);
    for (unsigned i = 0; i < THREADS; i++) {
        t[i] = (struct toucher){ &w, i };
        assert_int_equal(pthread_create(&thread[i], NULL, touch_all, &t[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        (void)pthread_join(thread[i], NULL);
    for (uint64_t n = 0; n < SHARED; n++)
        for (unsigned i = 0; i < THREADS; i++)
            assert_int_equal(*world_at(&w, n * PAGE + i), (uint8_t)(n + i));
    /* Two in one window at once may both be heard, but only one of them installs. */
    assert_int_equal(world_stat(&w).faults_missing - world_stat(&w).faults_spurious, SHARED / 2);
    assert_int_equal(world_stat(&w).map.bytes[GP_PRESENT], SHARED * PAGE);
    world_drop(&w);
}

/* --- a handler that fails ---------------------------------------------------------- */

static void a_failed_handler_lets_go(void **state)
{
    struct pages_config cfg = lazy_config(4 * KIB);
    struct world w;

    (void)state;
    world_make(&w, 4 * MIB, MEM_ANON, &cfg);
    /* Its source of zeros vanishes: UFFDIO_COPY fails with EFAULT. */
    (void)munmap(w.pages->zeros, cfg.fault_around);
    *world_at(&w, MIB) = 3; /* comes back all the same: served by the kernel */
    assert_int_equal(*world_at(&w, MIB), 3);
    (void)pthread_mutex_lock(&w.lock);
    while (!w.failure[0])
        (void)pthread_cond_wait(&w.said, &w.lock);
    (void)pthread_mutex_unlock(&w.lock);
    assert_non_null(strstr(w.failure, "gpa 0x100000"));
    assert_non_null(strstr(w.failure, "anon"));
    *world_at(&w, 2 * MIB) = 4; /* nobody waits for a thread that is gone */
    w.pages->zeros = NULL;
    world_drop(&w);
}

/* --- kernel, eager, lock ----------------------------------------------------------- */

static void kernel_managed_costs_nothing(void **state)
{
    const struct pages_config cfg = { .populate = POPULATE_KERNEL };
    struct world w;

    (void)state;
    world_make(&w, 256 * MIB, MEM_ANON, &cfg);
    assert_int_equal(w.pages->uffd.fd, -1);
    assert_false(w.pages->thread_started);
    assert_true(world_stat(&w).map.tables <= 4);
    assert_false(pages_managed(w.pages, gpa(0), PAGE));
    world_drop(&w);
}

static uint64_t resident(struct world *w, uint64_t first, uint64_t len)
{
    static unsigned char in[64 * 256];
    uint64_t n = 0;

    assert_int_equal(mincore((void *)world_at(w, first), len, in), 0);
    for (uint64_t i = 0; i < len / PAGE; i++)
        n += in[i] & 1;
    return n * PAGE;
}

static void eager_parts_are_there(void **state)
{
    struct pages_config cfg = { .populate = POPULATE_LAZY, .ranges = 2, .fault_around = 4 * KIB };
    struct pages_range range;
    struct world w;

    (void)state;
    cfg.range[0] = (struct populate_range){ gpa(8 * MIB), 4 * MIB, POPULATE_EAGER };
    cfg.range[1] = (struct populate_range){ gpa(0), MIB, POPULATE_KERNEL };
    world_make(&w, 32 * MIB, MEM_ANON, &cfg);
    assert_int_equal(resident(&w, 8 * MIB, 4 * MIB), 4 * MIB);
    assert_int_equal(world_stat(&w).populate_bytes, 4 * MIB);
    assert_true(pages_range(w.pages, 3, &range));
    assert_int_equal(range.base.v, 12 * MIB);
    assert_int_equal(range.policy, POPULATE_LAZY);
    assert_true(range.managed);
    assert_false(pages_range(w.pages, 4, &range));
    assert_true(pages_managed(w.pages, gpa(MIB), 7 * MIB));
    assert_false(pages_managed(w.pages, gpa(MIB), 8 * MIB));
    *world_at(&w, 0) = 1;
    *world_at(&w, 9 * MIB) = 1;
    assert_int_equal(world_stat(&w).faults_missing, 0);
    *world_at(&w, 12 * MIB) = 1;
    assert_int_equal(world_stat(&w).faults_missing, 1);
    world_drop(&w);
}

static void locked_memory_is_locked(void **state)
{
    const struct pages_config cfg = { .lock = true };
    struct world w;

    (void)state;
    world_make(&w, 8 * MIB, MEM_ANON, &cfg);
    assert_int_equal(resident(&w, 0, 8 * MIB), 8 * MIB);
    assert_int_equal(world_stat(&w).locked_bytes, 8 * MIB);
    assert_true(world_page(&w, 5 * MIB).flags & GP_LOCKED);
    /* Locked pages can't be thrown away. */
    assert_int_equal(madvise((void *)world_at(&w, 0), PAGE, MADV_DONTNEED), -1);
    world_drop(&w);
}

/* What was touched before a range becomes managed is known afterwards, and what comes then seen. */
static void a_range_becomes_managed(void **state)
{
    const struct pages_config cfg = { .fault_around = 4 * KIB };
    struct error err;
    struct world w;

    (void)state;
    world_make(&w, 8 * MIB, MEM_ANON, &cfg);
    *world_at(&w, 2 * MIB) = 1;
    if (pages_manage(w.pages, gpa(MIB), 4 * MIB, &err) < 0) {
        world_drop(&w);
        print_message("skipped: %s\n", err.text);
        skip();
    }
    assert_int_equal(world_page(&w, 2 * MIB).state, GP_PRESENT);
    assert_int_equal(world_page(&w, 2 * MIB + PAGE).state, GP_UNTOUCHED);
    *world_at(&w, 2 * MIB + PAGE) = 2;
    *world_at(&w, 6 * MIB) = 2;
    assert_int_equal(world_stat(&w).faults_missing, 1);
    assert_int_equal(*world_at(&w, 2 * MIB), 1);
    assert_true(pages_managed(w.pages, gpa(MIB), 4 * MIB));
    assert_int_equal(pages_manage(w.pages, gpa(MIB), 4 * MIB, &err), 0); /* idempotent */
    assert_int_equal(pages_manage(w.pages, gpa(6 * MIB), 4 * MIB, &err), -EINVAL);
    world_drop(&w);
}

static void refused(uint64_t bytes, enum mem_backing backing, const struct pages_config *cfg,
                    const char *word)
{
    struct memory *mem = NULL;
    struct pages *pages = NULL;
    struct error err = { "" };

    assert_int_equal(memory_create(&mem, bytes, backing, &err), 0);
    assert_int_equal(pages_create(&pages, mem, cfg, world_on_fail, NULL, &err), -EINVAL);
    assert_null(pages);
    if (!strstr(err.text, word))
        fail_msg("no '%s' in: %s", word, err.text);
    assert_null(strchr(err.text, '\n'));
    memory_destroy(mem);
}

static void bad_ranges_are_refused(void **state)
{
    const struct {
        struct populate_range r[2];
        const char *word;
    } cases[] = {
        { { { gpa(0), 33 * MIB, POPULATE_EAGER } }, "is not RAM" },
        { { { gpa(32 * MIB), PAGE, POPULATE_EAGER } }, "is not RAM" },
        { { { gpa(~UINT64_C(0) - 4095), PAGE, POPULATE_LAZY } }, "is not RAM" },
        { { { gpa(0), ~UINT64_C(4095), POPULATE_LAZY } }, "is not RAM" },
        { { { gpa(1), PAGE, POPULATE_EAGER } }, "begin and end with a page" },
        { { { gpa(0), 100, POPULATE_EAGER } }, "begin and end with a page" },
        { { { gpa(0), MIB, POPULATE_EAGER }, { gpa(MIB - PAGE), MIB, POPULATE_LAZY } },
          "overlaps" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct pages_config cfg = { .ranges = cases[i].r[1].size ? 2 : 1 };

        memcpy(cfg.range, cases[i].r, sizeof(cases[i].r));
        refused(32 * MIB, MEM_ANON, &cfg, cases[i].word);
    }
    refused(32 * MIB, MEM_ANON, &(struct pages_config){ .populate = POPULATE_LAZY, .lock = true },
            "--lock");
    /* The hole is no RAM, either. */
    refused(
        MEMORY_HOLE_START + MIB, MEM_ANON,
        &(struct pages_config){
            .ranges = 1, .range[0] = { gpa(MEMORY_HOLE_START - MIB), 2 * MIB, POPULATE_EAGER } },
        "0x100000000-0x100100000");
}

/* However many ranges are asked for, one after the other. */
static void there_is_always_room_to_manage(void **state)
{
    struct pages_config cfg = { .populate = POPULATE_KERNEL };
    struct pages_range r;
    struct error err = { "" };
    size_t parts = 0;
    struct world w;

    (void)state;
    world_make(&w, 8 * MIB, MEM_ANON, &cfg);
    for (uint64_t page = 0; page < 400; page += 2)
        if (pages_manage(w.pages, gpa(page * PAGE), PAGE, &err) < 0)
            fail_msg("%s", err.text);
    for (uint64_t page = 0; page < 400; page += 2)
        assert_true(pages_managed(w.pages, gpa(page * PAGE), PAGE));
    assert_int_equal(pages_manage(w.pages, gpa(0), 8 * MIB, &err), 0);
    assert_true(pages_managed(w.pages, gpa(0), 8 * MIB));
    while (pages_range(w.pages, parts, &r))
        parts++;
    assert_int_equal(parts, 1);
    assert_int_equal(r.size, 8 * MIB);
    world_drop(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_message_a_window),
        cmocka_unit_test(windows_are_aligned),
        cmocka_unit_test(reads_get_the_zero_page),
        cmocka_unit_test(a_window_fills_what_is_missing),
        cmocka_unit_test(a_lost_page_does_not_hang),
        cmocka_unit_test(the_kernel_faults_too),
        cmocka_unit_test(huge_blocks_get_huge_pages),
        cmocka_unit_test(huge_pages_without_move),
        cmocka_unit_test(a_cut_block_gets_small_pages),
        cmocka_unit_test(hugetlb_comes_by_whole_pages),
        cmocka_unit_test(minor_faults_keep_content),
        cmocka_unit_test(threads_lose_nothing),
        cmocka_unit_test(a_failed_handler_lets_go),
        cmocka_unit_test(kernel_managed_costs_nothing),
        cmocka_unit_test(eager_parts_are_there),
        cmocka_unit_test(locked_memory_is_locked),
        cmocka_unit_test(a_range_becomes_managed),
        cmocka_unit_test(bad_ranges_are_refused),
        cmocka_unit_test(there_is_always_room_to_manage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
