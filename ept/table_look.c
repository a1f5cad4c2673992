/*
 * Tables as they are: what may be one leaf again, and what a walker reads.
 */
#include "ept/table.h"

#include <errno.h>
#include <string.h>

#include "ept/table_impl.h"

/* --- merging ---------------------------------------------------------------------- */

/* Is the table at `at`, of level `n`, as good as one leaf above? */
static bool merged(const struct pt_table *t, unsigned n, uint64_t at, uint64_t loose, uint64_t *out)
{
    const struct pt_format *f = t->format;
    const struct pt_level *level = &f->level[n], *above = &f->level[n + 1];
    const void *table = pt_ptr(t, at);
    uint64_t first = pt_load(f, table, 0), bits = 0;
    uint64_t output = pt_leaf_base(level, first);

    for (uint64_t i = 0; i < pt_entries(level); i++) {
        uint64_t raw = pt_load(f, table, i);

        if (!pt_is_present(f, raw) || !pt_is_leaf(level, raw) ||
            pt_leaf_base(level, raw) != output + (i << level->shift) ||
            ((raw ^ first) & ~pt_leaf_own(level) & ~loose) != 0)
            return false;
        bits |= raw & ~pt_leaf_own(level);
    }
    return (bits & pt_leaf_own(above)) == 0 && pt_leaf_make(above, output, bits, out);
}

struct merge {
    uint64_t first, last, loose;
    unsigned max_shift, saved;
};

static void merge_level(struct pt_table *t, struct merge *m, unsigned n, uint64_t at,
                        uint64_t first, uint64_t last)
{
    const struct pt_format *f = t->format;
    const struct pt_level *level = &f->level[n];
    uint64_t size = UINT64_C(1) << level->shift;
    void *table = pt_ptr(t, at);

    for (uint64_t start = first & ~(size - 1); start <= last; start += size) {
        uint64_t i = pt_index(level, start), raw = pt_load(f, table, i), new = 0;
        uint64_t end = start + (size - 1), below = raw & f->table_addr;

        if (n == 1 || !pt_is_table(f, n, raw))
            continue;
        merge_level(t, m, n - 1, below, start < first ? first : start, end > last ? last : end);
        if (level->shift <= m->max_shift && start >= m->first && end <= m->last &&
            merged(t, n - 1, below, m->loose, &new)) {
            pt_store(f, table, i, new);
            t->pool.free(t->pool.ctx, below);
            t->tables--;
            m->saved++;
        }
    }
}

unsigned pt_merge(struct pt_table *t, uint64_t input, uint64_t len, unsigned max_shift,
                  uint64_t loose)
{
    struct merge m = { .loose = loose, .max_shift = max_shift };

    if (pt_range(t->format, input, len, &m.first, &m.last) == 0)
        merge_level(t, &m, t->format->levels, t->root, m.first, m.last);
    return m.saved;
}

uint64_t pt_entry(const struct pt_table *t, uint64_t input, unsigned *level)
{
    const struct pt_format *f = t->format;
    uint64_t at = t->root, raw = 0;

    *level = 0;
    if (!pt_input_fits(f, input))
        return 0;
    for (unsigned n = f->levels; n > 0; n--) {
        *level = n;
        raw = pt_load(f, pt_ptr(t, at), pt_index(&f->level[n], input));
        if (!pt_is_table(f, n, raw))
            break;
        at = raw & f->table_addr;
    }
    return raw;
}

/* --- for the walker --------------------------------------------------------------- */

void pt_table_space(const struct pt_table *t, struct pt_space *out)
{
    memset(out, 0, sizeof(*out));
    out->format = t->format;
    out->root = t->root;
}

int pt_table_read(void *ctx, uint64_t at, unsigned size, uint64_t *raw)
{
    const struct pt_table *t = ctx;
    uint64_t inside = at & (PT_TABLE_BYTES - 1);
    const void *table = pt_ptr(t, at - inside);

    if (!table || size != t->format->entry_bytes || inside % size != 0)
        return -EFAULT;
    *raw = pt_load(t->format, table, inside / size);
    return 0;
}
