/*
 * The tree is a struct pt_table of EPT format. Each place in it has its one table in memory, which
 * is reserved with the RAM (gpmap_add) and so never missing: a reader without a lock who still
 * looks at a table that was replaced by a large entry sees old or new entries of the same place,
 * never another's.
 */
#include "ept/gpmap.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "ept/gpmap_entry.h"
#include "ept/table.h"

#define RANGES_MAX   64
#define LEVELS       4
#define INDEX(n, at) ((at) >> (12 + 9 * ((n)-1)) & 511)

/* log2 of what an entry of level `n` maps; a table of level `n` maps what an entry of n + 1 does.
 */
#define SHIFT(n) (12u + 9 * ((n)-1))

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

static unsigned range_count(const struct gpmap *map)
{
    return __atomic_load_n(&map->ranges, __ATOMIC_ACQUIRE);
}

static const struct gp_range *range_of(const struct gpmap *map, uint64_t at)
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
    rc = pt_table_init(&map->tree, &gp_format, &pool);
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

int gpmap_add(struct gpmap *map, gpa_t base, uint64_t size, uint64_t hva, unsigned backing)
{
    struct gp_range range = { .base = base.v, .size = size, .hva = hva, .backing = backing };
    uint64_t top = UINT64_C(1) << gp_format.input_bits;
    int rc;

    if (size == 0 || ((base.v | size | hva) & (PAGE_SIZE_4K - 1)) != 0 || base.v >= top ||
        size > top - base.v || hva >= top || size > top - hva || backing > GP_BACKING_MAX)
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
    out->hva = range->hva + (at - range->base);
}

int gpmap_get(const struct gpmap *map, gpa_t at, struct gp_page *out)
{
    const struct gp_range *range = range_of(map, at.v);
    unsigned level;
    uint64_t raw;

    if (!range)
        return -ENOENT;
    (void)find(map, at.v, &raw, &level);
    page_of(range, raw, level, at.v, out);
    out->hva &= ~((UINT64_C(1) << out->shift) - 1);
    return 0;
}

static bool same(const struct gp_page *a, const struct gp_page *b)
{
    return a->state == b->state && a->shift == b->shift && a->flags == b->flags &&
           a->payload == b->payload && a->was == b->was;
}

/* The length of the run of equal pages that begins at `at`, up to `end`; all in `range`. */
static uint64_t run_length(const struct gpmap *map, const struct gp_range *range, uint64_t at,
                           uint64_t end, struct gp_page *page)
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
        else if (!same(page, &here))
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
        const struct gp_range *range = range_of(map, pos);
        uint64_t stop = range ? range->base + range->size : 0, run;
        struct gp_page page;

        if (!range) {
            rc = -ENOENT;
            break;
        }
        run = run_length(map, range, pos, stop < end ? stop : end, &page);
        rc = cb(ctx, gpa(pos), run, &page);
        pos += run;
    }
    pthread_mutex_unlock(&map->lock);
    return rc;
}

/* --- changing --------------------------------------------------------------------- */

static void count(uint64_t *counter, uint64_t by)
{
    __atomic_fetch_add(counter, by, __ATOMIC_RELAXED);
}

static uint64_t *size_counter(struct gpmap *map, unsigned shift)
{
    return shift == PAGE_SHIFT_1G   ? &map->stats.present_1g
           : shift == PAGE_SHIFT_2M ? &map->stats.present_2m
                                    : &map->stats.present_4k;
}

/* Counts [first, end) as present, in the leaves that pt_map() makes of it. */
static void count_sizes(struct gpmap *map, const struct gp_range *range, uint64_t first,
                        uint64_t end, unsigned shift)
{
    uint64_t apart = range->base ^ range->hva, size, inner, inner_end;

    while (shift > PAGE_SHIFT_4K && (apart & ((UINT64_C(1) << shift) - 1)) != 0)
        shift -= 9;
    size = UINT64_C(1) << shift;
    inner = (first + (size - 1)) & ~(size - 1);
    inner_end = end & ~(size - 1);
    if (first >= end)
        return;
    if (inner >= inner_end) {
        count_sizes(map, range, first, end, shift - 9);
        return;
    }
    count(size_counter(map, shift), inner_end - inner);
    if (shift > PAGE_SHIFT_4K) {
        count_sizes(map, range, first, inner, shift - 9);
        count_sizes(map, range, inner_end, end, shift - 9);
    }
}

/* The counters after [at, end) went from one to the other; what a cut leaf leaves at both sides is
 * in smaller ones. */
static void account(struct gpmap *map, const struct gp_range *range, uint64_t at, uint64_t end,
                    const struct gp_page *from, const struct gp_page *to)
{
    uint64_t size = UINT64_C(1) << from->shift;
    uint64_t first = at & ~(size - 1), last = (end + (size - 1)) & ~(size - 1);

    if (from->state != to->state) {
        count(&map->stats.bytes[from->state], -(end - at));
        count(&map->stats.bytes[to->state], end - at);
        count(&map->stats.transitions[from->state][to->state], (end - at) >> PAGE_SHIFT_4K);
    }
    if (from->state == GP_PRESENT) {
        count(size_counter(map, from->shift), -(last - first));
        if (from->shift > PAGE_SHIFT_4K) {
            count_sizes(map, range, first, at, from->shift - 9);
            count_sizes(map, range, end, last, from->shift - 9);
        }
    }
    if (to->state == GP_PRESENT)
        count_sizes(map, range, at, end, to->shift);
}

static bool fits(const struct gp_change *change, const struct gp_page *page)
{
    return (change->from & GP_MASK(page->state)) != 0 &&
           (page->flags & change->need_flags) == change->need_flags &&
           (page->flags & change->avoid_flags) == 0 &&
           (!change->restore || page->state == GP_GUARDED);
}

static void target(const struct gp_change *change, const struct gp_page *from, struct gp_page *to)
{
    *to = *from;
    if (change->restore) {
        to->state = from->was;
        to->was = GP_UNTOUCHED;
    } else if (!change->keep_state) {
        to->state = change->to.state;
        to->shift = change->to.shift;
        to->payload = change->to.payload;
        to->was = GP_UNTOUCHED;
        if (to->state == GP_GUARDED) {
            /* So that it can be undone. */
            to->was = from->state == GP_GUARDED ? from->was : from->state;
            to->shift = from->shift;
            to->payload = from->payload;
        }
    }
    to->flags = (from->flags | change->set_flags) & ~change->clear_flags;
}

/* One run of equal pages; *to receives what they are then. */
static int change_run(struct gpmap *map, const struct gp_range *range, uint64_t at, uint64_t len,
                      const struct gp_page *from, const struct gp_change *change,
                      struct gp_page *to)
{
    struct gp_page fixed;
    int rc;

    target(change, from, to);
    fixed = *to;
    rc = change->effect ? change->effect(change->ctx, gpa(at), len, from, to) : 0;
    if (rc < 0)
        return rc;
    to->state = fixed.state;
    to->backing = fixed.backing;
    to->hva = fixed.hva;
    to->was = fixed.was;
    if (to->state == GP_GUARDED)
        to->shift = fixed.shift; /* what it was is not for the effect to say */
    gp_normalize(to);
    if (same(from, to))
        return 0;
    if (gp_is_leaf(to->state))
        rc = pt_map(&map->tree, at, len, to->hva, gp_leaf_bits(to), to->shift);
    else
        rc = pt_unmap(&map->tree, at, len, gp_reason(to));
    if (rc == 0)
        account(map, range, at, at + len, from, to);
    return rc;
}

/* Runs next to each other that became the same: they differed before, and may be one leaf now. */
struct span {
    uint64_t at, end;
    unsigned runs, shift;
    enum gp_state state;
    const struct gp_range *range;
};

static void span_merge(struct gpmap *map, struct span *span)
{
    uint64_t len = span->end - span->at, ad = GP_ENTRY_ACCESSED | GP_ENTRY_DIRTY;

    if (span->runs > 1 && gp_is_leaf(span->state)) {
        for (unsigned shift = PAGE_SHIFT_2M; shift <= span->shift; shift += 9) {
            uint64_t leaves = pt_merge(&map->tree, span->at, len, shift, ad);

            if (span->state != GP_PRESENT)
                continue;
            count(size_counter(map, shift - 9), -(leaves << shift));
            count(size_counter(map, shift), leaves << shift);
        }
    }
    span->runs = 0;
}

static void span_add(struct gpmap *map, struct span *span, const struct gp_range *range,
                     uint64_t at, uint64_t len, const struct gp_page *to)
{
    if (span->runs > 0 && (span->end != at || span->state != to->state ||
                           span->shift != to->shift || span->range != range))
        span_merge(map, span);
    if (span->runs++ == 0)
        *span = (struct span){
            .at = at, .runs = 1, .shift = to->shift, .state = to->state, .range = range
        };
    span->end = at + len;
}

/* Is all of [at, end) RAM? */
static bool covered(const struct gpmap *map, uint64_t at, uint64_t end)
{
    while (at < end) {
        const struct gp_range *range = range_of(map, at);

        if (!range)
            return false;
        at = range->base + range->size;
    }
    return true;
}

static int change_locked(struct gpmap *map, uint64_t at, uint64_t end,
                         const struct gp_change *change, uint64_t *changed)
{
    struct span span = { 0 };
    int rc = 0;

    if (!covered(map, at, end))
        return -ENOENT;
    while (at < end) {
        const struct gp_range *range = range_of(map, at);
        uint64_t stop = range->base + range->size;
        struct gp_page from, to;
        uint64_t run = run_length(map, range, at, stop < end ? stop : end, &from);

        if (fits(change, &from)) {
            rc = change_run(map, range, at, run, &from, change, &to);
            if (rc < 0)
                break;
            span_add(map, &span, range, at, run, &to);
            *changed += run;
        }
        at += run;
    }
    span_merge(map, &span);
    return rc;
}

int gpmap_change(struct gpmap *map, gpa_t at, uint64_t len, const struct gp_change *change,
                 uint64_t *changed)
{
    uint64_t end = at.v + len, bytes = 0;
    int rc;

    if (changed)
        *changed = 0;
    if (((at.v | len) & (PAGE_SIZE_4K - 1)) != 0 || end < at.v ||
        (unsigned)change->to.state >= GP_STATES || change->to.payload > GP_PAYLOAD_MAX ||
        ((change->set_flags | change->clear_flags) & ~GP_FLAGS) != 0)
        return -EINVAL;
    pthread_mutex_lock(&map->lock);
    rc = change_locked(map, at.v, end, change, &bytes);
    pthread_mutex_unlock(&map->lock);
    if (changed)
        *changed = bytes;
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

const void *gpmap_read_table(void *ctx, uint64_t at, unsigned bytes, void *buf)
{
    const uint64_t *table = table_around(ctx, at);
    uint64_t *copy = buf;

    if (!table || at % PT_TABLE_BYTES != 0 || bytes != PT_TABLE_BYTES)
        return NULL;
    if (!copy)
        return table;
    /* The map may change meanwhile: each entry is read once. */
    for (size_t i = 0; i < PT_TABLE_BYTES / sizeof(*copy); i++)
        copy[i] = entry_load(table + i);
    return copy;
}
