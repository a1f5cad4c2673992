#include "guest/kernel/drivers.h"

#include <stdbool.h>

#include "guest/kernel/dma.h"
#include "guest/kernel/lock.h"
#include "guest/kernel/pci.h"
#include "guest/kernel/sched.h"
#include "guest/kernel/virtio_blk.h"
#include "guest/kernel/virtio_rng.h"

#define LOOK_NS 1000000u /* how often one looks whether the other is ready: that is rare */

static struct lock lock;
static bool begun, ready;

/* The IOMMU comes first: who opens a device asks whether it is translated. */
static void find_all(void)
{
    pci_init();
    dma_init();
    virtio_blk_init();
    virtio_rng_init();
}

void drivers_init(void)
{
    if (__atomic_load_n(&ready, __ATOMIC_ACQUIRE))
        return;
    lock_acquire(&lock);
    while (begun && !ready) {
        sched_wait(&lock, LOOK_NS);
        lock_acquire(&lock);
    }
    if (!begun) {
        begun = true;
        lock_release(&lock);
        find_all();
        lock_acquire(&lock);
        __atomic_store_n(&ready, true, __ATOMIC_RELEASE);
    }
    lock_release(&lock);
}
