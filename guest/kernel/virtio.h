/*
 * virtio devices on PCI, modern ("VIRTIO Version 1.2", 4.1), from the driver's side.
 */
#ifndef GUEST_KERNEL_VIRTIO_H
#define GUEST_KERNEL_VIRTIO_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/kernel/pci.h"

#define VIRTIO_PCI_VENDOR        0x1af4
#define VIRTIO_PCI_ID(type)      (0x1040 + (type))
#define VIRTIO_F_VERSION_1       (1ull << 32)
#define VIRTIO_F_ACCESS_PLATFORM (1ull << 33)

struct virtio; /* one device */

/* A piece of a request: `addr` is a gpa; virtio_request() makes an iova of it where the device
 * stands behind the IOMMU (guest/kernel/dma.h). */
struct virtio_piece {
    uint64_t addr;
    uint32_t len;
    bool write; /* by the device */
};

/*
 * Resets and negotiates `wanted` features beside VERSION_1 and, where offered, ACCESS_PLATFORM;
 * sets up `queues` (1 to 4) of up to 64 descriptors, and an interrupt for each, or one for all, by
 * MSI-X. A device without MSI-X is polled while a request waits. NULL with *error set: -ENODEV when
 * it is no modern device or has fewer queues.
 */
struct virtio *virtio_open(struct pci_device *d, uint64_t wanted, unsigned queues, int *error);
uint64_t virtio_features(const struct virtio *v);
volatile void *virtio_config(struct virtio *v); /* the device's own config, for mmio.h; or NULL */
uint64_t virtio_config64(struct virtio *v, unsigned offset); /* both halves of one generation */
struct pci_device *virtio_pci(struct virtio *v);

/*
 * One request, and waits for its end: the caller is a process's thread and may sleep, and holds no
 * lock. Bytes the device wrote, or a negative error number: -EINVAL for no pieces or more than the
 * queue has descriptors. Several callers may have requests under way. After ten seconds without an
 * answer, or a used ring that breaks a rule, the device is reset and everything fails with -EIO,
 * with a line that says why; so it does when the answer was there but its interrupt got lost.
 * Memory is the caller's own again when this returns, whatever it returns.
 */
int64_t virtio_request(struct virtio *v, unsigned queue, const struct virtio_piece *piece,
                       unsigned pieces);

/*
 * Without waiting, for queues of buffers that the device fills when it likes: `done` is called from
 * interrupt context, and may post again. -EBUSY: no descriptors are free; -ENXIO: the device has no
 * interrupts; -EINVAL: as above, or the device stands behind the IOMMU (such memory would have to
 * be unmapped by somebody who can wait).
 */
int virtio_post(struct virtio *v, unsigned queue, const struct virtio_piece *piece, unsigned pieces,
                void (*done)(void *arg, uint32_t written), void *arg);

#endif
