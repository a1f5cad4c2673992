/*
 * How a page gets to where somebody waits for it, by backing and kind of fault. All runs on the
 * fault thread, which must never touch guest memory: the kernel copies and maps.
 */
#include "vmm/pages_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

/* One fault, while it is served. */
struct fault {
    struct pages *p;
    struct pages_part part; /* a copy: nobody waits for p->lock while the kernel works */
    gpa_t at;               /* page that was touched, of the backing's size */
    uint64_t page;
    bool served; /* a run that was installed holds it */
    bool huge;   /* ... as a huge page of transparent kind */
};

static void *host_of(const struct fault *f, gpa_t at)
{
    return f->part.host + (at.v - f->part.base.v);
}

static void note_run(struct fault *f, gpa_t at, uint64_t len)
{
    if (f->at.v - at.v < len)
        f->served = true;
}

/*
 * Calls `install` until all of [at, at + len) is there. A page that is there already (EEXIST; the
 * kernel doesn't wake for it) is woken and passed over.
 */
static int install_run(struct fault *f, gpa_t at, uint64_t len,
                       int (*install)(struct fault *f, uint8_t *host, uint64_t len, uint64_t *done))
{
    uint8_t *host = host_of(f, at);
    int rc;

    for (uint64_t gone = 0; gone < len;) {
        uint64_t done = 0;

        rc = install(f, host + gone, len - gone, &done);
        gone += done;
        if (rc == -EEXIST) {
            rc = uffd_wake(&f->p->uffd, host + gone, f->page);
            gone += f->page;
        }
        if (rc < 0)
            return rc;
    }
    note_run(f, at, len);
    return 0;
}

static int copy_zeros(struct fault *f, uint8_t *host, uint64_t len, uint64_t *done)
{
    return uffd_copy(&f->p->uffd, host, f->p->zeros, len, done);
}

static int map_zeros(struct fault *f, uint8_t *host, uint64_t len, uint64_t *done)
{
    return uffd_zeropage(&f->p->uffd, host, len, done);
}

static int map_cached(struct fault *f, uint8_t *host, uint64_t len, uint64_t *done)
{
    return uffd_continue(&f->p->uffd, host, len, done);
}

/*
 * A page of hugetlbfs: allocated and cleared in the file, then mapped; nothing is copied. It exists
 * already when it was written through the file.
 */
static int map_hugetlb(struct fault *f, uint8_t *host, uint64_t len, uint64_t *done)
{
    const struct pages_part *part = &f->part;
    off_t offset = (off_t)(part->fd_offset + (uint64_t)(host - part->host));

    if (fallocate(part->fd, FALLOC_FL_KEEP_SIZE, offset, (off_t)len) < 0)
        return -errno;
    return uffd_continue(&f->p->uffd, host, len, done);
}

/* --- effects of gpmap_change(), under the map's lock ------------------------------ */

static int effect_copy(void *ctx, gpa_t at, uint64_t len, const struct gp_page *from,
                       struct gp_page *to)
{
    (void)from;
    (void)to;
    return install_run(ctx, at, len, copy_zeros);
}

static int effect_zero(void *ctx, gpa_t at, uint64_t len, const struct gp_page *from,
                       struct gp_page *to)
{
    (void)from;
    (void)to;
    return install_run(ctx, at, len, map_zeros);
}

static int effect_hugetlb(void *ctx, gpa_t at, uint64_t len, const struct gp_page *from,
                          struct gp_page *to)
{
    (void)from;
    (void)to;
    return install_run(ctx, at, len, map_hugetlb);
}

static int effect_minor(void *ctx, gpa_t at, uint64_t len, const struct gp_page *from,
                        struct gp_page *to)
{
    struct fault *f = ctx;

    to->shift = from->state == GP_UNTOUCHED ? (unsigned)__builtin_ctzll(f->page) : from->shift;
    return install_run(f, at, len, map_cached);
}

/* A write to a page that was protected: from here on the kernel lets it through. */
static int effect_unprotect(void *ctx, gpa_t at, uint64_t len, const struct gp_page *from,
                            struct gp_page *to)
{
    struct fault *f = ctx;

    to->shift = from->shift;
    note_run(f, at, len);
    return uffd_write_protect(&f->p->uffd, host_of(f, at), len, false);
}

/* --- transparent huge pages --------------------------------------------------------------- */

static int look_huge(void *ctx, hva_t hva, uint64_t len, const struct host_page *page)
{
    bool *huge = ctx;

    (void)hva;
    *huge = len == PAGE_SIZE_2M && page->shift == PAGE_SHIFT_2M;
    return 0;
}

/* True when one huge page is really mapped there: the kernel promises none. */
static bool huge_at(struct pages *p, const uint8_t *host)
{
    bool huge = false;

    return p->look && pagemap_runs(p->look, hva_of(host), PAGE_SIZE_2M, look_huge, &huge) == 0 &&
           huge;
}

/* Makes the staging area one huge page, cleared. -ENOMEM when the host has none at the moment. */
static int stage_huge(struct pages *p)
{
    if (madvise(p->staging, PAGE_SIZE_2M, MADV_POPULATE_WRITE) < 0)
        return -errno;
    if (huge_at(p, p->staging))
        return 0;
    (void)madvise(p->staging, PAGE_SIZE_2M, MADV_DONTNEED);
    return -ENOMEM;
}

/*
 * Without UFFDIO_MOVE: the kernel populates the block while it is not ours. Whoever touches
 * it meanwhile gets the same page, and those who wait are woken by the unregistering.
 */
static int populate_unregistered(struct fault *f, uint8_t *host)
{
    const struct uffd *u = &f->p->uffd;
    int rc = uffd_unregister(u, host, PAGE_SIZE_2M), again;

    if (rc < 0)
        return rc;
    if (madvise(host, PAGE_SIZE_2M, MADV_POPULATE_WRITE) < 0)
        rc = -errno;
    again = uffd_register(u, host, PAGE_SIZE_2M, pages_uffd_modes(f->p, f->part.backing));
    return rc < 0 ? rc : again;
}

static int effect_huge(void *ctx, gpa_t at, uint64_t len, const struct gp_page *from,
                       struct gp_page *to)
{
    struct fault *f = ctx;
    uint8_t *host = host_of(f, at);
    uint64_t done = 0;
    int rc;

    (void)from;
    if (len != PAGE_SIZE_2M)
        return -EBUSY; /* a part of it is there already */
    if (!f->p->staging) {
        rc = populate_unregistered(f, host);
        to->shift = rc == 0 && huge_at(f->p, host) ? PAGE_SHIFT_2M : PAGE_SHIFT_4K;
    } else {
        rc = stage_huge(f->p);
        if (rc == 0)
            rc = uffd_move(&f->p->uffd, host, f->p->staging, len, &done);
    }
    if (rc < 0)
        return rc;
    f->huge = to->shift == PAGE_SHIFT_2M;
    note_run(f, at, len);
    return 0;
}

/* --- serving ------------------------------------------------------------------------------- */

static int change(struct fault *f, gpa_t at, uint64_t len, unsigned from, enum gp_state to,
                  unsigned shift, gp_effect effect, uint64_t *changed)
{
    struct gp_change c = {
        .from = from,
        .to = { .state = to, .shift = shift },
        .effect = effect,
        .ctx = f,
    };

    return gpmap_change(f->p->map, at, len, &c, changed);
}

/* The aligned window of `size` around the page, cut to the part. */
static void window(const struct fault *f, uint64_t size, gpa_t *at, uint64_t *len)
{
    uint64_t first = f->at.v & ~(size - 1), end = first + size;
    uint64_t part_end = f->part.base.v + f->part.size;

    if (first < f->part.base.v)
        first = f->part.base.v;
    if (end > part_end)
        end = part_end;
    *at = gpa(first);
    *len = end - first;
}

/* True when a huge page may fit: effect_huge() sees whether nobody has touched any of the block. */
static bool huge_fits(const struct fault *f, gpa_t *at)
{
    uint64_t len;

    if (f->part.backing != MEM_THP)
        return false;
    window(f, PAGE_SIZE_2M, at, &len);
    return len == PAGE_SIZE_2M;
}

static int serve_missing(struct fault *f, bool write, uint64_t *changed)
{
    bool anon = f->part.backing == MEM_ANON || f->part.backing == MEM_THP;
    unsigned untouched = GP_MASK(GP_UNTOUCHED);
    uint64_t len;
    gpa_t at;

    if (f->page != PAGE_SIZE_4K)
        return change(f, f->at, f->page, untouched, GP_PRESENT, (unsigned)__builtin_ctzll(f->page),
                      effect_hugetlb, changed);
    /* Any failure there is no verdict: a small page may still be had. */
    if (huge_fits(f, &at) && change(f, at, PAGE_SIZE_2M, untouched, GP_PRESENT, PAGE_SHIFT_2M,
                                    effect_huge, changed) == 0)
        return 0;
    window(f, f->p->cfg.fault_around, &at, &len);
    if (anon && !write)
        return change(f, at, len, untouched, GP_ZERO, PAGE_SHIFT_4K, effect_zero, changed);
    return change(f, at, len, untouched, GP_PRESENT, PAGE_SHIFT_4K, effect_copy, changed);
}

static struct gp_page now(const struct fault *f)
{
    struct gp_page page = { 0 };

    (void)gpmap_get(f->p->map, f->at, &page); /* it is RAM */
    return page;
}

static bool is_watched(const struct fault *f)
{
    return now(f).flags & GP_WATCHED;
}

/*
 * The map says that the page is there. Either it came between the fault and its message, then it is
 * woken; or the kernel lost it behind our back (a discard), then it reads as zero again. Without
 * this the faulter would come back for ever.
 */
static int serve_known(struct fault *f, bool minor)
{
    int rc;

    gpmap_lock(f->p->map);
    if (is_watched(f)) {
        /* It was taken out a moment ago: its content is elsewhere. */
        gpmap_unlock(f->p->map);
        rc = f->p->watch.fault(f->p->watch.ctx, f->at);
        if (rc == 0) /* nor is it any more: the next fault tells */
            rc = uffd_wake(&f->p->uffd, host_of(f, f->at), f->page);
        return rc < 0 ? rc : 0;
    }
    if (now(f).state == GP_GUARDED)
        /* Since a moment ago: it stays as it was, and whoever comes back is refused. */
        rc = uffd_wake(&f->p->uffd, host_of(f, f->at), f->page);
    else if (minor)
        rc = install_run(f, f->at, f->page, map_cached);
    else if (f->page != PAGE_SIZE_4K)
        rc = install_run(f, f->at, f->page, map_hugetlb);
    else
        rc = install_run(f, f->at, f->page, copy_zeros);
    gpmap_unlock(f->p->map);
    return rc;
}

static int serve_flags(struct fault *f, unsigned flags)
{
    struct gp_change c = {
        .from = GP_MASK(GP_PRESENT) | GP_MASK(GP_ZERO) | GP_MASK(GP_UNTOUCHED),
        .to = { .state = GP_PRESENT, .shift = PAGE_SHIFT_4K },
        .set_flags = GP_ACCESSED | (flags & UFFD_PAGEFAULT_FLAG_WP ? GP_DIRTY : 0),
        .clear_flags = GP_WATCHED,
        .effect = flags & UFFD_PAGEFAULT_FLAG_WP ? effect_unprotect : effect_minor,
        .ctx = f,
    };

    return gpmap_change(f->p->map, f->at, f->page, &c, NULL);
}

/* Written by this thread alone. */
static void count(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

int pages_install(struct pages *p, hva_t host, unsigned flags)
{
    struct fault f = { .p = p };
    void (*fresh)(void *ctx, gpa_t at);
    uint64_t changed = 0;
    bool known = false;
    int rc;

    if (!pages_part_copy(p, host, &f.part))
        return -EFAULT;
    f.page = mem_backing_page(f.part.backing);
    f.at = gpa((f.part.base.v + (host.v - (uintptr_t)f.part.host)) & ~(f.page - 1));

    if (is_watched(&f)) {
        rc = p->watch.fault(p->watch.ctx, f.at);
        if (rc != 0)
            return rc < 0 ? rc : 0;
    }
    if (flags & (UFFD_PAGEFAULT_FLAG_WP | UFFD_PAGEFAULT_FLAG_MINOR))
        rc = serve_flags(&f, flags);
    else
        rc = serve_missing(&f, flags & UFFD_PAGEFAULT_FLAG_WRITE, &changed);
    if (rc == 0 && !f.served) {
        known = true;
        rc = flags & UFFD_PAGEFAULT_FLAG_WP
                 ? uffd_write_protect(&p->uffd, host_of(&f, f.at), f.page, false)
                 : serve_known(&f, flags & UFFD_PAGEFAULT_FLAG_MINOR);
    }
    if (rc < 0)
        return rc;
    count(&p->count.spurious, known);
    count(&p->count.huge, f.huge || (f.page != PAGE_SIZE_4K && changed));
    if (!known) {
        fresh = __atomic_load_n(&p->watch.fresh, __ATOMIC_ACQUIRE);
        if (fresh)
            fresh(p->watch.ctx, f.at);
    }
    if (changed > f.page && !f.huge)
        count(&p->count.around_bytes, changed - f.page);
    return 0;
}
