/*
 * The physical page allocator: a buddy system that also knows which free blocks
 * read as zero. The invariants are in docs/guest.md, "Page allocator".
 */
#include "guest/kernel/mm.h"

#include "guest/kernel/boot_info.h"
#include "guest/kernel/cpu.h"
#include "guest/kernel/panic.h"
#include "guest/kernel/string.h"

enum { DIRTY, ZERO, KINDS };

/* Free blocks of one kind: a list an order, and a bit an order that is not empty. */
static struct {
    uint32_t head[PMM_MAX_ORDER + 1]; /* page frame number; 0 ends a list */
    uint32_t orders;
} free_blocks[KINDS];

static struct lock lock;
static struct page *pages; /* by page frame number */
static uint64_t n_pages;   /* entries of `pages` */
static struct pmm_stats stats;

struct page *page_of(uint64_t gpa)
{
    ASSERT(gpa >> PAGE_SHIFT < n_pages);
    return &pages[gpa >> PAGE_SHIFT];
}

/* --- lists ------------------------------------------------------------------- */

static void push_block(uint32_t pfn, unsigned order, unsigned top, unsigned kind)
{
    struct page *p = &pages[pfn];
    uint32_t next = free_blocks[kind].head[order];

    p->refs = 0;
    p->order = (uint8_t)order;
    p->top = (uint8_t)top;
    p->state = kind == ZERO ? PAGE_FREE_ZERO : PAGE_FREE_DIRTY;
    p->prev = 0;
    p->next = next;
    if (next)
        pages[next].prev = pfn;
    free_blocks[kind].head[order] = pfn;
    free_blocks[kind].orders |= 1u << order;
}

static void take_block(uint32_t pfn, unsigned order, unsigned kind)
{
    struct page *p = &pages[pfn];

    if (p->next)
        pages[p->next].prev = p->prev;
    if (p->prev)
        pages[p->prev].next = p->next;
    else if (!(free_blocks[kind].head[order] = p->next))
        free_blocks[kind].orders &= ~(1u << order);
}

/* --- allocating ----------------------------------------------------------------- */

/* Takes the smallest block that is large enough, and gives back what is too much of it. */
static uint32_t take_of_kind(unsigned order, unsigned kind)
{
    uint32_t orders = free_blocks[kind].orders >> order;
    unsigned have, top;
    uint32_t pfn;

    if (!orders)
        return 0;
    have = order + (unsigned)__builtin_ctz(orders);
    pfn = free_blocks[kind].head[have];
    top = pages[pfn].top;
    take_block(pfn, have, kind);
    while (have > order) {
        have--;
        push_block(pfn + (1u << have), have, top, kind);
    }
    pages[pfn].order = (uint8_t)order;
    pages[pfn].state = PAGE_ALLOCATED;
    pages[pfn].refs = 1;
    stats.free -= UL(1) << order;
    if (kind == ZERO)
        stats.free_zero -= UL(1) << order;
    return pfn;
}

static void free_block(uint32_t pfn, unsigned order, unsigned kind)
{
    unsigned top = pages[pfn].top;
    unsigned free_state = kind == ZERO ? PAGE_FREE_ZERO : PAGE_FREE_DIRTY;

    for (; order < top; order++) {
        uint32_t buddy = pfn ^ (1u << order);

        /* Both halves of a block that was split have a struct that means something. */
        if (pages[buddy].state != free_state || pages[buddy].order != order)
            break;
        take_block(buddy, order, kind);
        pfn &= ~(1u << order);
    }
    push_block(pfn, order, top, kind);
}

/*
 * Blocks merge with their own kind only, so a dirty page may keep zero blocks apart.
 * When a large request fails for that, the knowledge is given up and everything merges.
 */
static void merge_kinds(void)
{
    for (unsigned order = 0; order < PMM_MAX_ORDER; order++) {
        uint32_t pfn;

        while ((pfn = free_blocks[ZERO].head[order])) {
            take_block(pfn, order, ZERO);
            stats.free_zero -= UL(1) << order;
            free_block(pfn, order, DIRTY);
        }
    }
}

uint64_t pmm_alloc(unsigned order, unsigned flags)
{
    unsigned first = flags & PMM_ZERO ? ZERO : DIRTY;
    unsigned kind = first;
    uint64_t irq, gpa;
    uint32_t pfn;

    if (order > PMM_MAX_ORDER)
        return 0;
    irq = lock_irqsave(&lock);
    pfn = take_of_kind(order, kind);
    if (!pfn) {
        kind = !first;
        pfn = take_of_kind(order, kind);
    }
    if (!pfn && order && stats.free >= UL(1) << order) {
        merge_kinds();
        kind = DIRTY;
        pfn = take_of_kind(order, kind);
    }
    lock_irqrestore(&lock, irq);
    gpa = (uint64_t)pfn << PAGE_SHIFT;
    if (pfn && flags & PMM_ZERO && kind == DIRTY)
        memset(phys_to_virt(gpa), 0, PAGE_SIZE << order);
    return gpa;
}

static void free_as(uint64_t gpa, unsigned kind)
{
    struct page *p = page_of(gpa);
    uint64_t irq = lock_irqsave(&lock);
    unsigned order = p->order;

    if (p->state != PAGE_ALLOCATED)
        panic("page 0x%lx freed, but it is not allocated (state %u)", gpa, p->state);
    stats.free += UL(1) << order;
    if (kind == ZERO)
        stats.free_zero += UL(1) << order;
    free_block((uint32_t)(gpa >> PAGE_SHIFT), order, kind);
    lock_irqrestore(&lock, irq);
}

void pmm_free(uint64_t gpa)
{
    free_as(gpa, DIRTY);
}

void pmm_free_zeroed(uint64_t gpa)
{
    free_as(gpa, ZERO);
}

void page_get(uint64_t gpa)
{
    __atomic_fetch_add(&page_of(gpa)->refs, 1, __ATOMIC_RELAXED);
}

void page_put(uint64_t gpa)
{
    if (__atomic_sub_fetch(&page_of(gpa)->refs, 1, __ATOMIC_ACQ_REL) == 0)
        pmm_free(gpa);
}

void pmm_stats(struct pmm_stats *out)
{
    *out = stats;
}

/* --- start-up ----------------------------------------------------------------------- */

/* RAM that is free when the kernel starts, by page frame number. */
#define MAX_FREE (BOOT_MAX_RANGES + 4)
static struct {
    uint64_t start, end;
} initial[MAX_FREE];
static unsigned n_initial;

static void add_initial(uint64_t start, uint64_t end)
{
    if (start < end && n_initial < MAX_FREE) {
        initial[n_initial].start = start;
        initial[n_initial++].end = end;
    }
}

/* Takes [start, end), in bytes, out of the initial ranges. */
static void reserve(uint64_t start, uint64_t end)
{
    uint64_t s = start >> PAGE_SHIFT, e = (end + PAGE_SIZE - 1) >> PAGE_SHIFT;

    for (unsigned i = 0; i < n_initial; i++) {
        uint64_t r_start = initial[i].start, r_end = initial[i].end;

        if (e <= r_start || s >= r_end)
            continue;
        initial[i].end = s > r_start ? s : r_start;
        add_initial(e, r_end);
    }
}

/* For page tables of the direct map: a page of the first range that is mapped already. */
static uint64_t early_page(void)
{
    for (unsigned i = 0; i < n_initial; i++)
        if (initial[i].start < initial[i].end && initial[i].start < HUGE_SIZE >> PAGE_SHIFT)
            return initial[i].start++ << PAGE_SHIFT;
    panic("no RAM below 1 GiB is left for page tables");
}

/* The array of struct page comes from the end of the largest range. It isn't cleared. */
static void place_pages(void)
{
    unsigned largest = 0;
    uint64_t need;

    for (unsigned i = 0; i < n_initial; i++) {
        if (initial[i].end > n_pages)
            n_pages = initial[i].end;
        if (initial[i].end - initial[i].start > initial[largest].end - initial[largest].start)
            largest = i;
    }
    need = (n_pages * sizeof(struct page) + PAGE_SIZE - 1) >> PAGE_SHIFT;
    if (!n_initial || initial[largest].end - initial[largest].start <= need)
        panic("too little RAM: %lu KiB are usable", boot_info.ram_bytes >> 10);
    initial[largest].end -= need;
    pages = phys_to_virt(initial[largest].end << PAGE_SHIFT);
}

/* Hands a range over as the few large aligned blocks that it consists of. */
static void seed(uint64_t pfn, uint64_t end)
{
    unsigned kind = cpu_features.tf_zeroed_ram ? ZERO : DIRTY;

    stats.total += end - pfn;
    while (pfn < end) {
        unsigned order = (unsigned)__builtin_ctzl(pfn);
        unsigned fits = 63 - (unsigned)__builtin_clzl(end - pfn);

        if (order > fits)
            order = fits;
        if (order > PMM_MAX_ORDER)
            order = PMM_MAX_ORDER;
        push_block((uint32_t)pfn, order, order, kind);
        pfn += UL(1) << order;
    }
}

void pmm_init(void)
{
    extern const char kernel_end[];

    for (unsigned i = 0; i < boot_info.n_memory; i++) {
        const struct mem_range *r = &boot_info.memory[i];

        if (r->type == MEM_RAM)
            add_initial((r->start + PAGE_SIZE - 1) >> PAGE_SHIFT, r->end >> PAGE_SHIFT);
    }
    reserve(0, 0x100000); /* trampoline, BIOS area */
    reserve(KERNEL_PHYS, virt_to_phys(kernel_end));
    if (!boot_info.initrd_builtin)
        reserve(boot_info.initrd_start, boot_info.initrd_end);
    direct_map_init(early_page);
    place_pages();
    for (unsigned i = 0; i < n_initial; i++)
        seed(initial[i].start, initial[i].end);
    stats.free = stats.total;
    stats.free_zero = cpu_features.tf_zeroed_ram ? stats.total : 0;
}
