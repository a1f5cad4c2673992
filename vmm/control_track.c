#include "vmm/control_track.h"
#include "vmm/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/numa.h"
#include "vmm/pagemap.h"
#include "vmm/track.h"
#include "vmm/vm.h"

#define CELLS_DEFAULT 64
#define CELLS_MAX     4096

struct request {
    unsigned what;
    bool off, clear;
    uint64_t base, size, cells;
};

/* Bytes of some range. */
struct sums {
    uint64_t state[GP_STATES];
    uint64_t present_4k, present_2m, present_1g;
    uint64_t accessed, watched;
};

struct cell {
    uint64_t present, accessed;
};

struct view {
    struct sums all, part;
    uint64_t bytes; /* of RAM in the range */
    uint64_t seen;  /* ... before the part that is looked at */
    gpa_t first;    /* of that part */
    uint64_t unit;  /* bytes of one cell */
    struct cell *cell;
    size_t cells;
};

/* --- the request -------------------------------------------------------------------- */

static int parse_what(const char *text, struct request *r, struct error *err)
{
    while (*text) {
        size_t n = strcspn(text, ",");

        if (n == 8 && !strncmp(text, "accessed", n))
            r->what |= TRACK_ACCESSED;
        else if (n == 5 && !strncmp(text, "dirty", n))
            r->what |= TRACK_DIRTY;
        else if (n == 3 && !strncmp(text, "off", n))
            r->off = true;
        else
            return error_set(err, -EINVAL,
                             "'%.40s' can't be tracked: use accessed, dirty, both with a comma, or "
                             "off",
                             text);
        text += n + (text[n] == ',');
    }
    if (r->off && r->what)
        return error_set(err, -EINVAL, "tracking is either off or on");
    return 0;
}

/* The part of a slot that lies in the range; false when there is none. */
static bool clip(const struct mem_slot *slot, uint64_t base, uint64_t size, uint64_t *first,
                 uint64_t *end)
{
    *first = slot->base.v > base ? slot->base.v : base;
    *end = slot->base.v + slot->size;
    if (base + size < *end)
        *end = base + size;
    return *first < *end;
}

static int range_check(struct vm *vm, struct request *r, struct error *err)
{
    size_t count;
    const struct mem_slot *slot = memory_slots(vm_memory(vm), &count);
    uint64_t page = mem_backing_page(slot->backing), first, end, sum = 0;

    if (r->size == 0 && r->base == 0)
        r->size = slot[count - 1].base.v + slot[count - 1].size;
    if (r->base % page || r->size % page || r->size == 0 || r->base + r->size < r->base)
        return error_set(err, -EINVAL,
                         "0x%" PRIx64 "+0x%" PRIx64 " is no range of whole pages of %" PRIu64
                         " KiB",
                         r->base, r->size, page >> 10);
    for (size_t i = 0; i < count; i++)
        if (clip(&slot[i], r->base, r->size, &first, &end))
            sum += end - first;
    if (sum == 0)
        return error_set(err, -EINVAL, "0x%" PRIx64 "-0x%" PRIx64 " is no RAM", r->base,
                         r->base + r->size);
    return 0;
}

static int decode(struct vm *vm, const json_t *arguments, struct request *r, struct error *err)
{
    const char *what = "";
    int rc = control_get_string(arguments, "what", &what, err);

    r->cells = CELLS_DEFAULT;
    if (rc == 0)
        rc = parse_what(what, r, err);
    if (rc == 0)
        rc = control_get_u64(arguments, "base", false, &r->base, err);
    if (rc == 0)
        rc = control_get_u64(arguments, "size", false, &r->size, err);
    if (rc == 0)
        rc = control_get_bool(arguments, "clear", &r->clear, err);
    if (rc == 0)
        rc = control_get_u64(arguments, "cells", false, &r->cells, err);
    if (rc == 0 && (r->cells == 0 || r->cells > CELLS_MAX))
        rc = error_set(err, -EINVAL, "\"cells\" is 1 to %d", CELLS_MAX);
    return rc == 0 ? range_check(vm, r, err) : rc;
}

/* --- the view -------------------------------------------------------------------------- */

static void cells_add(struct view *v, gpa_t at, uint64_t len, uint64_t present, uint64_t accessed)
{
    uint64_t offset = v->seen + (at.v - v->first.v);

    while (len > 0) {
        struct cell *cell = &v->cell[offset / v->unit];
        uint64_t part = v->unit - offset % v->unit;

        part = part < len ? part : len;
        cell->present += present ? part : 0;
        cell->accessed += accessed ? part : 0;
        offset += part;
        len -= part;
    }
}

static int add_run(void *ctx, gpa_t at, uint64_t len, const struct gp_page *page)
{
    struct view *v = ctx;
    struct sums *s = &v->part;

    s->state[page->state] += len;
    if (page->state == GP_PRESENT)
        *(page->shift == PAGE_SHIFT_4K   ? &s->present_4k
          : page->shift == PAGE_SHIFT_2M ? &s->present_2m
                                         : &s->present_1g) += len;
    s->accessed += page->flags & GP_ACCESSED ? len : 0;
    s->watched += page->flags & GP_WATCHED ? len : 0;
    cells_add(v, at, len, page->state == GP_PRESENT, page->flags & GP_ACCESSED);
    return 0;
}

static void sums_add(struct sums *to, const struct sums *from)
{
    for (size_t i = 0; i < GP_STATES; i++)
        to->state[i] += from->state[i];
    to->present_4k += from->present_4k;
    to->present_2m += from->present_2m;
    to->present_1g += from->present_1g;
    to->accessed += from->accessed;
    to->watched += from->watched;
}

static json_t *states_json(const struct sums *s)
{
    json_t *states = json_object();

    for (unsigned i = 0; i < GP_STATES; i++)
        (void)json_object_set_new(states, gp_state_name((enum gp_state)i),
                                  control_number(s->state[i]));
    return states;
}

/* Each part of RAM that the range meets, and what is in it. */
static json_t *parts_look(struct vm *vm, const struct request *r, struct view *v)
{
    json_t *list = json_array();
    struct pages_range range;

    for (size_t i = 0; pages_range(vm_pages(vm), i, &range); i++) {
        struct mem_slot part = { .base = range.base, .size = range.size };
        uint64_t first, end;

        if (!clip(&part, r->base, r->size, &first, &end))
            continue;
        v->first = gpa(first);
        v->part = (struct sums){ .accessed = 0 };
        (void)gpmap_runs(pages_map(vm_pages(vm)), gpa(first), end - first, add_run, v);
        v->seen += end - first;
        sums_add(&v->all, &v->part);
        (void)json_array_append_new(
            list,
            json_pack("{s:o, s:o, s:s, s:b, s:o, s:o, s:o}", "base", control_hex(first), "size",
                      control_number(end - first), "populate", populate_name(range.policy),
                      "managed", range.managed, "states", states_json(&v->part), "accessed_bytes",
                      control_number(v->part.accessed), "dirty_bytes",
                      control_number(track_dirty_bytes(vm_track(vm), gpa(first), end - first))));
    }
    return list;
}

/* The dirty bytes of a stretch of RAM, counted from the range's start, without the hole. */
static uint64_t dirty_at(struct vm *vm, const struct request *r, uint64_t offset, uint64_t len)
{
    size_t count;
    const struct mem_slot *slot = memory_slots(vm_memory(vm), &count);
    uint64_t first, end, sum = 0;

    for (size_t i = 0; i < count && len > 0; i++) {
        uint64_t part;

        if (!clip(&slot[i], r->base, r->size, &first, &end))
            continue;
        if (offset >= end - first) {
            offset -= end - first;
            continue;
        }
        part = end - first - offset < len ? end - first - offset : len;
        sum += track_dirty_bytes(vm_track(vm), gpa(first + offset), part);
        offset = 0;
        len -= part;
    }
    return sum;
}

static json_t *cells_json(struct vm *vm, const struct request *r, const struct view *v)
{
    json_t *present = json_array(), *accessed = json_array(), *dirty = json_array();

    for (size_t i = 0; i * v->unit < v->bytes; i++) {
        (void)json_array_append_new(present, control_number(v->cell[i].present));
        (void)json_array_append_new(accessed, control_number(v->cell[i].accessed));
        (void)json_array_append_new(dirty, control_number(dirty_at(vm, r, i * v->unit, v->unit)));
    }
    return json_pack("{s:o, s:o, s:o, s:o}", "unit", control_number(v->unit), "present", present,
                     "accessed", accessed, "dirty", dirty);
}

static json_t *or_null(const char *text)
{
    return text ? json_string(text) : json_null();
}

/* How the map was brought up to date, and how exact that is. */
static json_t *learn(struct vm *vm, const struct request *r)
{
    size_t count;
    const struct mem_slot *slot = memory_slots(vm_memory(vm), &count);
    unsigned shift = (unsigned)__builtin_ctzll(mem_backing_page(slot->backing));
    struct pagemap *pm = NULL;
    struct error err = { "" };
    json_t *text;
    int rc = pagemap_open(&pm, shift, &err);

    if (rc == 0)
        rc = pages_learn(vm_pages(vm), gpa(r->base), r->size);
    text = json_pack("{s:b, s:s, s:b}", "learned", rc == 0, "method",
                     pm ? pagemap_describe(pm) : err.text, "exact", rc == 0 && pagemap_exact(pm));
    pagemap_close(pm);
    return text;
}

static int look(struct vm *vm, const struct request *r, struct control_outcome *out)
{
    size_t count;
    const struct mem_slot *slot = memory_slots(vm_memory(vm), &count);
    struct view v = { .cells = r->cells };
    json_t *method = learn(vm, r), *parts, *cells;
    struct track_info info;
    uint64_t first, end, now;
    int rc = track_update(vm_track(vm), &out->err);

    for (size_t i = 0; i < count; i++)
        if (clip(&slot[i], r->base, r->size, &first, &end))
            v.bytes += end - first;
    v.unit = (v.bytes / v.cells + PAGE_SIZE_4K - 1) & ~(PAGE_SIZE_4K - 1);
    v.unit = v.unit * v.cells < v.bytes ? v.unit + PAGE_SIZE_4K : v.unit;
    v.cell = rc == 0 ? calloc(v.cells, sizeof(*v.cell)) : NULL;
    if (!v.cell) {
        json_decref(method);
        return rc < 0 ? rc : error_set(&out->err, -ENOMEM, "out of memory");
    }
    parts = parts_look(vm, r, &v);
    cells = cells_json(vm, r, &v);
    track_info(vm_track(vm), &info);
    now = now_ns();
    out->result =
        json_pack("{s:o, s:o, s:o, s:o, s:{s:I, s:I, s:I}, s:o, s:{s:b, s:o, s:I, s:I, s:I, s:I}, "
                  "s:{s:b, s:o, s:I}, s:f, s:o, s:o}",
                  "base", control_hex(r->base), "bytes", control_number(v.bytes), "look", method,
                  "states", states_json(&v.all), "present", "4K", (json_int_t)v.all.present_4k,
                  "2M", (json_int_t)v.all.present_2m, "1G", (json_int_t)v.all.present_1g, "ranges",
                  parts, "accessed", "on", !!(info.on & TRACK_ACCESSED), "method",
                  or_null(info.on & TRACK_ACCESSED ? info.accessed_method : NULL), "bytes",
                  (json_int_t)v.all.accessed, "watched_bytes", (json_int_t)v.all.watched,
                  "kept_bytes", (json_int_t)info.kept_bytes, "faults", (json_int_t)info.faults,
                  "dirty", "on", !!(info.on & TRACK_DIRTY), "method",
                  or_null(info.on & TRACK_DIRTY ? info.dirty_method : NULL), "bytes",
                  (json_int_t)track_dirty_bytes(vm_track(vm), gpa(r->base), r->size), "seconds",
                  info.since_ns ? (double)(now - info.since_ns) / 1e9 : 0.0, "nodes",
                  control_nodes_json(vm, NULL), "cells", cells);
    free(v.cell);
    return 0;
}

json_t *control_nodes_json(struct vm *vm, const uint64_t *resident)
{
    uint64_t bytes[NUMA_NODES_MAX] = { 0 }, nodes = numa_nodes();
    json_t *list;

    if (!nodes)
        return json_null();
    if (resident && !(nodes & (nodes - 1)))
        bytes[__builtin_ctzll(nodes)] = *resident;
    else if (numa_usage(vm_memory(vm), bytes) < 0)
        return json_null();
    list = json_array();
    for (unsigned n = 0; n < NUMA_NODES_MAX; n++)
        if (nodes >> n & 1 || bytes[n])
            (void)json_array_append_new(
                list, json_pack("{s:i, s:I}", "node", (int)n, "bytes", (json_int_t)bytes[n]));
    return list;
}

int control_track(struct vm *vm, const json_t *arguments, struct control_outcome *out)
{
    struct request r = { .what = 0 };
    struct track *t = vm_track(vm);
    int rc = decode(vm, arguments, &r, &out->err);

    if (rc == 0 && r.off)
        rc = track_stop(t, TRACK_ACCESSED | TRACK_DIRTY, &out->err);
    if (rc == 0 && r.what)
        rc = track_start(t, r.what, gpa(r.base), r.size, &out->err);
    /* First what was seen, then it is forgotten: who asks again and again misses nothing. */
    if (rc == 0)
        rc = look(vm, &r, out);
    if (rc == 0 && r.clear)
        rc = track_clear(t, r.what ? r.what : TRACK_ACCESSED | TRACK_DIRTY, gpa(r.base), r.size,
                         &out->err);
    if (rc < 0) {
        json_decref(out->result);
        out->result = NULL;
    }
    return rc;
}
