#include "ept/scan.h"

#include <errno.h>
#include <stdalign.h>

#include "ept/entry.h"

/* Tables are somebody's bytes: guest memory, or a copy of it. */
typedef uint64_t __attribute__((may_alias)) entry64;
typedef uint32_t __attribute__((may_alias)) entry32;

struct level_masks {
    uint64_t zero;   /* has to be zero in a leaf */
    uint64_t ignore; /* the caller's, less what decides */
};

struct scan {
    const struct pt_space *space;
    pt_read_table read;
    pt_run_cb cb;
    void *ctx;
    uint64_t max_tables;
    struct pt_scan_stats stats;
    struct pt_run run; /* not told yet; none when it has no bytes */
    struct level_masks masks[PT_LEVELS_MAX + 1];
    alignas(64) uint8_t buf[PT_LEVELS_MAX + 1][4096];
};

/* What lies below one table, or a part of it. */
struct part {
    unsigned level;
    uint64_t base;        /* input of the table's entry 0 */
    uint64_t first, last; /* inside of what the table maps */
    unsigned rights;      /* of the entries above */
};

static uint64_t load(const void *table, unsigned entry_bytes, uint64_t i)
{
    if (entry_bytes == 4)
        return __atomic_load_n((const entry32 *)table + i, __ATOMIC_RELAXED);
    return __atomic_load_n((const entry64 *)table + i, __ATOMIC_RELAXED);
}

static int tell(struct scan *s)
{
    int rc = s->run.bytes ? s->cb(s->ctx, &s->run) : 0;

    s->run.bytes = 0;
    return rc < 0 ? rc : 0;
}

static bool continues(const struct pt_run *run, const struct pt_run *next)
{
    return run->bytes != 0 && run->input + run->bytes == next->input &&
           run->output + run->bytes == next->output && run->shift == next->shift &&
           run->rights == next->rights && run->flags == next->flags;
}

static int add_run(struct scan *s, const struct pt_run *next)
{
    int rc;

    if (continues(&s->run, next)) {
        s->run.bytes += next->bytes;
        s->run.leaves += next->leaves;
        return 0;
    }
    rc = tell(s);
    if (rc == 0)
        s->run = *next;
    return rc;
}

/* [first, last] of the leaf `raw`, whose own first input is `input`. */
static int add_leaf(struct scan *s, unsigned n, uint64_t raw, uint64_t input, uint64_t first,
                    uint64_t last, unsigned rights)
{
    const struct pt_level *level = &s->space->format->level[n];
    struct pt_run leaf = {
        .input = first,
        .bytes = last - first + 1,
        .output = pt_leaf_base(level, raw) + (first - input),
        .shift = level->shift,
        .rights = rights,
        .flags = raw & ~(level->leaf_addr | level->leaf_high | s->masks[n].ignore),
        .leaves = 1,
    };

    s->stats.leaves++;
    return add_run(s, &leaf);
}

/* The entry that would continue a run after the leaf `raw`. False when there can't be one: the
 * address would leave its bits, and what carries over has another meaning. */
static bool successor(const struct scan *s, unsigned n, uint64_t raw, uint64_t *next)
{
    const struct pt_level *level = &s->space->format->level[n];

    *next = raw + (UINT64_C(1) << level->shift);
    return (*next & level->leaf_addr) != 0 && (*next & s->masks[n].zero) == 0;
}

static int scan_table(struct scan *s, uint64_t at, const struct part *part);

/* One entry, not the easy case of scan_entries(). *same: `next` continues its run. */
static int scan_entry(struct scan *s, const struct part *part, uint64_t raw, uint64_t input,
                      bool *same, uint64_t *next)
{
    const struct pt_space *space = s->space;
    unsigned n = part->level, rights;
    uint64_t end = input + ((UINT64_C(1) << space->format->level[n].shift) - 1);
    uint64_t first = input > part->first ? input : part->first;
    uint64_t last = end < part->last ? end : part->last;
    enum pt_entry_kind kind = pt_entry_kind(space, n, raw);

    *same = false;
    if (kind == PT_ENTRY_NONE)
        return 0;
    if (kind == PT_ENTRY_RESERVED || (kind == PT_ENTRY_TABLE && n == 1)) {
        s->stats.broken++;
        return 0;
    }
    rights = part->rights & pt_entry_rights(space, n, raw);
    if (kind == PT_ENTRY_TABLE) {
        struct part below = {
            .level = n - 1, .base = input, .first = first, .last = last, .rights = rights
        };

        return scan_table(s, raw & space->format->table_addr, &below);
    }
    *same = successor(s, n, raw, next);
    return add_leaf(s, n, raw, input, first, last, rights);
}

/*
 * Most entries of a long run differ from the one before by one page's address and nothing else:
 * these are seen by one comparison, without taking the entry apart.
 */
static int scan_entries(struct scan *s, const struct part *part, const void *table)
{
    const struct pt_format *format = s->space->format;
    const struct pt_level *level = &format->level[part->level];
    uint64_t size = UINT64_C(1) << level->shift, care = ~s->masks[part->level].ignore;
    uint64_t i = (part->first - part->base) >> level->shift;
    uint64_t end = (part->last - part->base) >> level->shift, next = 0;
    bool same = false;

    s->stats.entries += end - i + 1;
    for (; i <= end; i++) {
        uint64_t raw = load(table, format->entry_bytes, i);

        if (same && i < end && ((raw ^ next) & care) == 0) {
            s->run.bytes += size;
            s->run.leaves++;
            s->stats.leaves++;
            same = successor(s, part->level, raw, &next);
        } else {
            int rc = scan_entry(s, part, raw, part->base + (i << level->shift), &same, &next);

            if (rc < 0)
                return rc;
        }
    }
    return 0;
}

static int get_table(struct scan *s, unsigned n, uint64_t at, const void **table)
{
    if (s->stats.tables == s->max_tables)
        return -E2BIG;
    s->stats.tables++;
    *table = s->read(s->ctx, at, (unsigned)pt_table_bytes(s->space->format, n), s->buf[n]);
    if (!*table)
        s->stats.broken++;
    return 0;
}

static int scan_table(struct scan *s, uint64_t at, const struct part *part)
{
    const void *table;
    int rc = get_table(s, part->level, at, &table);

    return rc == 0 && table ? scan_entries(s, part, table) : rc;
}

/* The inputs of the format: one range, or two that are the halves of a canonical space. Returns how
 * many, cut by [first, last]; `first` and `last` of each are set, and `base` of the root. */
static unsigned input_ranges(const struct pt_format *format, uint64_t first, uint64_t last,
                             struct part *out)
{
    unsigned width = format->input_bits, n = 0;
    uint64_t all = ~UINT64_C(0) >> (64 - width);
    uint64_t low_last = format->sign_extended && width < 64 ? all >> 1 : all;
    uint64_t high_first = ~low_last;

    if (first <= low_last && first <= last)
        out[n++] = (struct part){ .first = first, .last = last < low_last ? last : low_last };
    if (format->sign_extended && width < 64 && last >= high_first && first <= last)
        out[n++] = (struct part){ .base = ~all,
                                  .first = first > high_first ? first : high_first,
                                  .last = last };
    return n;
}

static int scan_ranges(struct scan *s, uint64_t first, uint64_t last)
{
    const struct pt_format *format = s->space->format;
    struct part part[2];
    unsigned parts = input_ranges(format, first, last, part);
    const void *root;
    int rc = 0;

    if (parts == 0)
        return 0;
    if (format->levels == 0) {
        s->run = (struct pt_run){ .input = part[0].first,
                                  .bytes = part[0].last - part[0].first + 1,
                                  .output = part[0].first,
                                  .shift = format->input_bits,
                                  .rights = PT_RIGHT_ALL,
                                  .leaves = 1 };
        s->stats.leaves = 1;
        return 0;
    }
    rc = get_table(s, format->levels, s->space->root & format->root_addr, &root);
    for (unsigned i = 0; i < parts && rc == 0 && root; i++) {
        part[i].level = format->levels;
        part[i].rights = PT_RIGHT_ALL;
        rc = scan_entries(s, &part[i], root);
    }
    return rc;
}

/* Bits that decide what an entry is or grants: those of no leaf may be ignored. */
static uint64_t deciding_bits(const struct pt_space *space)
{
    const struct pt_rights *by = &space->format->rights;
    uint64_t bits = space->format->present | space->present | by->read | by->write | by->exec |
                    by->user | by->no_exec | by->user_exec;

    for (unsigned i = 0; i < space->forbidden_count; i++)
        bits |= space->forbidden[i].mask;
    return bits;
}

static void set_masks(struct scan *s, uint64_t ignore)
{
    const struct pt_space *space = s->space;
    uint64_t decide = deciding_bits(space);

    for (unsigned n = 1; n <= space->format->levels; n++) {
        const struct pt_level *level = &space->format->level[n];

        s->masks[n].zero = space->reserved[n] | space->leaf_reserved[n] | level->leaf_reserved;
        s->masks[n].ignore = ignore & ~(decide | s->masks[n].zero | level->leaf_bit |
                                        level->leaf_addr | level->leaf_high);
    }
}

int pt_scan(const struct pt_space *space, uint64_t first, uint64_t last, uint64_t ignore,
            uint64_t max_tables, pt_read_table read, pt_run_cb cb, void *ctx,
            struct pt_scan_stats *stats)
{
    struct scan s; /* set one by one: zeroing the tables' room would cost more than a short scan */
    int rc, told;

    s.space = space;
    s.read = read;
    s.cb = cb;
    s.ctx = ctx;
    s.max_tables = max_tables;
    s.stats = (struct pt_scan_stats){ 0 };
    s.run = (struct pt_run){ 0 };
    set_masks(&s, ignore);
    rc = scan_ranges(&s, first, last);
    if (rc == 0 || rc == -E2BIG) {
        told = tell(&s);
        rc = told < 0 ? told : rc;
    }
    if (stats)
        *stats = s.stats;
    return rc;
}
