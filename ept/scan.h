/*
 * A whole address space, or a part of it, as runs of equal attributes. Reads each table once,
 * as a whole, instead of walking from the root for each page.
 */
#ifndef TWOFOLD_EPT_SCAN_H
#define TWOFOLD_EPT_SCAN_H

#include "ept/walk.h"

/*
 * Gives `bytes` (a table: 4096, PAE's root 32) at `at` for reading, aligned to an entry, or NULL
 * when there is no memory. The pointer has to stay valid while the tables below this one are read;
 * `buf`, of 4096 bytes and one for each level, lives that long and is for a reader that must copy.
 * A table may change meanwhile: each entry of it is loaded once.
 */
typedef const void *(*pt_read_table)(void *ctx, uint64_t at, unsigned bytes, void *buf);

/*
 * Leaves next to each other, with the same size, the same rights, the same flags and contiguous
 * output. The first and the last one may be cut by the range that was asked for: `input`, `output`
 * and `bytes` are of what lies inside.
 */
struct pt_run {
    uint64_t input, bytes;
    uint64_t output; /* of the first byte */
    unsigned shift;  /* log2 of the leaves' size */
    unsigned rights; /* PT_RIGHT_*: of the whole walk, not only of the leaf */
    uint64_t flags;  /* of the leaves, as they are: all bits but the address and `ignore` */
    uint64_t leaves;
};

struct pt_scan_stats {
    uint64_t tables, entries, leaves; /* read, looked at, found: those that touch the range */
    uint64_t broken; /* tables without memory behind them, entries with reserved bits set or
                        without meaning: what pt_access() refuses whatever the access */
};

/* A negative value ends the scan. */
typedef int (*pt_run_cb)(void *ctx, const struct pt_run *run);

/*
 * Tells every run of leaves in [first, last], both included, in ascending order of input; a run
 * agrees with what pt_walk() and pt_access() say of each of its addresses. Inputs that the format
 * does not have (not canonical, too wide) are passed over. A format without levels is one run.
 *
 * `ignore` are leaf bits that don't end a run (accessed, dirty); those that decide about
 * presence, size, rights or the address, and reserved ones, are not ignored.
 *
 * Terminates for any content: loops in the tables give at most as many entries as the range has
 * pages, and before reading more than `max_tables` it tells the run at hand and ends with -E2BIG.
 * Returns 0, -E2BIG, or what `cb` returned. `stats` may be NULL.
 */
int pt_scan(const struct pt_space *space, uint64_t first, uint64_t last, uint64_t ignore,
            uint64_t max_tables, pt_read_table read, pt_run_cb cb, void *ctx,
            struct pt_scan_stats *stats);

#endif
