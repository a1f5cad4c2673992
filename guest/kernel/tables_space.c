/*
 * The address space of the test: its windows, the pool of pages that they map, and what ring 3
 * runs. Nothing of it is given back, as the VM ends with the test.
 */
#include "guest/kernel/cpu.h"
#include "guest/kernel/probe.h"
#include "guest/kernel/string.h"
#include "guest/kernel/tables_test.h"

#define LARGE_ORDER 9
#define POOL        2 /* pages of 2 MiB; the small pages are theirs */
#define PDPT_INDEX  5
#define TABLE_FLAGS (PTE_PRESENT | PTE_WRITE | PTE_USER)

/* First and last of a table, neighbours, and ones far away. */
static const uint16_t region_index[REGIONS] = { 0, 1, 300, 511 };
static const uint16_t page_index[PAGES] = { 0, 1, 7, 8, 255, 256, 510, 511 };

static struct window windows[MAX_CPUS + 1]; /* the last one is shared */
static uint64_t *root;
static uint64_t pool[POOL];

struct aspace *tables_aspace;

struct window *tables_window(unsigned cpu)
{
    return &windows[cpu];
}

struct window *tables_shared(void)
{
    return &windows[MAX_CPUS];
}

/* --- places ------------------------------------------------------------------------- */

uint64_t place_gva(const struct place *p)
{
    return (uint64_t)p->w->slot << 39 | (uint64_t)PDPT_INDEX << 30 |
           (uint64_t)region_index[p->region] << 21 | (uint64_t)page_index[p->page] << 12;
}

uint64_t *place_entry(const struct place *p)
{
    switch (p->level) {
    case 4:
        return &root[p->w->slot];
    case 3:
        return &p->w->pdpt[PDPT_INDEX];
    case 2:
        return &p->w->pd[region_index[p->region]];
    default:
        return &p->w->pt[p->region][page_index[p->page]];
    }
}

uint64_t *place_model(const struct place *p)
{
    switch (p->level) {
    case 4:
        return &p->w->pml4e;
    case 3:
        return &p->w->pdpte;
    case 2:
        return &p->w->pde[p->region];
    default:
        return &p->w->pte[p->region][p->page];
    }
}

/* The walk goes through SELF_SLOT once for each level that it shall end early. */
uint64_t place_self_gva(const struct place *p)
{
    uint64_t gva = place_gva(p), self = 0;

    for (unsigned i = 0; i < p->level; i++) {
        gva >>= 9;
        self |= (uint64_t)SELF_SLOT << (39 - 9 * i);
    }
    return (self | gva) & ~UL(7);
}

bool place_is_large(const struct place *p)
{
    return p->w->pde[p->region] & PTE_LARGE;
}

/* --- random things -------------------------------------------------------------------- */

/* xorshift64* */
unsigned editor_pick(struct editor *e, unsigned n)
{
    uint64_t x = e->random;

    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    e->random = x;
    return (unsigned)((x * UL(0x2545f4914f6cdd1d) >> 32) * n >> 32);
}

/* Few in the shared window, so that the CPUs meet: a stale entry there has to be met soon. */
void place_pick(struct editor *e, struct place *p)
{
    p->region = editor_pick(e, p->w->shared ? 2 : REGIONS);
    p->page = editor_pick(e, p->w->shared ? 4 : PAGES);
}

uint64_t tables_some_page(struct editor *e)
{
    return tables_some_large(e) + editor_pick(e, LARGE_SIZE / PAGE_SIZE) * PAGE_SIZE;
}

uint64_t tables_some_large(struct editor *e)
{
    return pool[editor_pick(e, POOL)];
}

/* --- making it --------------------------------------------------------------------------- */

static uint64_t *new_table(void)
{
    uint64_t gpa = pmm_alloc(0, PMM_ZERO);

    return gpa ? phys_to_virt(gpa) : NULL;
}

static void fill_page(uint64_t gpa)
{
    uint8_t *page = phys_to_virt(gpa);
    uint32_t number = (uint32_t)(gpa >> PAGE_SHIFT);

    *(uint64_t *)(void *)(page + PAGE_NUMBER) = number;
    for (unsigned at = PAGE_CODE_RET; at <= PAGE_CODE_HLT; at += PAGE_CODE_HLT - PAGE_CODE_RET) {
        page[at] = 0xb8; /* MOV EAX, number */
        memcpy(page + at + 1, &number, sizeof(number));
        page[at + 5] = at == PAGE_CODE_RET ? 0xc3 : 0xf4;
    }
}

static bool make_pool(void)
{
    for (unsigned i = 0; i < POOL; i++) {
        pool[i] = pmm_alloc(LARGE_ORDER, 0);
        if (!pool[i])
            return false;
        for (uint64_t at = 0; at < LARGE_SIZE; at += PAGE_SIZE)
            fill_page(pool[i] + at);
    }
    return true;
}

/* All upper entries permit everything at first, and no page is there. */
static bool make_window(struct window *w, unsigned slot)
{
    struct place p = { .w = w };

    w->slot = slot;
    w->pdpt = new_table();
    w->pd = new_table();
    if (!w->pdpt || !w->pd)
        return false;
    w->pml4e = virt_to_phys(w->pdpt) | TABLE_FLAGS;
    w->pdpte = virt_to_phys(w->pd) | TABLE_FLAGS;
    for (p.region = 0; p.region < REGIONS; p.region++) {
        w->pt[p.region] = new_table();
        if (!w->pt[p.region])
            return false;
        w->pde[p.region] = virt_to_phys(w->pt[p.region]) | TABLE_FLAGS;
        for (p.level = 2; p.level <= 4; p.level++)
            *place_entry(&p) = *place_model(&p);
    }
    return true;
}

static bool make_stub(void)
{
    uint64_t *table[4] = { root };
    unsigned index[4] = { STUB_SLOT };

    for (unsigned i = 1; i < 4; i++)
        table[i] = new_table();
    for (unsigned i = 0; i < 4; i++) {
        uint64_t *next = i < 3 ? table[i + 1] : new_table();

        if (!next)
            return false;
        table[i][index[i]] = virt_to_phys(next) | TABLE_FLAGS;
        if (i == 3)
            memcpy(next, probe_user_code, (size_t)(probe_user_code_end - probe_user_code));
    }
    return true;
}

bool tables_space_make(unsigned n_cpus)
{
    tables_aspace = aspace_create();
    if (!tables_aspace)
        return false;
    root = phys_to_virt(aspace_root(tables_aspace));
    root[SELF_SLOT] =
        aspace_root(tables_aspace) | PTE_PRESENT | PTE_WRITE | PTE_NX | PTE_ACCESSED | PTE_DIRTY;
    for (unsigned i = 0; i < n_cpus; i++)
        if (!make_window(&windows[i], OWN_SLOT + i))
            return false;
    tables_shared()->shared = true;
    return make_window(tables_shared(), SHARED_SLOT) && make_pool() && make_stub();
}
