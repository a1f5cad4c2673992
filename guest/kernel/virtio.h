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

/* A piece of a request: `addr` is a gpa; virtio_submit() makes an iova of it where the device
 * stands behind the IOMMU (guest/kernel/dma.h). */
struct virtio_piece {
    uint64_t addr;
    uint32_t len;
    bool write; /* by the device */
};

/* Resets and negotiates: `wanted` features beside VERSION_1; sets up `queues` of up to 64 entries
 * and interrupts. NULL with *error set. */
struct virtio *virtio_open(struct pci_device *d, uint64_t wanted, unsigned queues, int *error);
uint64_t virtio_features(const struct virtio *v);
volatile void *virtio_config(struct virtio *v); /* the device's own config */
struct pci_device *virtio_pci(struct virtio *v);

/* One request, and waits for its end (the caller may sleep). Bytes the device wrote, or a negative
 * error number. Several callers take turns. */
int64_t virtio_request(struct virtio *v, unsigned queue, const struct virtio_piece *piece,
                       unsigned pieces);

/* Without waiting, for queues of buffers that the device fills when it likes: `done` is called from
 * interrupt context. */
int virtio_post(struct virtio *v, unsigned queue, const struct virtio_piece *piece, unsigned pieces,
                void (*done)(void *arg, uint32_t written), void *arg);

#endif
