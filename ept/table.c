/*
 * One visitor does every change: it goes down to the entries that a range covers whole, and cuts
 * those that it covers in part. It runs twice, first only to take from the pool what tables the
 * change will need, so that a change happens as a whole or not at all.
 */
#include "ept/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

/* --- entries ---------------------------------------------------------------------- */

static uint64_t load(const struct pt_format *f, const void *table, uint64_t i)
{
    /* Pairs with the release in store(): whoever sees a table's address sees its content. */
    if (f->entry_bytes == 4)
        return __atomic_load_n((const uint32_t *)table + i, __ATOMIC_ACQUIRE);
    return __atomic_load_n((const uint64_t *)table + i, __ATOMIC_ACQUIRE);
}

static void store(const struct pt_format *f, void *table, uint64_t i, uint64_t raw)
{
    if (f->entry_bytes == 4)
        __atomic_store_n((uint32_t *)table + i, (uint32_t)raw, __ATOMIC_RELEASE);
    else
        __atomic_store_n((uint64_t *)table + i, raw, __ATOMIC_RELEASE);
}

static uint64_t entries(const struct pt_level *level)
{
    return UINT64_C(1) << level->bits;
}

static uint64_t index_of(const struct pt_level *level, uint64_t input)
{
    return input >> level->shift & (entries(level) - 1);
}

static bool is_present(const struct pt_format *f, uint64_t raw)
{
    return (raw & f->present) != 0;
}

static bool is_leaf(const struct pt_level *level, uint64_t raw)
{
    return level->leaf == PT_LEAF_ALWAYS ||
           (level->leaf == PT_LEAF_BIT && (raw & level->leaf_bit) != 0);
}

static bool is_table(const struct pt_format *f, unsigned n, uint64_t raw)
{
    return is_present(f, raw) && !is_leaf(&f->level[n], raw);
}

/* The bits of a leaf that pt_map() and pt_protect() leave to us. */
static uint64_t leaf_own(const struct pt_level *level)
{
    uint64_t size = level->leaf == PT_LEAF_BIT ? level->leaf_bit : 0;

    return level->leaf == PT_LEAF_NEVER ? 0 : level->leaf_addr | level->leaf_high | size;
}

static uint64_t leaf_output(const struct pt_level *level, uint64_t raw)
{
    return (raw & level->leaf_addr) | (raw & level->leaf_high) << level->leaf_high_shift;
}

/* False when the level can't hold that address. */
static bool leaf_make(const struct pt_level *level, uint64_t output, uint64_t bits, uint64_t *raw)
{
    uint64_t high = level->leaf_high ? output >> level->leaf_high_shift & level->leaf_high : 0;

    if (level->leaf == PT_LEAF_NEVER)
        return false;
    *raw = bits | (output & level->leaf_addr) | high |
           (level->leaf == PT_LEAF_BIT ? level->leaf_bit : 0);
    return leaf_output(level, *raw) == output;
}

/* What refers to a table: all rights that the format knows, less what must be zero here. */
static uint64_t table_make(const struct pt_format *f, unsigned n, uint64_t at)
{
    uint64_t all = f->present | f->rights.read | f->rights.write | f->rights.exec | f->rights.user;

    return (all & ~f->level[n].table_reserved) | at;
}

/* Piece `i`, one level down, of the entry `raw` of level `n` that refers to no table. */
static bool piece(const struct pt_format *f, unsigned n, uint64_t raw, uint64_t i, uint64_t *out)
{
    const struct pt_level *level = &f->level[n], *below = &f->level[n - 1];

    *out = raw;
    if (!is_present(f, raw))
        return true;
    return leaf_make(below, leaf_output(level, raw) + (i << below->shift), raw & ~leaf_own(level),
                     out);
}

/* --- tables ----------------------------------------------------------------------- */

static void *ptr_of(const struct pt_table *t, uint64_t at)
{
    return t->pool.ptr(t->pool.ctx, at);
}

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
    void *table = ptr_of(t, at);

    for (uint64_t i = 0; n > 1 && i < entries(&f->level[n]); i++) {
        uint64_t raw = load(f, table, i);

        if (is_table(f, n, raw))
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
    for (uint64_t i = 0; i < entries(level); i++)
        store(format, ptr_of(t, t->root), i, 0);
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
        if (leaf_make(level, output, job->bits, out))
            return 1;
        return n == 1 ? -EINVAL : 0;
    case JOB_PROTECT:
        *out = (raw & ~job->clear) | job->set;
        if (!is_present(f, raw) || !is_leaf(level, raw))
            return 0;
        return is_present(f, *out) ? 1 : -EINVAL;
    }
    return -EINVAL;
}

/* A table below the entry `raw` of level `n`, holding the same in pieces. */
static int cut(struct job *job, unsigned n, uint64_t start, uint64_t raw, uint64_t *at)
{
    struct pt_table *t = job->t;
    const struct pt_format *f = t->format;
    uint64_t one;
    void *table;
    int rc;

    if (job->try_only || t->pool.sure) {
        if (!piece(f, n, raw, entries(&f->level[n - 1]) - 1, &one))
            return -EINVAL;
        rc = table_new(t, n - 1, start, f->table_addr, at);
        if (rc < 0)
            return rc;
    } else {
        *at = job->spare[job->used++];
    }
    if (job->try_only) {
        if (job->spares == job->room) {
            size_t room = job->room ? 2 * job->room : 16;
            uint64_t *more = reallocarray(job->spare, room, sizeof(*more));

            if (!more) {
                t->pool.free(t->pool.ctx, *at);
                return -ENOMEM;
            }
            job->spare = more;
            job->room = room;
        }
        job->spare[job->spares++] = *at;
        return 0;
    }
    table = ptr_of(t, *at);
    for (uint64_t i = 0; i < entries(&f->level[n - 1]); i++) {
        (void)piece(f, n, raw, i, &one);
        store(f, table, i, one);
    }
    t->tables++;
    return 0;
}

/* Does the table at `at`, of level `n`, hold one non-present entry throughout? */
static bool is_uniform(const struct pt_table *t, uint64_t at, unsigned n, uint64_t *raw)
{
    const struct pt_format *f = t->format;
    const void *table = ptr_of(t, at);
    uint64_t count = entries(&f->level[n]);

    *raw = load(f, table, 0);
    /* Most tables that aren't differ at one of their ends. */
    if (is_present(f, *raw) || load(f, table, count - 1) != *raw)
        return false;
    for (uint64_t i = 1; i < count - 1; i++)
        if (load(f, table, i) != *raw)
            return false;
    return true;
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
    void *table = at ? ptr_of(t, *at) : NULL;

    for (uint64_t start = first & ~(size - 1); start <= last; start += size) {
        uint64_t i = index_of(level, start), end = start + (size - 1), raw, new, below;
        uint64_t from = start < first ? first : start, to = end > last ? last : end;
        bool real = false;
        int rc;

        if (table)
            raw = load(f, table, i);
        else if (!piece(f, n + 1, whole, i, &raw))
            return -EINVAL;
        if (job->kind == JOB_PROTECT && !is_present(f, raw))
            continue;
        rc = from == start && to == end ? place(job, n, start, raw, &new) : 0;
        if (rc < 0)
            return rc;
        if (rc > 0) {
            if (job->try_only)
                continue;
            if (raw != new)
                store(f, table, i, new);
            if (is_table(f, n, raw))
                tree_free(t, raw & f->table_addr, n - 1);
            continue;
        }
        if (n == 1)
            return -EINVAL;
        if (is_table(f, n, raw)) {
            below = raw & f->table_addr;
            real = true;
        } else {
            /* What will be replaced as a whole need not be possible in pieces. */
            if (from == start && to == end && !piece(f, n, raw, 0, &new))
                raw = 0;
            rc = cut(job, n, start, raw, &below);
            if (rc < 0)
                return rc;
            if (!job->try_only) {
                store(f, table, i, table_make(f, n, below));
                real = true;
            }
        }
        rc = visit(job, n - 1, real ? &below : NULL, raw, from, to);
        if (rc < 0)
            return rc;
        if (job->kind == JOB_FILL && !job->try_only && is_uniform(t, below, n - 1, &new)) {
            store(f, table, i, new);
            t->pool.free(t->pool.ctx, below);
            t->tables--;
        }
    }
    return 0;
}

static uint64_t input_mask(const struct pt_format *f)
{
    return f->input_bits == 64 ? ~UINT64_C(0) : (UINT64_C(1) << f->input_bits) - 1;
}

static bool is_canonical(const struct pt_format *f, uint64_t input)
{
    uint64_t above = input & ~input_mask(f);

    if (f->sign_extended && f->input_bits < 64 && (input >> (f->input_bits - 1) & 1))
        return above == ~input_mask(f);
    return above == 0;
}

/* -EINVAL unless the range is of whole pages, canonical, and does not go through the hole. */
static int range_check(const struct pt_format *f, uint64_t input, uint64_t len, uint64_t *first,
                       uint64_t *last)
{
    uint64_t page = (UINT64_C(1) << f->level[1].shift) - 1, end = input + (len - 1);

    if (len == 0 || ((input | len) & page) != 0 || end < input || !is_canonical(f, input) ||
        !is_canonical(f, end) || ((input ^ end) & ~input_mask(f)) != 0)
        return -EINVAL;
    *first = input & input_mask(f);
    *last = end & input_mask(f);
    return 0;
}

static int run(struct job *job, uint64_t input, uint64_t len)
{
    struct pt_table *t = job->t;
    unsigned n = t->format->levels;
    uint64_t first, last;
    int rc = range_check(t->format, input, len, &first, &last);

    if (rc < 0)
        return rc;
    job->first = first;
    /* What may be refused half-way is tried, even if no table will be missing. */
    if (!t->pool.sure || job->kind == JOB_PROTECT) {
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
        if (bits & leaf_own(&f->level[n]))
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

    if (!bits_ok(t->format, bits) || !is_present(t->format, bits) || (output & (page - 1)) != 0 ||
        output + (len - 1) < output)
        return -EINVAL;
    return run(&job, input, len);
}

int pt_unmap(struct pt_table *t, uint64_t input, uint64_t len, uint64_t entry)
{
    struct job job = { .kind = JOB_FILL, .t = t, .entry = entry };

    if (is_present(t->format, entry) || (t->format->entry_bytes == 4 && entry >> 32 != 0))
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
    if (!is_present(f, raw) || f->level[level].shift <= size)
        return 0;
    /* To change nothing in a part of a leaf is to split it. */
    return run(&job, input & ~((UINT64_C(1) << size) - 1), UINT64_C(1) << size);
}

/* Is the table at `at`, of level `n`, as good as one leaf above? */
static bool merged(const struct pt_table *t, unsigned n, uint64_t at, uint64_t loose, uint64_t *out)
{
    const struct pt_format *f = t->format;
    const struct pt_level *level = &f->level[n], *above = &f->level[n + 1];
    const void *table = ptr_of(t, at);
    uint64_t first = load(f, table, 0), bits = 0;
    uint64_t output = leaf_output(level, first);

    for (uint64_t i = 0; i < entries(level); i++) {
        uint64_t raw = load(f, table, i);

        if (!is_present(f, raw) || !is_leaf(level, raw) ||
            leaf_output(level, raw) != output + (i << level->shift) ||
            ((raw ^ first) & ~leaf_own(level) & ~loose) != 0)
            return false;
        bits |= raw & ~leaf_own(level);
    }
    return (bits & leaf_own(above)) == 0 && leaf_make(above, output, bits, out);
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
    void *table = ptr_of(t, at);

    for (uint64_t start = first & ~(size - 1); start <= last; start += size) {
        uint64_t i = index_of(level, start), raw = load(f, table, i), new;
        uint64_t end = start + (size - 1), below = raw & f->table_addr;

        if (n == 1 || !is_table(f, n, raw))
            continue;
        merge_level(t, m, n - 1, below, start < first ? first : start, end > last ? last : end);
        if (level->shift <= m->max_shift && start >= m->first && end <= m->last &&
            merged(t, n - 1, below, m->loose, &new)) {
            store(f, table, i, new);
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

    if (range_check(t->format, input, len, &m.first, &m.last) == 0)
        merge_level(t, &m, t->format->levels, t->root, m.first, m.last);
    return m.saved;
}

uint64_t pt_entry(const struct pt_table *t, uint64_t input, unsigned *level)
{
    const struct pt_format *f = t->format;
    uint64_t at = t->root, raw = 0;

    *level = 0;
    if (!is_canonical(f, input))
        return 0;
    for (unsigned n = f->levels; n > 0; n--) {
        *level = n;
        raw = load(f, ptr_of(t, at), index_of(&f->level[n], input));
        if (!is_table(f, n, raw))
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
    const void *table = ptr_of(t, at - inside);

    if (!table || size != t->format->entry_bytes || inside % size != 0)
        return -EFAULT;
    *raw = load(t->format, table, inside / size);
    return 0;
}

const void *pt_table_read_table(void *ctx, uint64_t at, unsigned bytes, void *buf)
{
    const struct pt_table *t = ctx;
    const void *table = ptr_of(t, at & ~(uint64_t)(PT_TABLE_BYTES - 1));

    (void)buf;
    return at % PT_TABLE_BYTES == 0 && bytes <= PT_TABLE_BYTES ? table : NULL;
}
