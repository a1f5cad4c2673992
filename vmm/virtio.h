/*
 * virtio devices on PCI, modern only ("Virtual I/O Device (VIRTIO) Version 1.2", 4.1 Virtio Over
 * PCI Bus). A device gives its type, features, config bytes and what to do when a queue was
 * kicked; virtio_pci.c is the transport. All callbacks run on the I/O thread.
 */
#ifndef TWOFOLD_VMM_VIRTIO_H
#define TWOFOLD_VMM_VIRTIO_H

#include "vmm/dma.h"
#include "vmm/io_loop.h"
#include "vmm/pci.h"
#include "vmm/virtqueue.h"

#define VIRTIO_QUEUES_MAX 8

enum virtio_type { VIRTIO_BLOCK = 2, VIRTIO_RNG = 4, VIRTIO_IOMMU = 23 };

struct virtio_device;

struct virtio_ops {
    enum virtio_type type;
    const char *name; /* "virtio-blk" */
    uint32_t class;   /* PCI class, 24 bits */
    unsigned queues;
    uint16_t queue_max;
    uint64_t features; /* the device's own; VERSION_1, INDIRECT, EVENT_IDX and ACCESS_PLATFORM
                          are the transport's */
    unsigned config_bytes;
    void (*config_read)(void *dev, void *config); /* fills config_bytes */
    void (*config_written)(void *dev, unsigned offset, const void *bytes, unsigned len);
    void (*kicked)(void *dev, unsigned queue);
    void (*reset)(void *dev); /* waits for what is in flight; queues are reset afterwards */
};

/* What a device works in; the VM's, or a unit test's own. */
struct virtio_place {
    struct pci *pci;
    struct memory *mem;
    struct io_loop *loop;
    struct iommu *iommu; /* NULL, or the device stands behind it and offers ACCESS_PLATFORM */
    int vm_fd;           /* for ioeventfds; -1: none */
};

/* Puts the device on the bus. `ops` outlives it. */
int virtio_create(struct virtio_device **out, const struct virtio_ops *ops, void *dev,
                  const struct virtio_place *place, struct error *err);
void virtio_destroy(struct virtio_device *v); /* the I/O loop no longer runs */

struct virtqueue *virtio_queue(struct virtio_device *v, unsigned n);
uint64_t virtio_features(const struct virtio_device *v); /* negotiated; 0 before */
struct dma *virtio_dma(struct virtio_device *v);
struct pci_function *virtio_function(struct virtio_device *v);

/* Interrupts for queue n if the driver wants it; and for a changed config. */
void virtio_signal(struct virtio_device *v, unsigned n);
void virtio_config_changed(struct virtio_device *v);

/* A queue broke: DEVICE_NEEDS_RESET, once; `stat` shows why. */
void virtio_broken(struct virtio_device *v, unsigned n);

/* As if the driver had notified queue n: kicked() is called again, later. Any thread. */
void virtio_kick(struct virtio_device *v, unsigned n);

/* Holds the device: what is in flight is finished (dma.drain), and kicks wait until it is let go.
 * Nothing of guest memory is touched meanwhile. On the I/O thread. */
void virtio_hold(struct virtio_device *v, bool held);

/* 2.1 Device Status Field. */
#define VIRTIO_STATUS_DRIVER_OK   0x04u
#define VIRTIO_STATUS_NEEDS_RESET 0x40u
#define VIRTIO_STATUS_FAILED      0x80u

/* For `stat`, on the I/O thread. */
struct virtio_state {
    uint8_t status;
    uint64_t offered, negotiated;
    uint64_t kicks, config_interrupts;
};
const struct virtio_ops *virtio_ops(const struct virtio_device *v);
void virtio_state(struct virtio_device *v, struct virtio_state *out);

#endif
