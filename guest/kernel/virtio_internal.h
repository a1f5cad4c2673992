/*
 * The two halves of virtio: the device (virtio.c) and its queues (virtqueue.c).
 */
#ifndef GUEST_KERNEL_VIRTIO_INTERNAL_H
#define GUEST_KERNEL_VIRTIO_INTERNAL_H

#include "guest/kernel/lock.h"
#include "guest/kernel/virtio.h"

#define VIRTIO_QUEUES_MAX 4
#define VIRTQUEUE_SIZE    64 /* descriptors, at most */

/* "VIRTIO Version 1.2", 4.1.4.3 "Common configuration structure layout". */
enum {
    COMMON_DEVICE_SELECT = 0x00,
    COMMON_DEVICE_FEATURES = 0x04,
    COMMON_DRIVER_SELECT = 0x08,
    COMMON_DRIVER_FEATURES = 0x0c,
    COMMON_QUEUES = 0x12,
    COMMON_STATUS = 0x14,
    COMMON_GENERATION = 0x15,
    COMMON_QUEUE_SELECT = 0x16,
    COMMON_QUEUE_SIZE = 0x18,
    COMMON_QUEUE_VECTOR = 0x1a,
    COMMON_QUEUE_ENABLE = 0x1c,
    COMMON_QUEUE_NOTIFY = 0x1e,
    COMMON_QUEUE_DESC = 0x20,
    COMMON_QUEUE_DRIVER = 0x28,
    COMMON_QUEUE_DEVICE = 0x30,
};

#define STATUS_ACKNOWLEDGE 1u
#define STATUS_DRIVER      2u
#define STATUS_DRIVER_OK   4u
#define STATUS_FEATURES_OK 8u
#define STATUS_NEEDS_RESET 64u
#define STATUS_FAILED      128u

/* 2.7 "Split Virtqueues". */
struct virtq_desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

struct virtq_ring { /* what the driver offers */
    uint16_t flags, idx, ring[VIRTQUEUE_SIZE];
};

struct virtq_used_elem {
    uint32_t id, len;
};

struct virtq_used {
    uint16_t flags, idx;
    struct virtq_used_elem ring[VIRTQUEUE_SIZE];
};

/* One page, which the device sees and nothing else is in. */
struct virtqueue_page {
    struct virtq_desc desc[VIRTQUEUE_SIZE];
    struct virtq_ring avail;
    _Alignas(4) struct virtq_used used;
};

/* A chain that the device has; of virtio_request() on its stack, of virtio_post() on the heap. */
struct virtio_chain {
    struct thread *waiter; /* NULL: posted */
    void (*done)(void *arg, uint32_t written);
    void *arg;
    unsigned count;    /* of descriptors */
    uint64_t writable; /* bytes that the device may write */
    uint32_t written;
    bool ended;
};

/* Who waits for free descriptors; lives on a kernel stack. */
struct virtio_waiter {
    struct thread *thread;
    struct virtio_waiter *next;
};

struct virtqueue {
    struct virtio *v;
    unsigned index;
    struct lock lock; /* of all below */
    uint16_t size, n_free, first_free, used_seen;
    struct virtqueue_page *page;
    uint64_t iova;                 /* of the page */
    uint16_t next[VIRTQUEUE_SIZE]; /* the driver's own links of chains and of free ones */
    volatile uint8_t *doorbell;
    struct virtio_chain *chain[VIRTQUEUE_SIZE]; /* by first descriptor */
    struct virtio_waiter *waiters;
};

struct virtio {
    struct pci_device *pci;
    volatile uint8_t *common, *notify, *config;
    uint32_t notify_len, notify_step;
    uint64_t features;
    bool translated; /* its addresses are iovas */
    bool failed;     /* it broke a rule or did not answer: it was reset, and is not used again */
    unsigned n_queues;
    struct virtqueue queue[VIRTIO_QUEUES_MAX];
};

uint8_t virtio_status(const struct virtio *v);

/* True when the device says that it is reset: then it leaves memory alone. */
bool virtio_reset(struct virtio *v);

/* Sets up queue `index`; 0 or a negative error number. virtqueue_close() takes any. */
int virtqueue_open(struct virtio *v, unsigned index);
void virtqueue_close(struct virtqueue *q);

/* Takes what the device has used: a queue's interrupt, `arg` is the struct virtqueue. */
void virtqueue_interrupt(void *arg);

#endif
