#include "guest/kernel/virtio_rng.h"

#include <stddef.h>

#include "guest/kernel/drivers.h"
#include "guest/kernel/errno.h"
#include "guest/kernel/hold.h"
#include "guest/kernel/printk.h"
#include "guest/kernel/virtio.h"
#include "guest/kernel/vma.h"

#define DEVICE_TYPE 4
#define PIECE_MAX   0x100000u

static struct virtio *rng;

void virtio_rng_init(void)
{
    struct pci_device *pci = pci_find(VIRTIO_PCI_VENDOR, VIRTIO_PCI_ID(DEVICE_TYPE), 0);
    int rc;

    if (!pci)
        return;
    rng = virtio_open(pci, 0, 1, &rc);
    if (rng)
        pci->driver = "virtio-rng";
    else
        printk("kernel: virtio-rng %02x:%02x.%u can't be used, error %d\n", pci->bdf >> 8,
               pci->bdf >> 3 & 31, pci->bdf & 7, rc);
}

/* A device gives as much as it has at the moment, but one byte at least (5.4.6.2). */
int64_t virtio_rng_call(uint64_t buf, uint64_t len)
{
    struct hold h;

    drivers_init();
    if (!rng)
        return -ENODEV;
    if (len > VM_HIGHEST || buf > VM_HIGHEST - len)
        return -EFAULT;
    for (uint64_t done = 0; done < len;) {
        int64_t n = hold_user(&h, buf + done, len - done, HOLD_MAX, PIECE_MAX, true);

        if (n == 0)
            n = virtio_request(rng, 0, h.piece, h.pieces);
        hold_release(&h);
        if (n <= 0)
            return n < 0 ? n : -EIO;
        done += (uint64_t)n;
    }
    return (int64_t)len;
}
