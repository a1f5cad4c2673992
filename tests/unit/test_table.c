/*
 * Building tables, in every format: random changes against a plain array with one element a page,
 * which knows nothing of tables; what must be refused; what is left behind.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ept/format_ept.h"
#include "ept/format_npt.h"
#include "ept/format_vtd.h"
#include "ept/format_x86.h"
#include "ept/table.h"
#include "ept/walk.h"

#define OPERATIONS 1000000u /* over all formats */

/* --- a pool that counts, and that can run out ------------------------------------- */

struct pool {
    void *table[8192]; /* number n stands at (n + 1) * 4096 */
    unsigned free[8192], frees, used;
    unsigned budget; /* alloc() fails when it is 0 */
};

static bool pool_alloc(void *ctx, unsigned level, uint64_t input, uint64_t *at)
{
    struct pool *pool = ctx;
    unsigned n;

    (void)level, (void)input;
    if (pool->budget == 0 || pool->frees == 0)
        return false;
    pool->budget--;
    n = pool->free[--pool->frees];
    pool->used++;
    if (!pool->table[n])
        pool->table[n] = malloc(PT_TABLE_BYTES);
    memset(pool->table[n], 0xa5, PT_TABLE_BYTES); /* whoever relies on zeros, fails */
    *at = (uint64_t)(n + 1) * PT_TABLE_BYTES;
    return true;
}

static void pool_free(void *ctx, uint64_t at)
{
    struct pool *pool = ctx;
    unsigned n = (unsigned)(at / PT_TABLE_BYTES) - 1;

    assert_true(at % PT_TABLE_BYTES == 0 && n < 8192 && pool->used > 0);
    memset(pool->table[n], 0x5a, PT_TABLE_BYTES); /* and who uses it still */
    pool->free[pool->frees++] = n;
    pool->used--;
}

static void *pool_ptr(void *ctx, uint64_t at)
{
    struct pool *pool = ctx;
    uint64_t n = at / PT_TABLE_BYTES - 1;

    return at % PT_TABLE_BYTES == 0 && n < 8192 ? pool->table[n] : NULL;
}

static struct pt_pool pool_of(struct pool *pool)
{
    pool->budget = ~0u;
    pool->frees = pool->used = 0;
    for (unsigned n = 8192; n > 0; n--)
        pool->free[pool->frees++] = n - 1;
    return (struct pt_pool){ .alloc = pool_alloc, .free = pool_free, .ptr = pool_ptr, .ctx = pool };
}

static void pool_end(struct pool *pool)
{
    assert_int_equal(pool->used, 0);
    for (unsigned n = 0; n < 8192; n++)
        free(pool->table[n]);
    free(pool);
}

static struct pool *pool_new(void)
{
    struct pool *pool = calloc(1, sizeof(*pool));

    assert_non_null(pool);
    return pool;
}

/* --- the formats and their windows ------------------------------------------------ */

static const struct trial {
    const struct pt_format *format;
    uint64_t base, pages;
    uint64_t ignored; /* bits that leaves of all sizes leave to software */
    uint64_t rights;  /* bits of which some has to be set: present */
} trials[] = {
    { &pt_x86_32, 0x20000000, 1 << 18, 0xe00, 1 },
    { &pt_x86_32_pse, 0x20000000, 1 << 18, 0xe00, 1 },
    { &pt_x86_pae, 0x20000000, 1 << 19, 0xe00, 1 },
    { &pt_x86_64, 0xffffff7fc0000000, 1 << 19, 0x7ff0000000000e00, 1 },
    { &pt_x86_64_5l, 0x0000ffffc0000000, 1 << 19, 0x7ff0000000000e00, 1 },
    { &pt_ept_4, 0x7fc0000000, 1 << 19, 0x7ff0000000000f00, 7 },
    { &pt_ept_5, 0xffffc0000000, 1 << 19, 0x7ff0000000000f00, 7 },
    { &pt_npt_4, 0x7fc0000000, 1 << 19, 0x7ff0000000000e00, 1 },
    { &pt_vtd_3, 0x40000000, 1 << 19, 0x0ff0000000000000, 3 },
    { &pt_vtd_4, 0x7fc0000000, 1 << 19, 0x0ff0000000000000, 3 },
};

#define TRIALS (sizeof(trials) / sizeof(trials[0]))

/* --- the model -------------------------------------------------------------------- */

struct page {
    uint64_t output;
    uint64_t bits; /* of a present page; else the entry itself */
    uint8_t shift; /* of the leaf; 0: not present */
};

struct model {
    const struct trial *trial;
    struct page *page, *was; /* `was`: before the operation under way */
    struct pt_table table;
    struct pool *pool;
    uint64_t seed;
    unsigned done, refused, without_memory;
};

static uint64_t rnd(struct model *m)
{
    m->seed ^= m->seed << 13;
    m->seed ^= m->seed >> 7;
    m->seed ^= m->seed << 17;
    return m->seed * UINT64_C(0x2545f4914f6cdd1d) >> 11;
}

static uint64_t size_of(unsigned shift)
{
    return UINT64_C(1) << shift;
}

/* Does the format have leaves of this size that can hold that address? */
static bool has_leaf(const struct pt_format *f, unsigned shift, uint64_t output)
{
    for (unsigned n = 1; n <= f->levels; n++) {
        const struct pt_level *l = &f->level[n];

        if (l->shift == shift && l->leaf != PT_LEAF_NEVER)
            return (output & ~(l->leaf_addr | l->leaf_high << l->leaf_high_shift)) == 0;
    }
    return false;
}

/* The range [at, end), in pages' numbers from the window's start. Its block of 2^shift bytes around
 * page `p` is inside (1), outside (-1) or neither (0). */
static int block_in(const struct model *m, uint64_t p, unsigned shift, uint64_t at, uint64_t end)
{
    uint64_t base = m->trial->base >> 12, size = size_of(shift - 12);
    uint64_t first = (base + p) & ~(size - 1), last = first + size;

    if (first >= base + at && last <= base + end)
        return 1;
    return last <= base + at || first >= base + end ? -1 : 0;
}

static uint64_t block_start(const struct model *m, uint64_t p, unsigned shift)
{
    uint64_t base = m->trial->base >> 12;

    return ((base + p) & ~(size_of(shift - 12) - 1)) - base;
}

/* What becomes of the leaves that [at, end) cuts: the largest ones that it doesn't. */
static int model_cut(struct model *m, uint64_t at, uint64_t end)
{
    uint64_t edge[2] = { at, end };
    int rc = 0;

    for (unsigned side = 0; side < 2; side++) {
        uint64_t p = edge[side], first, count;
        unsigned shift;

        if (p >= m->trial->pages || !m->page[p].shift)
            continue;
        shift = m->page[p].shift;
        first = block_start(m, p, shift);
        count = size_of(shift - 12);
        for (uint64_t q = first; q < first + count; q++) {
            unsigned s = m->page[q].shift;

            while (s > 12 && (!has_leaf(m->trial->format, s, 0) || !block_in(m, q, s, at, end)))
                s--;
            m->page[q].shift = (uint8_t)s;
            if (!has_leaf(m->trial->format, s, m->page[q].output & ~(size_of(s) - 1)))
                rc = -EINVAL;
        }
    }
    return rc;
}

static int model_map(struct model *m, uint64_t at, uint64_t end, uint64_t output, uint64_t bits,
                     unsigned max_shift)
{
    int rc = model_cut(m, at, end);

    for (uint64_t p = at; p < end; p++) {
        uint64_t out = output + ((p - at) << 12);
        uint64_t input = m->trial->base + (p << 12);
        unsigned s = max_shift < 12 ? 12 : max_shift;

        while (s > 12 &&
               (block_in(m, p, s, at, end) != 1 || ((out ^ input) & (size_of(s) - 1)) != 0 ||
                !has_leaf(m->trial->format, s, out & ~(size_of(s) - 1))))
            s--;
        if (!has_leaf(m->trial->format, s, out & ~(size_of(s) - 1)))
            return -EINVAL;
        m->page[p] = (struct page){ .output = out, .bits = bits, .shift = (uint8_t)s };
    }
    return rc;
}

static int model_unmap(struct model *m, uint64_t at, uint64_t end, uint64_t entry)
{
    int rc = model_cut(m, at, end);

    for (uint64_t p = at; p < end; p++)
        m->page[p] = (struct page){ .bits = entry };
    return rc;
}

static int model_protect(struct model *m, uint64_t at, uint64_t end, uint64_t clear, uint64_t set)
{
    int rc = model_cut(m, at, end);

    for (uint64_t p = at; p < end; p++) {
        if (!m->page[p].shift)
            continue;
        m->page[p].bits = (m->page[p].bits & ~clear) | set;
        if ((m->page[p].bits & m->trial->format->present) == 0)
            return -EINVAL;
    }
    return rc;
}

/* Can the block of 2^shift bytes at page `first` be one leaf, of leaves of 2^below bytes? */
static bool model_mergeable(const struct model *m, uint64_t first, unsigned shift, unsigned below,
                            uint64_t loose)
{
    const struct page *one = &m->page[first];

    for (uint64_t i = 0; i < size_of(shift - 12); i++)
        if (one[i].shift != below || one[i].output != one->output + (i << 12) ||
            ((one[i].bits ^ one->bits) & ~loose) != 0)
            return false;
    return has_leaf(m->trial->format, shift, one->output);
}

static unsigned model_merge(struct model *m, uint64_t at, uint64_t end, unsigned max_shift,
                            uint64_t loose)
{
    const struct pt_format *f = m->trial->format;
    unsigned saved = 0;

    for (unsigned n = 2; n <= f->levels; n++) {
        unsigned shift = f->level[n].shift;
        uint64_t count = size_of(shift - 12), first;

        if (f->level[n].leaf != PT_LEAF_BIT || shift > max_shift)
            continue;
        for (uint64_t p = at; p < end; p = first + count) {
            uint64_t bits = 0;

            first = block_start(m, p, shift);
            if (block_in(m, p, shift, at, end) != 1 ||
                !model_mergeable(m, first, shift, f->level[n - 1].shift, loose))
                continue;
            for (uint64_t i = 0; i < count; i++)
                bits |= m->page[first + i].bits;
            for (uint64_t i = 0; i < count; i++) {
                m->page[first + i].bits = bits;
                m->page[first + i].shift = (uint8_t)shift;
            }
            saved++;
        }
    }
    return saved;
}

/* --- both compared ---------------------------------------------------------------- */

static void check_page(const struct model *m, const struct pt_space *space, uint64_t p)
{
    const struct pt_format *f = m->trial->format;
    const struct page *page = &m->page[p];
    uint64_t input = m->trial->base + (p << 12), raw, own;
    const struct pt_level *l;
    struct pt_walk walk;
    unsigned level;

    raw = pt_entry(&m->table, input, &level);
    if (!page->shift) {
        assert_int_equal(pt_walk(space, input, pt_table_read, (void *)&m->table, &walk),
                         PT_NOT_PRESENT);
        assert_int_equal(raw, page->bits);
        assert_int_equal(walk.ref[walk.count - 1].raw, raw);
        assert_int_equal(walk.level, level);
        return;
    }
    assert_int_equal(pt_walk(space, input | 0x123, pt_table_read, (void *)&m->table, &walk), PT_OK);
    assert_int_equal(walk.output, page->output | 0x123);
    assert_int_equal(walk.shift, page->shift);
    assert_int_equal(walk.level, level);
    l = &f->level[walk.level];
    own = l->leaf_addr | l->leaf_high | (l->leaf == PT_LEAF_BIT ? l->leaf_bit : 0);
    assert_int_equal(raw & ~own, page->bits);
    assert_int_equal(walk.ref[walk.count - 1].raw, raw);
}

static void check_some(struct model *m, uint64_t at, uint64_t end)
{
    struct pt_space space;

    pt_table_space(&m->table, &space);
    assert_int_equal(m->table.tables, m->pool->used);
    for (unsigned i = 0; i < 8; i++) {
        uint64_t around = (at > 600 ? at - 600 : 0) + rnd(m) % (end - at + 1200);

        check_page(m, &space, around < m->trial->pages ? around : at);
    }
    check_page(m, &space, at);
    check_page(m, &space, end - 1);
}

static void check_all(struct model *m)
{
    struct pt_space space;

    pt_table_space(&m->table, &space);
    for (uint64_t p = 0; p < m->trial->pages; p++)
        check_page(m, &space, p);
}

/* --- random operations ------------------------------------------------------------ */

/* Mostly a few pages; now and then some that large leaves fit into. Aligned more often than not. */
static void random_range(struct model *m, uint64_t *at, uint64_t *end)
{
    uint64_t pages = m->trial->pages, len, kind = rnd(m) % 5000;
    unsigned align = 0;

    if (kind == 0)
        len = 1 + rnd(m) % pages, align = 18;
    else if (kind < 100)
        len = 1 + rnd(m) % 4096, align = rnd(m) % 2 ? 9 : 10;
    else
        len = 1 + rnd(m) % 16, align = rnd(m) % 4;
    *at = rnd(m) % pages;
    if (rnd(m) % 3) {
        *at &= ~(size_of(align) - 1);
        len = (len + (size_of(align) - 1)) & ~(size_of(align) - 1);
    }
    *end = *at + len < pages ? *at + len : pages;
}

static uint64_t random_output(struct model *m, uint64_t at)
{
    uint64_t top = m->trial->format->entry_bytes == 4 ? size_of(32) : size_of(46), base;

    /* Above 4 GiB only 4 MiB leaves can go there. */
    if (m->trial->format == &pt_x86_32_pse && rnd(m) % 16 == 0)
        top = size_of(40);
    base = rnd(m) % (top / 2) & ~UINT64_C(0xfff);
    if (rnd(m) % 4)
        base = (base & ~(size_of(30) - 1)) | ((m->trial->base + (at << 12)) & (size_of(30) - 1));
    return base;
}

static uint64_t random_bits(struct model *m)
{
    uint64_t bits = rnd(m) % 4 ? 0 : (rnd(m) << 11 ^ rnd(m)) & m->trial->ignored;

    return bits | m->trial->rights;
}

static const unsigned shifts[] = { 12, 21, 22, 30, 63 };

static int operate(struct model *m, uint64_t at, uint64_t end, int *expected)
{
    struct pt_table *t = &m->table;
    uint64_t input = m->trial->base + (at << 12), len = (end - at) << 12;
    unsigned shift = shifts[rnd(m) % 5];
    uint64_t output, bits = random_bits(m), entry, before = t->tables;
    unsigned saved;

    switch (rnd(m) % 8) {
    case 0:
    case 1:
    case 2:
        output = random_output(m, at);
        *expected = model_map(m, at, end, output, bits, shift);
        return pt_map(t, input, len, output, bits, shift);
    case 3:
    case 4:
        entry = rnd(m) % 2 ? 0 : rnd(m) % size_of(28) << 4;
        *expected = model_unmap(m, at, end, entry);
        return pt_unmap(t, input, len, entry);
    case 5:
        /* Now and then all rights, which must be refused. */
        entry = rnd(m) % 64 == 0 ? m->trial->rights : m->trial->ignored & rnd(m);
        bits &= m->trial->ignored;
        *expected = model_protect(m, at, end, entry, bits);
        return pt_protect(t, input, len, entry, bits);
    case 6:
        shift = shifts[rnd(m) % 4];
        while (!has_leaf(t->format, shift, 0))
            shift--;
        at = block_start(m, at, shift);
        *expected = model_cut(m, at, at + size_of(shift - 12));
        return pt_split(t, input, shift);
    default:
        entry = rnd(m) % 2 ? m->trial->ignored : 0;
        saved = model_merge(m, at, end, shift, entry);
        assert_int_equal(pt_merge(t, input, len, shift, entry), saved);
        assert_int_equal(before - t->tables, saved);
        *expected = 0;
        return 0;
    }
}

/* Where an operation can reach: what it names, and the leaves that it cuts. */
static void reach(const struct model *m, uint64_t *at, uint64_t *end)
{
    uint64_t giant = size_of(18), base = m->trial->base >> 12;
    bool small = m->page[*at].shift < 30 && (*end >= m->trial->pages || m->page[*end].shift < 30);

    if (small && *end - *at < 8192)
        giant = size_of(10);
    *at = *at + base < giant || ((*at + base) & ~(giant - 1)) < base
              ? 0
              : ((*at + base) & ~(giant - 1)) - base;
    *end = ((*end + base + giant) & ~(giant - 1)) - base;
    if (*end > m->trial->pages)
        *end = m->trial->pages;
}

static void step(struct model *m)
{
    uint64_t at, end, from, to, before = m->table.tables;
    int expected, rc;

    random_range(m, &at, &end);
    from = at;
    to = end;
    reach(m, &from, &to);
    memcpy(m->was + from, m->page + from, (to - from) * sizeof(*m->page));
    m->pool->budget = rnd(m) % 8 ? ~0u : (unsigned)(rnd(m) % 3);
    rc = operate(m, at, end, &expected);
    if (rc == -ENOMEM)
        assert_true(m->pool->budget == 0);
    else
        assert_int_equal(rc, expected);
    if (rc < 0) {
        memcpy(m->page + from, m->was + from, (to - from) * sizeof(*m->page));
        assert_int_equal(m->table.tables, before);
        *(rc == -ENOMEM ? &m->without_memory : &m->refused) += 1;
    } else {
        m->done++;
    }
    check_some(m, at, end);
}

static void trial_run(const struct trial *trial, uint64_t seed)
{
    struct model m = { .trial = trial, .seed = seed, .pool = pool_new() };
    struct pt_pool pool = pool_of(m.pool);

    m.page = calloc(trial->pages, sizeof(*m.page));
    m.was = calloc(trial->pages, sizeof(*m.was));
    assert_true(m.page && m.was);
    assert_int_equal(pt_table_init(&m.table, trial->format, &pool), 0);
    for (unsigned i = 0; i < OPERATIONS / TRIALS; i++) {
        step(&m);
        if (i % 20000 == 0)
            check_all(&m);
    }
    check_all(&m);
    print_message("%s: %u done, %u refused, %u without memory\n", trial->format->name, m.done,
                  m.refused, m.without_memory);
    assert_true(m.done > OPERATIONS / TRIALS / 2 && m.refused > 0 && m.without_memory > 0);

    m.pool->budget = ~0u;
    assert_int_equal(pt_unmap(&m.table, trial->base, trial->pages << 12, 0), 0);
    assert_int_equal(m.pool->used, 1);
    assert_int_equal(m.table.tables, 1);
    pt_table_free(&m.table);
    pool_end(m.pool);
    free(m.page);
    free(m.was);
}

static void test_random(void **state)
{
    (void)state;
    for (unsigned i = 0; i < TRIALS; i++)
        trial_run(&trials[i], 0x9e3779b97f4a7c15 + i);
}

/* --- single cases ----------------------------------------------------------------- */

/* One leaf, cut and joined, is the same entry again. */
static void test_split_and_merge(void **state)
{
    (void)state;
    for (unsigned i = 0; i < TRIALS; i++) {
        const struct pt_format *f = trials[i].format;
        struct pool *pool = pool_new();
        struct pt_pool from = pool_of(pool);
        struct pt_table t;
        unsigned level;

        assert_int_equal(pt_table_init(&t, f, &from), 0);
        for (unsigned n = 2; n <= f->levels; n++) {
            uint64_t size = size_of(f->level[n].shift), raw, tables;
            uint64_t input = trials[i].base & ~(size - 1);

            if (f->level[n].leaf != PT_LEAF_BIT)
                continue;
            assert_int_equal(pt_map(&t, input, size, size, trials[i].rights, f->level[n].shift), 0);
            tables = t.tables;
            raw = pt_entry(&t, input, &level);
            assert_int_equal(level, n);
            assert_int_equal(pt_split(&t, input + 0x1000, 12), 0);
            pt_entry(&t, input, &level);
            assert_int_equal(level, 1);
            assert_int_equal(t.tables, tables + n - 1);
            assert_int_equal(pt_merge(&t, input, size - 0x1000, f->level[n].shift, 0), n - 2);
            assert_int_equal(pt_merge(&t, input, size, f->level[n].shift, 0), 1);
            assert_int_equal(pt_entry(&t, input, &level), raw);
            assert_int_equal(level, n);
            assert_int_equal(t.tables, tables);
        }
        pt_table_free(&t);
        pool_end(pool);
    }
}

/* Entries above a leaf grant all that the format can, and reserve nothing that it forbids. */
static void test_tables_grant_all(void **state)
{
    (void)state;
    for (unsigned i = 0; i < TRIALS; i++) {
        const struct pt_format *f = trials[i].format;
        struct pool *pool = pool_new();
        struct pt_pool from = pool_of(pool);
        struct pt_space space;
        struct pt_walk walk;
        struct pt_table t;

        assert_int_equal(pt_table_init(&t, f, &from), 0);
        assert_int_equal(pt_map(&t, trials[i].base, 4096, 4096, trials[i].rights, 12), 0);
        pt_table_space(&t, &space);
        assert_int_equal(pt_walk(&space, trials[i].base, pt_table_read, &t, &walk), PT_OK);
        for (unsigned n = 0; n + 1 < walk.count; n++) {
            uint64_t low = walk.ref[n].raw & 0xfff;

            switch (f->rules) {
            case PT_RULES_X86:
            case PT_RULES_NPT:
                assert_int_equal(low, f == &pt_x86_pae && n == 0 ? 1 : 7);
                break;
            case PT_RULES_EPT:
                assert_int_equal(low, 0x407); /* bit 10: ring 3, with mode-based execution */
                break;
            case PT_RULES_VTD:
                assert_int_equal(low, 3);
                break;
            }
        }
        pt_table_free(&t);
        pool_end(pool);
    }
}

static void test_refused(void **state)
{
    struct pool *pool = pool_new();
    struct pt_pool from = pool_of(pool);
    struct pt_table t;
    unsigned level;

    (void)state;
    assert_int_equal(pt_table_init(&t, &pt_x86_none, &from), -EINVAL);
    pool->budget = 0;
    assert_int_equal(pt_table_init(&t, &pt_x86_64, &from), -ENOMEM);
    pool->budget = ~0u;
    assert_int_equal(pt_table_init(&t, &pt_x86_64, &from), 0);

    assert_int_equal(pt_map(&t, 0x1000, 0, 0, 1, 12), -EINVAL);
    assert_int_equal(pt_map(&t, 0x1001, 0x1000, 0, 1, 12), -EINVAL);
    assert_int_equal(pt_map(&t, 0x1000, 0x1800, 0, 1, 12), -EINVAL);
    assert_int_equal(pt_map(&t, 0x1000, 0x1000, 0x10, 1, 12), -EINVAL);
    assert_int_equal(pt_map(&t, 0x1000, 0x1000, 0, 2, 12), -EINVAL);      /* not present */
    assert_int_equal(pt_map(&t, 0x1000, 0x1000, 0, 0x81, 12), -EINVAL);   /* PAT or PS */
    assert_int_equal(pt_map(&t, 0x1000, 0x1000, 0, 0x1001, 12), -EINVAL); /* address */
    assert_int_equal(pt_map(&t, 0x1000, 0x1000, size_of(52), 1, 12), -EINVAL);
    assert_int_equal(pt_map(&t, 0x1000, 0x2000, size_of(52) - 0x1000, 1, 12), -EINVAL);
    /* Around the hole, in it, and about the end. */
    assert_int_equal(pt_map(&t, 0x00007ffffffff000, 0x2000, 0, 1, 12), -EINVAL);
    assert_int_equal(pt_map(&t, 0x0000800000000000, 0x1000, 0, 1, 12), -EINVAL);
    assert_int_equal(pt_map(&t, 0x00007ffffffff000, 0xffff000000002000, 0, 1, 12), -EINVAL);
    assert_int_equal(pt_map(&t, 0xfffffffffffff000, 0x2000, 0, 1, 12), -EINVAL);
    assert_int_equal(pt_map(&t, 0xfffffffffffff000, 0x1000, 0, 1, 12), 0);
    assert_int_equal(pt_unmap(&t, 0x1000, 0x1000, 1), -EINVAL);
    assert_int_equal(pt_protect(&t, 0x1000, 0x1000, 0x80, 0), -EINVAL);
    assert_int_equal(pt_protect(&t, 0x1000, 0x1000, 0, 0x2000), -EINVAL);
    assert_int_equal(pt_protect(&t, 0xfffffffffffff000, 0x1000, 1, 0), -EINVAL);
    assert_int_equal(pt_split(&t, 0x1000, 11), -EINVAL);
    assert_int_equal(pt_split(&t, 0x1000, 12), 0);
    assert_int_equal(pt_entry(&t, 0x0000800000000000, &level), 0);
    assert_int_equal(level, 0);
    assert_int_equal(t.tables, 4);
    assert_int_equal(pool->used, 4);
    pt_table_free(&t);
    pool_end(pool);
}

/* A pool that never fails spares the trial, but not what is refused for other reasons. */
static void test_refused_as_a_whole(void **state)
{
    struct pool *pool = pool_new();
    struct pt_pool from = pool_of(pool);
    uint64_t high = UINT64_C(0x100000000); /* too high for a PTE of 32 bits */
    struct pt_table t;
    unsigned level;

    (void)state;
    from.sure = true;
    assert_int_equal(pt_table_init(&t, &pt_ept_4, &from), 0);
    assert_int_equal(pt_map(&t, 0x1000, 0x2000, size_of(52) - 0x1000, 7, 12), -EINVAL);
    assert_int_equal(pt_entry(&t, 0x1000, &level), 0);
    assert_int_equal(t.tables, 1);
    assert_int_equal(pool->used, 1);
    pt_table_free(&t);

    assert_int_equal(pt_table_init(&t, &pt_x86_32_pse, &from), 0);
    assert_int_equal(pt_map(&t, 0x400000, 0x400000, high, 1, 22), 0);
    assert_int_equal(pt_map(&t, 0x3ff000, 0x2000, 0, 1, 12), -EINVAL);
    assert_int_equal(pt_entry(&t, 0x3ff000, &level), 0);
    assert_int_equal(pt_unmap(&t, 0x3ff000, 0x2000, 0x10), -EINVAL);
    assert_int_equal(pt_entry(&t, 0x3ff000, &level), 0);
    assert_int_equal(t.tables, pool->used);
    pt_table_free(&t);
    pool_end(pool);
}

static void test_reader(void **state)
{
    struct pool *pool = pool_new();
    struct pt_pool from = pool_of(pool);
    struct pt_table t;
    uint64_t raw;

    (void)state;
    assert_int_equal(pt_table_init(&t, &pt_x86_64, &from), 0);
    assert_int_equal(pt_table_read(&t, t.root, 8, &raw), 0);
    assert_int_equal(pt_table_read(&t, t.root, 4, &raw), -EFAULT);
    assert_int_equal(pt_table_read(&t, t.root + 4, 8, &raw), -EFAULT);
    assert_int_equal(pt_table_read(&t, t.root + 4096, 8, &raw), -EFAULT);
    assert_int_equal(pt_table_read(&t, ~UINT64_C(7), 8, &raw), -EFAULT);
    pt_table_free(&t);
    pool_end(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_reader),
        cmocka_unit_test(test_refused_as_a_whole),
        cmocka_unit_test(test_tables_grant_all),
        cmocka_unit_test(test_split_and_merge),
        cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
