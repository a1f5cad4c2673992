/*
 * A split virtqueue from the device's side ("Virtual I/O Device (VIRTIO) Version 1.2", 2.7 Split
 * Virtqueues). Each descriptor is read once, into a local copy; lengths and chains are bounded
 * before anybody sees them. On the I/O thread only.
 */
#ifndef TWOFOLD_VMM_VIRTQUEUE_H
#define TWOFOLD_VMM_VIRTQUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/dma.h"

#define VIRTQUEUE_MAX 256u /* descriptors of a queue, also of a chain */

struct virtqueue {
    struct dma *dma;
    uint16_t size, max;         /* a power of two, at most `max` */
    bool ready, broken;         /* broken: the driver broke a rule; needs a reset */
    bool indirect, event_idx;   /* negotiated */
    uint64_t desc, avail, used; /* addresses, as the driver set them */
    uint16_t avail_next, used_next, signalled;
    uint64_t chains, interrupts, errors;
    char why[80]; /* what the driver did wrong */
};

struct virtq_segment {
    uint64_t addr;
    uint32_t len;
};

/* A request: what the device reads, then what it writes. */
struct virtq_chain {
    uint16_t head;
    unsigned readable, writable;                 /* segments */
    uint64_t read_bytes, write_bytes;            /* in them */
    bool seen_writable;                          /* while it is read; no concern of a device */
    struct virtq_segment segment[VIRTQUEUE_MAX]; /* the readable ones first */
};

void virtqueue_init(struct virtqueue *q, struct dma *dma, uint16_t max);
void virtqueue_reset(struct virtqueue *q);

/* Ready, with size, addresses and features set. 0, or -EPROTO: broken, they are impossible. */
int virtqueue_start(struct virtqueue *q);

/* The driver broke a rule: stops the queue. Always -EPROTO. */
int virtqueue_break(struct virtqueue *q, const char *why);

/* The next request: 1, 0 when there is none, -EPROTO once the queue is broken (q->why). */
int virtqueue_pop(struct virtqueue *q, struct virtq_chain *out);

/* Copies from the readable or to the writable part, at `offset` of it. Bytes copied (fewer at the
 * end), or -EFAULT. */
int64_t virtqueue_read(struct virtqueue *q, const struct virtq_chain *c, uint64_t offset, void *buf,
                       uint64_t len);
int64_t virtqueue_write(struct virtqueue *q, const struct virtq_chain *c, uint64_t offset,
                        const void *buf, uint64_t len);

/* Gives the request back, `written` bytes of its writable part filled. 0 or -EPROTO. */
int virtqueue_push(struct virtqueue *q, uint16_t head, uint32_t written);

/* Whether the driver wants an interrupt for what was pushed since the last call. */
bool virtqueue_should_signal(struct virtqueue *q);

/* Asks the driver to notify, or not to; true when requests came in meanwhile. */
bool virtqueue_want_kicks(struct virtqueue *q, bool want);

#endif
