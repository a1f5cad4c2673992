/*
 * Guards: what is shut to all or left out of dumps, at the gate, in the map and in the
 * host's mappings.
 */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "tests/unit/pages_fixture.h"

static void guards_shut_the_gate(void **state)
{
    const enum mem_backing backing[] = { MEM_ANON, MEM_MEMFD };
    struct pages_config cfg = lazy_config(4 * KIB);
    struct error err;

    (void)state;
    for (size_t b = 0; b < 2; b++) {
        uint8_t byte = 1;
        struct world w;

        world_make(&w, 8 * MIB, backing[b], &cfg);
        *world_at(&w, MIB) = 11;
        assert_int_equal(pages_guard(w.pages, gpa(MIB), 2 * PAGE, PAGE_GUARD_ACCESS, &err), 0);
        assert_null(world_at(&w, MIB));
        assert_null(memory_at(w.mem, gpa(MIB - 1), 2));
        assert_null(memory_at(w.mem, gpa(MIB + 2 * PAGE - 1), 8));
        assert_non_null(world_at(&w, MIB - 1));
        assert_non_null(world_at(&w, MIB + 2 * PAGE));
        assert_int_equal(memory_read(w.mem, gpa(MIB + 5), &byte, 1), -EFAULT);
        assert_int_equal(memory_write(w.mem, gpa(MIB + 5), &byte, 1), -EFAULT);
        assert_int_equal(world_page(&w, MIB).state, GP_GUARDED);
        assert_int_equal(world_page(&w, MIB + PAGE).state, GP_GUARDED);
        assert_true(world_page(&w, MIB).flags & GP_NODUMP);
        assert_int_equal(world_stat(&w).map.bytes[GP_GUARDED], 2 * PAGE);
        /* Half of it opens again; each page is what it was. */
        assert_int_equal(pages_guard(w.pages, gpa(MIB), PAGE, PAGE_GUARD_OFF, &err), 0);
        assert_int_equal(*world_at(&w, MIB), 11);
        assert_int_equal(world_page(&w, MIB).state, GP_PRESENT);
        assert_null(world_at(&w, MIB + PAGE));
        assert_int_equal(pages_guard(w.pages, gpa(MIB), 2 * PAGE, PAGE_GUARD_OFF, &err), 0);
        assert_int_equal(world_page(&w, MIB + PAGE).state, GP_UNTOUCHED);
        *world_at(&w, MIB + PAGE) = 12;
        assert_int_equal(world_stat(&w).faults_missing, 2);
        assert_false(memory_guarded(w.mem, gpa(0), 8 * MIB));
        world_drop(&w);
    }
}

/* Against a byte for each page. */
static void guards_agree_with_a_plain_model(void **state)
{
    enum { PAGES = 64 };
    const struct pages_config cfg = { .populate = POPULATE_KERNEL };
    uint8_t model[PAGES] = { 0 };
    struct error err;
    unsigned seed = 1;
    struct world w;

    (void)state;
    world_make(&w, PAGES * PAGE > 2 * MIB ? PAGES * PAGE : 2 * MIB, MEM_ANON, &cfg);
    for (unsigned round = 0; round < 3000; round++) {
        unsigned first = (unsigned)rand_r(&seed) % PAGES;
        unsigned n = 1 + (unsigned)rand_r(&seed) % (PAGES - first < 9 ? PAGES - first : 9);
        bool shut = rand_r(&seed) & 64;

        assert_int_equal(pages_guard(w.pages, gpa(first * PAGE), n * PAGE,
                                     shut ? PAGE_GUARD_ACCESS : PAGE_GUARD_OFF, &err),
                         0);
        memset(model + first, shut, n);
        for (unsigned i = 0; i < PAGES; i++) {
            assert_int_equal(memory_guarded(w.mem, gpa(i * PAGE), PAGE), model[i]);
            assert_int_equal(world_page(&w, i * PAGE).state == GP_GUARDED, model[i]);
        }
    }
    world_drop(&w);
}

/* Pieces that got pages while a guard cut them apart are not one again for the host kernel. */
static void cuts_of_guards_are_no_end(void **state)
{
    static const enum mem_backing backing[] = { MEM_ANON, MEM_MEMFD };
    struct pages_config cfg = lazy_config(64 << 10);
    struct error err = { "" };
    struct world w;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        world_make(&w, 8 * MIB, backing[i], &cfg);
        assert_int_equal(pages_guard(w.pages, gpa(0x18000), 0x28000, PAGE_GUARD_NODUMP, &err), 0);
        *world_at(&w, 0) = 1;
        *world_at(&w, 0x30000) = 3;
        assert_int_equal(pages_guard(w.pages, gpa(0x18000), 0x28000, PAGE_GUARD_OFF, &err), 0);
        *world_at(&w, 0x10000) = 2; /* of its window the second half lies beyond the cut */
        world_settle(&w);
        assert_int_equal(world_stat(&w).map.present_4k, 3 << 16);
        for (unsigned k = 0; k < 4; k++)
            assert_int_equal(*world_at(&w, k << 16), k == 2 ? 0 : k < 2 ? k + 1 : 3);
        world_drop(&w);
    }
}

static int refused_by_the_wall(struct world *w, uint64_t address, uint64_t len,
                               enum page_guard guard)
{
    struct error err = { "" };
    int rc = pages_guard(w->pages, gpa(address), len, guard, &err);

    if (rc < 0)
        assert_non_null(strstr(err.text, "vm.max_map_count"));
    return rc;
}

/* A host has no more than some ten thousands of mappings for a process. */
static void a_wall_changes_nothing(void **state)
{
    struct pages_config cfg = { .populate = POPULATE_KERNEL };
    uint64_t n = 16, end = 512 * MIB / PAGE;
    struct world w;
    int rc = 0;

    (void)state;
    world_make(&w, 512 * MIB, MEM_ANON, &cfg);
    assert_int_equal(refused_by_the_wall(&w, 8 * PAGE, PAGE, PAGE_GUARD_ACCESS), 0);
    assert_int_equal(refused_by_the_wall(&w, 10 * PAGE, PAGE, PAGE_GUARD_NODUMP), 0);
    for (; rc == 0 && n < end; n += 2)
        rc = refused_by_the_wall(&w, n * PAGE, PAGE, PAGE_GUARD_NODUMP);
    if (rc == 0) {
        world_drop(&w);
        print_message("skipped: vm.max_map_count is beyond a test\n");
        skip();
    }
    assert_int_equal(rc, -ENOMEM);
    assert_int_equal(world_page(&w, (n - 2) * PAGE).flags, 0);
    assert_int_equal(world_page(&w, (n - 4) * PAGE).flags, GP_NODUMP);
    /* Neither does one that meets others: they stay what they were, on all sides. */
    assert_int_equal(refused_by_the_wall(&w, 7 * PAGE, 2 * PAGE, PAGE_GUARD_ACCESS), -ENOMEM);
    assert_int_equal(world_page(&w, 8 * PAGE).state, GP_GUARDED);
    assert_true(memory_guarded(w.mem, gpa(8 * PAGE), PAGE));
    assert_false(memory_guarded(w.mem, gpa(7 * PAGE), PAGE));
    assert_int_equal(world_page(&w, 7 * PAGE).state, GP_UNTOUCHED);
    *world_at(&w, 7 * PAGE) = 7;
    /* Taking away makes room. */
    assert_int_equal(refused_by_the_wall(&w, 0, end / 2 * PAGE, PAGE_GUARD_OFF), 0);
    assert_int_equal(refused_by_the_wall(&w, 7 * PAGE, 2 * PAGE, PAGE_GUARD_ACCESS), 0);
    world_drop(&w);
}

static void bad_guards_are_refused(void **state)
{
    const struct pages_config cfg = { .populate = POPULATE_KERNEL };
    const struct {
        uint64_t at, len;
        int rc;
    } cases[] = {
        { 1, PAGE, -EINVAL },
        { 0, 1, -EINVAL },
        { 0, 0, -EINVAL },
        { 8 * MIB, PAGE, -EINVAL },
        { 0, 9 * MIB, -EINVAL },
        { 0, ~UINT64_C(4095), -EINVAL },
        { ~UINT64_C(4095), PAGE, -EINVAL },
    };
    struct error err;
    struct world w;

    (void)state;
    world_make(&w, 8 * MIB, MEM_ANON, &cfg);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(
            pages_guard(w.pages, gpa(cases[i].at), cases[i].len, PAGE_GUARD_ACCESS, &err),
            cases[i].rc);
    assert_int_equal(memory_pin(w.mem, gpa(0)), 0);
    assert_int_equal(pages_guard(w.pages, gpa(0), PAGE, PAGE_GUARD_ACCESS, &err), -EBUSY);
    assert_non_null(strstr(err.text, "pinned"));
    assert_int_equal(memory_unpin(w.mem, gpa(0)), 0);
    assert_int_equal(memory_unpin(w.mem, gpa(0)), -EINVAL);
    /* As many separate ranges as there is room for, and one more. */
    for (uint64_t i = 0; i < 256; i++)
        assert_int_equal(pages_guard(w.pages, gpa(2 * i * PAGE), PAGE, PAGE_GUARD_ACCESS, &err), 0);
    assert_int_equal(pages_guard(w.pages, gpa(2 * 256 * PAGE), PAGE, PAGE_GUARD_ACCESS, &err),
                     -ENOSPC);
    assert_non_null(strstr(err.text, "too many separate ranges"));
    assert_non_null(world_at(&w, 2 * 256 * PAGE));
    world_drop(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guards_shut_the_gate),
        cmocka_unit_test(guards_agree_with_a_plain_model),
        cmocka_unit_test(cuts_of_guards_are_no_end),
        cmocka_unit_test(a_wall_changes_nothing),
        cmocka_unit_test(bad_guards_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
