/*
 * The scanner: against runs known in advance, against the walker at 10^5 addresses of random tables
 * in each format, and with what must end it.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ept/access.h"
#include "ept/format_ept.h"
#include "ept/format_npt.h"
#include "ept/format_vtd.h"
#include "ept/format_x86.h"
#include "ept/scan.h"

#define PAGES    64
#define BYTES    (PAGES * 4096u)
#define RUNS_MAX (1u << 21)
#define RW       UINT64_C(0x63) /* present, writable, accessed, dirty */

struct ram {
    _Alignas(4096) uint8_t byte[BYTES];
    unsigned table_reads;
    bool copy;
    int stop_after; /* runs; 0: never */
    int stop_with;  /* 0: -EINTR */
    size_t runs;
    struct pt_run run[RUNS_MAX];
};

static struct ram *ram_new(void)
{
    struct ram *ram = aligned_alloc(4096, sizeof(*ram));

    assert_non_null(ram);
    memset(ram, 0, offsetof(struct ram, run));
    return ram;
}

static int ram_read(void *ctx, uint64_t at, unsigned size, uint64_t *raw)
{
    struct ram *ram = ctx;

    *raw = 0;
    if (at >= BYTES || size > BYTES - at)
        return -EFAULT;
    memcpy(raw, ram->byte + at, size);
    return 0;
}

static const void *ram_table(void *ctx, uint64_t at, unsigned bytes, void *buf)
{
    struct ram *ram = ctx;

    ram->table_reads++;
    if (at >= BYTES || bytes > BYTES - at)
        return NULL;
    return ram->copy ? memcpy(buf, ram->byte + at, bytes) : ram->byte + at;
}

static int keep_run(void *ctx, const struct pt_run *run)
{
    struct ram *ram = ctx;

    assert_true(ram->runs < RUNS_MAX);
    ram->run[ram->runs++] = *run;
    if (ram->stop_after == 0 || ram->runs != (size_t)ram->stop_after)
        return 0;
    return ram->stop_with ? ram->stop_with : -EINTR;
}

static void put(struct ram *ram, uint64_t table, unsigned index, uint64_t raw)
{
    memcpy(ram->byte + table + index * 8, &raw, 8);
}

static struct pt_space long_mode(bool la57)
{
    struct x86_paging regs = { .cr0 = X86_CR0_PG | 1,
                               .cr3 = 0x1000,
                               .cr4 = X86_CR4_PAE | (la57 ? X86_CR4_LA57 : 0),
                               .efer = X86_EFER_LMA | X86_EFER_NXE,
                               .phys_bits = 46,
                               .gib_pages = true };
    struct pt_space space;

    x86_pt_space(&space, &regs);
    return space;
}

static int scan(struct ram *ram, const struct pt_space *space, uint64_t first, uint64_t last,
                uint64_t ignore, struct pt_scan_stats *stats)
{
    ram->runs = 0;
    ram->table_reads = 0;
    return pt_scan(space, first, last, ignore, 1u << 20, ram_table, keep_run, ram, stats);
}

static void assert_run(const struct pt_run *run, uint64_t input, uint64_t output, uint64_t bytes,
                       unsigned shift, uint64_t leaves)
{
    assert_int_equal(run->input, input);
    assert_int_equal(run->output, output);
    assert_int_equal(run->bytes, bytes);
    assert_int_equal(run->shift, shift);
    assert_int_equal(run->leaves, leaves);
}

/* Root 0x1000 -> 0x2000 -> 0x3000 -> 0x4000, 0x5000: the first 4 MiB in pages of 4 KiB. */
static struct ram *four_mib(void)
{
    struct ram *ram = ram_new();

    put(ram, 0x1000, 0, 0x2007);
    put(ram, 0x2000, 0, 0x3007);
    put(ram, 0x3000, 0, 0x4007);
    put(ram, 0x3000, 1, 0x5007);
    for (unsigned i = 0; i < 1024; i++)
        put(ram, 0x4000 + i / 512 * 0x1000, i % 512, (0x800000 + i * 4096) | RW);
    return ram;
}

static void one_run_over_two_tables(void **state)
{
    struct ram *ram = four_mib();
    struct pt_space space = long_mode(false);
    struct pt_scan_stats stats;

    (void)state;
    for (int copy = 0; copy < 2; copy++) {
        ram->copy = copy;
        assert_int_equal(scan(ram, &space, 0, ~0ull, 0, &stats), 0);
        assert_int_equal(ram->runs, 1);
        assert_run(&ram->run[0], 0, 0x800000, 4 << 20, 12, 1024);
        assert_int_equal(ram->run[0].flags, RW);
        assert_int_equal(stats.tables, 5);
        assert_int_equal(ram->table_reads, 5);
        assert_int_equal(stats.entries, 5 * 512);
        assert_int_equal(stats.leaves, 1024);
        assert_int_equal(stats.broken, 0);
    }
    /* A range that starts and ends inside of pages. */
    assert_int_equal(scan(ram, &space, 0x1234, 0x1ff000, 0, &stats), 0);
    assert_int_equal(ram->runs, 1);
    assert_run(&ram->run[0], 0x1234, 0x801234, 0x1ff001 - 0x1234, 12, 0x1ff);
    assert_int_equal(stats.tables, 4);
    assert_int_equal(scan(ram, &space, 0x1234, 0x1234, 0, NULL), 0);
    assert_int_equal(ram->runs, 1);
    assert_run(&ram->run[0], 0x1234, 0x801234, 1, 12, 1);
    free(ram);
}

/* Each kind of difference ends a run; a bit that is ignored does not, but one that decides does. */
static void what_ends_a_run(void **state)
{
    static const struct {
        uint64_t flip, ignore;
        size_t runs;
        uint64_t broken;
    } cases[] = {
        { 0x20, 0, 3, 0 },                  /* accessed */
        { 0x40, 0x20, 3, 0 },               /* dirty; another one is ignored */
        { 0x60, 0x60, 1, 0 },               /* both ignored */
        { 0x1000, 0, 3, 0 },                /* output */
        { 0x1000, ~0ull, 3, 0 },            /* can't be ignored */
        { 1, ~0ull, 2, 0 },                 /* not present: a gap */
        { UINT64_C(1) << 46, ~0ull, 2, 1 }, /* reserved: beyond MAXPHYADDR */
        { UINT64_C(1) << 52, 0, 3, 0 },     /* software's bit */
        { UINT64_C(1) << 52, ~0ull, 1, 0 },
    };
    struct pt_space space = long_mode(false);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct ram *ram = four_mib();
        struct pt_scan_stats stats;

        put(ram, 0x4000, 100, (0x800000 + 100 * 4096) ^ (RW ^ cases[i].flip));
        assert_int_equal(scan(ram, &space, 0, ~0ull, cases[i].ignore, &stats), 0);
        assert_int_equal(ram->runs, cases[i].runs);
        assert_int_equal(ram->run[0].bytes, cases[i].runs > 1 ? 100 * 4096 : 4 << 20);
        assert_int_equal(stats.broken, cases[i].broken);
        free(ram);
    }
}

/* The output's last page below 2^46 is followed, in raw numbers, by a reserved bit. */
static void an_address_does_not_run_over(void **state)
{
    const uint64_t top = (UINT64_C(1) << 46) - 4096;
    struct pt_space space = long_mode(false);
    struct ram *ram = four_mib();
    struct pt_scan_stats stats;

    (void)state;
    put(ram, 0x4000, 0, top | RW);
    put(ram, 0x4000, 1, (top + 4096) | RW);
    put(ram, 0x3000, 1, 0);
    assert_int_equal(scan(ram, &space, 0, 0x1fff, 0, &stats), 0);
    assert_int_equal(ram->runs, 1);
    assert_int_equal(stats.broken, 1);
    /* The same with 52 bits: bit 52 is software's, and the address wraps to 0. */
    memset(space.reserved, 0, sizeof(space.reserved));
    put(ram, 0x4000, 0, UINT64_C(0xffffffffff000) | RW);
    put(ram, 0x4000, 1, UINT64_C(0x10000000000000) | RW);
    assert_int_equal(scan(ram, &space, 0, 0x2fff, 0, &stats), 0);
    assert_int_equal(ram->runs, 3);
    assert_int_equal(ram->run[1].output, 0);
    free(ram);
}

static void sizes_and_halves(void **state)
{
    struct pt_space space = long_mode(false);
    struct ram *ram = four_mib();
    struct pt_scan_stats stats;

    (void)state;
    put(ram, 0x3000, 2, 0xc00000 | RW | X86_PTE_PS); /* goes on where the small pages end */
    put(ram, 0x3000, 3, 0xe00000 | RW | X86_PTE_PS);
    put(ram, 0x1000, 511, 0x6007); /* the last 1 GiB of the upper half */
    put(ram, 0x6000, 511, 0x40000000 | RW | X86_PTE_PS);
    put(ram, 0x1000, 256, 0x6007); /* and of the half's first 512 GiB, by the same table */
    assert_int_equal(scan(ram, &space, 0, ~0ull, 0, &stats), 0);
    assert_int_equal(ram->runs, 4);
    assert_run(&ram->run[0], 0, 0x800000, 4 << 20, 12, 1024);
    assert_run(&ram->run[1], 4 << 20, 0xc00000, 4 << 20, 21, 2);
    assert_run(&ram->run[2], UINT64_C(0xffff807fc0000000), 0x40000000, 1 << 30, 30, 1);
    assert_run(&ram->run[3], UINT64_C(0xffffffffc0000000), 0x40000000, 1 << 30, 30, 1);
    assert_int_equal(stats.tables, 7); /* the root once */
    /* A range in the hole between the halves has nothing; a wrong one neither. */
    assert_int_equal(scan(ram, &space, UINT64_C(1) << 47, UINT64_C(0xffff7fffffffffff), 0, &stats),
                     0);
    assert_int_equal(ram->runs, 0);
    assert_int_equal(stats.tables, 0);
    assert_int_equal(scan(ram, &space, 0x2000, 0x1fff, 0, &stats), 0);
    assert_int_equal(ram->runs, 0);
    free(ram);
}

static void paging_off_is_one_run(void **state)
{
    struct x86_paging regs = { .cr0 = 1, .phys_bits = 46 };
    struct ram *ram = ram_new();
    struct pt_scan_stats stats;
    struct pt_space space;

    (void)state;
    x86_pt_space(&space, &regs);
    assert_int_equal(scan(ram, &space, 0x1000, ~0ull, 0, &stats), 0);
    assert_int_equal(ram->runs, 1);
    assert_run(&ram->run[0], 0x1000, 0x1000, (UINT64_C(1) << 32) - 0x1000, 32, 1);
    assert_int_equal(ram->table_reads, 0);
    assert_int_equal(stats.leaves, 1);
    free(ram);
}

/* The root refers to itself everywhere: 2^36 leaves. */
static void loops_end(void **state)
{
    struct pt_space space = long_mode(false);
    struct ram *ram = ram_new();
    struct pt_scan_stats stats;

    (void)state;
    for (unsigned i = 0; i < 512; i++)
        put(ram, 0x1000, i, 0x1003);
    ram->runs = 0;
    assert_int_equal(pt_scan(&space, 0, ~0ull, 0, 100, ram_table, keep_run, ram, &stats), -E2BIG);
    assert_int_equal(stats.tables, 100);
    assert_int_equal(ram->table_reads, 100);
    assert_int_equal(stats.leaves, 97 * 512); /* all but the three upper ones are level 1 */
    assert_int_equal(ram->runs, 97 * 512);    /* and the last one was told */
    assert_int_equal(pt_scan(&space, 0, ~0ull, 0, 0, ram_table, keep_run, ram, &stats), -E2BIG);
    assert_int_equal(stats.tables, 0);
    free(ram);
}

static void ended_by_the_caller_and_by_missing_memory(void **state)
{
    struct pt_space space = long_mode(false);
    struct ram *ram = four_mib();
    struct pt_scan_stats stats;

    (void)state;
    put(ram, 0x4000, 100, 0);
    ram->stop_after = 1;
    assert_int_equal(scan(ram, &space, 0, ~0ull, 0, &stats), -EINTR);
    assert_int_equal(ram->runs, 1);
    ram->stop_after = 2; /* also when it is the last one */
    assert_int_equal(scan(ram, &space, 0, ~0ull, 0, &stats), -EINTR);
    /* Whatever it says, it is not called again: it may have said what the scan itself says. */
    ram->stop_after = 1;
    ram->stop_with = -E2BIG;
    assert_int_equal(scan(ram, &space, 0, ~0ull, 0, &stats), -E2BIG);
    assert_int_equal(ram->runs, 1);
    ram->stop_after = 0;
    put(ram, 0x3000, 1, BYTES | 7);
    assert_int_equal(scan(ram, &space, 0, ~0ull, 0, &stats), 0);
    assert_int_equal(stats.broken, 1);
    assert_int_equal(stats.leaves, 511);
    space.root = BYTES;
    assert_int_equal(scan(ram, &space, 0, ~0ull, 0, &stats), 0);
    assert_int_equal(ram->runs, 0);
    assert_int_equal(stats.broken, 1);
    free(ram);
}

/* --- random tables ----------------------------------------------------------- */

static uint64_t random_state = 88172645463325252u;

static uint64_t random64(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* Mostly sound entries, whose tables lie in the memory; runs, gaps and nonsense among them. */
static void fill(struct ram *ram, const struct pt_format *format)
{
    bool x86 = format->rules == PT_RULES_X86 || format->rules == PT_RULES_NPT;
    unsigned entry_bytes = format->entry_bytes;
    uint64_t raw = 0;

    for (unsigned at = 0; at < BYTES; at += entry_bytes) {
        unsigned kind = (unsigned)(random64() >> 20) % 64;

        if (kind >= 24)
            raw += 4096; /* goes on */
        else if (kind < 4)
            raw = 0;
        else
            raw = random64() % BYTES / 4096 * 4096 | (random64() & 0xfff & ~0x80ull) | 1 |
                  (kind < 8 ? random64() & 0xf00 : 0) | (kind < 6 ? 0x80 : 0) |
                  (kind == 5 ? random64() & ~0x1fffffull : 0) |
                  (kind == 6 && entry_bytes == 8 ? X86_PTE_NX : 0);
        if (!x86 && kind >= 8 && kind < 24) /* too much would be refused */
            raw = (raw & ~UINT64_C(0xfff)) | (random64() & 0x307) | 3;
        memcpy(ram->byte + at, &raw, entry_bytes);
    }
}

static const struct pt_run *run_of(const struct ram *ram, uint64_t input)
{
    size_t low = 0, high = ram->runs;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (ram->run[middle].input + (ram->run[middle].bytes - 1) < input)
            low = middle + 1;
        else
            high = middle;
    }
    return low < ram->runs && ram->run[low].input <= input ? &ram->run[low] : NULL;
}

/* Returns whether it is mapped. */
static bool check_address(struct ram *ram, const struct pt_space *space, uint64_t input)
{
    const struct pt_run *run = run_of(ram, input);
    const struct pt_access access = { .op = PT_READ };
    struct pt_walk w, a;

    (void)pt_access(space, input, &access, ram_read, ram, &a);
    assert_int_equal(pt_walk(space, input, ram_read, ram, &w) == PT_OK, run != NULL);
    if (!run)
        return false;
    assert_int_equal(run->output + (input - run->input), w.output);
    assert_int_equal(run->shift, w.shift);
    assert_int_equal(run->rights, a.rights);
    return true;
}

static void check_runs(const struct ram *ram, const struct pt_scan_stats *stats, uint64_t first,
                       uint64_t last)
{
    uint64_t leaves = 0;

    for (size_t i = 0; i < ram->runs; i++) {
        const struct pt_run *r = &ram->run[i], *b = r - 1;

        leaves += r->leaves;
        assert_true(r->bytes > 0 && r->input >= first && r->input + (r->bytes - 1) <= last);
        if (i == 0)
            continue;
        assert_true(r->input > b->input + (b->bytes - 1));
        assert_false(r->input == b->input + b->bytes && r->output == b->output + b->bytes &&
                     r->shift == b->shift && r->rights == b->rights && r->flags == b->flags);
    }
    assert_int_equal(leaves, stats->leaves);
}

/* A range around a mapped address, or around an edge of the format's inputs. */
static void choose_range(struct ram *ram, const struct pt_space *space, uint64_t *first,
                         uint64_t *last)
{
    unsigned width = space->format->input_bits;
    uint64_t all = ~UINT64_C(0) >> (64 - width), at = 0, size;
    struct pt_walk w;

    for (unsigned i = 0; i < 200; i++) {
        at = random64() & all;
        if (space->format->sign_extended && at >> (width - 1))
            at |= ~all;
        if (pt_walk(space, at, ram_read, ram, &w) == PT_OK)
            break;
    }
    if (random64() % 8 == 0)
        at = random64() % 2 ? all >> 1 : (random64() % 2 ? ~(all >> 1) : all);
    size = UINT64_C(1) << (12 + random64() % 21);
    *first = at > size ? at - size : 0;
    *last = at < ~size ? at + size : ~UINT64_C(0);
}

static unsigned compare_once(struct ram *ram, const struct pt_space *space, unsigned samples)
{
    struct pt_scan_stats stats;
    uint64_t first, last;
    unsigned mapped = 0;

    fill(ram, space->format);
    choose_range(ram, space, &first, &last);
    ram->copy = random64() % 2;
    /* 8 GiB at most: 4096 tables of level 1 and a few more. */
    assert_int_equal(scan(ram, space, first, last, 0, &stats), 0);
    check_runs(ram, &stats, first, last);
    for (unsigned i = 0; i < samples; i++) {
        uint64_t at = first + random64() % (last - first + 1);

        if (i % 4 == 0 && ram->runs) { /* the edges of a run */
            const struct pt_run *run = &ram->run[random64() % ram->runs];

            at = run->input + (i % 8 ? run->bytes : ~UINT64_C(0));
            if (at < first || at > last)
                continue;
        }
        mapped += check_address(ram, space, at);
    }
    return mapped;
}

/* In 20 000 addresses, most of them in tables that noise has made. */
static void compare(struct ram *ram, struct pt_space *space)
{
    unsigned mapped = 0;

    for (unsigned i = 0; i < 40; i++) {
        space->root = (space->root & 0xfff) | random64() % BYTES / 4096 * 4096;
        mapped += compare_once(ram, space, 500);
    }
    assert_true(mapped > 1000); /* else it compares nothing */
}

static void agrees_with_the_walker(void **state)
{
    static const struct x86_paging modes[] = {
        { .cr0 = X86_CR0_PG, .phys_bits = 36 },
        { .cr0 = X86_CR0_PG, .cr4 = X86_CR4_PSE, .phys_bits = 36 },
        { .cr0 = X86_CR0_PG, .cr4 = X86_CR4_PAE, .efer = X86_EFER_NXE, .phys_bits = 40 },
        { .cr0 = X86_CR0_PG,
          .cr4 = X86_CR4_PAE,
          .efer = X86_EFER_LMA | X86_EFER_NXE,
          .phys_bits = 46,
          .gib_pages = true },
        { .cr0 = X86_CR0_PG, .cr4 = X86_CR4_PAE, .efer = X86_EFER_LMA, .phys_bits = 52 },
        { .cr0 = X86_CR0_PG,
          .cr4 = X86_CR4_PAE | X86_CR4_LA57,
          .efer = X86_EFER_LMA | X86_EFER_NXE,
          .phys_bits = 52,
          .gib_pages = true },
    };
    struct ram *ram = ram_new();

    (void)state;
    for (size_t m = 0; m < sizeof(modes) / sizeof(modes[0]); m++) {
        struct pt_space space;

        x86_pt_space(&space, &modes[m]);
        compare(ram, &space);
    }
    free(ram);
}

static void agrees_in_nested_and_device_formats(void **state)
{
    static const struct ept_paging ept[] = {
        { .eptp = EPTP_WRITE_BACK | 3 << 3, .phys_bits = 46, .large_2m = true, .large_1g = true },
        { .eptp = EPTP_WRITE_BACK | 4 << 3 | EPTP_AD,
          .phys_bits = 52,
          .large_2m = true,
          .exec_only = true,
          .mode_based = true },
    };
    static const struct vtd_paging vtd[] = {
        { .levels = 3, .phys_bits = 39, .large_2m = true },
        { .levels = 4, .phys_bits = 46, .large_2m = true, .large_1g = true, .snoop = true },
    };
    const struct npt_paging npt = { .efer = X86_EFER_NXE, .phys_bits = 48, .gib_pages = true };
    struct ram *ram = ram_new();
    struct pt_space space;

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(ept_pt_space(&space, &ept[i]), 0);
        compare(ram, &space);
        assert_int_equal(vtd_pt_space(&space, &vtd[i]), 0);
        compare(ram, &space);
    }
    npt_pt_space(&space, &npt);
    compare(ram, &space);
    free(ram);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_run_over_two_tables),
        cmocka_unit_test(what_ends_a_run),
        cmocka_unit_test(an_address_does_not_run_over),
        cmocka_unit_test(sizes_and_halves),
        cmocka_unit_test(paging_off_is_one_run),
        cmocka_unit_test(loops_end),
        cmocka_unit_test(ended_by_the_caller_and_by_missing_memory),
        cmocka_unit_test(agrees_with_the_walker),
        cmocka_unit_test(agrees_in_nested_and_device_formats),
    };

    return cmocka_run_group_tests_name("scan", tests, NULL, NULL);
}
