/*
 * Accessed pages, without bits of hardware that a process could read: a watched page is out of the
 * page tables, and the next access of anybody, guest or monitor, is a message to the fault thread.
 *
 *   shared memory     unmapped by MADV_DONTNEED; the page stays in the file, and the fault
 *                     (minor) maps it again
 *   anonymous memory  moved to the shadow area by UFFDIO_MOVE, and back by the fault
 *
 * Both ways KVM drops what it has of the page, so that its hardware faults, too. Who watches and
 * who brings back do so under the map's lock: GP_WATCHED says where a page is.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm/track_impl.h"

/* At most this much is taken away under one hold of the map's lock: faults wait for that. */
#define STEP PAGE_SIZE_2M

static uint8_t *host_of(const struct track *t, gpa_t at)
{
    size_t count;
    const struct mem_slot *slot = memory_slots(t->mem, &count);

    while (at.v - slot->base.v >= slot->size)
        slot++; /* the map has no page that is in no slot */
    return slot->host + (at.v - slot->base.v);
}

static uint8_t *shadow_of(const struct track *t, const uint8_t *host)
{
    return t->shadow + (host - t->host);
}

/* --- taking pages out ------------------------------------------------------------- */

/* Moves what can be moved. Pages that can't (pinned by somebody, shared with a child) stay. */
static uint64_t move_all(struct track *t, uint8_t *to, uint8_t *from, uint64_t len)
{
    uint64_t stayed = 0;

    for (uint64_t gone = 0; gone < len;) {
        uint64_t done = 0;
        int rc = uffd_move(&t->pages->uffd, to + gone, from + gone, len - gone, &done);

        gone += done;
        if (rc < 0) {
            gone += PAGE_SIZE_4K;
            stayed += PAGE_SIZE_4K;
        }
    }
    return stayed;
}

static int effect_take(void *ctx, gpa_t at, uint64_t len, const struct gp_page *from,
                       struct gp_page *to)
{
    struct track *t = ctx;
    uint8_t *host = host_of(t, at);

    (void)from;
    (void)to;
    if (t->method == WATCH_MINOR)
        return madvise(host, len, MADV_DONTNEED) < 0 ? -errno : 0;
    /* What stays is marked all the same: nobody faults there, and bringing back finds nothing. */
    t->kept_bytes += move_all(t, shadow_of(t, host), host, len);
    return 0;
}

/* --- bringing back ------------------------------------------------------------------ */

struct back {
    struct track *t;
    bool done, lost;
};

/* The fault thread, or watch_stop(). The page may be back already: then who waits is woken. */
static int effect_back(void *ctx, gpa_t at, uint64_t len, const struct gp_page *from,
                       struct gp_page *to)
{
    struct back *back = ctx;
    struct track *t = back->t;
    const struct uffd *u = &t->pages->uffd;
    uint8_t *host = host_of(t, at);
    uint64_t done;
    uint64_t page = mem_backing_page((enum mem_backing)from->backing);
    int rc = 0;

    (void)to;
    for (uint64_t gone = 0; gone < len && rc == 0;) {
        done = 0;
        rc = t->method == WATCH_MINOR
                 ? uffd_continue(u, host + gone, len - gone, &done)
                 : uffd_move(u, host + gone, shadow_of(t, host) + gone, len - gone, &done);
        gone += done;
        if (rc == -EEXIST || (rc == -ENOENT && t->method == WATCH_MOVE)) {
            /* There already, or never taken. */
            (void)uffd_wake(u, host + gone, page);
            gone += page;
            rc = 0;
        } else if (rc == -EFAULT && t->method == WATCH_MINOR) {
            /* The file has it no longer: it was discarded while it was out. */
            back->lost = true;
            gone += page;
            rc = 0;
        }
    }
    back->done = rc == 0 && !back->lost;
    return rc;
}

static int back_range(struct track *t, gpa_t at, uint64_t len, unsigned set, bool *done)
{
    struct back back = { .t = t };
    const struct gp_change change = {
        .from = GP_ANY & ~GP_MASK(GP_GUARDED), /* that one comes once it is unguarded */
        .need_flags = GP_WATCHED,
        .keep_state = true,
        .set_flags = set,
        .clear_flags = GP_WATCHED,
        .effect = effect_back,
        .ctx = &back,
    };
    int rc = gpmap_change(pages_map(t->pages), at, len, &change, NULL);

    *done = back.done;
    return rc;
}

/* An access to a watched page; the fault thread. See struct pages_watch. */
static int watch_fault(void *ctx, gpa_t at)
{
    struct track *t = ctx;
    struct gp_page page;
    uint64_t size;
    bool done = false;
    int rc = gpmap_get(pages_map(t->pages), at, &page);

    if (rc < 0 || !(page.flags & GP_WATCHED))
        return rc < 0 ? rc : 0;
    size = UINT64_C(1) << page.shift;
    /* Before it wakes who waits: they may look. */
    atomic_fetch_add_explicit(&t->faults, 1, memory_order_relaxed);
    rc = back_range(t, gpa(at.v & ~(size - 1)), size, GP_ACCESSED, &done);
    return rc < 0 ? rc : done;
}

/* A page that came by a fault: it was touched. The fault thread. */
static void watch_new(void *ctx, gpa_t at)
{
    struct track *t = ctx;
    const struct gp_change change = {
        .from = GP_MASK(GP_PRESENT),
        .avoid_flags = GP_ACCESSED,
        .keep_state = true,
        .set_flags = GP_ACCESSED,
    };
    uint64_t len = __atomic_load_n(&t->watch_len, __ATOMIC_ACQUIRE);
    struct gp_page page;

    if (at.v - __atomic_load_n(&t->watch_at.v, __ATOMIC_RELAXED) >= len ||
        gpmap_get(pages_map(t->pages), at, &page) < 0)
        return;
    at.v &= ~((UINT64_C(1) << page.shift) - 1);
    (void)gpmap_change(pages_map(t->pages), at, UINT64_C(1) << page.shift, &change, NULL);
}

/* --- start, clear, stop ----------------------------------------------------------------- */

/* What the kernel's userfaultfd can do, also while there is none: what can't be done is refused
 * before a range is managed for it, which it would stay. */
static int features_find(const struct track *t, uint64_t *features, struct error *err)
{
    const uint64_t wanted =
        UFFD_FEATURE_MOVE | UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_MINOR_HUGETLBFS;
    struct uffd probe = { .fd = -1 };
    int rc;

    if (t->pages->uffd.fd >= 0) {
        *features = t->pages->uffd.features;
        return 0;
    }
    rc = uffd_open(&probe, wanted, err);
    if (rc < 0)
        return rc;
    *features = probe.features;
    uffd_close(&probe);
    return 0;
}

static int method_find(struct track *t, enum mem_backing backing, struct error *err)
{
    uint64_t f;
    int rc = features_find(t, &f, err);
    bool hugetlb = mem_backing_page(backing) != PAGE_SIZE_4K;

    if (rc < 0)
        return rc;
    if (backing == MEM_MEMFD || hugetlb) {
        if (!(f & (hugetlb ? UFFD_FEATURE_MINOR_HUGETLBFS : UFFD_FEATURE_MINOR_SHMEM)))
            return error_set(err, -ENOTSUP,
                             "accessed pages of backing %s can't be told on this kernel: its "
                             "userfaultfd has no minor faults (Linux 5.14 has)",
                             mem_backing_name(backing));
        t->method = WATCH_MINOR;
        return 0;
    }
    if (!(f & UFFD_FEATURE_MOVE))
        return error_set(err, -ENOTSUP,
                         "accessed pages of backing %s can't be told on this kernel (Linux 6.8 "
                         "has UFFDIO_MOVE for that): use --backing memfd",
                         mem_backing_name(backing));
    t->method = WATCH_MOVE;
    return 0;
}

/* As far from RAM as a multiple of 2 MiB, so that huge pages move whole. */
static int shadow_create(struct track *t, struct error *err)
{
    size_t size = t->bytes + 2 * PAGE_SIZE_2M;
    uint8_t *at;
    int rc;

    if (t->method != WATCH_MOVE || t->shadow)
        return 0;
    at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
              0);
    if (at == MAP_FAILED)
        return error_set(err, -ENOMEM, "no addresses for the pages that are watched");
    t->shadow_map = at;
    t->shadow_map_bytes = size;
    t->shadow = at + ((uintptr_t)(t->host - at) & (PAGE_SIZE_2M - 1));
    /* Pages are moved to where userfaultfd is told of what is missing, and nowhere else. */
    rc = uffd_register(&t->pages->uffd, t->shadow, t->bytes, UFFDIO_REGISTER_MODE_MISSING);
    if (rc == 0)
        rc = pages_guard_shadow(t->pages, t->shadow, t->host);
    if (rc == 0)
        return 0;
    (void)munmap(at, size);
    t->shadow = t->shadow_map = NULL;
    return error_set(err, rc, "there is no place for the pages that are watched: %s",
                     strerror(-rc));
}

static int take(struct track *t, gpa_t at, uint64_t len, struct error *err)
{
    const struct gp_change watch = {
        .from = GP_MASK(GP_PRESENT),
        .avoid_flags = GP_WATCHED | GP_LOCKED,
        .keep_state = true,
        .set_flags = GP_WATCHED,
        .clear_flags = GP_ACCESSED,
        .effect = effect_take,
        .ctx = t,
    };
    const struct gp_change forget = {
        .from = GP_ANY,
        .need_flags = GP_ACCESSED,
        .keep_state = true,
        .clear_flags = GP_ACCESSED,
    };
    struct gpmap *map = pages_map(t->pages);
    uint64_t end = at.v + len;
    int rc = 0;

    while (at.v < end && rc == 0) {
        struct gp_page page;
        uint64_t step = STEP, next;

        rc = gpmap_get(map, at, &page);
        if (rc < 0)
            break;
        if (page.shift > PAGE_SHIFT_2M)
            step = UINT64_C(1) << page.shift;
        next = (at.v | (step - 1)) + 1;
        next = next < end ? next : end;
        /* In this order: what is touched once it is watched has to stay noted. */
        rc = gpmap_change(map, at, next - at.v, &forget, NULL);
        if (rc == 0)
            rc = gpmap_change(map, at, next - at.v, &watch, NULL);
        at = gpa(next);
    }
    return rc < 0 ? error_set(err, rc, "pages can't be taken out to be watched: %s", strerror(-rc))
                  : 0;
}

static int manage(struct track *t, gpa_t at, uint64_t len, struct error *err)
{
    if (memory_pinned(t->mem, at, len))
        return error_set(err, -EBUSY,
                         "accessed pages can't be told: a device reaches them by their frames, "
                         "which have to stay");
    return pages_manage(t->pages, at, len, err);
}

/* Does it to each slot's part of the range. */
static int each_slot(struct track *t, gpa_t at, uint64_t len,
                     int (*doing)(struct track *t, gpa_t at, uint64_t len, struct error *err),
                     struct error *err)
{
    size_t count;
    const struct mem_slot *slot = memory_slots(t->mem, &count);
    int rc = 0;

    for (size_t i = 0; i < count && rc == 0; i++) {
        uint64_t first = at.v > slot[i].base.v ? at.v : slot[i].base.v;
        uint64_t end = slot[i].base.v + slot[i].size;

        end = at.v + len < end ? at.v + len : end;
        if (first < end)
            rc = doing(t, gpa(first), end - first, err);
    }
    return rc;
}

int watch_start(struct track *t, gpa_t at, uint64_t len, struct error *err)
{
    size_t count;
    const struct mem_slot *slot = memory_slots(t->mem, &count);
    int rc;

    if (t->pages->cfg.lock)
        return error_set(err, -EBUSY,
                         "accessed pages can't be told of memory that is locked (--lock)");
    rc = method_find(t, slot[0].backing, err);
    if (rc == 0)
        rc = each_slot(t, at, len, manage, err);
    if (rc == 0)
        rc = shadow_create(t, err);
    if (rc < 0)
        return rc;
    __atomic_store_n(&t->watch_at.v, at.v, __ATOMIC_RELAXED);
    __atomic_store_n(&t->watch_len, len, __ATOMIC_RELEASE);
    if (!t->pages->watch.fault) {
        t->pages->watch.ctx = t;
        t->pages->watch.fault = watch_fault;
    }
    /* Pairs with the acquire of the fault thread. */
    __atomic_store_n(&t->pages->watch.fresh, watch_new, __ATOMIC_RELEASE);
    return watch_clear(t, at, len, err);
}

int watch_clear(struct track *t, gpa_t at, uint64_t len, struct error *err)
{
    uint64_t first = at.v > t->watch_at.v ? at.v : t->watch_at.v;
    uint64_t end = t->watch_at.v + t->watch_len;

    end = at.v + len < end ? at.v + len : end;
    if (first >= end)
        return 0;
    t->kept_bytes = 0;
    /* What was a zero page may have become one of its own. */
    (void)pages_learn(t->pages, gpa(first), end - first);
    return each_slot(t, gpa(first), end - first, take, err);
}

/* The hook stays: a page that was guarded meanwhile comes back by its fault. */
int watch_stop(struct track *t, struct error *err)
{
    size_t count;
    const struct mem_slot *slot = memory_slots(t->mem, &count);
    int rc = 0;

    __atomic_store_n(&t->pages->watch.fresh, NULL, __ATOMIC_RELEASE);
    for (size_t i = 0; i < count && rc == 0; i++) {
        const struct gp_change forget = {
            .from = GP_ANY,
            .need_flags = GP_ACCESSED,
            .keep_state = true,
            .clear_flags = GP_ACCESSED,
        };
        uint64_t step;

        for (uint64_t at = 0; at < slot[i].size && rc == 0; at += step) {
            bool done;

            step = mem_backing_page(slot[i].backing) > STEP ? PAGE_SIZE_1G : STEP;
            step = slot[i].size - at < step ? slot[i].size - at : step;
            rc = back_range(t, gpa(slot[i].base.v + at), step, 0, &done);
        }
        if (rc == 0)
            rc = gpmap_change(pages_map(t->pages), slot[i].base, slot[i].size, &forget, NULL);
    }
    __atomic_store_n(&t->watch_len, 0, __ATOMIC_RELEASE);
    return rc < 0 ? error_set(err, rc, "a page that was watched can't be brought back: %s",
                              strerror(-rc))
                  : 0;
}

const char *watch_describe(const struct track *t)
{
    switch (t->method) {
    case WATCH_MINOR:
        return "simulated by minor faults (shared memory)";
    case WATCH_MOVE:
        return "simulated by moving pages (UFFDIO_MOVE, anonymous memory)";
    case WATCH_NONE:
        break;
    }
    return NULL;
}

void watch_destroy(struct track *t)
{
    if (t->shadow_map)
        (void)munmap(t->shadow_map, t->shadow_map_bytes);
}
