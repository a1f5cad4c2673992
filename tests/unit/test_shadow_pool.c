/*
 * Shadow tables, case by case: what isn't RAM or is hidden, the window, the pool and its limits,
 * and what is told of it all. test_shadow.c has the rest.
 */
#include "tests/unit/shadow_cases.h"

#include <errno.h>

/* --- where nothing is, and what is hidden -------------------------------------------------- */

static void test_no_ram(void **state)
{
    struct shadow_mode mode = sim_mode(UINT64_C(0x3ff000000000), true);

    (void)state;
    begin(256, 1);
    sim_set(&sim, 0, &mode);
    assert_int_equal(tried(0, VA, PT_READ), SHADOW_UNREADABLE);
    rounds(ROUNDS);
    assert_int_equal(tried(0, VA, PT_READ), SHADOW_UNREADABLE);
    be(0, CR3, true);
    put(CR3, VA, 2, RAM | ALL); /* a table beyond RAM */
    assert_int_equal(tried(0, VA, PT_READ), SHADOW_UNREADABLE);
    put(CR3, VA, 2, UINT64_C(0xfe000000) | ALL | PS); /* a device */
    goes(0, VA, PT_WRITE, UINT64_C(0xfe000000) + (VA & (2 * MIB - 1)), 1);
    assert_int_equal(stats().fills_large, 0);
    mode = sim_mode(CR3, true);
    mode.paging.cr0 = 0;
    assert_int_equal(shadow_root(sim.s, 0, &mode, &(gpa_t){ 0 }), -EINVAL);
}

static void test_hidden(void **state)
{
    uint64_t got;

    (void)state;
    begin(256, 1);
    put(CR3, VA, 1, (SIM_POOL + 0x5000) | ALL);
    put(CR3, VA + 4096, 1, (SIM_POOL + SIM_HIDDEN) | ALL);
    put(CR3, VA + GIB, 3, SIM_POOL | ALL | PS);
    assert_int_equal(sim_access(&sim, 0, VA, PT_WRITE, &got), SHADOW_FILLED);
    assert_int_equal(got, SIM_NOWHERE + 0x5000);
    assert_int_equal(sim_access(&sim, 0, VA + GIB, PT_READ, &got), SHADOW_FILLED);
    assert_int_equal(got, SIM_NOWHERE + (VA & (GIB - 1)));
    goes(0, VA + 4096, PT_READ, SIM_POOL + SIM_HIDDEN, 1);
}

static void test_window(void **state)
{
    struct shadow_mode mode = sim_mode(CR3, true);
    uint64_t window = UINT64_C(0xabc000) | P | W | A, other = UINT64_C(300) << 39;
    unsigned slot = VA >> 39 & 511;

    (void)state;
    begin(256, 1);
    put(CR3, VA, 1, PAGE | ALL);
    goes(0, VA, PT_READ, PAGE, 1);
    sim_leave(&sim, 0);
    shadow_window(sim.s, slot, window);
    assert_int_equal(sim.pool[sim.cpu[0].root * 512 + slot], window);
    assert_int_equal(tried(0, VA, PT_READ), SHADOW_WINDOW);
    assert_int_equal(tried(0, VA + 4096, PT_READ), SHADOW_REFUSED);
    mode.user = false;
    sim_set(&sim, 0, &mode);
    assert_int_equal(sim.pool[sim.cpu[0].root * 512 + slot], window);
    sim_leave(&sim, 0);
    shadow_window(sim.s, other >> 39, window);
    assert_int_equal(sim.pool[sim.cpu[0].root * 512 + slot], 0);
    assert_int_equal(sim.pool[sim.cpu[0].root * 512 + 300], window);
    sim_enter(&sim, 0);
    assert_true(sim.cpu[0].told && sim.cpu[0].flush.count >= 2);
    goes(0, VA, PT_READ, PAGE, 1);
}

/* --- the pool ------------------------------------------------------------------------------ */

static void test_eviction(void **state)
{
    (void)state;
    begin(64, 1);
    for (uint64_t i = 0; i < 100; i++) {
        put(0x100000 + i * 0x1000, VA, 1, (PAGE + i * 4096) | ALL);
        be(0, 0x100000 + i * 0x1000, true);
        goes(0, VA, PT_READ, PAGE + i * 4096, 1);
    }
    assert_true(stats().evictions > 80 && stats().tables < 64);
    /* And one address space with more tables than there are. */
    for (uint64_t i = 0; i < 200; i++)
        put(CR3, VA + i * 2 * MIB, 1, (PAGE + i * 4096) | ALL);
    be(0, CR3, true);
    for (uint64_t i = 0; i < 400; i++)
        goes(0, VA + i % 200 * 2 * MIB, PT_READ, PAGE + i % 200 * 4096, 1);
    assert_int_equal(sim.crowded, 0);
}

/* Nothing is free while another vCPU may be in what was freed. */
static void test_limbo(void **state)
{
    struct pt_access access = { .op = PT_READ, .user = true };
    struct shadow_mode mode = sim_mode(CR3, true);
    struct pt_walk walk;
    enum shadow_result got = SHADOW_FILLED;

    (void)state;
    begin(64, 2);
    for (uint64_t i = 0; i < 200; i++)
        put(CR3, VA + i * 2 * MIB, 1, (PAGE + i * 4096) | ALL);
    sim_enter(&sim, 1);
    sim_leave(&sim, 0);
    for (uint64_t i = 0; i < 200 && got == SHADOW_FILLED; i++)
        got = shadow_fault(sim.s, 0, &mode, gva(VA + i * 2 * MIB), &access, &walk);
    assert_int_equal(got, SHADOW_CROWDED);
    /* It stays so, until that one has left. */
    assert_int_equal(shadow_fault(sim.s, 0, &mode, gva(VA + 398 * MIB), &access, &walk),
                     SHADOW_CROWDED);
    sim_leave(&sim, 1);
    assert_int_equal(shadow_fault(sim.s, 0, &mode, gva(VA + 398 * MIB), &access, &walk),
                     SHADOW_FILLED);
}

static void test_touches(void **state)
{
    struct shadow_flush flush;

    (void)state;
    begin(512, 1);
    for (uint64_t i = 0; i < 100; i++) {
        put(CR3, VA + i * 2 * MIB, 1, PAGE | ALL);
        goes(0, VA + i * 2 * MIB, PT_READ, PAGE, 1);
    }
    sim_leave(&sim, 0);
    assert_false(shadow_enter(sim.s, 0, &flush)); /* entries that came need nothing */
    shadow_left(sim.s, 0, NULL);
    for (uint64_t i = 0; i < 100; i++)
        put(CR3, VA + i * 2 * MIB, 1, 0);
    shadow_sync(sim.s, 0);
    assert_true(shadow_enter(sim.s, 0, &flush));
    assert_true(flush.more && flush.count == SHADOW_TOUCH_MAX);
    shadow_left(sim.s, 0, NULL); /* not done: all of it again */
    assert_true(shadow_enter(sim.s, 0, &flush) && flush.more);
    shadow_left(sim.s, 0, &flush);
    assert_true(shadow_enter(sim.s, 0, &flush));
    assert_false(flush.more);
    assert_int_equal(flush.count, 100 - SHADOW_TOUCH_MAX);
    shadow_left(sim.s, 0, &flush);
    assert_false(shadow_enter(sim.s, 0, &flush));
    shadow_left(sim.s, 0, NULL);
}

/* With nested paging there is nobody to tell but the CPU. */
static void test_no_touches(void **state)
{
    struct shadow_mode mode = sim_mode(CR3, true);

    (void)state;
    sim_make(&sim, RAM, 64, 1, true);
    sim_set(&sim, 0, &mode);
    put(CR3, VA, 1, PAGE | ALL);
    goes(0, VA, PT_READ, PAGE, 1);
    put(CR3, VA, 1, 0);
    sim_sync(&sim, 0);
    sim_enter(&sim, 0);
    assert_true(sim.cpu[0].told);
    assert_int_equal(sim.cpu[0].flush.count, 0);
    assert_int_equal(tried(0, VA, PT_READ), SHADOW_REFUSED);
}

static void test_look(void **state)
{
    struct shadow_mode mode = sim_mode(CR3, true), other = sim_mode(CR3B, true);
    struct pt_walk walk;
    unsigned stale;

    (void)state;
    begin(256, 1);
    put(CR3, VA, 1, PAGE | ALL);
    assert_int_equal(shadow_look(sim.s, &other, gva(VA), &walk, &stale), -ENOENT);
    assert_int_equal(shadow_look(sim.s, &mode, gva(VA), &walk, &stale), 0);
    assert_int_equal(walk.fault, PT_NOT_PRESENT);
    goes(0, VA, PT_READ, PAGE, 1);
    assert_int_equal(shadow_look(sim.s, &mode, gva(VA), &walk, &stale), 0);
    assert_int_equal(walk.fault, PT_OK);
    assert_int_equal(walk.output, PAGE);
    assert_int_equal(walk.ref[3].raw, PAGE | P | U | A | D); /* the guest's is clean */
    assert_int_equal(walk.ref[0].at, SIM_POOL + sim.cpu[0].root * 4096 + (VA >> 39) * 8);
    assert_int_equal(stale, 0);
    put(CR3, VA, 1, 0);
    *sim_entry(&sim, CR3, VA, 3) ^= W;
    assert_int_equal(shadow_look(sim.s, &mode, gva(VA), &walk, &stale), 0);
    assert_int_equal(stale, 1u << 1 | 1u << 3);
}

static void test_config(void **state)
{
    struct shadow *s;
    struct shadow_config cfg;

    (void)state;
    begin(64, 1);
    cfg = sim.cfg;
    cfg.pool_pages = 63;
    assert_int_equal(shadow_create(&s, &cfg), -EINVAL);
    cfg.pool_pages = 64;
    cfg.cpus = 60; /* a root each, and no room to fill them */
    assert_int_equal(shadow_create(&s, &cfg), -EINVAL);
    cfg.cpus = 1;
    cfg.hidden.v++;
    assert_int_equal(shadow_create(&s, &cfg), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_no_ram),     CASE(test_hidden), CASE(test_window),
        CASE(test_eviction),   CASE(test_limbo),  CASE(test_touches),
        CASE(test_no_touches), CASE(test_look),   CASE(test_config),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
