/*
 * A guest that edits its own live tables at random, through its own mappings, on several CPUs, and
 * invalidates now and then. Each access has to lead where the guest's tables say, or said since
 * this CPU invalidated the address last: there is a history of every word of the tables for that.
 * Where the shadow asks the tables, its answer is theirs (shadow_fixture.c).
 *
 * SHADOW_STORM in the environment: how many edits, instead of those that the suite has time for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ept/entry.h"

#include "tests/unit/shadow_fixture.h"

#define MIB     (UINT64_C(1) << 20)
#define RAM     (16 * MIB)
#define AREA    (2 * MIB) /* tables lie here */
#define DIRECT  UINT64_C(0xffff800000000000)
#define HISTORY (1u << 15)
#define ROOTS   3
#define SPACES  64 /* addresses that are tried */
#define WINDOW  (UINT64_C(0xabc000) | P | W | A)
#define FIRST   0x100000 /* the first of the tables that are edited */

/* Tables by level: 4 to 1. */
static const unsigned tables_of[] = { 0, 10, 6, 4, ROOTS };

struct change {
    uint64_t time, old;
    uint32_t word, before; /* 1 + place in the history; 0: none */
};

static struct {
    struct sim sim;
    uint64_t seed, now;
    struct change history[HISTORY];
    uint32_t last[AREA / 8];
    uint64_t known[AREA / 8];
    uint64_t flushed[SIM_CPUS], invalidated[SIM_CPUS][SPACES];
    uint64_t edits, accesses, refused, peeks;
} t;

static uint64_t chance(uint64_t below)
{
    t.seed ^= t.seed << 13;
    t.seed ^= t.seed >> 7;
    t.seed ^= t.seed << 17;
    return (t.seed >> 11) % below;
}

/* --- the history of the tables ------------------------------------------------------------- */

/* This word may have changed. */
static void note(uint64_t at)
{
    uint32_t word = (uint32_t)(at / 8);
    uint64_t value;
    struct change *c;

    if (at >= AREA)
        return;
    value = *sim_word(&t.sim, at);
    if (value == t.known[word])
        return;
    c = &t.history[++t.now % HISTORY];
    *c = (struct change){
        .time = t.now, .old = t.known[word], .word = word, .before = t.last[word]
    };
    t.last[word] = (uint32_t)(t.now % HISTORY) + 1;
    t.known[word] = value;
}

/* How many values a word had since, and the `n`th of them, the newest first. */
static unsigned values_since(uint64_t at, uint64_t since, unsigned n, uint64_t *value)
{
    uint32_t word = (uint32_t)(at / 8), place = at < AREA ? t.last[word] : 0;
    uint64_t newer = t.now + 1;
    unsigned count = 1;

    *value = *sim_word(&t.sim, at);
    while (place) {
        const struct change *c = &t.history[place - 1];

        /* What was overwritten is older than anything that is asked for. */
        if (c->word != word || c->time >= newer || c->time <= since)
            break;
        if (count++ == n)
            *value = c->old;
        newer = c->time;
        place = c->before;
    }
    return count;
}

/* A walk that takes another of a word's values at each level, as `choice` has it. */
struct past {
    uint64_t since;
    unsigned depth, choice[4], count[4];
};

static int read_past(void *ctx, uint64_t at, unsigned size, uint64_t *raw)
{
    struct past *p = ctx;

    (void)size;
    if (at >= RAM)
        return -1;
    p->count[p->depth] = values_since(at, p->since, p->choice[p->depth], raw);
    p->depth++;
    return 0;
}

static bool next_choice(struct past *p)
{
    while (p->depth > 0) {
        unsigned n = --p->depth;

        if (++p->choice[n] < p->count[n])
            return true;
        p->choice[n] = 0;
    }
    return false;
}

static uint64_t as_shown(uint64_t at)
{
    return at >= SIM_POOL && at - SIM_POOL < SIM_HIDDEN ? at - SIM_POOL + SIM_NOWHERE : at;
}

/* May the CPU have come to `at`? */
static bool may_be(unsigned cpu, uint64_t address, enum pt_op op, uint64_t at, uint64_t since)
{
    const struct shadow_mode *mode = &t.sim.cpu[cpu].mode;
    struct pt_access access = { .op = op, .user = mode->user };
    struct past past = { .since = since };
    struct pt_space space;

    x86_pt_space(&space, &mode->paging);
    do {
        struct pt_walk walk;
        uint64_t set = 0;

        past.depth = 0;
        (void)pt_access(&space, address, &access, read_past, &past, &walk);
        for (unsigned i = 0; i < walk.count; i++)
            set |= walk.ref[i].set;
        if (walk.fault == PT_OK && set == 0 && as_shown(walk.output) == at)
            return true;
    } while (next_choice(&past));
    return false;
}

/* --- what is in the tables ----------------------------------------------------------------- */

static uint64_t table_at(unsigned level, unsigned n)
{
    return FIRST + (uint64_t)((4 - level) * 16 + n) * PAGE_SIZE_4K;
}

static unsigned level_of_table(uint64_t at)
{
    for (unsigned level = 4; level > 0; level--)
        if (at >= table_at(level, 0) && at < table_at(level, tables_of[level]))
            return level;
    return 0;
}

static uint64_t some_table(unsigned level)
{
    return table_at(level, (unsigned)chance(tables_of[level]));
}

static unsigned some_index(unsigned level)
{
    static const uint16_t last[] = { 0, 1, 2, 511 };

    switch (level) {
    case 1:
        return last[chance(4)];
    case 2:
        return (unsigned)chance(4);
    default:
        return (unsigned)chance(2);
    }
}

static uint64_t address_of(unsigned n)
{
    static const uint16_t last[] = { 0, 1, 2, 511 };

    return (uint64_t)(n / 32 % 2) << 39 | (uint64_t)(n / 16 % 2) << 30 |
           (uint64_t)(n / 4 % 4) << 21 | (uint64_t)last[n % 4] << 12;
}

static uint64_t some_page(void)
{
    switch (chance(12)) {
    case 0:
        return 0x3fff00000000 + chance(4) * PAGE_SIZE_4K; /* a device */
    case 1:
        return SIM_POOL + chance(64) * PAGE_SIZE_4K;
    case 2:
    case 3:
        return some_table((unsigned)chance(4) + 1);
    default:
        return AREA + chance(RAM / AREA - 1) * AREA + chance(4) * PAGE_SIZE_4K;
    }
}

static uint64_t some_flags(void)
{
    uint64_t flags = P;

    flags |= chance(10) < 9 ? W : 0;
    flags |= chance(10) < 7 ? U : 0;
    flags |= chance(10) < 1 ? NX : 0;
    flags |= chance(2) ? A : 0;
    flags |= chance(2) ? D : 0;
    flags |= chance(200) == 0 ? UINT64_C(1) << 50 : 0; /* reserved */
    return chance(20) ? flags : flags & ~P;
}

static uint64_t some_entry(unsigned level)
{
    uint64_t flags = some_flags();

    if (level == 1)
        return some_page() | flags;
    if (level == 2 && chance(3) == 0)
        return chance(RAM / AREA + 1) * AREA | flags | PS;
    if (level == 3 && chance(20) == 0)
        return flags | PS;
    if (chance(20) == 0)
        return some_table((unsigned)chance(4) + 1) | flags; /* itself, a loop, a root */
    return some_table(level - 1) | flags;
}

/* What a word of the tables may be written with: those of the direct map stay. */
static uint64_t some_value(uint64_t at)
{
    static const uint64_t bits[] = { P, W, U, A, D, NX };
    uint64_t now = *sim_word(&t.sim, at);
    unsigned level = level_of_table(at), n = at / 8 % 512;

    if (level == 0 || (level == 4 && n >= 256))
        return now;
    return chance(3) == 0 ? now ^ bits[chance(6)] : some_entry(level);
}

/* --- what the guest does ------------------------------------------------------------------- */

static void write_word(uint64_t at, uint64_t value)
{
    if (at >= RAM)
        return;
    *sim_word(&t.sim, at & ~UINT64_C(7)) = value;
    note(at & ~UINT64_C(7));
}

/* Through the map of all RAM that the kernel has, as kernels do. */
static void edit(unsigned cpu)
{
    unsigned level = (unsigned)chance(24);
    uint64_t at, got;

    level = level < 16 ? 1 : level < 22 ? 2 : level - 19;
    at = some_table(level) + some_index(level) * 8;
    if (t.sim.cpu[cpu].mode.user) {
        struct shadow_mode mode = t.sim.cpu[cpu].mode;

        mode.user = false;
        sim_set(&t.sim, cpu, &mode);
    }
    assert_int_equal(sim_access(&t.sim, cpu, DIRECT + at, PT_WRITE, &got), SHADOW_FILLED);
    assert_int_equal(got, at);
    write_word(at, some_value(at));
    t.edits++;
}

static void check(unsigned cpu, unsigned n, uint64_t address, enum pt_op op, uint64_t at)
{
    uint64_t since = t.flushed[cpu];

    if (t.invalidated[cpu][n] > since)
        since = t.invalidated[cpu][n];
    if (!may_be(cpu, address, op, at, since))
        fail_msg("edit %lu: cpu %u, %s %#lx came to %#lx", (unsigned long)t.edits, cpu,
                 pt_op_name(op), (unsigned long)address, (unsigned long)at);
}

static void peek(unsigned cpu)
{
    unsigned n = (unsigned)chance(SPACES);
    enum pt_op op = (enum pt_op)chance(3);
    uint64_t at;

    if (!sim_peek(&t.sim, cpu, address_of(n), op, &at))
        return;
    t.peeks++;
    check(cpu, n, address_of(n), op, at);
}

static void touch(unsigned cpu)
{
    unsigned n = (unsigned)chance(SPACES);
    uint64_t address = address_of(n) + chance(512) * 8, at;
    enum pt_op op = (enum pt_op)chance(3);
    enum shadow_result result;

    if (chance(2))
        address = address_of(n) + chance(8) * 8;
    result = sim_access(&t.sim, cpu, address, op, &at);
    t.accesses++;
    if (result == SHADOW_AGREES) {
        const struct x86_paging *regs = &t.sim.cpu[cpu].mode.paging;

        /* Ring 0 may execute, but not read: no entry of x86 says that. */
        assert_true(op == PT_EXEC && (regs->cr4 & X86_CR4_SMAP) && !(regs->cr4 & X86_CR4_SMEP));
        return;
    }
    if (result != SHADOW_FILLED) {
        t.refused++;
        return;
    }
    check(cpu, n, address, op, at);
    if (op == PT_WRITE && at < AREA)
        write_word(at, some_value(at));
}

static void load_cr3(unsigned cpu)
{
    struct shadow_mode mode = t.sim.cpu[cpu].mode;

    mode.paging.cr3 = some_table(4);
    sim_sync(&t.sim, cpu);
    sim_set(&t.sim, cpu, &mode);
    t.flushed[cpu] = t.now;
}

static void change_mode(unsigned cpu)
{
    struct shadow_mode mode = t.sim.cpu[cpu].mode;

    switch (chance(8)) {
    case 0:
        mode.paging.cr0 ^= X86_CR0_WP;
        break;
    case 1:
        mode.paging.cr4 ^= X86_CR4_SMEP;
        break;
    case 2:
        mode.paging.cr4 ^= X86_CR4_SMAP;
        break;
    case 3:
        mode.paging.rflags ^= X86_RFLAGS_AC;
        break;
    default:
        mode.user = !mode.user;
    }
    sim_set(&t.sim, cpu, &mode);
}

static void invalidate(unsigned cpu)
{
    unsigned n = (unsigned)chance(SPACES);

    sim_invlpg(&t.sim, cpu, address_of(n));
    t.invalidated[cpu][n] = t.now;
}

/* Per cent of what a CPU does, one added to the other; the rest are changes of mode. */
struct weather {
    unsigned edit, touch, invalidate, load;
};

static void step(unsigned cpu, const struct weather *w)
{
    unsigned what = (unsigned)chance(100);

    if (what < w->edit)
        edit(cpu);
    else if (what < w->touch)
        touch(cpu);
    else if (what < w->invalidate)
        invalidate(cpu);
    else if (what < w->load)
        load_cr3(cpu);
    else
        change_mode(cpu);
}

/*
 * The weather changes. In some of it one CPU hardly leaves the guest: it edits through what it has
 * in its TLB while the others flush and protect, and take apart what it is standing on.
 */
static void some_steps(unsigned cpus)
{
    static const struct weather weathers[] = {
        { .edit = 20, .touch = 84, .invalidate = 91, .load = 92 },
        { .edit = 8, .touch = 68, .invalidate = 70, .load = 98 },
        { .edit = 4, .touch = 94, .invalidate = 98, .load = 99 },
        { .edit = 25, .touch = 65, .invalidate = 95, .load = 96 },
    };
    static const struct weather still = { .edit = 100 };
    const struct weather *w = &weathers[chance(4)];
    unsigned lazy = (unsigned)chance(cpus * 2);

    /* Now and then the monitor's window covers what the guest uses. */
    shadow_window(t.sim.s, chance(8) ? 511 : 1, WINDOW);
    for (unsigned i = 0; i < 200; i++) {
        unsigned cpu = (unsigned)chance(cpus);

        /* What the history has forgotten can't be asked for. */
        if (t.now - t.flushed[cpu] > HISTORY / 2)
            load_cr3(cpu);
        if (cpu != lazy)
            step(cpu, w);
        else if (chance(8) == 0)
            step(cpu, &still);
        for (unsigned k = 0; k < 4; k++)
            peek((unsigned)chance(cpus));
    }
}

/* --- storms -------------------------------------------------------------------------------- */

static void begin(unsigned cpus, size_t pool, bool nested, uint64_t seed)
{
    uint64_t pdpt, pd;

    memset(&t, 0, sizeof(t));
    t.seed = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    sim_make(&t.sim, RAM, pool, cpus, nested);
    t.sim.wrote = note;
    pdpt = sim_table(&t.sim);
    pd = sim_table(&t.sim);
    for (unsigned i = 0; i < ROOTS; i++)
        *sim_word(&t.sim, table_at(4, i) + 256 * 8) = pdpt | P | W | A;
    *sim_word(&t.sim, pdpt) = pd | P | W | A;
    for (uint64_t i = 0; i < RAM / AREA; i++)
        *sim_word(&t.sim, pd + i * 8) = i * AREA | P | W | A | D | PS;
    memcpy(t.known, t.sim.ram, AREA);
    shadow_window(t.sim.s, 511, WINDOW);
    for (unsigned i = 0; i < cpus; i++) {
        struct shadow_mode mode = sim_mode(table_at(4, i % ROOTS), false);

        sim_set(&t.sim, i, &mode);
    }
}

static void storm(unsigned cpus, size_t pool, bool nested, unsigned share)
{
    const char *wanted = getenv("SHADOW_STORM");
    uint64_t edits = (wanted ? strtoull(wanted, NULL, 0) : 480000) / share;
    struct shadow_stats stats;

    begin(cpus, pool, nested, cpus * 1000 + pool + nested);
    while (t.edits < edits)
        some_steps(cpus);
    shadow_stats(t.sim.s, &stats);
    print_message(
        "%lu edits, %lu accesses (%lu refused), %lu peeks, %lu faults; zaps %lu, unsyncs %lu, "
        "protects %lu, evictions %lu, crowded %lu\n",
        (unsigned long)t.edits, (unsigned long)t.accesses, (unsigned long)t.refused,
        (unsigned long)t.peeks, (unsigned long)t.sim.faults, (unsigned long)stats.zaps,
        (unsigned long)stats.unsyncs, (unsigned long)stats.protects, (unsigned long)stats.evictions,
        (unsigned long)t.sim.crowded);
    /* It did meet what it is for. */
    assert_true(stats.zaps > edits / 100 && stats.unsyncs > 0 && stats.protects > 0);
    assert_true(stats.fills_large > 0);
    assert_true(t.accesses - t.refused > t.accesses / 20);
    sim_drop(&t.sim);
}

static void test_one_cpu(void **state)
{
    (void)state;
    storm(1, 512, true, 4);
}

static void test_three_cpus(void **state)
{
    (void)state;
    storm(3, 512, true, 4);
}

static void test_without_nested_paging(void **state)
{
    (void)state;
    storm(3, 512, false, 4);
}

static void test_tiny_pool(void **state)
{
    (void)state;
    storm(4, 64, true, 8);
    storm(2, 64, false, 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_cpu),
        cmocka_unit_test(test_three_cpus),
        cmocka_unit_test(test_without_nested_paging),
        cmocka_unit_test(test_tiny_pool),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
