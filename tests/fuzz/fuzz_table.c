/*
 * Any sequence of changes with any arguments, in any format. What must hold: pages outside of the
 * range keep what they were; inside they are what was asked for; a refused change changes nothing;
 * each table is given back once, and never used afterwards.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ept/format_ept.h"
#include "ept/format_npt.h"
#include "ept/format_vtd.h"
#include "ept/format_x86.h"
#include "ept/table.h"
#include "ept/walk.h"

#define TABLES  256u
#define LOOKS   64u
#define CHANGES 24u

static const struct pt_format *const formats[] = {
    &pt_x86_32, &pt_x86_32_pse, &pt_x86_pae, &pt_x86_64, &pt_x86_64_5l, &pt_ept_4,
    &pt_ept_5,  &pt_npt_4,      &pt_npt_5,   &pt_vtd_3,  &pt_vtd_4,     &pt_vtd_5,
};

struct pool {
    void *table[TABLES]; /* number n stands at (n + 1) * 4096 */
    uint64_t used;
};

struct input {
    const uint8_t *bytes;
    size_t size;
};

/* What one page is; `bits` are its leaf's without address and size. */
struct look {
    uint64_t at, output, bits;
    enum pt_fault fault;
};

static void require(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "fuzz_table: %s\n", what);
    abort();
}

static bool pool_alloc(void *ctx, unsigned level, uint64_t input, uint64_t *at)
{
    struct pool *pool = ctx;

    (void)level, (void)input;
    for (unsigned n = 0; n < TABLES; n++) {
        if (pool->table[n])
            continue;
        pool->table[n] = malloc(PT_TABLE_BYTES);
        if (!pool->table[n])
            return false;
        memset(pool->table[n], 0xff, PT_TABLE_BYTES);
        pool->used++;
        *at = (uint64_t)(n + 1) * PT_TABLE_BYTES;
        return true;
    }
    return false;
}

static void pool_free(void *ctx, uint64_t at)
{
    struct pool *pool = ctx;
    uint64_t n = at / PT_TABLE_BYTES - 1;

    require(at % PT_TABLE_BYTES == 0 && n < TABLES && pool->table[n], "no table is given back");
    free(pool->table[n]);
    pool->table[n] = NULL;
    pool->used--;
}

static void *pool_ptr(void *ctx, uint64_t at)
{
    struct pool *pool = ctx;
    uint64_t n = at / PT_TABLE_BYTES - 1;

    return at % PT_TABLE_BYTES == 0 && n < TABLES ? pool->table[n] : NULL;
}

static uint64_t take(struct input *in, unsigned bytes)
{
    uint64_t value = 0;

    for (; bytes > 0 && in->size > 0; bytes--, in->size--)
        value = value << 8 | *in->bytes++;
    return value;
}

/* A number near a border: what is wide is rarely reached by chance. */
static uint64_t take_wide(struct input *in)
{
    unsigned shift = (unsigned)take(in, 1) & 63;
    uint64_t value = take(in, 2) << shift;

    return take(in, 1) & 1 ? value - (take(in, 1) << 12) : value + (take(in, 1) << 12);
}

static void look_at(const struct pt_table *t, uint64_t at, struct look *out)
{
    const struct pt_level *level;
    struct pt_space space;
    struct pt_walk walk;
    uint64_t raw, own;
    unsigned n;

    pt_table_space(t, &space);
    *out = (struct look){ .at = at };
    out->fault = pt_walk(&space, at, pt_table_read, (void *)t, &walk);
    raw = pt_entry(t, at, &n);
    require(n == walk.level, "entry and walk end at different levels");
    require(out->fault == PT_OK || out->fault == PT_NOT_PRESENT || out->fault == PT_NON_CANONICAL ||
                out->fault == PT_RESERVED,
            "a walk leaves the tables");
    out->bits = raw;
    if (out->fault != PT_OK)
        return;
    level = &t->format->level[n];
    own = level->leaf_addr | level->leaf_high | (level->leaf == PT_LEAF_BIT ? level->leaf_bit : 0);
    out->output = walk.output;
    out->bits = raw & ~own;
}

/* One change; what it should do to a page inside of its range goes to *want. */
static int change(struct pt_table *t, struct input *in, uint64_t at, uint64_t len,
                  struct look *look, unsigned looks, bool *inside)
{
    uint64_t a = take_wide(in), b = take_wide(in);
    bool tame = take(in, 1) & 7;
    unsigned kind = (unsigned)take(in, 1) % 5, shift = (unsigned)take(in, 1) & 63;
    int rc = 0;

    /* What is refused at once tells little: mostly the bits are those that leaves may have. */
    if (tame) {
        a = kind == 0 ? (a & 0xc0000000) | (at & 0x3fffffff) : a & 0xe00;
        b = (b & 0xe00) | (kind == 0 ? t->format->present : 0);
    }
    switch (kind) {
    case 0:
        rc = pt_map(t, at, len, a, b, shift);
        break;
    case 1:
        rc = pt_unmap(t, at, len, a);
        break;
    case 2:
        rc = pt_protect(t, at, len, a, b);
        break;
    case 3:
        rc = pt_split(t, at, shift);
        break;
    default:
        pt_merge(t, at, len, shift, 0);
    }
    for (unsigned i = 0; rc == 0 && kind < 3 && i < looks; i++) {
        if (!inside[i])
            continue;
        if (kind == 0) {
            look[i].fault = look[i].fault == PT_NON_CANONICAL ? look[i].fault : PT_OK;
            look[i].output = a + (look[i].at - at);
            look[i].bits = b;
        } else if (kind == 1) {
            look[i] = (struct look){ .at = look[i].at, .fault = PT_NOT_PRESENT, .bits = a };
        } else if (look[i].fault == PT_OK) {
            look[i].bits = (look[i].bits & ~a) | b;
        }
    }
    return rc;
}

static void change_and_look(struct pt_table *t, struct pool *pool, struct input *in)
{
    uint64_t at = take_wide(in), len = take_wide(in), tables = t->tables;
    struct look look[LOOKS];
    bool inside[LOOKS];
    unsigned looks = 0;
    int rc;

    if (take(in, 1) & 7) {
        /* Sizes of leaves, more often than not. */
        uint64_t page = UINT64_C(1) << (take(in, 1) & 1 ? 12 : 21);

        at &= ~(page - 1);
        len = (len & (UINT64_C(0x3fffff) & ~(page - 1))) + page;
    }
    for (uint64_t n = 1; n < 9; n++) {
        look[looks++].at = (at & ~UINT64_C(0x1fffff)) + (n << 12);
        look[looks++].at = at + len + (n << 12);
    }
    /* Around both ends at each distance, and wherever the input says. */
    for (unsigned s = 12; s < 48 && looks + 4 < LOOKS; s += 4) {
        look[looks++].at = at + (UINT64_C(1) << s);
        look[looks++].at = at - (UINT64_C(1) << s);
        look[looks++].at = at + len + (UINT64_C(1) << s);
        look[looks++].at = at + len - (UINT64_C(1) << s);
    }
    look[looks++].at = at;
    look[looks++].at = at + len;
    for (unsigned i = 0; i < looks; i++) {
        look_at(t, look[i].at, &look[i]);
        inside[i] = look[i].at - at < len;
    }
    rc = change(t, in, at, len, look, looks, inside);
    require(rc >= 0 || t->tables == tables, "a refused change took tables");
    require(t->tables == pool->used, "tables are lost");
    for (unsigned i = 0; i < looks; i++) {
        struct look now;

        look_at(t, look[i].at, &now);
        /* Bits that the format reserves are the caller's business: the raw entry is compared. */
        if (now.fault == PT_RESERVED || look[i].fault == PT_RESERVED)
            continue;
        require(now.fault == look[i].fault && now.bits == look[i].bits &&
                    now.output == look[i].output,
                "a page is not what it should be");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { .bytes = data, .size = size };
    const struct pt_format *format = formats[take(&in, 1) % (sizeof(formats) / sizeof(*formats))];
    struct pool pool = { .used = 0 };
    const struct pt_pool from = {
        .alloc = pool_alloc, .free = pool_free, .ptr = pool_ptr, .ctx = &pool
    };
    struct pt_table t;

    require(pt_table_init(&t, format, &from) == 0, "no root");
    for (unsigned n = 0; n < CHANGES && in.size > 0; n++)
        change_and_look(&t, &pool, &in);
    pt_table_free(&t);
    require(pool.used == 0, "tables are left");
    return 0;
}
