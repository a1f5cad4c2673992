/*
 * The way back: from a frame of guest RAM to the leaves of ours that map it. Needed to take the
 * right to write from them when the frame becomes a table.
 *
 *   mapped[1][frame]        -> 4 KiB leaves    <-> next <-> next
 *   mapped[2][frame >> 9]   -> 2 MiB leaves
 *   mapped[3][frame >> 18]  -> 1 GiB leaves
 */
#include "ept/shadow_impl.h"

static uint32_t *head_of(struct shadow *s, uint32_t entry)
{
    unsigned level = page_of(s, entry)->level;
    uint64_t frame = (entry_raw(s, entry) & ADDR_4K) >> PAGE_SHIFT_4K;

    /* Devices, and nothing at all: no table can lie there. */
    if (frame >= s->frames)
        return NULL;
    return &s->mapped[level][frame >> 9 * (level - 1)];
}

void rmap_add(struct shadow *s, uint32_t entry)
{
    uint32_t *head = head_of(s, entry);

    if (!head)
        return;
    s->prev[entry] = 0;
    s->next[entry] = *head;
    if (*head)
        s->prev[*head] = entry;
    *head = entry;
}

void rmap_remove(struct shadow *s, uint32_t entry)
{
    uint32_t *head = head_of(s, entry);

    if (!head)
        return;
    if (s->prev[entry])
        s->next[s->prev[entry]] = s->next[entry];
    else
        *head = s->next[entry];
    if (s->next[entry])
        s->prev[s->next[entry]] = s->prev[entry];
}

void rmap_guard(struct shadow *s, uint64_t frame)
{
    uint32_t next;

    if (frame >= s->frames)
        return;
    atomic_fetch_or(&s->guarded[frame / 64], BIT(frame % 64));
    for (uint32_t entry = s->mapped[1][frame]; entry; entry = s->next[entry]) {
        if (!(entry_raw(s, entry) & LEVEL_X86_RW))
            continue;
        atomic_fetch_and(&s->pool[entry], ~LEVEL_X86_RW);
        page_changed(s, entry / ENTRIES);
    }
    for (unsigned level = 2; level <= RMAP_LEVELS; level++) {
        uint64_t region = frame >> 9 * (level - 1);

        s->guarded_in[level][region]++;
        for (uint32_t entry = s->mapped[level][region]; entry; entry = next) {
            next = s->next[entry];
            if (entry_raw(s, entry) & LEVEL_X86_RW)
                entry_drop(s, entry);
        }
    }
}

void rmap_unguard(struct shadow *s, uint64_t frame)
{
    if (frame >= s->frames)
        return;
    atomic_fetch_and(&s->guarded[frame / 64], ~BIT(frame % 64));
    for (unsigned level = 2; level <= RMAP_LEVELS; level++)
        s->guarded_in[level][frame >> 9 * (level - 1)]--;
}

bool rmap_whole(struct shadow *s, uint64_t at, unsigned level)
{
    uint64_t size = UINT64_C(1) << level_shift(level);

    if (level > RMAP_LEVELS || (level == 3 && !s->cfg.gib_pages))
        return false;
    if (at >= s->cfg.ram_end || size > s->cfg.ram_end - at)
        return false;
    if (at < s->cfg.hidden.v + s->cfg.hidden_size && s->cfg.hidden.v < at + size)
        return false;
    return s->guarded_in[level][at >> level_shift(level)] == 0 &&
           s->cfg.ram(s->cfg.ctx, gpa(at), size) != NULL;
}
