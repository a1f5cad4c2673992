/*
 * Guarded ranges at the gate, and pinned slots: what a part of RAM refuses.
 */
#include "vmm/memory_impl.h"

#include <errno.h>
#include <string.h>

bool memory_guarded(const struct memory *mem, gpa_t at, uint64_t len)
{
    size_t count = __atomic_load_n(&mem->guards, __ATOMIC_ACQUIRE);

    for (size_t i = 0; i < count; i++) {
        const struct mem_guard *g = &mem->guard[i];

        if (at.v < g->end && len > 0 && at.v + (len - 1) >= g->first)
            return true;
    }
    return false;
}

bool memory_guard_range(const struct memory *mem, size_t n, gpa_t *at, uint64_t *len)
{
    if (n >= __atomic_load_n(&mem->guards, __ATOMIC_ACQUIRE))
        return false;
    *at = gpa(mem->guard[n].first);
    *len = mem->guard[n].end - mem->guard[n].first;
    return true;
}

/* Adds [first, end) to the sorted list `out` of `n`, or joins it to the last one. */
static size_t append(struct mem_guard *out, size_t n, uint64_t first, uint64_t end)
{
    if (first >= end)
        return n;
    if (n && out[n - 1].end >= first) {
        out[n - 1].end = end > out[n - 1].end ? end : out[n - 1].end;
        return n;
    }
    out[n] = (struct mem_guard){ .first = first, .end = end };
    return n + 1;
}

int memory_guard(struct memory *mem, gpa_t at, uint64_t len, bool guarded)
{
    /* Each old range may be cut in two; one more comes. */
    struct mem_guard list[MEMORY_GUARDS_MAX * 2 + 1];
    uint64_t first = at.v, end = at.v + len;
    bool added = !guarded;
    size_t n = 0;

    for (size_t i = 0; i < mem->guards; i++) {
        const struct mem_guard *g = &mem->guard[i];

        n = append(list, n, g->first, g->end < first ? g->end : first);
        if (!added && g->end >= first) {
            n = append(list, n, first, end);
            added = true;
        }
        n = append(list, n, g->first > end ? g->first : end, g->end);
    }
    if (!added)
        n = append(list, n, first, end);
    if (n > MEMORY_GUARDS_MAX)
        return -ENOSPC;
    memcpy(mem->guard, list, n * sizeof(list[0]));
    __atomic_store_n(&mem->guards, n, __ATOMIC_RELEASE);
    return 0;
}

static int pin(struct memory *mem, gpa_t at, int by)
{
    for (size_t i = 0; i < mem->count; i++) {
        const struct mem_slot *slot = &mem->slot[i];

        if (at.v - slot->base.v >= slot->size)
            continue;
        if (by < 0 && __atomic_load_n(&mem->pins[i], __ATOMIC_RELAXED) == 0)
            return -EINVAL;
        (void)__atomic_add_fetch(&mem->pins[i], (unsigned)by, __ATOMIC_SEQ_CST);
        return 0;
    }
    return -EINVAL;
}

int memory_pin(struct memory *mem, gpa_t at)
{
    return pin(mem, at, 1);
}

int memory_unpin(struct memory *mem, gpa_t at)
{
    return pin(mem, at, -1);
}

bool memory_pinned(const struct memory *mem, gpa_t at, uint64_t len)
{
    for (size_t i = 0; i < mem->count; i++) {
        const struct mem_slot *slot = &mem->slot[i];

        if (at.v < slot->base.v + slot->size && at.v + len > slot->base.v &&
            __atomic_load_n(&mem->pins[i], __ATOMIC_SEQ_CST))
            return true;
    }
    return false;
}
