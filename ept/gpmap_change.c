/*
 * Changing pages: run by run of equal ones, with the counters kept on the way.
 */
#include "ept/gpmap.h"

#include <errno.h>

#include "ept/gpmap_impl.h"

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
    if (gp_same(from, to))
        return 0;
    if (gp_is_leaf(to->state))
        rc = pt_map(&map->tree, at, len, to->hva.v, gp_leaf_bits(to), to->shift);
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
        const struct gp_range *range = gpmap_range(map, at);

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
        const struct gp_range *range = gpmap_range(map, at);
        uint64_t stop = range->base + range->size;
        struct gp_page from, to;
        uint64_t run = gpmap_run(map, range, at, stop < end ? stop : end, &from);

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
