/*
 * What the files of ept/table.h share: entries as our own trees have them.
 */
#ifndef TWOFOLD_EPT_TABLE_IMPL_H
#define TWOFOLD_EPT_TABLE_IMPL_H

#include "ept/entry.h"
#include "ept/table.h"

static inline uint64_t pt_load(const struct pt_format *f, const void *table, uint64_t i)
{
    /* Pairs with the release in pt_store(): whoever sees a table's address sees its content. */
    if (f->entry_bytes == 4)
        return __atomic_load_n((const uint32_t *)table + i, __ATOMIC_ACQUIRE);
    return __atomic_load_n((const uint64_t *)table + i, __ATOMIC_ACQUIRE);
}

static inline void pt_store(const struct pt_format *f, void *table, uint64_t i, uint64_t raw)
{
    if (f->entry_bytes == 4)
        __atomic_store_n((uint32_t *)table + i, (uint32_t)raw, __ATOMIC_RELEASE);
    else
        __atomic_store_n((uint64_t *)table + i, raw, __ATOMIC_RELEASE);
}

static inline uint64_t pt_entries(const struct pt_level *level)
{
    return UINT64_C(1) << level->bits;
}

static inline bool pt_is_present(const struct pt_format *f, uint64_t raw)
{
    return (raw & f->present) != 0;
}

static inline bool pt_is_table(const struct pt_format *f, unsigned n, uint64_t raw)
{
    return pt_is_present(f, raw) && !pt_is_leaf(&f->level[n], raw);
}

/* The bits of a leaf that pt_map() and pt_protect() leave to us. */
static inline uint64_t pt_leaf_own(const struct pt_level *level)
{
    uint64_t size = level->leaf == PT_LEAF_BIT ? level->leaf_bit : 0;

    return level->leaf == PT_LEAF_NEVER ? 0 : level->leaf_addr | level->leaf_high | size;
}

/* False when the level can't hold that address. */
static inline bool pt_leaf_make(const struct pt_level *level, uint64_t output, uint64_t bits,
                                uint64_t *raw)
{
    uint64_t high = level->leaf_high ? output >> level->leaf_high_shift & level->leaf_high : 0;

    if (level->leaf == PT_LEAF_NEVER)
        return false;
    *raw = bits | (output & level->leaf_addr) | high |
           (level->leaf == PT_LEAF_BIT ? level->leaf_bit : 0);
    return pt_leaf_base(level, *raw) == output;
}

static inline void *pt_ptr(const struct pt_table *t, uint64_t at)
{
    return t->pool.ptr(t->pool.ctx, at);
}

/* The range without its sign bits; -EINVAL unless it is of whole pages, canonical, and does not go
 * through the hole. */
int pt_range(const struct pt_format *f, uint64_t input, uint64_t len, uint64_t *first,
             uint64_t *last);

#endif
