/*
 * Building tables: map, unmap, protect, split and merge leaves, for any format.
 */
#ifndef TWOFOLD_EPT_TABLE_H
#define TWOFOLD_EPT_TABLE_H

#include <stddef.h>

#include "ept/pt_format.h"

/*
 * Where tables come from. `at` is a table's address as entries hold it; ptr() makes it readable.
 * alloc() gives a zeroed table, false when memory is out; free() takes it back, once nothing refers
 * to it.
 */
struct pt_pool {
    bool (*alloc)(void *ctx, uint64_t *at);
    void (*free)(void *ctx, uint64_t at);
    void *(*ptr)(void *ctx, uint64_t at);
    void *ctx;
};

/* A tree that we own. Not locked: one writer at a time; entries are stored whole, so that readers
 * may look. */
struct pt_table {
    const struct pt_format *format;
    struct pt_pool pool;
    uint64_t root;
    uint64_t tables; /* in use, the root included */
};

int pt_table_init(struct pt_table *t, const struct pt_format *format, const struct pt_pool *pool);
void pt_table_free(struct pt_table *t); /* all tables, not what leaves refer to */

/*
 * Maps [input, input + len) to output on, in leaves as large as alignment and `max_shift` allow (a
 * format's leaf sizes only). `bits` are the leaf's bits besides the address. Replaces what is
 * there, leaves and tables. 0; -EINVAL for misaligned or too wide; -ENOMEM with nothing changed.
 */
int pt_map(struct pt_table *t, uint64_t input, uint64_t len, uint64_t output, uint64_t bits,
           unsigned max_shift);

/* Sets each level-1-sized page of the range to the non-present `entry` (0: nothing there). Splits
 * large leaves that it cuts, frees tables that become empty. -EINVAL, -ENOMEM as above; -EINVAL
 * when `entry` is present. */
int pt_unmap(struct pt_table *t, uint64_t input, uint64_t len, uint64_t entry);

/* Clears and sets bits in all present leaves of the range; splits what it cuts. */
int pt_protect(struct pt_table *t, uint64_t input, uint64_t len, uint64_t clear, uint64_t set);

/* Splits until the leaf that maps `input` is at most 2^shift large. 0 also when nothing is mapped.
 */
int pt_split(struct pt_table *t, uint64_t input, unsigned shift);

/* The reverse: where a whole table holds leaves with contiguous output and equal bits, makes one
 * leaf of it, up to 2^max_shift. `loose` bits may differ (accessed, dirty) and are or-ed. Returns
 * how many tables it saved. */
unsigned pt_merge(struct pt_table *t, uint64_t input, uint64_t len, unsigned max_shift,
                  uint64_t loose);

/* The entry that decides about `input`, leaf or not present, and its level (0: the format has
 * none). */
uint64_t pt_entry(const struct pt_table *t, uint64_t input, unsigned *level);

/* A space for pt_walk() and pt_scan(), and its readers; ctx is the struct pt_table. */
void pt_table_space(const struct pt_table *t, struct pt_space *out);
int pt_table_read(void *ctx, uint64_t at, unsigned size, uint64_t *raw);
const void *pt_table_read_table(void *ctx, uint64_t at, unsigned bytes, void *buf);

#endif
