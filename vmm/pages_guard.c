/*
 * Guarded ranges: left out of core dumps, or refused to everybody. Content is kept.
 */
#include "vmm/pages_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

/* --- the host's side, piece by piece: a piece lies in one part, so its hva are in a row ------ */

struct piece {
    uint8_t *host;
    gpa_t at;
    uint64_t len;
};

/* The first piece of [at, at + len); under p->lock. */
static struct piece piece_at(struct pages *p, gpa_t at, uint64_t len)
{
    const struct pages_part *part = pages_part_at(p, at);
    uint64_t offset, left;

    if (!part)
        return (struct piece){ NULL, at, 0 };
    offset = at.v - part->base.v;
    left = part->size - offset;
    return (struct piece){ part->host + offset, at, left < len ? left : len };
}

static int host_protect(struct pages *p, gpa_t at, uint64_t len, int prot)
{
    while (len > 0) {
        struct piece piece = piece_at(p, at, len);

        if (piece.len == 0)
            return -EINVAL;
        if (mprotect(piece.host, piece.len, prot) < 0)
            return -errno;
        at.v += piece.len;
        len -= piece.len;
    }
    return 0;
}

static int advise(uint8_t *host, uint64_t len, bool dump)
{
    if (madvise(host, len, dump ? MADV_DODUMP : MADV_DONTDUMP) < 0)
        return errno == EAGAIN ? -ENOMEM : -errno; /* its name for too many mappings */
    return 0;
}

/* RAM, and where its watched pages are. */
static int host_dump(struct pages *p, gpa_t at, uint64_t len, bool dump)
{
    const struct pages_watch *w = &p->watch;

    while (len > 0) {
        struct piece piece = piece_at(p, at, len);
        int rc = piece.len ? advise(piece.host, piece.len, dump) : -EINVAL;

        if (rc == 0 && w->shadow)
            rc = advise(w->shadow + (piece.host - w->host), piece.len, dump);
        if (rc < 0)
            return rc;
        at.v += piece.len;
        len -= piece.len;
    }
    return 0;
}

/* --- the map's side --------------------------------------------------------------------------- */

static int map_guard(struct pages *p, gpa_t at, uint64_t len)
{
    const struct gp_change change = {
        .from = GP_ANY & ~GP_MASK(GP_GUARDED),
        .to = { .state = GP_GUARDED, .shift = PAGE_SHIFT_4K },
    };

    return gpmap_change(p->map, at, len, &change, NULL);
}

static int map_unguard(struct pages *p, gpa_t at, uint64_t len)
{
    const struct gp_change change = { .from = GP_MASK(GP_GUARDED), .restore = true };

    return gpmap_change(p->map, at, len, &change, NULL);
}

static int map_nodump(struct pages *p, gpa_t at, uint64_t len, bool nodump)
{
    const struct gp_change change = {
        .from = GP_ANY,
        .keep_state = true,
        .set_flags = nodump ? GP_NODUMP : 0,
        .clear_flags = nodump ? 0 : GP_NODUMP,
    };

    return gpmap_change(p->map, at, len, &change, NULL);
}

/* --- both ------------------------------------------------------------------------------------- */

static int host_set(struct pages *p, gpa_t at, uint64_t len, bool closed, bool dump)
{
    int rc = memory_guard(p->mem, at, len, closed);

    if (rc == 0)
        rc = host_dump(p, at, len, dump);
    return rc == 0 ? host_protect(p, at, len, closed ? PROT_NONE : PROT_READ | PROT_WRITE) : rc;
}

/* What the map says of a run is how the host had it. */
static int host_set_back(void *ctx, gpa_t at, uint64_t len, const struct gp_page *page)
{
    return host_set(ctx, at, len, page->state == GP_GUARDED, !(page->flags & GP_NODUMP));
}

/* The host first: it may lack room, and the map then tells what to go back to. */
static int guard_set(struct pages *p, gpa_t at, uint64_t len, bool closed, bool nodump)
{
    int rc = host_set(p, at, len, closed, !nodump);

    if (rc < 0) {
        if (gpmap_runs(p->map, at, len, host_set_back, p) < 0)
            p->on_fail(p->ctx, "a guard that failed can't be taken back");
        return rc;
    }
    rc = closed ? map_guard(p, at, len) : map_unguard(p, at, len);
    return rc == 0 ? map_nodump(p, at, len, nodump) : rc;
}

static int check(struct pages *p, gpa_t at, uint64_t len, struct error *err)
{
    uint64_t page = mem_backing_page(p->part[0].backing), run = memory_run(p->mem, at, len);

    if (len == 0 || at.v % page || len % page)
        return error_set(err, -EINVAL,
                         "0x%" PRIx64 "+0x%" PRIx64 " does not begin and end with a page of "
                         "%" PRIu64 " KiB",
                         at.v, len, page >> 10);
    if (run < len)
        return error_set(err, -EINVAL, "0x%" PRIx64 "+0x%" PRIx64 ": gpa 0x%" PRIx64 " is no RAM",
                         at.v, len, at.v + run);
    if (memory_pinned(p->mem, at, len))
        return error_set(
            err, -EBUSY,
            "0x%" PRIx64 "+0x%" PRIx64 " is pinned: a device reaches it past any guard", at.v, len);
    return 0;
}

static int guard_failed(int rc, gpa_t at, uint64_t len, struct error *err)
{
    if (rc == -ENOSPC || rc == -ENOMEM)
        return error_set(err, rc,
                         "0x%" PRIx64 "+0x%" PRIx64 ": too many separate ranges are guarded "
                         "already (see vm.max_map_count): take ones that touch",
                         at.v, len);
    return error_set(err, rc, "0x%" PRIx64 "+0x%" PRIx64 " can't be guarded: %s", at.v, len,
                     strerror(-rc));
}

/* Under p->lock and the map's. */
static int shadow_as_told(void *ctx, gpa_t at, uint64_t len, const struct gp_page *page)
{
    return page->flags & GP_NODUMP ? host_dump(ctx, at, len, false) : 0;
}

int pages_guard_shadow(struct pages *p, uint8_t *shadow, uint8_t *host)
{
    size_t count;
    const struct mem_slot *slot = memory_slots(p->mem, &count);
    int rc = 0;

    (void)pthread_mutex_lock(&p->lock);
    p->watch.shadow = shadow;
    p->watch.host = host;
    for (size_t i = 0; i < count && rc == 0 && shadow; i++)
        rc = gpmap_runs(p->map, slot[i].base, slot[i].size, shadow_as_told, p);
    if (rc < 0)
        p->watch.shadow = NULL;
    (void)pthread_mutex_unlock(&p->lock);
    return rc;
}

int pages_guard(struct pages *p, gpa_t at, uint64_t len, enum page_guard guard, struct error *err)
{
    int rc;

    (void)pthread_mutex_lock(&p->lock);
    rc = check(p, at, len, err);
    if (rc == 0) {
        rc = guard_set(p, at, len, guard == PAGE_GUARD_ACCESS, guard != PAGE_GUARD_OFF);
        if (rc < 0)
            rc = guard_failed(rc, at, len, err);
    }
    (void)pthread_mutex_unlock(&p->lock);
    return rc;
}

static const char *const guard_names[] = {
    [PAGE_GUARD_OFF] = "off",
    [PAGE_GUARD_NODUMP] = "nodump",
    [PAGE_GUARD_ACCESS] = "access",
};

int page_guard_parse(const char *name, enum page_guard *out, struct error *err)
{
    for (size_t i = 0; i < sizeof(guard_names) / sizeof(guard_names[0]); i++) {
        if (!strcmp(guard_names[i], name)) {
            *out = (enum page_guard)i;
            return 0;
        }
    }
    return error_set(err, -EINVAL, "guard '%s' is unknown: use off, nodump or access", name);
}
