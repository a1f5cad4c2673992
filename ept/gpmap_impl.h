/*
 * What the map's own files share: gpmap.c keeps the ranges, their tables and who looks,
 * gpmap_change.c changes pages.
 */
#ifndef TWOFOLD_EPT_GPMAP_IMPL_H
#define TWOFOLD_EPT_GPMAP_IMPL_H

#include <pthread.h>

#include "ept/gpmap_entry.h"
#include "ept/table.h"

#define RANGES_MAX 64
#define LEVELS     4

/* One gpmap_add(). Its tables are numbered by level and by the part of the space that they map. */
struct gp_range {
    uint64_t base, size, hva;
    unsigned backing;
    uint8_t *tables; /* one mapping */
    size_t bytes;
    uint64_t first[LEVELS], count[LEVELS]; /* [n] of level n; the root is the map's */
    uint8_t *at[LEVELS];
    uint8_t *used; /* a byte for each table: was it ever used? */
};

struct gpmap {
    struct pt_table tree;
    pthread_mutex_t lock;
    uint64_t *root;
    struct gp_range range[RANGES_MAX];
    unsigned ranges; /* stored with release, once range[] is filled */
    struct gpmap_stats stats;
};

/* The range in which `at` lies, NULL when there is none. */
const struct gp_range *gpmap_range(const struct gpmap *map, uint64_t at);

/* The length of the run of equal pages that begins at `at`, up to `end`; all in `range`. */
uint64_t gpmap_run(const struct gpmap *map, const struct gp_range *range, uint64_t at, uint64_t end,
                   struct gp_page *page);

/* Equal in what the entries say; backing and hva are the range's. */
static inline bool gp_same(const struct gp_page *a, const struct gp_page *b)
{
    return a->state == b->state && a->shift == b->shift && a->flags == b->flags &&
           a->payload == b->payload && a->was == b->was;
}

#endif
