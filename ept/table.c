/*
 * One visitor does every change: it goes down to the entries that a range covers whole, and cuts
 * those that it covers in part. It runs twice, first only to take from the pool what tables the
 * change will need, so that a change happens as a whole or not at all.
 */
#include "ept/table.h"

#include <errno.h>
#include <stdlib.h>

#include "ept/table_impl.h"

enum job_kind {
    JOB_MAP,
    JOB_FILL,    /* with a non-present entry */
    JOB_PROTECT, /* present leaves only */
};

struct job {
    enum job_kind kind;
    struct pt_table *t;
    uint64_t first; /* of the range; canonical addresses without their sign bits */
    uint64_t output, bits;
    unsigned max_shift;
    uint64_t entry;
    uint64_t clear, set;
    bool try_only;
    uint64_t *spare; /* tables taken when trying, in the order in which they'll be used */
    size_t spares, room, used;
};

/* What refers to a table: all rights that the format knows, less what must be zero here. */
static uint64_t table_make(const struct pt_format *f, unsigned n, uint64_t at)
{
    const struct pt_rights *by = &f->rights;
    uint64_t all = f->present | by->read | by->write | by->exec | by->user | by->user_exec;

    return (all & ~f->level[n].table_reserved) | at;
}

/* Piece `i`, one level down, of the entry `raw` of level `n` that refers to no table. */
static bool piece(const struct pt_format *f, unsigned n, uint64_t raw, uint64_t i, uint64_t *out)
{
    const struct pt_level *level = &f->level[n], *below = &f->level[n - 1];

    *out = raw;
    if (!pt_is_present(f, raw))
        return true;
    return pt_leaf_make(below, pt_leaf_base(level, raw) + (i << below->shift),
                        raw & ~pt_leaf_own(level), out);
}

/* --- tables ----------------------------------------------------------------------- */

static int table_new(struct pt_table *t, unsigned level, uint64_t input, uint64_t fits,
                     uint64_t *at)
{
    if (!t->pool.alloc(t->pool.ctx, level, input, at))
        return -ENOMEM;
    if ((*at & ~fits) == 0)
        return 0;
    t->pool.free(t->pool.ctx, *at);
    return -EINVAL;
}

/* Of the table at `at`, whose entries are of level `n`, and all below. */
static void tree_free(struct pt_table *t, uint64_t at, unsigned n)
{
    const struct pt_format *f = t->format;
    const struct pt_level *level = &f->level[n];

    for (uint64_t i = 0; level->leaf != PT_LEAF_ALWAYS && i < pt_entries(level); i++) {
        uint64_t raw = pt_load(f, pt_ptr(t, at), i);

        if (pt_is_table(f, n, raw))
            tree_free(t, raw & f->table_addr, n - 1);
    }
    t->pool.free(t->pool.ctx, at);
    t->tables--;
}

int pt_table_init(struct pt_table *t, const struct pt_format *format, const struct pt_pool *pool)
{
    const struct pt_level *level = &format->level[format->levels];
    int rc;

    if (format->levels == 0)
        return -EINVAL;
    *t = (struct pt_table){ .format = format, .pool = *pool };
    rc = table_new(t, format->levels, 0, format->root_addr, &t->root);
    if (rc < 0)
        return rc;
    for (uint64_t i = 0; i < pt_entries(level); i++)
        pt_store(format, pt_ptr(t, t->root), i, 0);
    t->tables = 1;
    return 0;
}

void pt_table_free(struct pt_table *t)
{
    if (t->tables > 0)
        tree_free(t, t->root, t->format->levels);
}

/* --- the visitor ------------------------------------------------------------------ */

/* Whether the entry of level `n` that begins at `start` is changed where it stands, and to what. */
static int place(const struct job *job, unsigned n, uint64_t start, uint64_t raw, uint64_t *out)
{
    const struct pt_format *f = job->t->format;
    const struct pt_level *level = &f->level[n];
    uint64_t output = job->output + (start - job->first);

    switch (job->kind) {
    case JOB_FILL:
        *out = job->entry;
        return 1;
    case JOB_MAP:
        if (level->leaf == PT_LEAF_NEVER || (n > 1 && level->shift > job->max_shift) ||
            (output & ((UINT64_C(1) << level->shift) - 1)) != 0)
            return 0;
        if (pt_leaf_make(level, output, job->bits, out))
            return 1;
        return n == 1 ? -EINVAL : 0;
    case JOB_PROTECT:
        *out = (raw & ~job->clear) | job->set;
        if (!pt_is_present(f, raw) || !pt_is_leaf(level, raw))
            return 0;
        return pt_is_present(f, *out) ? 1 : -EINVAL;
    }
    return -EINVAL;
}

/* Keeps a table for when the change is made. */
static int spare_add(struct job *job, uint64_t at)
{
    if (job->spares == job->room) {
        size_t room = job->room ? 2 * job->room : 16;
        uint64_t *more = reallocarray(job->spare, room, sizeof(*more));

        if (!more) {
            job->t->pool.free(job->t->pool.ctx, at);
            return -ENOMEM;
        }
        job->spare = more;
        job->room = room;
    }
    job->spare[job->spares++] = at;
    return 0;
}

/* A table below the entry `raw` of level `n`, holding the same in pieces; only taken when trying.
 */
static int cut(struct job *job, unsigned n, uint64_t start, uint64_t raw, uint64_t *at)
{
    struct pt_table *t = job->t;
    const struct pt_format *f = t->format;
    uint64_t count = pt_entries(&f->level[n - 1]), one;

    if (job->try_only || t->pool.sure) {
        int rc;

        if (!piece(f, n, raw, count - 1, &one))
            return -EINVAL;
        rc = table_new(t, n - 1, start, f->table_addr, at);
        if (rc < 0)
            return rc;
    } else {
        *at = job->spare[job->used++];
    }
    if (job->try_only)
        return spare_add(job, *at);
    for (uint64_t i = 0; i < count; i++) {
        (void)piece(f, n, raw, i, &one);
        pt_store(f, pt_ptr(t, *at), i, one);
    }
    t->tables++;
    return 0;
}

/* Does the table at `at`, of level `n`, hold one non-present entry throughout? */
static bool is_uniform(const struct pt_table *t, uint64_t at, unsigned n, uint64_t *raw)
{
    const struct pt_format *f = t->format;
    const void *table = pt_ptr(t, at);
    uint64_t count = pt_entries(&f->level[n]);

    *raw = pt_load(f, table, 0);
    /* Most tables that aren't differ at one of their ends. */
    if (pt_is_present(f, *raw) || pt_load(f, table, count - 1) != *raw)
        return false;
    for (uint64_t i = 1; i < count - 1; i++)
        if (pt_load(f, table, i) != *raw)
            return false;
    return true;
}

static int visit(struct job *job, unsigned n, const uint64_t *at, uint64_t whole, uint64_t first,
                 uint64_t last);

/* Below the entry `raw` of level `n` in `table` (NULL: of a table that isn't made yet), which can't
 * be changed where it stands. [first, last] is the part of it that changes. */
static int go_below(struct job *job, unsigned n, void *table, uint64_t raw, uint64_t first,
                    uint64_t last)
{
    struct pt_table *t = job->t;
    const struct pt_format *f = t->format;
    const struct pt_level *level = &f->level[n];
    uint64_t size = UINT64_C(1) << level->shift, start = first & ~(size - 1), new = 0, below;
    bool real = pt_is_table(f, n, raw);
    int rc;

    if (n == 1)
        return -EINVAL;
    below = raw & f->table_addr;
    if (!real) {
        /* What will be replaced as a whole need not be possible in pieces. */
        if (first == start && last == start + (size - 1) && !piece(f, n, raw, 0, &new))
            raw = 0;
        rc = cut(job, n, start, raw, &below);
        if (rc < 0)
            return rc;
        real = !job->try_only;
        if (real)
            pt_store(f, table, pt_index(level, start), table_make(f, n, below));
    }
    rc = visit(job, n - 1, real ? &below : NULL, raw, first, last);
    if (rc == 0 && job->kind == JOB_FILL && !job->try_only && is_uniform(t, below, n - 1, &new)) {
        pt_store(f, table, pt_index(level, start), new);
        t->pool.free(t->pool.ctx, below);
        t->tables--;
    }
    return rc;
}

/*
 * Entries of level `n` for [first, last], from the table at `at`; or, when only trying, from a
 * table that isn't made yet and would hold the pieces of `whole`.
 */
static int visit(struct job *job, unsigned n, const uint64_t *at, uint64_t whole, uint64_t first,
                 uint64_t last)
{
    struct pt_table *t = job->t;
    const struct pt_format *f = t->format;
    const struct pt_level *level = &f->level[n];
    uint64_t size = UINT64_C(1) << level->shift;
    void *table = at ? pt_ptr(t, *at) : NULL;

    for (uint64_t start = first & ~(size - 1); start <= last; start += size) {
        uint64_t i = pt_index(level, start), end = start + (size - 1), raw, new = 0;
        uint64_t from = start < first ? first : start, to = end > last ? last : end;
        int rc;

        if (table)
            raw = pt_load(f, table, i);
        else if (!piece(f, n + 1, whole, i, &raw))
            return -EINVAL;
        if (job->kind == JOB_PROTECT && !pt_is_present(f, raw))
            continue;
        rc = from == start && to == end ? place(job, n, start, raw, &new) : 0;
        if (rc == 0)
            rc = go_below(job, n, table, raw, from, to);
        else if (rc > 0 && !job->try_only) {
            if (raw != new)
                pt_store(f, table, i, new);
            if (pt_is_table(f, n, raw))
                tree_free(t, raw & f->table_addr, n - 1);
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}

static uint64_t input_mask(const struct pt_format *f)
{
    return f->input_bits == 64 ? ~UINT64_C(0) : (UINT64_C(1) << f->input_bits) - 1;
}

int pt_range(const struct pt_format *f, uint64_t input, uint64_t len, uint64_t *first,
             uint64_t *last)
{
    uint64_t page = (UINT64_C(1) << f->level[1].shift) - 1, end = input + (len - 1);

    if (len == 0 || ((input | len) & page) != 0 || end < input || !pt_input_fits(f, input) ||
        !pt_input_fits(f, end) || ((input ^ end) & ~input_mask(f)) != 0)
        return -EINVAL;
    *first = input & input_mask(f);
    *last = end & input_mask(f);
    return 0;
}

/* Can it be refused half-way although no table will be missing? When a leaf loses its last right,
 * and where the address does not fit into a leaf of that size (or, by PSE-36, into a large one
 * only). */
static bool may_be_refused(const struct job *job, uint64_t len)
{
    const struct pt_format *f = job->t->format;
    const struct pt_level *level = &f->level[1];
    uint64_t highest = level->leaf_addr | ((UINT64_C(1) << level->shift) - 1);

    for (unsigned n = 2; n <= f->levels; n++)
        if (f->level[n].leaf_high != 0)
            return true;
    return job->kind == JOB_PROTECT || (job->kind == JOB_MAP && job->output + (len - 1) > highest);
}

static int run(struct job *job, uint64_t input, uint64_t len)
{
    struct pt_table *t = job->t;
    unsigned n = t->format->levels;
    uint64_t first, last;
    int rc = pt_range(t->format, input, len, &first, &last);

    if (rc < 0)
        return rc;
    job->first = first;
    if (!t->pool.sure || may_be_refused(job, len)) {
        job->try_only = true;
        rc = visit(job, n, &t->root, 0, first, last);
        job->try_only = false;
    }
    if (rc < 0 || t->pool.sure)
        while (job->used < job->spares)
            t->pool.free(t->pool.ctx, job->spare[job->used++]);
    if (rc == 0)
        rc = visit(job, n, &t->root, 0, first, last);
    free(job->spare);
    return rc;
}

/* --- what callers ask for --------------------------------------------------------- */

/* Are these bits that mean the same in leaves of all sizes, and no more than an entry has? */
static bool bits_ok(const struct pt_format *f, uint64_t bits)
{
    for (unsigned n = 1; n <= f->levels; n++)
        if (bits & pt_leaf_own(&f->level[n]))
            return false;
    return f->entry_bytes == 8 || bits >> 32 == 0;
}

int pt_map(struct pt_table *t, uint64_t input, uint64_t len, uint64_t output, uint64_t bits,
           unsigned max_shift)
{
    struct job job = {
        .kind = JOB_MAP, .t = t, .output = output, .bits = bits, .max_shift = max_shift
    };
    uint64_t page = UINT64_C(1) << t->format->level[1].shift;

    if (!bits_ok(t->format, bits) || !pt_is_present(t->format, bits) ||
        (output & (page - 1)) != 0 || output + (len - 1) < output)
        return -EINVAL;
    return run(&job, input, len);
}

int pt_unmap(struct pt_table *t, uint64_t input, uint64_t len, uint64_t entry)
{
    struct job job = { .kind = JOB_FILL, .t = t, .entry = entry };

    if (pt_is_present(t->format, entry) || (t->format->entry_bytes == 4 && entry >> 32 != 0))
        return -EINVAL;
    return run(&job, input, len);
}

int pt_protect(struct pt_table *t, uint64_t input, uint64_t len, uint64_t clear, uint64_t set)
{
    struct job job = { .kind = JOB_PROTECT, .t = t, .clear = clear, .set = set };

    if (!bits_ok(t->format, clear) || !bits_ok(t->format, set))
        return -EINVAL;
    return run(&job, input, len);
}

int pt_split(struct pt_table *t, uint64_t input, unsigned shift)
{
    const struct pt_format *f = t->format;
    struct job job = { .kind = JOB_PROTECT, .t = t };
    unsigned size = 0, level;
    uint64_t raw = pt_entry(t, input, &level);

    for (unsigned n = 1; n <= f->levels; n++)
        if (f->level[n].leaf != PT_LEAF_NEVER && f->level[n].shift <= shift)
            size = f->level[n].shift;
    if (size == 0 || level == 0)
        return -EINVAL;
    if (!pt_is_present(f, raw) || f->level[level].shift <= size)
        return 0;
    /* To change nothing in a part of a leaf is to split it. */
    return run(&job, input & ~((UINT64_C(1) << size) - 1), UINT64_C(1) << size);
}
