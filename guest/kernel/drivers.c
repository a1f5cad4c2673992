#include "guest/kernel/drivers.h"

#include "guest/kernel/dma.h"
#include "guest/kernel/edu.h"
#include "guest/kernel/once.h"
#include "guest/kernel/pci.h"
#include "guest/kernel/virtio_blk.h"
#include "guest/kernel/virtio_rng.h"

/* The IOMMU comes first: who opens a device asks whether it is translated. */
void drivers_init(void)
{
    static struct once once;

    if (!once_begin(&once))
        return;
    pci_init();
    dma_init();
    virtio_blk_init();
    virtio_rng_init();
    edu_device();
    once_done(&once);
}
