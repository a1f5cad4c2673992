/*
 * What the directed tests of shadow paging share: one machine, and short ways to say what a guest
 * does and what has to come of it.
 */
#ifndef TWOFOLD_TESTS_UNIT_SHADOW_CASES_H
#define TWOFOLD_TESTS_UNIT_SHADOW_CASES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/shadow_fixture.h"

#define MIB  (UINT64_C(1) << 20)
#define GIB  (UINT64_C(1) << 30)
#define RAM  (16 * MIB)
#define CR3  UINT64_C(0x1000)
#define CR3B UINT64_C(0x2000)
#define PAGE UINT64_C(0xa34000) /* data */
#define VA   UINT64_C(0x00007f1234567000)
#define HALF UINT64_C(0xffff800000000000) /* RAM, for the guest's kernel */
#define ALL  (P | W | U)

/* Rounds without a change after which a table is protected for certain, and once more. */
#define ROUNDS 80

static struct sim sim;

static inline void begin(size_t pool_pages, unsigned cpus)
{
    sim_make(&sim, RAM, pool_pages, cpus, false);
    for (unsigned i = 0; i < cpus; i++) {
        struct shadow_mode mode = sim_mode(CR3, true);

        sim_set(&sim, i, &mode);
    }
}

static inline int end(void **state)
{
    (void)state;
    sim_drop(&sim);
    return 0;
}

static inline uint64_t where(const uint64_t *entry)
{
    return (uint64_t)((const uint8_t *)entry - sim.ram);
}

/* As an interpreted instruction would. Without shadow_wrote(), `*sim_entry() =` is what a guest
 * does that has a way to write. */
static inline void put(uint64_t cr3, uint64_t address, unsigned level, uint64_t entry)
{
    uint64_t *at = sim_entry(&sim, cr3, address, level);

    *at = entry;
    shadow_wrote(sim.s, gpa(where(at)), 8);
}

static inline void be(unsigned cpu, uint64_t cr3, bool user)
{
    struct shadow_mode mode = sim_mode(cr3, user);

    sim_set(&sim, cpu, &mode);
}

static inline struct shadow_stats stats(void)
{
    struct shadow_stats out;

    shadow_stats(sim.s, &out);
    return out;
}

/* Made, at this gpa, after so many faults. */
static inline void goes(unsigned cpu, uint64_t address, enum pt_op op, uint64_t at, unsigned faults)
{
    uint64_t got = 0;
    unsigned counted;

    assert_int_equal(sim_access_counted(&sim, cpu, address, op, &got, &counted), SHADOW_FILLED);
    assert_int_equal(got, at);
    assert_int_equal(counted, faults);
}

static inline enum shadow_result tried(unsigned cpu, uint64_t address, enum pt_op op)
{
    uint64_t at;

    return sim_access(&sim, cpu, address, op, &at);
}

static inline void rounds(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        sim_sync(&sim, 0);
}

#define CASE(name) cmocka_unit_test_teardown(name, end)

#endif
