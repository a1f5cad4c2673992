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

/* Nobody wrote to untouched RAM; that makes it zero where the monitor says so. */
static unsigned untouched_kind(void)
{
    return cpu_features.tf_zeroed_ram ? ZERO : DIRTY;
}

static struct lock lock;
static struct page *pages; /* by page frame number */
static uint64_t n_pages;   /* entries of `pages` */
static struct pmm_stats stats;

/*
 * RAM that no block was made of yet, by page frame number. Blocks are made one by one: each
 * touches another page of `pages`, and a page touched first costs the host a fault.
 */
#define MAX_UNTOUCHED (BOOT_MAX_RANGES + 4)
static struct untouched {
    uint64_t start, end;
} untouched[MAX_UNTOUCHED];
static unsigned n_untouched, first_untouched;

/* The same ranges as they were at the start. */
static struct untouched given[MAX_UNTOUCHED];
static unsigned n_given;

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
    pages[pfn].class = (uint8_t)kind;
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

/* Makes a block, the largest possible, of the lowest untouched RAM; false when there is none. */
static bool make_block(void)
{
    unsigned order, fits;
    uint64_t pfn;

    while (first_untouched < n_untouched &&
           untouched[first_untouched].start == untouched[first_untouched].end)
        first_untouched++;
    if (first_untouched == n_untouched)
        return false;
    pfn = untouched[first_untouched].start;
    order = (unsigned)__builtin_ctzl(pfn);
    fits = 63 - (unsigned)__builtin_clzl(untouched[first_untouched].end - pfn);
    if (order > fits)
        order = fits;
    if (order > PMM_MAX_ORDER)
        order = PMM_MAX_ORDER;
    untouched[first_untouched].start += UL(1) << order;
    push_block((uint32_t)pfn, order, order, untouched_kind());
    return true;
}

/* Of untouched RAM, until a block is large enough. */
static uint32_t take_untouched(unsigned order)
{
    unsigned kind = untouched_kind();

    while (make_block()) {
        uint32_t pfn = take_of_kind(order, kind);

        if (pfn)
            return pfn;
    }
    return 0;
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

/* A block of the wanted kind if there is one, else any. */
static uint32_t take(unsigned order, unsigned wanted)
{
    uint32_t pfn = take_of_kind(order, wanted);

    if (!pfn && wanted == untouched_kind())
        pfn = take_untouched(order);
    if (!pfn)
        pfn = take_of_kind(order, !wanted);
    if (!pfn)
        pfn = take_untouched(order);
    if (!pfn && order && stats.free >= UL(1) << order) {
        merge_kinds();
        pfn = take_of_kind(order, DIRTY);
    }
    return pfn;
}

uint64_t pmm_alloc(unsigned order, unsigned flags)
{
    uint64_t gpa;
    bool clear = false;
    uint32_t pfn;

    if (order > PMM_MAX_ORDER)
        return 0;
    lock_acquire(&lock);
    pfn = take(order, flags & PMM_ZERO ? ZERO : DIRTY);
    gpa = (uint64_t)pfn << PAGE_SHIFT;
    if (pfn) {
        clear = pages[pfn].class == DIRTY && flags & PMM_ZERO;
        if (gpa >= HUGE_SIZE) /* the first GiB is mapped always; no block crosses a GiB */
            direct_map_need(gpa, PAGE_SIZE);
    }
    lock_release(&lock);
    if (clear)
        memset(phys_to_virt(gpa), 0, PAGE_SIZE << order);
    return gpa;
}

uint64_t pmm_alloc_pages(unsigned order, unsigned flags)
{
    uint64_t gpa = pmm_alloc(order, flags);
    struct page *p;

    if (!gpa)
        return 0;
    p = page_of(gpa);
    p->order = 0;
    for (uint64_t i = 1; i < UL(1) << order; i++)
        p[i] = *p;
    return gpa;
}

static void free_as(uint64_t gpa, unsigned kind)
{
    struct page *p = page_of(gpa);
    unsigned order = p->order;

    lock_acquire(&lock);
    if (p->state != PAGE_ALLOCATED)
        panic("page 0x%lx freed, but it is not allocated (state %u)", gpa, p->state);
    stats.free += UL(1) << order;
    if (kind == ZERO)
        stats.free_zero += UL(1) << order;
    free_block((uint32_t)(gpa >> PAGE_SHIFT), order, kind);
    lock_release(&lock);
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

bool pmm_has(uint64_t gpa)
{
    for (unsigned i = 0; i < n_given; i++)
        if (gpa >> PAGE_SHIFT >= given[i].start && gpa >> PAGE_SHIFT < given[i].end)
            return true;
    return false;
}

void pmm_stats(struct pmm_stats *out)
{
    *out = stats;
}

/* --- start-up ----------------------------------------------------------------------- */

/* Keeps the ranges in ascending order: low RAM is used first. */
static void add_untouched(uint64_t start, uint64_t end)
{
    unsigned i;

    if (start >= end || n_untouched == MAX_UNTOUCHED)
        return;
    for (i = n_untouched++; i > 0 && untouched[i - 1].start > start; i--)
        untouched[i] = untouched[i - 1];
    untouched[i].start = start;
    untouched[i].end = end;
}

/* Takes [start, end), in bytes, out of the untouched ranges. */
static void reserve(uint64_t start, uint64_t end)
{
    uint64_t s = start >> PAGE_SHIFT, e = (end + PAGE_SIZE - 1) >> PAGE_SHIFT;

    for (unsigned i = 0; i < n_untouched; i++) {
        uint64_t r_start = untouched[i].start, r_end = untouched[i].end;

        if (e <= r_start || s >= r_end)
            continue;
        untouched[i].end = s > r_start ? s : r_start;
        add_untouched(e, r_end);
    }
}

/*
 * Takes pages from the start of the first range that has enough of them. The first GiB is
 * mapped already; what the caller touches above it, it maps itself.
 */
static uint64_t early_pages(uint64_t n)
{
    for (unsigned i = 0; i < n_untouched; i++) {
        uint64_t start = untouched[i].start;

        if (untouched[i].end - start < n)
            continue;
        untouched[i].start += n;
        return start << PAGE_SHIFT;
    }
    panic("too little RAM: %lu KiB are usable", boot_info.ram_bytes >> 10);
}

/* The array of struct page isn't cleared. */
static void place_pages(void)
{
    uint64_t gpa, n = (n_pages * sizeof(struct page) + PAGE_SIZE - 1) >> PAGE_SHIFT;
    gpa = early_pages(n);
    if (!direct_map_need(gpa, n << PAGE_SHIFT))
        panic("no place for the page array in the direct map");
    pages = phys_to_virt(gpa);
}

void pmm_init(void)
{
    extern const char kernel_end[];

    for (unsigned i = 0; i < boot_info.n_memory; i++) {
        const struct mem_range *r = &boot_info.memory[i];

        if (r->type == MEM_RAM)
            add_untouched((r->start + PAGE_SIZE - 1) >> PAGE_SHIFT, r->end >> PAGE_SHIFT);
    }
    /* Before anything is taken out: the initrd's pages have a struct, as programs map them. */
    for (unsigned i = 0; i < n_untouched; i++)
        if (untouched[i].end > n_pages)
            n_pages = untouched[i].end;
    reserve(0, 0x100000); /* trampoline, BIOS area */
    reserve(KERNEL_PHYS, virt_to_phys(kernel_end));
    if (!boot_info.initrd_builtin)
        reserve(boot_info.initrd_start, boot_info.initrd_end);
    direct_map_init(early_pages);
    place_pages();
    for (unsigned i = 0; i < n_untouched; i++) {
        stats.total += untouched[i].end - untouched[i].start;
        given[n_given++] = untouched[i];
    }
    if (!boot_info.initrd_builtin &&
        !direct_map_need(boot_info.initrd_start, boot_info.initrd_end - boot_info.initrd_start))
        panic("the initrd is outside the direct map");
    stats.free = stats.total;
    stats.free_zero = untouched_kind() == ZERO ? stats.total : 0;
}
