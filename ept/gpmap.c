/*
 * The tree is a struct pt_table of EPT format. Each place in it has its one table in memory, which
 * is reserved with the RAM (gpmap_add) and so never missing: a reader without a lock who still
 * looks at a table that was replaced by a large entry sees old or new entries of the same place,
 * never another's.
 */
#include "ept/gpmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "ept/gpmap_impl.h"

#define INDEX(n, at) ((at) >> (12 + 9 * ((n)-1)) & 511)

/* log2 of what an entry of level `n` maps; of a table of level `n` it is that of n + 1. */
#define SHIFT(n) (12u + 9 * ((n)-1))

static unsigned range_count(const struct gpmap *map)
{
    return __atomic_load_n(&map->ranges, __ATOMIC_ACQUIRE);
}

const struct gp_range *gpmap_range(const struct gpmap *map, uint64_t at)
{
    unsigned count = range_count(map);

    for (unsigned i = 0; i < count; i++)
        if (at - map->range[i].base < map->range[i].size)
            return &map->range[i];
    return NULL;
}

/* --- the pool of tables ----------------------------------------------------------- */

static bool pool_alloc(void *ctx, unsigned level, uint64_t input, uint64_t *at)
{
    struct gpmap *map = ctx;
    uint64_t place = level < LEVELS ? input >> SHIFT(level + 1) : 0;

    if (level == LEVELS) {
        *at = (uintptr_t)map->root;
        return true;
    }
    /* Ranges may share a table; it is the first one's. */
    for (unsigned i = 0; i < map->ranges; i++) {
        struct gp_range *range = &map->range[i];
        uint64_t number = place - range->first[level];
        uint8_t *table;

        if (number >= range->count[level])
            continue;
        table = range->at[level] + number * PT_TABLE_BYTES;
        *at = (uintptr_t)table;
        number = (uint64_t)(table - range->tables) / PT_TABLE_BYTES;
        if (!range->used[number]) {
            range->used[number] = 1;
            __atomic_fetch_add(&map->stats.tables, 1, __ATOMIC_RELAXED);
        }
        return true;
    }
    return false;
}

static void pool_free(void *ctx, uint64_t at)
{
    (void)ctx, (void)at; /* it stays reserved for its place */
}

static void *pool_ptr(void *ctx, uint64_t at)
{
    (void)ctx;
    return (void *)(uintptr_t)at;
}

/* The table of ours in which `at` lies, NULL when there is none. */
static const uint64_t *table_around(const struct gpmap *map, uint64_t at)
{
    unsigned count = range_count(map);
    uint64_t table = at & ~(uint64_t)(PT_TABLE_BYTES - 1);

    if (table == (uintptr_t)map->root)
        return map->root;
    for (unsigned i = 0; i < count; i++) {
        const struct gp_range *range = &map->range[i];

        if (table - (uintptr_t)range->tables < (uint64_t)(range->used - range->tables))
            return (const uint64_t *)(uintptr_t)table;
    }
    return NULL;
}

/* --- a map and its ranges --------------------------------------------------------- */

int gpmap_create(struct gpmap **out)
{
    struct gpmap *map = calloc(1, sizeof(*map));
    struct pt_pool pool = {
        .alloc = pool_alloc, .free = pool_free, .ptr = pool_ptr, .ctx = map, .sure = true
    };
    int rc;

    *out = NULL;
    if (!map)
        return -ENOMEM;
    map->root =
        mmap(NULL, PT_TABLE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map->root == MAP_FAILED) {
        free(map);
        return -ENOMEM;
    }
    map->stats.tables = 1;
    pthread_mutex_init(&map->lock, NULL);
    rc = pt_table_init(&map->tree, &pt_ept_4, &pool);
    if (rc < 0) {
        gpmap_destroy(map);
        return rc;
    }
    *out = map;
    return 0;
}

void gpmap_destroy(struct gpmap *map)
{
    if (!map)
        return;
    for (unsigned i = 0; i < map->ranges; i++)
        munmap(map->range[i].tables, map->range[i].bytes);
    munmap(map->root, PT_TABLE_BYTES);
    pthread_mutex_destroy(&map->lock);
    free(map);
}

/* Reserves one table for each place that the range can need; memory is taken on first use. */
static int range_reserve(struct gp_range *range)
{
    uint64_t last = range->base + (range->size - 1), total = 0;
    uint8_t *at;

    for (unsigned n = 1; n < LEVELS; n++) {
        range->first[n] = range->base >> SHIFT(n + 1);
        range->count[n] = (last >> SHIFT(n + 1)) - range->first[n] + 1;
        total += range->count[n];
    }
    range->bytes = total * (PT_TABLE_BYTES + 1);
    at = mmap(NULL, range->bytes, PROT_READ | PROT_WRITE,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        return -ENOMEM;
    /* A huge page would take 2 MiB for the tables of what may be a few pages. */
    (void)madvise(at, range->bytes, MADV_NOHUGEPAGE);
    range->tables = at;
    for (unsigned n = LEVELS - 1; n > 0; n--) {
        range->at[n] = at;
        at += range->count[n] * PT_TABLE_BYTES;
    }
    range->used = at;
    return 0;
}

int gpmap_add(struct gpmap *map, gpa_t base, uint64_t size, hva_t hva, unsigned backing)
{
    struct gp_range range = { .base = base.v, .size = size, .hva = hva.v, .backing = backing };
    uint64_t top = UINT64_C(1) << pt_ept_4.input_bits;
    int rc;

    if (size == 0 || ((base.v | size | hva.v) & (PAGE_SIZE_4K - 1)) != 0 || base.v >= top ||
        size > top - base.v || hva.v >= top || size > top - hva.v || backing > GP_BACKING_MAX)
        return -EINVAL;
    pthread_mutex_lock(&map->lock);
    rc = map->ranges < RANGES_MAX ? 0 : -ENOMEM;
    for (unsigned i = 0; rc == 0 && i < map->ranges; i++)
        if (base.v < map->range[i].base + map->range[i].size && map->range[i].base < base.v + size)
            rc = -EEXIST;
    if (rc == 0)
        rc = range_reserve(&range);
    if (rc == 0) {
        map->range[map->ranges] = range;
        /* Pairs with the acquire in range_count(). */
        __atomic_store_n(&map->ranges, map->ranges + 1, __ATOMIC_RELEASE);
        __atomic_fetch_add(&map->stats.bytes[GP_UNTOUCHED], size, __ATOMIC_RELAXED);
    }
    pthread_mutex_unlock(&map->lock);
    return rc;
}

void gpmap_lock(struct gpmap *map)
{
    pthread_mutex_lock(&map->lock);
}

void gpmap_unlock(struct gpmap *map)
{
    pthread_mutex_unlock(&map->lock);
}

/* --- looking ---------------------------------------------------------------------- */

static uint64_t entry_load(const uint64_t *entry)
{
    return __atomic_load_n(entry, __ATOMIC_ACQUIRE);
}

/* The entry that decides about `at`, and where it stands. */
static const uint64_t *find(const struct gpmap *map, uint64_t at, uint64_t *raw, unsigned *level)
{
    const uint64_t *entry = map->root + INDEX(LEVELS, at);

    for (*level = LEVELS;; --*level) {
        *raw = entry_load(entry);
        if (!gp_is_table(*raw, *level))
            return entry;
        entry = (const uint64_t *)(uintptr_t)(*raw & GP_ADDR) + INDEX(*level - 1, at);
    }
}

/* What the entry says of the page at `at`, and what only the range knows. */
static void page_of(const struct gp_range *range, uint64_t raw, unsigned level, uint64_t at,
                    struct gp_page *out)
{
    gpmap_decode(raw, level, out);
    out->backing = range->backing;
    out->hva.v = range->hva + (at - range->base);
}

int gpmap_get(const struct gpmap *map, gpa_t at, struct gp_page *out)
{
    const struct gp_range *range = gpmap_range(map, at.v);
    unsigned level;
    uint64_t raw;

    if (!range)
        return -ENOENT;
    (void)find(map, at.v, &raw, &level);
    page_of(range, raw, level, at.v, out);
    out->hva.v &= ~((UINT64_C(1) << out->shift) - 1);
    return 0;
}

uint64_t gpmap_run(const struct gpmap *map, const struct gp_range *range, uint64_t at, uint64_t end,
                   struct gp_page *page)
{
    uint64_t pos = at;

    while (pos < end) {
        const uint64_t *entry;
        struct gp_page here;
        unsigned level;
        uint64_t raw;

        entry = find(map, pos, &raw, &level);
        page_of(range, raw, level, pos, &here);
        if (pos == at)
            *page = here;
        else if (!gp_same(page, &here))
            break;
        pos = (pos | ((UINT64_C(1) << SHIFT(level)) - 1)) + 1;
        /* On in the same table, for as long as nothing but the address differs. */
        for (; level == 1 && pos < end && INDEX(1, pos) != 0; pos += PAGE_SIZE_4K)
            if (!gp_alike(raw, entry_load(++entry)))
                break;
    }
    return (pos < end ? pos : end) - at;
}

int gpmap_runs(struct gpmap *map, gpa_t at, uint64_t len, gp_run_cb cb, void *ctx)
{
    uint64_t end = at.v + len, pos = at.v;
    int rc = 0;

    if (((at.v | len) & (PAGE_SIZE_4K - 1)) != 0 || end < at.v)
        return -EINVAL;
    pthread_mutex_lock(&map->lock);
    while (rc == 0 && pos < end) {
        const struct gp_range *range = gpmap_range(map, pos);
        uint64_t stop = range ? range->base + range->size : 0, run;
        struct gp_page page;

        if (!range) {
            rc = -ENOENT;
            break;
        }
        run = gpmap_run(map, range, pos, stop < end ? stop : end, &page);
        rc = cb(ctx, gpa(pos), run, &page);
        pos += run;
    }
    pthread_mutex_unlock(&map->lock);
    return rc;
}

/* --- for whoever shows it --------------------------------------------------------- */

void gpmap_stats(const struct gpmap *map, struct gpmap_stats *out)
{
    const uint64_t *from = (const uint64_t *)&map->stats;
    uint64_t *to = (uint64_t *)out;

    for (size_t i = 0; i < sizeof(*out) / sizeof(*to); i++)
        to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

void gpmap_space(const struct gpmap *map, struct pt_space *out)
{
    memset(out, 0, sizeof(*out));
    pt_table_space(&map->tree, out);
}

int gpmap_read(void *ctx, uint64_t at, unsigned size, uint64_t *raw)
{
    const uint64_t *table = table_around(ctx, at);

    if (!table || size != sizeof(*raw) || at % sizeof(*raw) != 0)
        return -EFAULT;
    *raw = entry_load(table + at % PT_TABLE_BYTES / sizeof(*raw));
    return 0;
}
