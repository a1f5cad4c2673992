#include "vmm/pages_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const policy_names[] = {
    [POPULATE_KERNEL] = "kernel",
    [POPULATE_LAZY] = "lazy",
    [POPULATE_EAGER] = "eager",
};
#define POLICIES (sizeof(policy_names) / sizeof(policy_names[0]))

const char *populate_name(enum populate p)
{
    return (size_t)p < POLICIES ? policy_names[p] : "unknown";
}

int populate_parse(const char *name, enum populate *out, struct error *err)
{
    for (size_t i = 0; i < POLICIES; i++) {
        if (!strcmp(policy_names[i], name)) {
            *out = (enum populate)i;
            return 0;
        }
    }
    return error_set(err, -EINVAL, "population '%s' is unknown: use kernel, lazy or eager", name);
}

/* --- the parts ------------------------------------------------------------------------ */

struct pages_part *pages_part_at(struct pages *p, gpa_t at)
{
    for (size_t i = 0; i < p->parts; i++) {
        if (at.v - p->part[i].base.v < p->part[i].size)
            return &p->part[i];
    }
    return NULL;
}

bool pages_part_copy(struct pages *p, hva_t hva, struct pages_part *out)
{
    bool found = false;

    (void)pthread_mutex_lock(&p->lock);
    for (size_t i = 0; i < p->parts && !found; i++) {
        found = p->part[i].registered && hva.v - (uintptr_t)p->part[i].host < p->part[i].size;
        if (found)
            *out = p->part[i];
    }
    (void)pthread_mutex_unlock(&p->lock);
    return found;
}

static struct pages_part part_of_slot(const struct mem_slot *slot)
{
    return (struct pages_part){
        .base = slot->base,
        .size = slot->size,
        .host = slot->host,
        .backing = slot->backing,
        .fd = slot->fd,
        .fd_offset = slot->fd_offset,
    };
}

/* Cuts part `i` at `at`, inside of it. -ENOSPC: too many parts. */
static int part_cut(struct pages *p, size_t i, gpa_t at)
{
    struct pages_part *part = &p->part[i];
    uint64_t first = at.v - part->base.v;

    if (p->parts == PAGES_PARTS_MAX)
        return -ENOSPC;
    memmove(part + 1, part, (p->parts - i) * sizeof(*part));
    p->parts++;
    part[0].size = first;
    part[1].base = at;
    part[1].size -= first;
    part[1].host += first;
    part[1].fd_offset += first;
    return 0;
}

/* Sees to it that parts begin at `at` and end at `at` + `len`. */
static int parts_isolate(struct pages *p, gpa_t at, uint64_t len)
{
    const uint64_t edges[] = { at.v, at.v + len };

    for (size_t e = 0; e < 2; e++) {
        struct pages_part *part = pages_part_at(p, gpa(edges[e]));

        if (part && part->base.v != edges[e]) {
            int rc = part_cut(p, (size_t)(part - p->part), gpa(edges[e]));

            if (rc < 0)
                return rc;
        }
    }
    return 0;
}

static bool all_ram(const struct pages *p, gpa_t at, uint64_t len)
{
    return memory_run(p->mem, at, len) == len;
}

static int bad_range(struct pages *p, const struct populate_range *r, const char *why,
                     struct error *err)
{
    char ram[128] = "";
    size_t count, used = 0;
    const struct mem_slot *slot = memory_slots(p->mem, &count);

    for (size_t i = 0; i < count; i++)
        used += (size_t)snprintf(ram + used, sizeof(ram) - used, "%s0x%" PRIx64 "-0x%" PRIx64,
                                 i ? " and " : "", slot[i].base.v, slot[i].base.v + slot[i].size);
    return error_set(err, -EINVAL,
                     "--populate %s:0x%" PRIx64 "-0x%" PRIx64 " %s; RAM is %s, in pages of %" PRIu64
                     " KiB",
                     populate_name(r->policy), r->base.v, r->base.v + r->size, why, ram,
                     mem_backing_page(slot[0].backing) >> 10);
}

static int range_apply(struct pages *p, size_t i, struct error *err)
{
    struct populate_range *r = &p->cfg.range[i];
    uint64_t page = mem_backing_page(p->part[0].backing);
    size_t count;
    const struct mem_slot *slot = memory_slots(p->mem, &count);

    if (r->size == 0 && r->base.v < slot[count - 1].base.v + slot[count - 1].size)
        r->size = slot[count - 1].base.v + slot[count - 1].size - r->base.v;
    if (r->base.v % page || r->size % page)
        return bad_range(p, r, "does not begin and end with a page", err);
    if (r->size == 0 || !all_ram(p, r->base, r->size))
        return bad_range(p, r, "is not RAM as a whole", err);
    for (size_t other = 0; other < i; other++) {
        const struct populate_range *o = &p->cfg.range[other];

        if (r->base.v < o->base.v + o->size && o->base.v < r->base.v + r->size)
            return bad_range(p, r, "overlaps another one", err);
    }
    if (parts_isolate(p, r->base, r->size) < 0)
        return error_set(err, -EINVAL, "--populate: too many ranges");
    for (size_t n = 0; n < p->parts; n++)
        if (p->part[n].base.v - r->base.v < r->size)
            p->part[n].policy = r->policy;
    return 0;
}

static int parts_build(struct pages *p, struct error *err)
{
    size_t count;
    const struct mem_slot *slot = memory_slots(p->mem, &count);
    int rc = 0;

    for (size_t i = 0; i < count; i++) {
        p->part[i] = part_of_slot(&slot[i]);
        p->part[i].policy = p->cfg.populate;
    }
    p->parts = count;
    for (size_t i = 0; rc == 0 && i < p->cfg.ranges; i++)
        rc = range_apply(p, i, err);
    for (size_t i = 0; rc == 0 && p->cfg.lock && i < p->parts; i++)
        if (p->part[i].policy == POPULATE_LAZY)
            rc = error_set(err, -EINVAL,
                           "--lock takes all of RAM at the start, and --populate lazy only what is "
                           "touched: leave out one of them");
    return rc;
}

static int map_build(struct pages *p, struct error *err)
{
    size_t count;
    const struct mem_slot *slot = memory_slots(p->mem, &count);
    int rc = gpmap_create(&p->map);

    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = gpmap_add(p->map, slot[i].base, slot[i].size, hva_of(slot[i].host),
                       (unsigned)slot[i].backing);
    return rc < 0 ? error_set(err, rc, "the guest-physical map: %s", strerror(-rc)) : 0;
}

/* --- managed parts ------------------------------------------------------------------- */

uint64_t pages_uffd_modes(const struct pages *p, enum mem_backing backing)
{
    uint64_t modes = UFFDIO_REGISTER_MODE_MISSING, f = p->uffd.features;

    switch (backing) {
    case MEM_ANON:
    case MEM_THP:
        if (f & UFFD_FEATURE_PAGEFAULT_FLAG_WP)
            modes |= UFFDIO_REGISTER_MODE_WP;
        break;
    case MEM_MEMFD:
        if (f & UFFD_FEATURE_MINOR_SHMEM)
            modes |= UFFDIO_REGISTER_MODE_MINOR;
        if (f & UFFD_FEATURE_WP_HUGETLBFS_SHMEM)
            modes |= UFFDIO_REGISTER_MODE_WP;
        break;
    case MEM_HUGETLB_2M:
    case MEM_HUGETLB_1G:
        if (f & UFFD_FEATURE_MINOR_HUGETLBFS)
            modes |= UFFDIO_REGISTER_MODE_MINOR;
        if (f & UFFD_FEATURE_WP_HUGETLBFS_SHMEM)
            modes |= UFFDIO_REGISTER_MODE_WP;
        break;
    }
    return modes;
}

static int register_part(struct pages *p, struct pages_part *part, struct error *err)
{
    bool hugetlb = mem_backing_page(part->backing) != PAGE_SIZE_4K;
    int rc = pages_fault_start(p, err);

    if (rc < 0)
        return rc;
    if (hugetlb && !(p->uffd.features & UFFD_FEATURE_MINOR_HUGETLBFS))
        return error_set(err, -ENOTSUP,
                         "userfaultfd of this kernel does not serve backing %s (Linux 5.13 does)",
                         mem_backing_name(part->backing));
    rc = uffd_register(&p->uffd, part->host, part->size, pages_uffd_modes(p, part->backing));
    if (rc < 0)
        return error_set(err, rc, "userfaultfd does not take guest memory of backing %s: %s",
                         mem_backing_name(part->backing), strerror(-rc));
    part->registered = true;
    return 0;
}

bool pages_managed(struct pages *p, gpa_t at, uint64_t len)
{
    bool managed;

    (void)pthread_mutex_lock(&p->lock);
    managed = len > 0 && all_ram(p, at, len);
    for (size_t i = 0; i < p->parts && managed; i++) {
        const struct pages_part *part = &p->part[i];

        if (part->base.v < at.v + len && at.v < part->base.v + part->size)
            managed = part->managed;
    }
    (void)pthread_mutex_unlock(&p->lock);
    return managed;
}

/* Widens the range to the edges of the parts it meets. */
static void parts_cover(struct pages *p, gpa_t *at, uint64_t *len)
{
    uint64_t first = at->v, end = at->v + *len;

    for (size_t i = 0; i < p->parts; i++) {
        const struct pages_part *part = &p->part[i];
        uint64_t part_end = part->base.v + part->size;

        if (part->base.v >= at->v + *len || part_end <= at->v)
            continue;
        first = part->base.v < first ? part->base.v : first;
        end = part_end > end ? part_end : end;
    }
    *at = gpa(first);
    *len = end - first;
}

/* Registers what is left of the range, which is parts as a whole. */
static int register_range(struct pages *p, gpa_t at, uint64_t len, struct error *err)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < p->parts; i++)
        if (p->part[i].base.v - at.v < len && !p->part[i].registered)
            rc = register_part(p, &p->part[i], err);
    return rc;
}

/* Parts that became alike are one again: commands that ask for one range after the other would
 * use up their number. */
static void parts_join(struct pages *p)
{
    size_t n = 0;

    for (size_t i = 1; i < p->parts; i++) {
        struct pages_part *last = &p->part[n];
        const struct pages_part *next = &p->part[i];

        if (last->managed && next->managed && last->policy == next->policy &&
            last->base.v + last->size == next->base.v && last->host + last->size == next->host)
            last->size += next->size;
        else
            p->part[++n] = *next;
    }
    p->parts = n + 1;
}

int pages_manage(struct pages *p, gpa_t at, uint64_t len, struct error *err)
{
    uint64_t page = mem_backing_page(p->part[0].backing);
    int rc = 0;

    (void)pthread_mutex_lock(&p->lock);
    if (len == 0 || at.v % page || len % page || !all_ram(p, at, len))
        rc = error_set(err, -EINVAL, "0x%" PRIx64 "+0x%" PRIx64 " are no pages of RAM", at.v, len);
    if (rc == 0) {
        /* With no room for more parts, more than that is managed: slower, but no other. */
        (void)parts_isolate(p, at, len);
        parts_cover(p, &at, &len);
        rc = register_range(p, at, len, err);
    }
    (void)pthread_mutex_unlock(&p->lock);
    if (rc < 0)
        return rc;
    /* From here on no page comes without a message; now learn of those that came before. */
    rc = pages_learn(p, at, len);
    if (rc < 0)
        return error_set(err, rc, "the state of guest memory can't be learned: %s", strerror(-rc));
    (void)pthread_mutex_lock(&p->lock);
    for (size_t i = 0; i < p->parts; i++)
        if (p->part[i].base.v - at.v < len)
            p->part[i].managed = true;
    parts_join(p);
    (void)pthread_mutex_unlock(&p->lock);
    return 0;
}

/* --- life ---------------------------------------------------------------------------------- */

int pages_create(struct pages **out, struct memory *mem, const struct pages_config *cfg,
                 void (*on_fail)(void *ctx, const char *why), void *ctx, struct error *err)
{
    struct pages *p = calloc(1, sizeof(*p));
    int rc;

    *out = NULL;
    if (!p)
        return error_set(err, -ENOMEM, "no memory for the guest-physical map");
    (void)pthread_mutex_init(&p->lock, NULL);
    p->mem = mem;
    p->cfg = *cfg;
    p->cfg.fault_around = cfg->fault_around ? cfg->fault_around : FAULT_AROUND_DEFAULT;
    p->uffd.fd = -1;
    p->on_fail = on_fail;
    p->ctx = ctx;
    rc = parts_build(p, err);
    if (rc == 0)
        rc = map_build(p, err);
    for (size_t i = 0; rc == 0 && i < p->parts; i++) {
        if (p->part[i].policy != POPULATE_LAZY)
            continue;
        rc = register_part(p, &p->part[i], err);
        p->part[i].managed = rc == 0; /* nobody has touched it yet */
    }
    if (rc == 0)
        rc = pages_populate(p, err);
    if (rc < 0) {
        pages_destroy(p);
        return rc;
    }
    *out = p;
    return 0;
}

void pages_destroy(struct pages *p)
{
    if (!p)
        return;
    pages_fault_stop(p);
    gpmap_destroy(p->map);
    (void)pthread_mutex_destroy(&p->lock);
    free(p);
}

struct gpmap *pages_map(struct pages *p)
{
    return p->map;
}

struct memory *pages_memory(struct pages *p)
{
    return p->mem;
}

void pages_stat(struct pages *p, struct pages_stat *out)
{
    const struct pages_counters *c = &p->count;

    *out = (struct pages_stat){
        .faults_missing = c->missing,
        .faults_minor = c->minor,
        .faults_wp = c->wp,
        .faults_spurious = c->spurious,
        .around_bytes = c->around_bytes,
        .huge_installed = c->huge,
        .fault_ns = c->ns,
        .locked_bytes = c->locked_bytes,
        .populate_ns = c->populate_ns,
        .populate_bytes = c->populate_bytes,
    };
    gpmap_stats(p->map, &out->map);
}

bool pages_range(struct pages *p, size_t n, struct pages_range *out)
{
    bool there;

    (void)pthread_mutex_lock(&p->lock);
    there = n < p->parts;
    if (there)
        *out = (struct pages_range){
            .base = p->part[n].base,
            .size = p->part[n].size,
            .policy = p->part[n].policy,
            .managed = p->part[n].managed,
        };
    (void)pthread_mutex_unlock(&p->lock);
    return there;
}
