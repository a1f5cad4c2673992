/* Windows of 2 MiB for device memory. They are added and never taken away, so no TLB is flushed. */
#include "guest/kernel/mmio.h"

#include <stddef.h>

#include "guest/kernel/lock.h"
#include "guest/kernel/mm.h"

#define WINDOWS 512 /* of one page directory */
#define BUILT   2   /* that tables.S has: IOAPIC and local APIC at their usual places */
#define LEAF                                                                              \
    (PTE_PRESENT | PTE_WRITE | PTE_PWT | PTE_PCD | PTE_ACCESSED | PTE_DIRTY | PTE_LARGE | \
     PTE_GLOBAL | PTE_NX)

extern uint64_t mmio_pd[WINDOWS];

static struct lock lock;
static unsigned used = BUILT;

/* The first of `n` windows that map it already, else of those that are free; WINDOWS: none. */
static unsigned find(uint64_t gpa, unsigned n)
{
    unsigned i, same = 0;

    for (i = 0; i < used; i++) {
        same = (mmio_pd[i] & PTE_ADDR) == gpa + same * LARGE_SIZE ? same + 1 : 0;
        if (same == n)
            return i + 1 - n;
    }
    return n <= WINDOWS - used ? used : WINDOWS;
}

volatile void *mmio_map(uint64_t gpa, uint64_t len)
{
    uint64_t first = gpa & -LARGE_SIZE, windows;
    unsigned at, n;

    if (len == 0 || gpa + len - 1 < gpa || gpa + len - 1 > (PTE_ADDR | (PAGE_SIZE - 1)))
        return NULL;
    windows = (gpa + len - 1 - first) / LARGE_SIZE + 1;
    if (windows > WINDOWS)
        return NULL;
    n = (unsigned)windows;
    lock_acquire(&lock);
    at = find(first, n);
    for (unsigned i = 0; at == used && i < n; i++)
        __atomic_store_n(&mmio_pd[at + i], (first + i * LARGE_SIZE) | LEAF, __ATOMIC_RELEASE);
    if (at == used)
        used += n;
    lock_release(&lock);
    if (at == WINDOWS)
        return NULL;
    return (volatile void *)(MMIO_BASE + at * LARGE_SIZE + gpa % LARGE_SIZE);
}
