/*
 * Building tables: map, unmap, protect, split and merge leaves, for any format.
 *
 *      one leaf of 2 MiB             split                     merge
 *      level 2  [ leaf   ]    [ table   ]---> level 1    512 leaves that follow each
 *                                  [ 512 leaves   ]      other become one again
 *
 * What a format allows is its data: at which levels leaves may stand, where address bits are, what
 * must be zero. An entry that refers to a table grants every right there is; leaves decide.
 */
#ifndef TWOFOLD_EPT_TABLE_H
#define TWOFOLD_EPT_TABLE_H

#include <stddef.h>

#include "ept/pt_format.h"

#define PT_TABLE_BYTES 4096u /* room of every table, though PAE's root uses 32 of them */

/*
 * Where tables come from. `at` is a table's address as entries hold it.
 * alloc() gives the table that belongs below the entry of `level` + 1 for `input` (the root: level
 * = the format's levels, input 0), of any content; false when memory is out. free() takes it back,
 * once nothing of the tree refers to it any more; a reader without a lock may still be in it. ptr()
 * makes a table readable and writable, NULL for an address that is none.
 */
struct pt_pool {
    bool (*alloc)(void *ctx, unsigned level, uint64_t input, uint64_t *at);
    void (*free)(void *ctx, uint64_t at);
    void *(*ptr)(void *ctx, uint64_t at);
    void *ctx;
    bool sure; /* alloc() never fails: changes need not be tried first */
};

/*
 * A tree that we own. Not locked: one writer at a time. Entries are stored whole, and a table is
 * filled before an entry refers to it, so that readers may look at any time.
 */
struct pt_table {
    const struct pt_format *format;
    struct pt_pool pool;
    uint64_t root;
    uint64_t tables; /* in use, the root included */
};

/* Takes a root from the pool. 0, -ENOMEM, or -EINVAL for a format without tables. */
int pt_table_init(struct pt_table *t, const struct pt_format *format, const struct pt_pool *pool);

/* Gives all tables back, not what leaves refer to. */
void pt_table_free(struct pt_table *t);

/*
 * Maps [input, input + len) to output on, in leaves as large as alignment and `max_shift` allow (a
 * format's leaf sizes only). `bits` are the leaf's bits besides address and size bit. Replaces what
 * is there, leaves and tables. 0; -EINVAL for misaligned or too wide, or bits that have another
 * meaning in leaves of another size (x86's PAT bit); -ENOMEM. Both with nothing changed.
 */
int pt_map(struct pt_table *t, uint64_t input, uint64_t len, uint64_t output, uint64_t bits,
           unsigned max_shift);

/*
 * Sets all of the range to the non-present `entry` (0: nothing there), in entries of the highest
 * level that fits. Splits what it cuts, be it a leaf or a non-present entry; frees tables that come
 * to hold one non-present entry throughout. -EINVAL and -ENOMEM as above; -EINVAL when `entry` is
 * present.
 */
int pt_unmap(struct pt_table *t, uint64_t input, uint64_t len, uint64_t entry);

/* Clears, then sets bits in all present leaves of the range; splits what it cuts. -EINVAL also when
 * a leaf would be no longer present. */
int pt_protect(struct pt_table *t, uint64_t input, uint64_t len, uint64_t clear, uint64_t set);

/* Splits until the leaf that maps `input` is at most 2^shift large. 0 also when nothing is mapped;
 * -EINVAL when no leaf is as small, -ENOMEM. */
int pt_split(struct pt_table *t, uint64_t input, unsigned shift);

/*
 * The reverse: where a whole table inside the range holds leaves with contiguous output and equal
 * bits, makes one leaf of it, up to 2^max_shift. `loose` bits may differ (accessed, dirty) and are
 * or-ed. Returns how many tables it saved.
 */
unsigned pt_merge(struct pt_table *t, uint64_t input, uint64_t len, unsigned max_shift,
                  uint64_t loose);

/* The entry that decides about `input`, leaf or not present, and its level (0: `input` is not
 * canonical). */
uint64_t pt_entry(const struct pt_table *t, uint64_t input, unsigned *level);

/* A space for the walker, and its reader; ctx is the struct pt_table. */
void pt_table_space(const struct pt_table *t, struct pt_space *out);
int pt_table_read(void *ctx, uint64_t at, unsigned size, uint64_t *raw);

#endif
