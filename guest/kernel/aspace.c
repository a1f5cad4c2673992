/*
 * User address spaces: four levels of tables, of which the upper half is the kernel's
 * and the same everywhere.
 *
 *   root: PML4 [0 .. 255] -> PDPT -> PD [large leaf] -> PT [leaf]
 *
 * The struct page of a table keeps a bitmap: bit n says that entries 8n to 8n + 7 were
 * ever used. Tearing down then looks at those only, and leaves a table that is known to
 * be zero again.
 */
#include "guest/kernel/aspace_internal.h"
#include "guest/kernel/cpu.h"
#include "guest/kernel/errno.h"
#include "guest/kernel/heap.h"
#include "guest/kernel/mm.h"

#define DIRECT_ENTRY (DIRECT_MAP >> 39 & 511)
#define KERNEL_ENTRY 511
#define BATCH        32
#define NO_REGION    ~UL(0)

static unsigned index_of(uint64_t gva, unsigned level)
{
    return gva >> (PAGE_SHIFT + 9 * (level - 1)) & 511;
}

static uint64_t span_of(unsigned level)
{
    return PAGE_SIZE << (9 * (level - 1));
}

struct lock aspace_list_lock;
struct aspace *aspace_all;

static uint64_t new_table(void)
{
    uint64_t gpa = pmm_alloc(0, PMM_ZERO);

    if (gpa)
        *table_used_map(gpa) = 0;
    return gpa;
}

static void set_entry(uint64_t *e, uint64_t value)
{
    uint64_t i = (uint64_t)e % PAGE_SIZE / sizeof(*e);

    *table_used_map(virt_to_phys(e) & PTE_ADDR) |= UL(1) << i / 8;
    __atomic_store_n(e, value, __ATOMIC_RELEASE);
}

/*
 * Goes down to the entry for gva at *level. Returns it; or the entry that ends the walk
 * earlier, a large leaf or one that is not present, and its level in *level. Missing tables
 * are made when `make` is set; NULL when memory is out.
 */
static uint64_t *walk(struct aspace *as, uint64_t gva, unsigned *level, bool make)
{
    unsigned target = *level, l = LEVEL_PML4;
    uint64_t table = as->root;
    uint64_t *e;

    for (;; l--) {
        e = (uint64_t *)phys_to_virt(table) + index_of(gva, l);
        if (l == target)
            break;
        if (!(*e & PTE_PRESENT) && make) {
            uint64_t next = new_table();

            if (!next)
                return NULL;
            set_entry(e, next | PTE_PRESENT | PTE_WRITE | PTE_USER);
        }
        if (!(*e & PTE_PRESENT) || *e & PTE_LARGE)
            break;
        table = *e & PTE_ADDR;
    }
    *level = l;
    if (l == LEVEL_PT) {
        as->last_region = gva / LARGE_SIZE;
        as->last_table = phys_to_virt(table);
    }
    return e;
}

/*
 * The leaf that maps gva, or NULL; and its page size, or what is absent around gva. Loops
 * over pages stay in one table mostly: that one needs no walk.
 */
static uint64_t *find_leaf(struct aspace *as, uint64_t gva, uint64_t *size)
{
    unsigned level = LEVEL_PT;
    uint64_t *e;

    if (gva / LARGE_SIZE == as->last_region) {
        e = as->last_table + index_of(gva, LEVEL_PT);
        *size = PAGE_SIZE;
    } else {
        e = walk(as, gva, &level, false);
        *size = span_of(level);
    }
    if (*e & PTE_PRESENT)
        return e;
    if (*size == PAGE_SIZE &&
        !(*table_used_map(virt_to_phys(e) & PTE_ADDR) >> index_of(gva, LEVEL_PT) / 8 & 1))
        *size = 8 * PAGE_SIZE; /* none of the group was ever used */
    return NULL;
}

static void list_add(struct aspace *as)
{
    lock_acquire(&aspace_list_lock);
    as->next = aspace_all;
    as->previous = &aspace_all;
    if (aspace_all)
        aspace_all->previous = &as->next;
    aspace_all = as;
    lock_release(&aspace_list_lock);
}

static void list_remove(struct aspace *as)
{
    lock_acquire(&aspace_list_lock);
    *as->previous = as->next;
    if (as->next)
        as->next->previous = as->previous;
    lock_release(&aspace_list_lock);
}

struct aspace *aspace_create(void)
{
    struct aspace *as = kzalloc(sizeof(*as));
    uint64_t *root;

    if (!as)
        return NULL;
    as->root = new_table();
    if (!as->root) {
        kfree(as);
        return NULL;
    }
    as->refs = 1;
    as->pcid = pcid_alloc();
    as->last_region = NO_REGION;
    root = phys_to_virt(as->root);
    root[DIRECT_ENTRY] = kernel_pml4[DIRECT_ENTRY];
    root[KERNEL_ENTRY] = kernel_pml4[KERNEL_ENTRY];
    list_add(as);
    return as;
}

struct aspace *aspace_get(struct aspace *as)
{
    __atomic_fetch_add(&as->refs, 1, __ATOMIC_RELAXED);
    return as;
}

void aspace_destroy(struct aspace *as)
{
    uint64_t *root = phys_to_virt(as->root);

    if (__atomic_sub_fetch(&as->refs, 1, __ATOMIC_ACQ_REL) != 0)
        return;
    list_remove(as); /* its pages have references now that no one can find: they stay */
    root[DIRECT_ENTRY] = 0;
    root[KERNEL_ENTRY] = 0;
    table_free(as->root, LEVEL_PML4);
    pcid_free(as->pcid);
    kfree(as);
}

static int check_flags(uint64_t flags)
{
    if (flags & ~ASPACE_FLAGS)
        return -EINVAL;
    return (flags & PTE_WRITE) && !(flags & PTE_NX) ? -EACCES : 0;
}

static int check_range(uint64_t gva, uint64_t len)
{
    return (gva | len) % PAGE_SIZE || len > USER_TOP || gva > USER_TOP - len ? -EINVAL : 0;
}

/*
 * Tables all of whose pages were unmapped are still there; a large page may take their
 * place. `e` is the entry that leads to them, at the level of the large page.
 */
static void drop_empty_table(struct aspace *as, uint64_t *e, uint64_t gva, unsigned level)
{
    uint64_t table = *e & PTE_ADDR;

    if (!table_maps_nothing(table, level - 1))
        return;
    *e = 0;
    as->last_region = NO_REGION;
    /* The CPU may have cached the tables' places. */
    tlb_flush(as, gva, gva + span_of(level));
    table_free(table, level - 1);
}

static int map_locked(struct aspace *as, uint64_t gva, uint64_t leaf, unsigned target)
{
    unsigned level = target;
    uint64_t *e = walk(as, gva, &level, true);

    if (!e)
        return -ENOMEM;
    if (target > LEVEL_PT && level == target && (*e & (PTE_PRESENT | PTE_LARGE)) == PTE_PRESENT)
        drop_empty_table(as, e, gva, level);
    if (*e & PTE_PRESENT)
        return -EEXIST;
    set_entry(e, leaf);
    return 0;
}

/* The level of a leaf for pages of that size; 0: there is none. */
static unsigned leaf_level(uint64_t size)
{
    if (size == PAGE_SIZE)
        return LEVEL_PT;
    if (size == LARGE_SIZE)
        return LEVEL_PD;
    return size == HUGE_SIZE && cpu_features.gbpages ? LEVEL_PDPT : 0;
}

int aspace_map(struct aspace *as, uint64_t gva, uint64_t gpa, uint64_t size, uint64_t flags)
{
    uint64_t leaf = gpa | flags | PTE_PRESENT | PTE_USER;
    unsigned level = leaf_level(size);
    int rc = check_flags(flags);

    if (rc)
        return rc;
    if (!level || (gva | gpa) % size || check_range(gva, size))
        return -EINVAL;
    if (level > LEVEL_PT)
        leaf |= PTE_LARGE;
    lock_acquire(&as->lock);
    rc = map_locked(as, gva, leaf, level);
    lock_release(&as->lock);
    return rc;
}

int aspace_map_pages(struct aspace *as, uint64_t gva, uint64_t gpa, unsigned n, uint64_t flags)
{
    uint64_t leaf = gpa | flags | PTE_PRESENT | PTE_USER;
    unsigned level = LEVEL_PT;
    int rc = check_flags(flags);
    uint64_t *e;

    if (rc)
        return rc;
    if (gpa % PAGE_SIZE || gva % LARGE_SIZE + n * PAGE_SIZE > LARGE_SIZE ||
        check_range(gva, n * PAGE_SIZE))
        return -EINVAL;
    lock_acquire(&as->lock);
    e = walk(as, gva, &level, true);
    if (!e)
        rc = -ENOMEM;
    else if (level != LEVEL_PT)
        rc = -EEXIST;
    for (unsigned i = 0; !rc && i < n; i++)
        if (e[i])
            rc = -EEXIST;
    if (!rc) {
        /* The bitmap of used groups, as in set_entry(). */
        for (unsigned i = 0; i < n; i += 8)
            set_entry(e + i, leaf + i * PAGE_SIZE);
        set_entry(e + n - 1, leaf + (n - 1) * PAGE_SIZE);
        for (unsigned i = 0; i < n; i++, leaf += PAGE_SIZE)
            __atomic_store_n(&e[i], leaf, __ATOMIC_RELEASE);
    }
    lock_release(&as->lock);
    return rc;
}

/* Does the range cut a large page in two? */
static bool cuts_large(struct aspace *as, uint64_t gva, uint64_t end)
{
    uint64_t size;

    if (gva % HUGE_SIZE && find_leaf(as, gva, &size) && gva % size)
        return true;
    return end % HUGE_SIZE && find_leaf(as, end - 1, &size) && end % size;
}

/*
 * Visits the leaves from *gva on, up to BATCH of them: takes them away (flags is 0: their
 * blocks go to `gone`) or gives them `flags`. Returns how many it changed.
 */
static unsigned change_batch(struct aspace *as, uint64_t *gva, uint64_t end, uint64_t flags,
                             uint64_t *gone)
{
    unsigned n = 0;

    while (*gva < end && n < BATCH) {
        uint64_t size;
        uint64_t *e = find_leaf(as, *gva, &size);

        if (e && flags) {
            __atomic_store_n(e, (*e & ~ASPACE_FLAGS) | (flags & ASPACE_FLAGS), __ATOMIC_RELEASE);
            n++;
        } else if (e) {
            gone[n++] = __atomic_exchange_n(e, 0, __ATOMIC_ACQ_REL) & PTE_ADDR;
        }
        *gva = (*gva & ~(size - 1)) + size;
    }
    return n;
}

static int change(struct aspace *as, uint64_t gva, uint64_t len, uint64_t flags)
{
    uint64_t end = gva + len;
    int rc;

    lock_acquire(&as->lock);
    rc = len && cuts_large(as, gva, end) ? -EINVAL : 0;
    while (!rc && gva < end) {
        uint64_t gone[BATCH], start = gva;
        unsigned n = change_batch(as, &gva, end, flags, gone);

        if (!n)
            continue;
        tlb_flush(as, start, gva < end ? gva : end);
        for (unsigned i = 0; !flags && i < n; i++)
            page_put(gone[i]);
    }
    lock_release(&as->lock);
    return rc;
}

int aspace_unmap(struct aspace *as, uint64_t gva, uint64_t len)
{
    int rc = check_range(gva, len);

    return rc ? rc : change(as, gva, len, 0);
}

int aspace_protect(struct aspace *as, uint64_t gva, uint64_t len, uint64_t flags)
{
    int rc = check_flags(flags);

    if (!rc)
        rc = check_range(gva, len);
    return rc ? rc : change(as, gva, len, flags | PTE_PRESENT);
}

/* `hold`: with a reference to the page, taken before anybody can move it. */
static bool lookup(struct aspace *as, uint64_t gva, uint64_t *entry, uint64_t *size, bool hold)
{
    uint64_t page_size = PAGE_SIZE;
    uint64_t *e = NULL;

    if (gva >= USER_TOP) {
        if (size)
            *size = page_size;
        return false;
    }
    lock_acquire(&as->lock);
    e = find_leaf(as, gva, &page_size);
    if (e && entry)
        *entry = *e;
    if (e && hold)
        page_get(*e & PTE_ADDR & -page_size);
    if (size)
        *size = page_size;
    lock_release(&as->lock);
    return e != NULL;
}

bool aspace_lookup(struct aspace *as, uint64_t gva, uint64_t *entry, uint64_t *size)
{
    return lookup(as, gva, entry, size, false);
}

bool aspace_hold(struct aspace *as, uint64_t gva, uint64_t *gpa, uint64_t *size)
{
    uint64_t entry;

    if (!lookup(as, gva, &entry, size, true))
        return false;
    *gpa = entry & PTE_ADDR & -*size;
    return true;
}

uint64_t aspace_root(const struct aspace *as)
{
    return as->root;
}
