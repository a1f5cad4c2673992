#include "vmm/track.h"
#include "vmm/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "vmm/track_impl.h"

int track_create(struct track **out, struct pages *pages, int vm_fd, struct error *err)
{
    struct track *t = calloc(1, sizeof(*t));
    size_t count;
    const struct mem_slot *slot;

    *out = NULL;
    if (!t)
        return error_set(err, -ENOMEM, "no memory to track pages");
    t->pages = pages;
    t->mem = pages_memory(pages);
    slot = memory_slots(t->mem, &count);
    t->host = slot[0].host;
    t->bytes = memory_size(t->mem);
    t->vm_fd = vm_fd;
    *out = t;
    return 0;
}

void track_destroy(struct track *t)
{
    if (!t)
        return;
    memory_note_writes(t->mem, NULL);
    watch_destroy(t);
    free(t->dirty);
    free(t->own);
    free(t->log);
    free(t);
}

int track_start(struct track *t, unsigned what, gpa_t at, uint64_t len, struct error *err)
{
    bool again = t->on & TRACK_ACCESSED && at.v == t->watch_at.v && len == t->watch_len;
    int rc = 0;

    if (what & TRACK_DIRTY && !(t->on & TRACK_DIRTY)) {
        rc = dirty_start(t, err);
        if (rc < 0)
            return rc;
        t->on |= TRACK_DIRTY;
        t->since_ns = now_ns();
    }
    if (what & TRACK_ACCESSED && !again) {
        if (t->on & TRACK_ACCESSED)
            rc = watch_stop(t, err);
        t->on &= ~(unsigned)TRACK_ACCESSED;
        if (rc == 0)
            rc = watch_start(t, at, len, err);
        if (rc < 0)
            return rc;
        t->on |= TRACK_ACCESSED;
        t->since_ns = now_ns();
    }
    return 0;
}

int track_stop(struct track *t, unsigned what, struct error *err)
{
    int rc = 0, other = 0;

    what &= t->on;
    t->on &= ~what;
    if (what & TRACK_ACCESSED)
        rc = watch_stop(t, err);
    if (what & TRACK_DIRTY)
        other = dirty_stop(t, err);
    if (!t->on)
        t->since_ns = 0;
    return rc < 0 ? rc : other;
}

int track_clear(struct track *t, unsigned what, gpa_t at, uint64_t len, struct error *err)
{
    int rc = 0;

    what &= t->on;
    if (what & TRACK_ACCESSED)
        rc = watch_clear(t, at, len, err);
    if (rc == 0 && what & TRACK_DIRTY)
        rc = dirty_clear(t, at, len, err);
    if (what)
        t->since_ns = now_ns();
    return rc;
}

int track_update(struct track *t, struct error *err)
{
    return t->on & TRACK_DIRTY ? dirty_fetch(t, err) : 0;
}

void track_info(const struct track *t, struct track_info *out)
{
    *out = (struct track_info){
        .on = t->on,
        .since_ns = t->since_ns,
        .dirty_method = dirty_describe(t),
        .accessed_method = watch_describe(t),
        .kept_bytes = t->kept_bytes,
        .faults = atomic_load_explicit(&t->faults, memory_order_relaxed),
    };
}
