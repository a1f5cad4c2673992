/*
 * Brings the map up to date with what the host kernel did by itself: it populates, collapses and
 * splits pages without a word. Where it is in charge the map takes all of it; in managed ranges,
 * which change through the map, only what the kernel does there all the same.
 */
#include <errno.h>
#include <unistd.h>

#include "vmm/pagemap.h"
#include "vmm/pages_impl.h"

struct learn {
    struct pages *p;
    const struct pages_part *part;
    struct pagemap *pm;
    uint64_t at, end; /* hva: what is before `at` is done */
    bool kept;        /* what isn't mapped here is in the file all the same */
};

static gpa_t gpa_of(const struct learn *l, uint64_t hva)
{
    return gpa(l->part->base.v + (hva - (uintptr_t)l->part->host));
}

static int put(const struct learn *l, uint64_t hva, uint64_t len, const struct gp_change *change)
{
    return len ? gpmap_change(l->p->map, gpa_of(l, hva), len, change, NULL) : 0;
}

/* Nothing is mapped in [at, upto): untouched, or (`kept`) unmapped but not gone. */
static int put_hole(const struct learn *l, uint64_t upto)
{
    struct gp_change change = {
        .from = l->kept ? GP_MASK(GP_UNTOUCHED) : GP_MASK(GP_PRESENT) | GP_MASK(GP_ZERO),
        .to = { .state = l->kept ? GP_PRESENT : GP_UNTOUCHED, .shift = PAGE_SHIFT_4K },
        .set_flags = GP_LEARNED,
    };

    /* Once it is registered the fault thread may be about to fill it, or has it out. */
    if (l->part->managed || (l->part->registered && !l->kept))
        return 0;
    return put(l, l->at, upto - l->at, &change);
}

/*
 * A leaf has one dirty flag: small pages that differ in theirs would not become a large one. Who
 * tracks has them page by page, and marks the leaf again.
 */
static int forget_dirty(const struct learn *l, uint64_t hva, uint64_t len)
{
    const struct gp_change change = {
        .from = GP_ANY,
        .need_flags = GP_DIRTY,
        .keep_state = true,
        .clear_flags = GP_DIRTY,
    };
    int rc = 0;

    for (uint64_t at = hva; at < hva + len && rc == 0; at += PAGE_SIZE_2M) {
        struct gp_page now;

        rc = gpmap_get(l->p->map, gpa_of(l, at), &now);
        if (rc == 0 && now.shift == PAGE_SHIFT_4K && hva + len - at >= PAGE_SIZE_2M)
            rc = put(l, at, PAGE_SIZE_2M, &change);
    }
    return rc;
}

static int put_run(void *ctx, hva_t hva, uint64_t len, const struct host_page *page)
{
    struct learn *l = ctx;
    struct gp_change change = {
        .from = GP_MASK(GP_PRESENT) | GP_MASK(GP_ZERO) | GP_MASK(GP_UNTOUCHED),
        .to = { .state = page->zero ? GP_ZERO : GP_PRESENT, .shift = page->shift },
        .avoid_flags = GP_WATCHED,
        .set_flags = GP_LEARNED,
    };
    int rc = put_hole(l, hva.v);

    l->at = hva.v + len;
    if (rc == 0 && page->shift > PAGE_SHIFT_4K && !l->part->managed)
        rc = forget_dirty(l, hva.v, len);
    if (rc < 0)
        return rc;
    if (l->part->managed) {
        /* Untouched pages come through the map alone; a zero page is replaced on the first write,
         * and huge pages are split, without a message. */
        change.from &= ~GP_MASK(GP_UNTOUCHED);
        change.set_flags = 0;
    }
    if (page->zero && l->part->registered)
        change.from &= ~GP_MASK(GP_PRESENT);
    return put(l, hva.v, len, &change);
}

static int learn_span(struct learn *l, uint64_t end, bool kept)
{
    int rc;

    l->kept = kept;
    rc = pagemap_runs(l->pm, hva(l->at), end - l->at, put_run, l);
    if (rc == 0)
        rc = put_hole(l, end);
    l->at = end;
    return rc;
}

/*
 * A file's pages may be in the page cache, or swapped out, without being mapped here: the file
 * knows which it has.
 */
static int learn_file(struct learn *l)
{
    uint64_t base = (uintptr_t)l->part->host - l->part->fd_offset;
    int fd = l->part->fd, rc = 0;

    while (l->at < l->end && rc == 0) {
        off_t data = lseek(fd, (off_t)(l->at - base), SEEK_DATA);
        uint64_t from = data >= 0 ? base + (uint64_t)data : l->end;
        off_t hole;

        if (data < 0 && errno != ENXIO)
            return -errno;
        if (from > l->end)
            from = l->end;
        rc = put_hole(l, from);
        l->at = from;
        if (rc < 0 || from == l->end)
            return rc;
        hole = lseek(fd, data, SEEK_HOLE);
        if (hole < 0)
            return -errno;
        from = base + (uint64_t)hole;
        rc = learn_span(l, from < l->end ? from : l->end, true);
        l->kept = false;
    }
    return rc;
}

static int learn_part(struct pages *p, const struct pages_part *part, gpa_t at, uint64_t len,
                      struct pagemap *pm)
{
    uint64_t first = (uintptr_t)part->host + (at.v - part->base.v);
    struct learn l = { .p = p, .part = part, .pm = pm, .at = first, .end = first + len };

    /* Of hugetlbfs files nothing is ever unmapped or swapped behind our back. */
    return part->backing == MEM_MEMFD ? learn_file(&l) : learn_span(&l, l.end, false);
}

int pages_learn(struct pages *p, gpa_t at, uint64_t len)
{
    struct pagemap *pm = NULL;
    struct error ignored;
    unsigned shift = (unsigned)__builtin_ctzll(mem_backing_page(p->part[0].backing));
    int rc = pagemap_open(&pm, shift, &ignored);

    if (rc < 0)
        return rc;
    (void)pthread_mutex_lock(&p->lock);
    for (size_t i = 0; i < p->parts && rc == 0; i++) {
        const struct pages_part *part = &p->part[i];
        uint64_t first = at.v > part->base.v ? at.v : part->base.v;
        uint64_t end = part->base.v + part->size;

        if (len < end && at.v + len < end)
            end = at.v + len;
        if (first < end)
            rc = learn_part(p, part, gpa(first), end - first, pm);
    }
    (void)pthread_mutex_unlock(&p->lock);
    pagemap_close(pm);
    return rc;
}
