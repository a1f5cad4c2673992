/*
 * Physical pages, kernel stacks and address spaces.
 */
#ifndef GUEST_KERNEL_MM_H
#define GUEST_KERNEL_MM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/kernel/layout.h"
#include "guest/kernel/lock.h"

/* --- direct map ---------------------------------------------------------------- */

static inline void *phys_to_virt(uint64_t gpa)
{
    return (void *)(gpa + DIRECT_MAP);
}

/* For direct-map addresses, and for those inside the kernel image. */
static inline uint64_t virt_to_phys(const void *p)
{
    uint64_t gva = (uint64_t)p;

    return gva >= KERNEL_BASE ? gva - KERNEL_BASE : gva - DIRECT_MAP;
}

/* --- physical pages (buddy allocator) ---------------------------------------------- */

#define PMM_MAX_ORDER 18 /* 1 GiB */

#define PMM_ZERO 1u /* the block reads as zero */

/*
 * One a page frame of RAM. Only the first struct of a block means anything, and
 * only after the allocator handed the block out or took it back: the array is
 * never initialised as a whole (docs/guest.md, "Page allocator").
 */
struct page {
    union {
        uint32_t refs; /* allocated: 1 after pmm_alloc(); for page_get() and page_put() */
        struct {       /* slab page of the heap */
            uint16_t free_offset;
            uint8_t in_use, carved;
        } slab;
    };
    uint8_t order;       /* of the block that starts here */
    uint8_t top;         /* order of the block it was once split from: merging stops there */
    uint8_t state;       /* PAGE_* */
    uint8_t class;       /* slab page: size class */
    uint32_t next, prev; /* free or slab list: page frame numbers, 0 ends */
};

enum { PAGE_ALLOCATED = 1, PAGE_FREE_DIRTY, PAGE_FREE_ZERO, PAGE_SLAB };

/*
 * Allocates 2^order contiguous pages, aligned to their size. Returns the gpa, or
 * 0 when memory is out. The caller owns one reference.
 */
uint64_t pmm_alloc(unsigned order, unsigned flags);

/* pmm_free() of one page that its user has left zeroed. */
void pmm_free_zeroed(uint64_t gpa);

/*
 * The same, but as 2^order single pages, each with a reference of its own: for many
 * pages at the cost of one.
 */
uint64_t pmm_alloc_pages(unsigned order, unsigned flags);

/* Gives back a block of pmm_alloc() by its first gpa; the order is remembered. */
void pmm_free(uint64_t gpa);

/* More and fewer references to a block; page_put() frees it with the last one. */
void page_get(uint64_t gpa);
void page_put(uint64_t gpa);

/* The struct of a frame of RAM. */
struct page *page_of(uint64_t gpa);

/* True for RAM that the allocator was given, allocated or free. */
bool pmm_has(uint64_t gpa);

/* Pages free and pages of RAM in all. */
struct pmm_stats {
    uint64_t total, free, free_zero;
};
void pmm_stats(struct pmm_stats *out);

/* --- kernel stacks ------------------------------------------------------------------ */

/* Returns the top (exclusive) of a mapped stack of KSTACK_SIZE above a guard, or 0. */
uint64_t kstack_alloc(void);
void kstack_free(uint64_t top); /* not the stack one runs on */

/* Is this address in a guard below a kernel stack? */
bool kstack_is_guard(uint64_t gva);

/* --- page tables -------------------------------------------------------------------- */

#define PTE_PRESENT  UL(1)
#define PTE_WRITE    UL(2)
#define PTE_USER     UL(4)
#define PTE_PWT      UL(8)
#define PTE_PCD      UL(0x10)
#define PTE_ACCESSED UL(0x20)
#define PTE_DIRTY    UL(0x40)
#define PTE_LARGE    UL(0x80)
#define PTE_GLOBAL   UL(0x100)
#define PTE_SW_MASK  UL(0xe00) /* ignored by the CPU: bits 9 to 11 */
#define PTE_NX       UL(0x8000000000000000)
#define PTE_ADDR     UL(0x000ffffffffff000)

/* Flags a mapping may have: PTE_WRITE, PTE_NX, PTE_PWT, PTE_PCD, PTE_SW_MASK. */
#define ASPACE_FLAGS (PTE_WRITE | PTE_NX | PTE_PWT | PTE_PCD | PTE_SW_MASK)

/*
 * A user address space: the lower half is its own, the kernel's half is shared.
 * All functions take its lock themselves; gva and size are multiples of the page size.
 */
struct aspace;

/* Returns an empty address space, or NULL when memory is out. */
struct aspace *aspace_create(void);

/* One more that has it, and will call aspace_destroy(). */
struct aspace *aspace_get(struct aspace *as);

/*
 * The last one frees the tables, and drops one reference (page_put) of each mapped block. The
 * address space must be current nowhere then.
 */
void aspace_destroy(struct aspace *as);

/*
 * Maps one page of `size` PAGE_SIZE, LARGE_SIZE or, where the CPU has it, HUGE_SIZE at gva to gpa.
 * Takes over the caller's reference to the block. Returns 0, -EEXIST when something is mapped
 * there, -EINVAL for an address above user space or misaligned, -ENOMEM, or -EACCES for a page both
 * writable and executable. The page is always readable.
 */
int aspace_map(struct aspace *as, uint64_t gva, uint64_t gpa, uint64_t size, uint64_t flags);

/*
 * Maps n single pages (pmm_alloc_pages()) from gva on, all inside one aligned 2 MiB. Takes
 * over their references, or maps none of them: -EEXIST when one is mapped already; else as above.
 */
int aspace_map_pages(struct aspace *as, uint64_t gva, uint64_t gpa, unsigned n, uint64_t flags);

/*
 * Unmaps all pages that start in [gva, gva + len), drops their references after the
 * TLB shootdown. A large page must lie inside as a whole (-EINVAL). Returns 0.
 */
int aspace_unmap(struct aspace *as, uint64_t gva, uint64_t len);

/* Changes the flags of the mapped pages in the range; -EACCES and -EINVAL as above. */
int aspace_protect(struct aspace *as, uint64_t gva, uint64_t len, uint64_t flags);

/*
 * Looks up a user address. True when it is mapped: then *entry is the leaf and *size its
 * page's size. Otherwise *size is that of the aligned region around it in which nothing is
 * mapped, so that a loop can step over it. Both may be NULL.
 */
bool aspace_lookup(struct aspace *as, uint64_t gva, uint64_t *entry, uint64_t *size);

/*
 * The same with a reference (for page_put()) to the page, whose start is *gpa: it stays where it is
 * meanwhile. Whoever uses a user page by its gpa, not through the user's address, has to hold it.
 */
bool aspace_hold(struct aspace *as, uint64_t gva, uint64_t *gpa, uint64_t *size);

/* Makes it current on this CPU (NULL: kernel tables only). */
void aspace_switch(struct aspace *as);

/* gpa of the top-level table, for reports. */
uint64_t aspace_root(const struct aspace *as);

/*
 * Flushes [start, end) of an address space on every CPU. Called
 * by aspace_unmap() and aspace_protect().
 */
void tlb_flush(struct aspace *as, uint64_t start, uint64_t end);

/* Serves a shootdown that waits for this CPU: VECTOR_TLB's handler, and whoever spins. */
void tlb_poll(void);

/* --- start-up ----------------------------------------------------------------------- */

void pmm_init(void); /* direct map and page allocator, from boot_info */

/* Prepares the direct map above its first GiB; early_pages(n) gives n pages below 1 GiB. */
void direct_map_init(uint64_t (*early_pages)(uint64_t n));

/*
 * Makes sure that the direct map covers [gpa, gpa + len). What pmm_alloc() gives is covered
 * always; this is for what others put into memory. False when it is out of reach.
 */
bool direct_map_need(uint64_t gpa, uint64_t len);

extern uint64_t kernel_pml4[512]; /* tables.S: the kernel's half, no user half */

#endif
