/*
 * A fault: the guest's tables are walked as they are now, and what they say of this address is
 * written into ours.
 *
 *   guest's   PML4E      PDPTE      PDE        PTE          walk->ref[0..3]
 *               |          |          |          |
 *   ours       table  ->  table  ->  table  ->  leaf        remade where the guest's reads
 * otherwise
 *
 * A large page of the guest that can't be large here goes on below the guest's last table:
 *
 *               |          |          | PS
 *   ours       table  ->  table  ->  table  ->  direct: leaves are filled one by one
 */
#include "ept/shadow_impl.h"

#include <errno.h>

/* Another vCPU can change an entry under us again and again, but not for ever by accident. */
#define WALKS_MAX 64

/* A leaf's neighbours in such an aligned group are filled with it, where they need nothing but
 * that: each would cost a fault of its own. A power of two. */
#define AROUND 32

enum fill {
    FILL_DONE,
    FILL_AGAIN,   /* from the root on */
    FILL_NO_ROOM, /* no page is free */
};

struct path {
    const struct pt_space *space;
    const struct pt_walk *walk;
    uint64_t address;
    enum pt_op op;
    unsigned cpu;
    uint16_t view;
    bool changed; /* something of ours is not as it was */
};

/* --- the guest's side ---------------------------------------------------------------------- */

static int read_guest(void *ctx, uint64_t at, unsigned size, uint64_t *raw)
{
    struct shadow *s = ctx;
    _Atomic uint64_t *word = guest_words(s, at, size);

    if (!word)
        return -EFAULT;
    *raw = atomic_load(word);
    return 0;
}

static void *entry_place(void *ctx, uint64_t at, unsigned bytes)
{
    return guest_words(ctx, at, bytes);
}

static void entry_wrote(void *ctx, uint64_t at, unsigned bytes)
{
    const struct shadow *s = ctx;

    if (s->cfg.wrote)
        s->cfg.wrote(s->cfg.ctx, gpa(at), bytes);
}

/* 4.8 "Accessed and Dirty Flags". False: an entry isn't any more what the walk read. */
static bool mark_used(struct shadow *s, const struct pt_walk *walk)
{
    const struct pt_marker marker = { .place = entry_place, .wrote = entry_wrote, .ctx = s };

    return pt_mark(walk, 8, &marker);
}

/* --- ours ---------------------------------------------------------------------------------- */

/* The leaf's bits; 0: this view may not use it, or the CPU has no way to say what it may. */
static uint64_t leaf_bits(uint16_t view, unsigned rights, bool dirty)
{
    bool user_page = rights & PT_RIGHT_USER, write = rights & PT_RIGHT_WRITE;
    bool exec = rights & PT_RIGHT_EXEC;

    if (view & ROLE_USER) {
        if (!user_page)
            return 0;
    } else {
        if (user_page && (view & ROLE_SMAP))
            return 0;
        if (user_page && (view & ROLE_SMEP))
            exec = false;
        if (!(view & ROLE_WP))
            write = true;
    }
    return OURS_LEAF | (write && dirty ? LEVEL_X86_RW : 0) | (exec ? 0 : LEVEL_X86_XD);
}

static bool allows(uint64_t leaf, enum pt_op op)
{
    switch (op) {
    case PT_READ:
        return leaf & LEVEL_X86_P;
    case PT_WRITE:
        return leaf & LEVEL_X86_RW;
    case PT_EXEC:
        return (leaf & LEVEL_X86_P) && !(leaf & LEVEL_X86_XD);
    }
    return false;
}

/* An entry of ours stays only if it was made of what the guest has there now. */
static void refresh(struct shadow *s, struct path *p, uint32_t entry, uint64_t guest)
{
    if (!entry_present(s, entry) || !page_of(s, entry)->table)
        return;
    if (entry_differs(s->made_of[entry], guest)) {
        entry_drop(s, entry);
        s->stats.zaps++;
        p->changed = true;
    } else {
        s->made_of[entry] = guest;
    }
}

static uint32_t table_page(struct shadow *s, struct path *p, uint64_t gfn, unsigned level,
                           unsigned rights)
{
    uint16_t role = (uint16_t)((p->view & ((1u << ROLE_RIGHTS) - 1)) | rights << ROLE_RIGHTS);
    uint32_t table = table_get(s, gfn), page = s->table[table].pages;

    while (page && (s->page[page].level != level || s->page[page].role != role))
        page = s->page[page].sibling;
    if (!page)
        page = page_new(s, p->cpu, table, level, role);
    if (!page && !s->table[table].pages)
        table_drop(s, table);
    return page;
}

/*
 * A page that other ways lead to as well may hold an entry that is stale for this one: INVLPG went
 * down the ways of its own address space as they were then, and this was none of them.
 *
 *   root 1 -> page -> stale          INVLPG in root 2 didn't come by `page`;
 *   root 2 ....^                     now root 2 gets it, with the address that was invalidated
 *
 * So all that may be stale is compared first, once for however many invalidations. That may drop
 * what we came by: true, then start again.
 */
static bool settle(struct shadow *s, uint32_t page)
{
    if (!s->invalidated || s->page[page].refs == 0)
        return false;
    tables_compare(s);
    return true;
}

/* Down to the page of ours that has the guest's leaf. */
static enum fill descend(struct shadow *s, struct path *p, uint32_t *out, unsigned *rights)
{
    uint32_t page = s->cpu[p->cpu].root;

    *rights = RIGHTS;
    for (unsigned i = 0; i + 1 < p->walk->count; i++) {
        const struct pt_ref *ref = &p->walk->ref[i];
        uint64_t guest = ref->raw | ref->set;
        uint32_t entry = entry_of(page, ref->level, p->address);

        refresh(s, p, entry, guest);
        *rights &= pt_entry_rights(p->space, ref->level, guest);
        if (!entry_present(s, entry)) {
            page = table_page(s, p, (guest & ADDR_4K) >> PAGE_SHIFT_4K, ref->level - 1, *rights);
            if (!page)
                return FILL_NO_ROOM;
            if (settle(s, page))
                return FILL_AGAIN;
            entry_set_table(s, entry, page, guest);
            p->changed = true;
        }
        page = entry_child(s, entry);
    }
    *out = page;
    return FILL_DONE;
}

static uint64_t where(const struct shadow *s, uint64_t at)
{
    if (at >= s->cfg.hidden.v && at - s->cfg.hidden.v < s->cfg.hidden_size)
        return s->cfg.nowhere.v + (at - s->cfg.hidden.v);
    return at;
}

static void put_leaf(struct shadow *s, struct path *p, uint32_t entry, uint64_t raw, uint64_t guest)
{
    uint64_t old = entry_raw(s, entry);

    if (entry_present(s, entry) && (old | LEVEL_X86_RW) == raw) {
        if (old == raw)
            return;
        atomic_store(&s->pool[entry], raw);
    } else {
        if (entry_present(s, entry))
            entry_drop(s, entry);
        entry_set_leaf(s, entry, raw, guest);
    }
    p->changed = true;
    s->stats.fills++;
    if (page_of(s, entry)->level > 1)
        s->stats.fills_large++;
}

static void put_small(struct shadow *s, struct path *p, uint32_t entry, uint64_t raw,
                      uint64_t guest)
{
    uint64_t frame = (raw & ADDR_4K) >> PAGE_SHIFT_4K;
    uint64_t old = entry_present(s, entry) ? entry_raw(s, entry) : 0;

    /* What allows it already stays: a write is told from a read that came too late. */
    if ((old & ADDR_4K) == (raw & ADDR_4K) && allows(old, p->op))
        return;
    if ((raw & LEVEL_X86_RW) && frame_guarded(s, frame)) {
        if (p->op == PT_WRITE) {
            table_unsync(s, table_find(s, frame));
            s->stats.unsyncs++;
        } else {
            raw &= ~LEVEL_X86_RW;
        }
    }
    put_leaf(s, p, entry, raw, guest);
}

/* One that is missing. A guarded frame stays so: nobody has written to it. */
static void put_neighbour(struct shadow *s, struct path *p, uint32_t entry, uint64_t raw,
                          uint64_t guest)
{
    if ((raw & LEVEL_X86_RW) && frame_guarded(s, (raw & ADDR_4K) >> PAGE_SHIFT_4K))
        raw &= ~LEVEL_X86_RW;
    put_leaf(s, p, entry, raw, guest);
}

/*
 * What is next to a leaf of level 1 that was just filled for `guest`. In a piece of a large page
 * all leaves are of the same entry. In a table of the guest those are filled that differ from it in
 * the address alone: so they mean the same, and have their accessed bits, and the dirty bits if
 * they become writable. A CPU could have cached them just as well.
 */
static void put_around(struct shadow *s, struct path *p, uint32_t leaf, uint64_t bits,
                       uint64_t guest)
{
    uint32_t first = leaf & ~(AROUND - 1);
    uint64_t table = p->walk->ref[p->walk->count - 1].at & ~UINT64_C(0xfff);
    uint64_t to = (p->walk->output & ADDR_4K) - ((uint64_t)(leaf - first) << PAGE_SHIFT_4K);
    _Atomic uint64_t *words = NULL;

    if (page_of(s, leaf)->table)
        words = guest_words(s, table + first % ENTRIES * 8, AROUND * 8);
    for (unsigned n = 0; n < AROUND; n++, to += PAGE_SIZE_4K) {
        uint64_t raw = words ? atomic_load(&words[n]) : guest;

        if (entry_present(s, first + n) || (raw & ~ADDR_4K) != (guest & ~ADDR_4K) ||
            (words && pt_entry_kind(p->space, 1, raw) != PT_ENTRY_LEAF))
            continue;
        put_neighbour(s, p, first + n, where(s, words ? raw & ADDR_4K : to) | bits, raw);
    }
}

/* From the guest's leaf on. */
static enum fill place(struct shadow *s, struct path *p, uint32_t page, unsigned rights)
{
    const struct pt_ref *ref = &p->walk->ref[p->walk->count - 1];
    uint64_t guest = ref->raw | ref->set, bits, old;
    unsigned level = ref->level;
    uint32_t entry = entry_of(page, level, p->address);

    refresh(s, p, entry, guest);
    rights &= pt_entry_rights(p->space, level, guest);
    bits = leaf_bits(p->view, rights, guest & LEVEL_X86_D);
    if (!allows(bits, p->op))
        return FILL_DONE;
    for (; level > 1; level--) {
        uint64_t piece = p->walk->output & ~BITS(level_shift(level) - 1, 0);

        entry = entry_of(page, level, p->address);
        old = entry_present(s, entry) ? entry_raw(s, entry) : 0;
        if (!old || entry_is_leaf(s, entry)) {
            if (allows(old, p->op))
                return FILL_DONE;
            if (rmap_whole(s, piece, level)) {
                put_leaf(s, p, entry, piece | bits | LEVEL_X86_PS, guest);
                return FILL_DONE;
            }
            if (old)
                entry_drop(s, entry);
            page = page_new(s, p->cpu, 0, level - 1, p->view);
            if (!page)
                return FILL_NO_ROOM;
            entry_set_table(s, entry, page, guest);
            p->changed = true;
        }
        page = entry_child(s, entry);
    }
    entry = entry_of(page, 1, p->address);
    put_small(s, p, entry, where(s, p->walk->output & ADDR_4K) | bits, guest);
    if (p->changed)
        put_around(s, p, entry, bits, guest);
    return FILL_DONE;
}

static enum fill fill(struct shadow *s, struct path *p)
{
    uint32_t page;
    unsigned rights;
    enum fill done = descend(s, p, &page, &rights);

    return done == FILL_DONE ? place(s, p, page, rights) : done;
}

/* --- the fault ----------------------------------------------------------------------------- */

static bool in_window(const struct shadow *s, uint64_t address)
{
    return s->window && (address >> level_shift(4) & (ENTRIES - 1)) == s->slot;
}

/* The guest's tables, with all bits set that this access sets. PT_OK, or why not; *again: they
 * would not stand still. */
static enum pt_fault look_up(struct shadow *s, struct path *p, const struct pt_access *access,
                             struct pt_walk *walk, bool *again)
{
    for (unsigned i = 0; i < WALKS_MAX; i++) {
        enum pt_fault fault = pt_access(p->space, p->address, access, read_guest, s, walk);

        *again = false;
        if (fault != PT_OK || in_window(s, p->address) || mark_used(s, walk))
            return fault;
        *again = true;
    }
    return PT_OK;
}

static enum shadow_result fault_locked(struct shadow *s, struct path *p,
                                       const struct shadow_mode *mode,
                                       const struct pt_access *access, struct pt_walk *walk)
{
    bool again;
    enum fill done;
    uint32_t root = s->cpu[p->cpu].root;
    enum pt_fault fault = look_up(s, p, access, walk, &again);

    if (fault == PT_READ_FAILED)
        return SHADOW_UNREADABLE;
    if (fault != PT_OK)
        return SHADOW_REFUSED;
    if (in_window(s, p->address))
        return SHADOW_WINDOW;
    if (again)
        return SHADOW_FILLED;
    if (!root || root_find(s, mode->paging.cr3, p->view) != root)
        if (!root_get(s, p->cpu, mode, p->view))
            return SHADOW_CROWDED;
    do {
        done = fill(s, p);
        if (done == FILL_NO_ROOM && !pool_make_room(s, p->cpu))
            return SHADOW_CROWDED;
    } while (done != FILL_DONE);
    pool_keep_ahead(s);
    tables_trim(s);
    return p->changed ? SHADOW_FILLED : SHADOW_AGREES;
}

enum shadow_result shadow_fault(struct shadow *s, unsigned cpu, const struct shadow_mode *mode,
                                gva_t address, const struct pt_access *access, struct pt_walk *walk)
{
    struct pt_space space;
    struct path p = {
        .space = &space, .walk = walk, .address = address.v, .op = access->op, .cpu = cpu
    };
    enum shadow_result result;

    x86_pt_space(&space, &mode->paging);
    if (!shadow_view(mode, &p.view)) {
        memset(walk, 0, sizeof(*walk));
        walk->fault = PT_READ_FAILED;
        return SHADOW_UNREADABLE;
    }
    pthread_mutex_lock(&s->lock);
    result = fault_locked(s, &p, mode, access, walk);
    pthread_mutex_unlock(&s->lock);
    return result;
}
