/*
 * Dirty pages: KVM's log for what the guest writes, a bitmap of our own for what the monitor does.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm/track_impl.h"

static bool tested(const uint64_t *bitmap, uint64_t page)
{
    return bitmap[page / 64] >> page % 64 & 1;
}

/* Reading and clearing as two steps keeps what is written in between; old kernels lack it. */
static bool manual_protect(int vm_fd)
{
    struct kvm_enable_cap cap = { .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
                                  .args[0] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE };

    return ioctl(vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) > 0 &&
           ioctl(vm_fd, KVM_ENABLE_CAP, &cap) == 0;
}

static bool bitmaps_create(struct track *t)
{
    if (t->dirty)
        return true;
    /* KVM rounds each slot up to whole words. */
    t->words = (t->bytes >> PAGE_SHIFT_4K) / 64 + 1;
    t->dirty = calloc(t->words, sizeof(*t->dirty));
    t->own = calloc(t->words, sizeof(*t->own));
    t->log = calloc(t->words, sizeof(*t->log));
    if (t->dirty && t->own && t->log)
        return true;
    free(t->dirty);
    free(t->own);
    free(t->log);
    t->dirty = t->own = t->log = NULL;
    return false;
}

int dirty_start(struct track *t, struct error *err)
{
    size_t count;
    const struct mem_slot *slot = memory_slots(t->mem, &count);
    int rc;

    for (size_t i = 0; i < count; i++)
        if (memory_pinned(t->mem, slot[i].base, slot[i].size))
            return error_set(err, -EBUSY,
                             "a passed-through device writes guest memory, and KVM's dirty log "
                             "doesn't see that");
    if (!bitmaps_create(t))
        return error_set(err, -ENOMEM, "no memory to note which pages are dirty");
    memset(t->dirty, 0, t->words * sizeof(*t->dirty));
    memset(t->own, 0, t->words * sizeof(*t->own));
    memory_note_writes(t->mem, t->own);
    if (t->vm_fd < 0)
        return 0;
    t->manual = manual_protect(t->vm_fd);
    rc = memory_log_dirty(t->mem, t->vm_fd, true, err);
    if (rc < 0)
        memory_note_writes(t->mem, NULL);
    return rc;
}

static int flags_clear(struct track *t, gpa_t at, uint64_t len)
{
    const struct gp_change change = {
        .from = GP_ANY,
        .need_flags = GP_DIRTY,
        .keep_state = true,
        .clear_flags = GP_DIRTY,
    };

    return gpmap_change(pages_map(t->pages), at, len, &change, NULL);
}

int dirty_stop(struct track *t, struct error *err)
{
    size_t count;
    const struct mem_slot *slot = memory_slots(t->mem, &count);

    memory_note_writes(t->mem, NULL);
    for (size_t i = 0; i < count; i++)
        (void)flags_clear(t, slot[i].base, slot[i].size);
    memset(t->dirty, 0, t->words * sizeof(*t->dirty));
    return t->vm_fd < 0 ? 0 : memory_log_dirty(t->mem, t->vm_fd, false, err);
}

static int log_read(struct track *t, uint32_t number, const struct mem_slot *slot, uint64_t *log)
{
    struct kvm_dirty_log get = { .slot = number, .dirty_bitmap = log };
    struct kvm_clear_dirty_log clear = {
        .slot = number,
        .num_pages = (uint32_t)(slot->size >> PAGE_SHIFT_4K),
        .dirty_bitmap = log,
    };

    if (ioctl(t->vm_fd, KVM_GET_DIRTY_LOG, &get) < 0)
        return -errno;
    return t->manual && ioctl(t->vm_fd, KVM_CLEAR_DIRTY_LOG, &clear) < 0 ? -errno : 0;
}

/* Marks the leaves around the dirty pages of one 2 MiB, from page `first` of RAM on. */
static int mark_leaves(struct track *t, gpa_t at, uint64_t first, uint64_t pages)
{
    struct gp_change change = {
        .from = GP_MASK(GP_PRESENT),
        .avoid_flags = GP_DIRTY,
        .keep_state = true,
        .set_flags = GP_DIRTY,
    };
    struct gpmap *map = pages_map(t->pages);

    for (uint64_t i = 0; i < pages;) {
        struct gp_page page;
        uint64_t run = 0, size;
        gpa_t here = gpa(at.v + (i << PAGE_SHIFT_4K));
        int rc;

        while (i + run < pages && tested(t->dirty, first + i + run))
            run++;
        if (run == 0) {
            i++;
            continue;
        }
        rc = gpmap_get(map, here, &page);
        size = UINT64_C(1) << page.shift;
        if (rc == 0 && page.shift > PAGE_SHIFT_4K)
            return gpmap_change(map, gpa(here.v & ~(size - 1)), size, &change, NULL);
        if (rc == 0)
            rc = gpmap_change(map, here, run << PAGE_SHIFT_4K, &change, NULL);
        if (rc < 0)
            return rc;
        i += run;
    }
    return 0;
}

static int mark_map(struct track *t, const struct mem_slot *slot)
{
    uint64_t first = (uint64_t)(slot->host - t->host) >> PAGE_SHIFT_4K;
    uint64_t pages = slot->size >> PAGE_SHIFT_4K;
    int rc = 0;

    for (uint64_t i = 0; i < pages && rc == 0; i += 512)
        rc = mark_leaves(t, gpa(slot->base.v + (i << PAGE_SHIFT_4K)), first + i,
                         pages - i < 512 ? pages - i : 512);
    return rc;
}

int dirty_fetch(struct track *t, struct error *err)
{
    size_t count;
    const struct mem_slot *slot = memory_slots(t->mem, &count);
    int rc = 0;

    for (size_t i = 0; i < count && t->vm_fd >= 0; i++) {
        /* The slots' bits lie one behind the other: the first one ends at a whole word. */
        uint64_t first = (uint64_t)(slot[i].host - t->host) >> PAGE_SHIFT_4K;

        rc = log_read(t, (uint32_t)i, &slot[i], t->log + first / 64);
        if (rc < 0)
            return error_set(err, rc, "KVM's dirty log can't be read: %s", strerror(-rc));
    }
    for (size_t w = 0; w < t->words; w++) {
        t->dirty[w] |= t->log[w] | __atomic_exchange_n(&t->own[w], 0, __ATOMIC_ACQ_REL);
        t->log[w] = 0;
    }
    for (size_t i = 0; i < count && rc == 0; i++)
        rc = mark_map(t, &slot[i]);
    return rc < 0 ? error_set(err, rc, "the map can't take the dirty pages: %s", strerror(-rc)) : 0;
}

int dirty_clear(struct track *t, gpa_t at, uint64_t len, struct error *err)
{
    size_t count;
    const struct mem_slot *slot = memory_slots(t->mem, &count);
    int rc = dirty_fetch(t, err);

    if (rc < 0)
        return rc;
    for (size_t i = 0; i < count; i++) {
        uint64_t first = at.v > slot[i].base.v ? at.v : slot[i].base.v;
        uint64_t end = slot[i].base.v + slot[i].size, page;

        end = at.v + len < end ? at.v + len : end;
        if (first >= end)
            continue;
        page = ((uint64_t)(slot[i].host - t->host) + (first - slot[i].base.v)) >> PAGE_SHIFT_4K;
        for (uint64_t n = (end - first) >> PAGE_SHIFT_4K; n > 0; n--, page++)
            t->dirty[page / 64] &= ~(UINT64_C(1) << page % 64);
        (void)flags_clear(t, gpa(first), end - first);
    }
    /* A large leaf may hold a page outside of the range that is still dirty. */
    for (size_t i = 0; i < count; i++)
        (void)mark_map(t, &slot[i]);
    return 0;
}

const char *dirty_describe(const struct track *t)
{
    if (t->vm_fd < 0)
        return "the monitor's own writes only";
    /* KVM maps a page for writing at once where the host would let it, and counts that. */
    if (t->on & TRACK_ACCESSED)
        return "KVM's dirty log; at most, as pages that were watched and then read may count";
    return "KVM's dirty log, for which KVM maps by 4 KiB";
}

uint64_t track_dirty_bytes(const struct track *t, gpa_t at, uint64_t len)
{
    const uint8_t *host;
    size_t count;
    const struct mem_slot *slot = memory_slots(t->mem, &count);
    uint64_t bytes = 0;

    for (size_t i = 0; i < count && t->dirty; i++) {
        uint64_t first = at.v > slot[i].base.v ? at.v : slot[i].base.v;
        uint64_t end = slot[i].base.v + slot[i].size, page;

        end = at.v + len < end ? at.v + len : end;
        if (first >= end)
            continue;
        host = slot[i].host + (first - slot[i].base.v);
        page = (uint64_t)(host - t->host) >> PAGE_SHIFT_4K;
        for (uint64_t n = (end - first) >> PAGE_SHIFT_4K; n > 0;) {
            if (page % 64 == 0 && n >= 64) {
                bytes += (uint64_t)__builtin_popcountll(t->dirty[page / 64]) << PAGE_SHIFT_4K;
                page += 64;
                n -= 64;
            } else {
                bytes += tested(t->dirty, page) ? PAGE_SIZE_4K : 0;
                page++;
                n--;
            }
        }
    }
    return bytes;
}
