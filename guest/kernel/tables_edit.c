/*
 * Edits. What an edit needs of INVLPG or a load of CR3 is what the manual asks for (Intel SDM
 * vol. 3A, 4.10.4 "Invalidation of TLBs and Paging-Structure Caches"), and no more:
 * an entry that was not present needs none, and neither does one that only permits more than
 * before.
 */
#include "guest/kernel/access_test.h"
#include "guest/kernel/cpu.h"
#include "guest/kernel/tables_test.h"

#define RIGHTS    (PTE_PRESENT | PTE_WRITE | PTE_USER | PTE_NX)
#define UPPER_ALL (PTE_PRESENT | PTE_WRITE | PTE_USER)
#define AD        (PTE_ACCESSED | PTE_DIRTY)

static uint64_t some_rights(struct editor *e)
{
    unsigned r = editor_pick(e, 8);

    return (r & 1 ? PTE_WRITE : 0) | (r & 2 ? PTE_USER : 0) | (r & 4 ? PTE_NX : 0);
}

static bool is_leaf(const struct place *p)
{
    return p->level == 1 || (p->level == 2 && place_is_large(p));
}

/*
 * Does `now` permit all that `was` does, with the same address, size, A and D? With SMEP or SMAP
 * a user's page forbids things to the supervisor.
 */
static bool only_permits_more(uint64_t was, uint64_t now)
{
    uint64_t less = (was & ~now & (PTE_WRITE | PTE_USER)) | (now & ~was & PTE_NX);

    if (cpu_features.smep || cpu_features.smap)
        less |= now & ~was & PTE_USER;
    return ((was ^ now) & ~(PTE_WRITE | PTE_USER | PTE_NX)) == 0 && !less;
}

/* --- making it known ------------------------------------------------------------------- */

/* The bits in `stale` of the pages whose translation uses the entry. */
static uint32_t pages_below(const struct place *p)
{
    uint32_t region = ((1u << PAGES) - 1) << (p->region * PAGES);

    if (p->level > 2)
        return ~0u;
    return p->level == 2 ? region : 1u << (p->region * PAGES + p->page);
}

static void invalidate_pages(struct window *w, uint32_t pages)
{
    for (uint32_t left = pages; left; left &= left - 1) {
        unsigned i = (unsigned)__builtin_ctz(left);
        struct place p = { w, 1, i / PAGES, i % PAGES };

        invlpg(place_gva(&p) + 8 * i);
    }
}

/* `pages`: what has to go, everywhere; one of them when a single INVLPG does. */
static void invalidate(struct editor *e, const struct place *p, uint32_t pages)
{
    uint64_t gva = place_gva(p), len = PAGE_SIZE;

    p->w->stale &= ~pages_below(p);
    if (p->w->shared) {
        if (pages & (pages - 1)) {
            len = p->level == 2 ? LARGE_SIZE : UL(1) << 39;
            gva &= -len;
        }
        e->how = "shootdown";
        tlb_flush(tables_aspace, gva, gva + len);
    } else if (editor_pick(e, pages & (pages - 1) ? 4 : 32) == 0) { /* rare: it hides much */
        e->how = "CR3";
        p->w->stale = 0;
        write_cr3(read_cr3());
    } else {
        e->how = "INVLPG";
        invalidate_pages(p->w, pages);
    }
}

/* --- storing ------------------------------------------------------------------------------ */

/* May the entry be written through SELF_SLOT? The walk to it has to permit that. */
static bool reachable(const struct place *p)
{
    struct place above = *p;

    while (++above.level <= 4) {
        uint64_t e = *place_model(&above);

        if ((e & (PTE_PRESENT | PTE_WRITE)) != (PTE_PRESENT | PTE_WRITE))
            return false;
        if (above.level == 2 && e & PTE_LARGE)
            return false;
    }
    return true;
}

/*
 * What that does to the entries above: it sets A of all, and D of the one that stands where a leaf
 * does. The translation was dropped before, so exactly that must be seen.
 */
static void note_walk_to_self(struct editor *e, const struct place *p)
{
    struct place above = *p;

    while (++above.level <= 4) {
        *place_model(&above) |= PTE_ACCESSED | (above.level == p->level + 1 ? PTE_DIRTY : 0);
        tables_compare(e, &above);
    }
}

/*
 * Stores it, through either mapping. Where the CPU may still use the old value it may set A and D
 * at any time, so that then only the rights are changed, in one access each.
 */
static void store(struct editor *e, const struct place *p, uint64_t now, bool in_use)
{
    uint64_t *model = place_model(p), *at = place_entry(p);
    bool self = editor_pick(e, 2) && reachable(p);

    if (self) {
        at = (uint64_t *)place_self_gva(p);
        invlpg((uint64_t)at);
    }
    if (!in_use) {
        __atomic_store_n(at, now, __ATOMIC_RELEASE);
        *model = now;
    } else {
        __atomic_fetch_or(at, now & (PTE_WRITE | PTE_USER), __ATOMIC_SEQ_CST);
        if (!(now & PTE_NX))
            __atomic_fetch_and(at, ~PTE_NX, __ATOMIC_SEQ_CST);
        *model = now | (*place_entry(p) & AD);
    }
    if (self)
        note_walk_to_self(e, p);
}

/* --- the kinds of edit ------------------------------------------------------------------------ */

/* A page table in place of a large page, with other pages or with the very same ones. */
static uint64_t to_small(struct editor *e, const struct place *p)
{
    uint64_t large = *place_model(p) & PTE_ADDR, rights = *place_model(p) & (RIGHTS | AD);
    bool same = editor_pick(e, 2), all = editor_pick(e, 4) == 0;
    uint64_t *pt = p->w->pt[p->region];
    struct place leaf = *p;

    e->what = same ? "split" : "table for large page";
    for (unsigned i = 0; all && i < 512; i++) /* also those that nobody looks at */
        pt[i] = (large + i * PAGE_SIZE) | rights;
    leaf.level = 1;
    for (leaf.page = 0; leaf.page < PAGES; leaf.page++) {
        uint64_t page = large + (place_gva(&leaf) & (LARGE_SIZE - 1));

        *place_model(&leaf) = same ? page | rights
                              : editor_pick(e, 3)
                                  ? tables_some_page(e) | PTE_PRESENT | some_rights(e)
                                  : 0;
        *place_entry(&leaf) = *place_model(&leaf);
    }
    return virt_to_phys(pt) | UPPER_ALL;
}

static uint64_t new_leaf(struct editor *e, const struct place *p, uint64_t was)
{
    uint64_t size = p->level == 2 ? PTE_LARGE : 0;
    uint64_t page = size ? tables_some_large(e) : tables_some_page(e);

    switch (was & PTE_PRESENT ? editor_pick(e, 5) : 0) {
    case 0:
        e->what = was & PTE_PRESENT ? "remap" : "map";
        return page | size | PTE_PRESENT | some_rights(e) | (editor_pick(e, 4) ? 0 : AD);
    case 1:
        e->what = "unmap";
        return editor_pick(e, 2) ? size : was & ~PTE_PRESENT;
    case 2:
        e->what = "clear A and D";
        return was & ~AD;
    case 3:
        e->what = "permit more";
        return (was | (some_rights(e) & ~PTE_NX)) & ~(editor_pick(e, 2) ? PTE_NX : 0);
    default:
        e->what = "protect";
        return (was & ~(PTE_WRITE | PTE_USER | PTE_NX)) | some_rights(e);
    }
}

static uint64_t new_upper(struct editor *e, const struct place *p, uint64_t was)
{
    uint64_t table = was & (PTE_ADDR | AD);

    if (!(was & PTE_PRESENT)) {
        e->what = "table back";
        return table | UPPER_ALL;
    }
    switch (editor_pick(e, p->level == 2 ? 6 : 4)) {
    case 0:
        e->what = "table away";
        return was & ~PTE_PRESENT;
    case 1:
        e->what = "clear A of table";
        return was & ~AD;
    case 2:
        e->what = "table permits all";
        return (was | UPPER_ALL) & ~PTE_NX;
    case 3:
        e->what = "protect table";
        return table | PTE_PRESENT | some_rights(e);
    default:
        e->what = "large page for table";
        return tables_some_large(e) | PTE_LARGE | PTE_PRESENT | some_rights(e);
    }
}

/*
 * Leaves mostly, and more so in the shared window, as an edit above has all CPUs flush all. An
 * upper entry that is not there, or permits little, hides what is below: it is likely to be the
 * next.
 */
static void choose_place(struct editor *e, struct place *p)
{
    place_pick(e, p);
    for (p->level = 4; p->level > 1; p->level--) {
        bool hides = (*place_model(p) & (UPPER_ALL | PTE_NX)) != UPPER_ALL;

        if (is_leaf(p))
            return;
        if (editor_pick(e, p->w->shared ? 64 : 16) == 0 || (hides && editor_pick(e, 3) == 0))
            return;
    }
}

/*
 * The pages that an INVLPG each has to drop. For a large page one of any address does, but for
 * QEMU's emulation: that keeps the translated code of the other addresses, and runs it without a
 * walk.
 */
static uint32_t pages_to_drop(const struct place *p, uint64_t was, uint64_t now)
{
    bool large = p->level == 2 && was & now & PTE_LARGE;

    if (large && !access_known_tcg())
        return 1u << (p->region * PAGES + p->page);
    return pages_below(p);
}

void tables_edit(struct editor *e, struct window *w)
{
    struct place p = { .w = w };
    uint64_t was, now;
    bool leaf, in_use;

    choose_place(e, &p);
    was = *place_model(&p);
    leaf = is_leaf(&p);
    if (leaf && p.level == 2 && editor_pick(e, 6) == 0)
        now = to_small(e, &p);
    else
        now = leaf ? new_leaf(e, &p, was) : new_upper(e, &p, was);
    e->at = p;
    e->how = "no flush";
    in_use = was & PTE_PRESENT && only_permits_more(was, now);
    store(e, &p, now, in_use);
    if (in_use)
        p.w->stale |= pages_below(&p);
    else if (was & PTE_PRESENT)
        invalidate(e, &p, pages_to_drop(&p, was, now));
}
