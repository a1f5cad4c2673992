/*
 * A dump of a whole address space: pt_scan() over 4-level tables with 2^21 leaves of 4 KiB (8 GiB),
 * beside a walk from the root for each page. The tables are larger than the caches, as a guest's.
 */
#include "bench.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "ept/format_x86.h"
#include "ept/scan.h"

#define LEAVES       (1ul << 21)
#define LEAF_TABLES  (LEAVES / 512)
#define UPPER_TABLES (LEAF_TABLES / 512)
#define TABLES       (2 + UPPER_TABLES + LEAF_TABLES)
#define BYTES        (TABLES * 4096ul)

enum layout { CONTIGUOUS, SCATTERED };

struct tables {
    uint64_t *entry;
    uint64_t runs;
};

static const void *read_table(void *ctx, uint64_t at, unsigned bytes, void *buf)
{
    const struct tables *t = ctx;

    (void)buf;
    return at <= BYTES - bytes ? (const char *)t->entry + at : NULL;
}

static int read_entry(void *ctx, uint64_t at, unsigned size, uint64_t *raw)
{
    const struct tables *t = ctx;

    if (at > BYTES - size)
        return -1;
    memcpy(raw, (const char *)t->entry + at, size);
    return 0;
}

static int count_run(void *ctx, const struct pt_run *run)
{
    struct tables *t = ctx;

    t->runs += run->bytes != 0;
    return 0;
}

/* Root, PDPT, page directories, page tables follow each other. The scattered pages are in an order
 * in which no two make a run. */
static void fill(struct tables *t, enum layout layout)
{
    uint64_t first_pd = 2, first_pt = first_pd + UPPER_TABLES;

    memset(t->entry, 0, 4096 * 2);
    t->entry[0] = 1 << 12 | 7;
    for (uint64_t i = 0; i < UPPER_TABLES; i++)
        t->entry[512 + i] = (first_pd + i) << 12 | 7;
    for (uint64_t i = 0; i < LEAF_TABLES; i++)
        t->entry[first_pd * 512 + i] = (first_pt + i) << 12 | 7;
    for (uint64_t i = 0; i < LEAVES; i++) {
        uint64_t page = layout == CONTIGUOUS ? i : i * 0x9e3b1 % LEAVES;

        t->entry[first_pt * 512 + i] = page << 12 | 0x67;
    }
}

static double scan_rate(struct tables *t, const struct pt_space *space)
{
    struct pt_scan_stats stats;
    uint64_t start = now_ns();

    t->runs = 0;
    if (pt_scan(space, 0, ~UINT64_C(0), 0, TABLES, read_table, count_run, t, &stats) != 0 ||
        stats.leaves != LEAVES)
        return -1;
    return (double)stats.leaves * 1e3 / (double)(now_ns() - start);
}

static double walk_rate(struct tables *t, const struct pt_space *space)
{
    uint64_t start = now_ns();

    for (uint64_t i = 0; i < LEAVES; i++) {
        struct pt_walk w;

        if (pt_walk(space, i << 12, read_entry, t, &w) != PT_OK)
            return -1;
    }
    return (double)LEAVES * 1e3 / (double)(now_ns() - start);
}

void bench_scan(const struct bench_options *o)
{
    struct samples together = { .n = 0 }, apart = { .n = 0 }, walked = { .n = 0 },
                   goal = { .n = 0 };
    const struct x86_paging regs = { .cr0 = X86_CR0_PG,
                                     .cr4 = X86_CR4_PAE,
                                     .efer = X86_EFER_LMA | X86_EFER_NXE,
                                     .phys_bits = 46,
                                     .gib_pages = true };
    struct pt_space space;
    struct tables t = { .entry = mmap(NULL, BYTES, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) };

    puts("a dump of a whole address space (2^21 leaves of 4 KiB, 16 MiB of tables), leaves a "
         "second");
    if (t.entry == MAP_FAILED) {
        puts("  not available: no memory for the tables");
        return;
    }
    x86_pt_space(&space, &regs);
    sample_add(&goal, 10);
    for (unsigned i = 0; i < o->runs; i++) {
        fill(&t, CONTIGUOUS);
        sample_add(&together, scan_rate(&t, &space));
        fill(&t, SCATTERED);
        sample_add(&apart, scan_rate(&t, &space));
        sample_add(&walked, walk_rate(&t, &space));
    }
    print_row("scan, one run", &together, "M/s");
    print_row("scan, a run a page", &apart, "M/s");
    print_row("a walk for each page", &walked, "M/s");
    print_ratio("scan, a run a page / 10 million", &apart, &goal, "at least 1", 1, 1e9);
    munmap(t.entry, BYTES);
}
