#include "guest/kernel/dma_fault.h"

#include "guest/kernel/dma.h"
#include "guest/kernel/lock.h"
#include "guest/kernel/printk.h"

#define KEPT 64
/* A device can fault without end; the console is for people. */
#define PRINTED 200u

static struct lock fault_lock;
static struct sys_dma_fault ring[KEPT]; /* number n at (n - 1) % KEPT */
static uint64_t count;

/*
 * The device says only that the mapping did not allow it; whether there was one at all, the driver
 * knows.
 */
static const char *phrase(uint16_t bdf, uint64_t iova, enum dma_fault_reason reason)
{
    if (reason == DMA_FAULT_DOMAIN)
        return "no domain";
    return reason == DMA_FAULT_MAPPING ? dma_why_blocked(bdf, iova) : "blocked";
}

void dma_fault_add(uint16_t bdf, uint64_t iova, bool write, enum dma_fault_reason reason)
{
    struct sys_dma_fault f = { .iova = iova, .bdf = bdf, .write = write };

    kformat(f.reason, sizeof f.reason, "%s", phrase(bdf, iova, reason));
    lock_acquire(&fault_lock);
    f.number = ++count;
    ring[(f.number - 1) % KEPT] = f;
    lock_release(&fault_lock);
    if (f.number <= PRINTED)
        printk("iommu: %02x:%02x.%u %s 0x%lx %s\n", bdf >> 8, bdf >> 3 & 31, bdf & 7,
               write ? "write" : "read", iova, f.reason);
    if (f.number == PRINTED)
        printk("iommu: faults are only counted from here on\n");
}

uint64_t dma_faults(void)
{
    uint64_t n;

    lock_acquire(&fault_lock);
    n = count;
    lock_release(&fault_lock);
    return n;
}

bool dma_fault_after(uint64_t after, struct sys_dma_fault *out)
{
    bool found = false;

    lock_acquire(&fault_lock);
    if (count > KEPT && after < count - KEPT)
        after = count - KEPT;
    if (after < count) {
        *out = ring[after % KEPT];
        found = true;
    }
    lock_release(&fault_lock);
    return found;
}
