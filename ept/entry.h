/*
 * What one entry says, for all who read tables: the walker entry by entry (walk.c, access.c), the
 * scanner a table at a time (scan.c), and whoever shows one (decode.c). Inline, since a scan asks
 * it for ten million entries a second.
 */
#ifndef TWOFOLD_EPT_ENTRY_H
#define TWOFOLD_EPT_ENTRY_H

#include "ept/pt_format.h"

enum pt_entry_kind {
    PT_ENTRY_NONE,     /* not present */
    PT_ENTRY_TABLE,    /* refers to a table of the next lower level */
    PT_ENTRY_LEAF,     /* maps memory */
    PT_ENTRY_RESERVED, /* present, but with a bit set that has to be zero, or bits that exclude
                          each other */
};

/* Is `input` as wide as the format's inputs: sign-extended ("canonical"), or zero above? */
static inline bool pt_input_fits(const struct pt_format *format, uint64_t input)
{
    unsigned above = 64 - format->input_bits;
    uint64_t repeated = (uint64_t)((int64_t)(input << above) >> above);

    if (above == 0)
        return true;
    return format->sign_extended ? repeated == input : input >> format->input_bits == 0;
}

/* Of a present entry: does it map memory? */
static inline bool pt_is_leaf(const struct pt_level *level, uint64_t raw)
{
    return level->leaf == PT_LEAF_ALWAYS ||
           (level->leaf == PT_LEAF_BIT && (raw & level->leaf_bit) != 0);
}

/* Has the present entry one of the combinations of bits that mean nothing? */
static inline bool pt_is_forbidden(const struct pt_space *space, bool leaf, uint64_t raw)
{
    for (unsigned i = 0; i < space->forbidden_count; i++) {
        const struct pt_forbidden *f = &space->forbidden[i];

        if ((leaf || !f->leaf) && (raw & f->mask) == f->value)
            return true;
    }
    return false;
}

/* `n` is the entry's level, 1 to the format's. */
static inline enum pt_entry_kind pt_entry_kind(const struct pt_space *space, unsigned n,
                                               uint64_t raw)
{
    const struct pt_level *level = &space->format->level[n];
    bool leaf;
    uint64_t zero;

    if ((raw & (space->format->present | space->present)) == 0)
        return PT_ENTRY_NONE;
    leaf = pt_is_leaf(level, raw);
    zero = space->reserved[n] |
           (leaf ? level->leaf_reserved | space->leaf_reserved[n] : level->table_reserved);
    if ((raw & zero) != 0 || pt_is_forbidden(space, leaf, raw))
        return PT_ENTRY_RESERVED;
    return leaf ? PT_ENTRY_LEAF : PT_ENTRY_TABLE;
}

static inline bool pt_grants(uint64_t raw, uint64_t bit)
{
    return bit == 0 || (raw & bit) != 0;
}

/* PT_RIGHT_* that a present entry of level `n` grants; a walk has those that all of its entries
 * grant. */
static inline unsigned pt_entry_rights(const struct pt_space *space, unsigned n, uint64_t raw)
{
    const struct pt_rights *bits = &space->format->rights;
    bool exec, user_exec;

    if (space->format->level[n].plain)
        return PT_RIGHT_ALL;
    exec = pt_grants(raw, bits->exec) && !(space->policy.no_exec && (raw & bits->no_exec) != 0);
    user_exec = space->policy.mode_based ? (raw & bits->user_exec) != 0 : exec;
    return (pt_grants(raw, bits->read) ? PT_RIGHT_READ : 0) |
           (pt_grants(raw, bits->write) ? PT_RIGHT_WRITE : 0) | (exec ? PT_RIGHT_EXEC : 0) |
           (pt_grants(raw, bits->user) ? PT_RIGHT_USER : 0) | (user_exec ? PT_RIGHT_USER_EXEC : 0);
}

/* The address of a leaf's first byte. */
static inline uint64_t pt_leaf_base(const struct pt_level *level, uint64_t raw)
{
    return (raw & level->leaf_addr) | (raw & level->leaf_high) << level->leaf_high_shift;
}

static inline uint64_t pt_leaf_output(const struct pt_level *level, uint64_t raw, uint64_t input)
{
    return pt_leaf_base(level, raw) | (input & ((UINT64_C(1) << level->shift) - 1));
}

static inline uint64_t pt_table_bytes(const struct pt_format *format, unsigned n)
{
    return (uint64_t)format->entry_bytes << format->level[n].bits;
}

static inline uint64_t pt_index(const struct pt_level *level, uint64_t input)
{
    return input >> level->shift & ((UINT64_C(1) << level->bits) - 1);
}

#endif
