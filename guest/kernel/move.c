#include "guest/kernel/move.h"

#include <stdbool.h>

#include "guest/kernel/aspace_internal.h"
#include "guest/kernel/errno.h"
#include "guest/kernel/mm.h"
#include "guest/kernel/string.h"

#define USER_GROUPS 32 /* groups of eight entries of a PML4 that are user space */

/* A page that is looked for in the tables, and what is to be done with its entries. */
struct search {
    struct aspace *as;
    uint64_t gpa;  /* anywhere in the page */
    uint64_t page; /* where it begins, once one was found */
    uint64_t size;
    uint32_t found;
    void (*visit)(struct search *s, uint64_t *entry, uint64_t gva);
    uint64_t to; /* where the entries shall point to */
};

static bool leaf_fits(const struct search *s, uint64_t e, unsigned level)
{
    uint64_t size = PAGE_SIZE << (9 * (level - 1));

    return s->gpa - (e & PTE_ADDR & -size) < size;
}

/* Visits the leaves below a table that map the page; an entry that was hidden counts. */
static void search_table(struct search *s, uint64_t table, unsigned level, uint64_t gva)
{
    uint64_t *t = phys_to_virt(table);
    uint64_t groups = *table_used_map(table), span = PAGE_SIZE << (9 * (level - 1));

    if (level == LEVEL_PML4)
        groups &= (UL(1) << USER_GROUPS) - 1;
    for (; groups; groups &= groups - 1) {
        unsigned first = (unsigned)__builtin_ctzl(groups) * 8;

        for (unsigned i = first; i < first + 8; i++) {
            uint64_t e = t[i];

            if (!e)
                continue;
            if (level > LEVEL_PT && !(e & PTE_LARGE)) {
                search_table(s, e & PTE_ADDR, level - 1, gva + i * span);
            } else if (leaf_fits(s, e, level)) {
                s->page = e & PTE_ADDR & -span;
                s->size = span;
                s->found++;
                if (s->visit)
                    s->visit(s, &t[i], gva + i * span);
            }
        }
    }
}

/*
 * Not present, but with all the rest: whoever touches the page faults, and then waits for the lock
 * of the address space. The CPU sets accessed and dirty in present entries only, so neither is
 * lost.
 */
static void hide(struct search *s, uint64_t *entry, uint64_t gva)
{
    __atomic_fetch_and(entry, ~PTE_PRESENT, __ATOMIC_ACQ_REL);
    tlb_flush(s->as, gva, gva + s->size);
}

static void show(struct search *s, uint64_t *entry, uint64_t gva)
{
    (void)gva;
    __atomic_store_n(entry, (*entry - s->page + s->to) | PTE_PRESENT, __ATOMIC_RELEASE);
}

/* Calls `visit` for all entries of the address spaces that are locked. */
static void visit_all(struct search *s, void (*visit)(struct search *, uint64_t *, uint64_t))
{
    s->visit = visit;
    for (struct aspace *as = aspace_all; as; as = as->next) {
        if (!as->moving)
            continue;
        s->as = as;
        search_table(s, as->root, LEVEL_PML4, 0);
    }
}

/* Looks for the page everywhere, and keeps the address spaces locked that have it. */
static void lock_mappers(struct search *s)
{
    for (struct aspace *as = aspace_all; as; as = as->next) {
        uint32_t before = s->found;

        lock_acquire(&as->lock);
        s->as = as;
        search_table(s, as->root, LEVEL_PML4, 0);
        as->moving = s->found != before;
        if (!as->moving)
            lock_release(&as->lock);
    }
}

static void unlock_mappers(void)
{
    for (struct aspace *as = aspace_all; as; as = as->next) {
        if (!as->moving)
            continue;
        as->moving = false;
        lock_release(&as->lock);
    }
}

/*
 * Copies the page while nobody can reach it. Every reference to it has to be one of the entries
 * that were found: else somebody, such as a fork on another CPU, is using it by its gpa.
 */
static int move_locked(struct search *s)
{
    struct page *p = page_of(s->page), *fresh;
    unsigned order = (unsigned)__builtin_ctzl(s->size) - PAGE_SHIFT;

    if (p->state != PAGE_ALLOCATED || p->order != order ||
        __atomic_load_n(&p->refs, __ATOMIC_ACQUIRE) != s->found)
        return -EBUSY;
    s->to = pmm_alloc(order, 0);
    if (!s->to)
        return -ENOMEM;
    fresh = page_of(s->to);
    fresh->refs = s->found;
    visit_all(s, hide);
    memcpy(phys_to_virt(s->to), phys_to_virt(s->page), s->size);
    visit_all(s, show);
    pmm_free(s->page);
    return 0;
}

int move_page(uint64_t gpa, uint64_t *to, uint64_t *size)
{
    struct search s = { .gpa = gpa };
    int rc = -EBUSY;

    lock_acquire(&aspace_list_lock);
    lock_mappers(&s);
    if (s.found)
        rc = move_locked(&s);
    else if (!pmm_has(gpa))
        rc = -ENOENT;
    unlock_mappers();
    lock_release(&aspace_list_lock);
    *to = rc ? 0 : s.to;
    *size = rc ? 0 : s.size;
    return rc;
}
