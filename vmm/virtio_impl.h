/*
 * The inside of a virtio device on PCI, shared by virtio_pci.c (its making), virtio_regs.c (its
 * registers, on vCPU threads) and virtio_work.c (its queues, on the I/O thread).
 *
 * Registers are under `lock`. What a write means for queues and device is posted to the I/O thread.
 * So is a reset: nobody waits for it, since the I/O thread may be waiting for vCPUs to stand still;
 * DEVICE_STATUS reads as it was until the reset is done, and then 0, which drivers wait for
 * (4.1.4.3.2). Writes in between are dropped.
 */
#ifndef TWOFOLD_VMM_VIRTIO_IMPL_H
#define TWOFOLD_VMM_VIRTIO_IMPL_H

#include <pthread.h>

#include "vmm/virtio.h"

#define VIRTIO_CONFIG_MAX 256u
#define VIRTIO_NO_VECTOR  0xffffu

/* Feature bits of the transport (6 Reserved Feature Bits). */
#define VIRTIO_F_INDIRECT_DESC   (UINT64_C(1) << 28)
#define VIRTIO_F_EVENT_IDX       (UINT64_C(1) << 29)
#define VIRTIO_F_VERSION_1       (UINT64_C(1) << 32)
#define VIRTIO_F_ACCESS_PLATFORM (UINT64_C(1) << 33)

/* The other bits of the device status are in virtio.h. */
#define VIRTIO_STATUS_ACKNOWLEDGE 0x01u
#define VIRTIO_STATUS_DRIVER      0x02u
#define VIRTIO_STATUS_FEATURES_OK 0x08u

/* BARs: the registers, each kind in a page of its own, and the MSI-X tables. */
#define VIRTIO_BAR        0u
#define VIRTIO_BAR_BYTES  0x4000u
#define VIRTIO_COMMON_AT  0x0000u
#define VIRTIO_ISR_AT     0x1000u
#define VIRTIO_CONFIG_AT  0x2000u
#define VIRTIO_NOTIFY_AT  0x3000u
#define VIRTIO_NOTIFY_MUL 4u
#define VIRTIO_MSIX_BAR   1u
#define VIRTIO_MSIX_BYTES 0x1000u
#define VIRTIO_MSIX_PBA   0x800u

/* Bits of the ISR status. */
#define VIRTIO_ISR_QUEUE  1u
#define VIRTIO_ISR_CONFIG 2u

/* 4.1.4.3 Common configuration structure layout. */
struct virtio_common {
    uint32_t device_feature_select, device_feature;
    uint32_t driver_feature_select, driver_feature;
    uint16_t config_msix_vector, num_queues;
    uint8_t device_status, config_generation;
    uint16_t queue_select, queue_size, queue_msix_vector, queue_enable, queue_notify_off;
    uint64_t queue_desc, queue_driver, queue_device;
    uint16_t queue_notify_data, queue_reset; /* not offered: 0 */
    uint32_t unused;                         /* 0: what would be padding can be read, too */
};

_Static_assert(offsetof(struct virtio_common, queue_reset) == 0x3a &&
                   sizeof(struct virtio_common) == 0x40,
               "as in the specification, and without padding");

struct virtio_queue_regs {
    uint16_t size, vector;
    bool enabled;
    uint64_t desc, driver, device;
};

struct virtio_regs {
    uint32_t device_feature_select, driver_feature_select;
    uint64_t driver_features;
    uint8_t status, generation;
    uint16_t config_vector, queue_select;
    struct virtio_queue_regs queue[VIRTIO_QUEUES_MAX];
};

/* What is posted to the I/O thread. */
#define VIRTIO_POST_RESET  1u
#define VIRTIO_POST_START  2u /* queues were enabled, or DRIVER_OK was set */
#define VIRTIO_POST_CONFIG 4u /* the driver wrote to the device's config */
#define VIRTIO_POST_INTX   8u /* the line follows the ISR */

struct virtio_kick {
    struct virtio_device *v;
    unsigned queue;
    int fd; /* eventfd: the driver notified */
};

struct virtio_device {
    const struct virtio_ops *ops;
    void *dev;
    struct virtio_place place;
    struct pci_function function;
    uint64_t features; /* offered */
    unsigned window;   /* offset of the PCI configuration access capability */

    pthread_mutex_t lock; /* guards what follows */
    struct virtio_regs regs;
    bool resetting;                     /* posted, and not done */
    unsigned posted;                    /* VIRTIO_POST_* */
    uint8_t config[VIRTIO_CONFIG_MAX];  /* as the device has it: virtio_config_refresh() alone */
    uint8_t pending[VIRTIO_CONFIG_MAX]; /* written by the driver, not yet seen by the device, */
    bool written[VIRTIO_CONFIG_MAX];    /* of which these bytes */

    /* Taken for the line to follow `isr`; not under, and not above, `lock` or PCI's. */
    pthread_mutex_t isr_lock;
    uint8_t isr; /* atomic */

    int work_fd; /* eventfd: something was posted */
    struct virtio_kick kick[VIRTIO_QUEUES_MAX];

    /* Under PCI's config lock: where KVM watches for notifications. */
    bool watched;
    uint64_t watched_at;

    /* On the I/O thread only. */
    struct dma dma;
    struct virtqueue queue[VIRTIO_QUEUES_MAX];
    bool held;
    uint64_t kicks, config_interrupts;
};

/* --- virtio_regs.c --- */

/* As after a reset. Needs the lock, or nobody else is there. */
void virtio_regs_reset(struct virtio_device *v);

/* An access to BAR VIRTIO_BAR. `window`: through config space, whose lock is held. */
uint64_t virtio_regs_read(struct virtio_device *v, uint64_t offset, unsigned size, bool window);
void virtio_regs_write(struct virtio_device *v, uint64_t offset, unsigned size, uint64_t value);

/* The capabilities that tell where the registers are. -ENOSPC: config space is full. */
int virtio_regs_caps(struct virtio_device *v);

/* The access capability (4.1.4.9), under the config lock. */
void virtio_window_read(void *dev, unsigned offset, unsigned size);
void virtio_window_written(void *dev, unsigned offset, unsigned size);

/* --- virtio_work.c --- */

/* Tells the I/O thread; needs the lock. */
void virtio_post(struct virtio_device *v, unsigned what);

/* The config that drivers read, as the device has it now. */
void virtio_config_refresh(struct virtio_device *v);

/* Callbacks of the I/O loop: ctx is the device, or a struct virtio_kick. */
void virtio_on_work(void *ctx, int fd, uint32_t events);
void virtio_on_kick(void *ctx, int fd, uint32_t events);

#endif
