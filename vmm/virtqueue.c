/*
 * Memory is shared with a driver on another CPU. The order that the specification asks for (2.7.13,
 * 2.7.14): the avail index is read before the entries that it covers; used entries are written
 * before the used index; and the used index before the driver's wish for an interrupt is read, as
 * ours for kicks is written before the avail index is looked at again.
 */
#include "vmm/virtqueue.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define DESC_NEXT     1u
#define DESC_WRITE    2u
#define DESC_INDIRECT 4u

#define NO_INTERRUPT 1u /* avail->flags */
#define NO_NOTIFY    1u /* used->flags */

/* 2.7.5: a chain is no longer than this, in bytes. */
#define CHAIN_BYTES (UINT64_C(1) << 32)

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

struct used_elem {
    uint32_t id, len;
};

_Static_assert(sizeof(struct desc) == 16 && sizeof(struct used_elem) == 8, "as in memory");

void virtqueue_init(struct virtqueue *q, struct dma *dma, uint16_t max)
{
    memset(q, 0, sizeof(*q));
    q->dma = dma;
    q->size = q->max = max;
}

void virtqueue_reset(struct virtqueue *q)
{
    struct virtqueue kept = { .dma = q->dma,
                              .max = q->max,
                              .size = q->max,
                              .chains = q->chains,
                              .interrupts = q->interrupts,
                              .errors = q->errors };

    *q = kept;
}

int virtqueue_break(struct virtqueue *q, const char *why)
{
    if (!q->broken) {
        q->broken = true;
        q->errors++;
        (void)snprintf(q->why, sizeof(q->why), "%s", why);
    }
    return -EPROTO;
}

int virtqueue_start(struct virtqueue *q)
{
    q->ready = true;
    if (q->size == 0 || q->size > q->max || (q->size & (q->size - 1)))
        return virtqueue_break(q, "the size is no power of two, or too large");
    if (q->desc % 16 || q->avail % 2 || q->used % 4)
        return virtqueue_break(q, "a part of the queue is not aligned");
    /* The last byte of each part has an address. */
    if (q->desc > UINT64_MAX - 16u * q->size || q->avail > UINT64_MAX - (6 + 2u * q->size) ||
        q->used > UINT64_MAX - (6 + 8u * q->size))
        return virtqueue_break(q, "a part of the queue ends beyond the last address");
    return 0;
}

/* --- memory ------------------------------------------------------------------------- */

static int ring_failed(struct virtqueue *q, int rc, const char *what)
{
    char why[sizeof(q->why)];

    (void)snprintf(why, sizeof(why), "%s %s", what,
                   rc == -EPERM ? "is needed, but bus master is off" : "lies in no memory");
    return virtqueue_break(q, why);
}

static int get(struct virtqueue *q, uint64_t addr, void *out, uint64_t len, const char *what)
{
    int rc = dma_read(q->dma, addr, out, len);

    return rc < 0 ? ring_failed(q, rc, what) : 0;
}

static int put(struct virtqueue *q, uint64_t addr, const void *from, uint64_t len)
{
    int rc = dma_write(q->dma, addr, from, len);

    return rc < 0 ? ring_failed(q, rc, "the used ring") : 0;
}

/*
 * Indices and flags, whole at once: a copy may come in two halves. Aligned to 2, they lie in one
 * piece of memory.
 */
static uint16_t *map16(struct virtqueue *q, uint64_t addr, enum dma_access access,
                       struct iovec *iov, const char *what)
{
    unsigned count = 0;
    int rc = dma_map(q->dma, addr, sizeof(uint16_t), access, iov, 1, &count);

    if (rc < 0 || count != 1) {
        (void)ring_failed(q, rc, what);
        return NULL;
    }
    return iov->iov_base;
}

static int get16(struct virtqueue *q, uint64_t addr, uint16_t *out, const char *what)
{
    struct iovec iov;
    const uint16_t *at = map16(q, addr, DMA_READ, &iov, what);

    if (!at)
        return -EPROTO;
    *out = __atomic_load_n(at, __ATOMIC_ACQUIRE);
    return 0;
}

static int put16(struct virtqueue *q, uint64_t addr, uint16_t value)
{
    struct iovec iov;
    uint16_t *at = map16(q, addr, DMA_WRITE, &iov, "the used ring");

    if (!at)
        return -EPROTO;
    __atomic_store_n(at, value, __ATOMIC_RELEASE);
    dma_wrote(q->dma, &iov, 1);
    return 0;
}

/* --- chains ------------------------------------------------------------------------- */

/* Where descriptors are looked up: the queue's own table, or an indirect one. */
struct table {
    uint64_t at;
    uint32_t count;
    bool indirect;
};

static int enter_indirect(struct virtqueue *q, const struct desc *d, struct table *t)
{
    if (!q->indirect)
        return virtqueue_break(q, "an indirect descriptor, which was not negotiated");
    if (t->indirect)
        return virtqueue_break(q, "an indirect descriptor in an indirect table");
    if (d->flags & DESC_NEXT)
        return virtqueue_break(q, "a descriptor with both INDIRECT and NEXT");
    if (d->len == 0 || d->len % sizeof(struct desc))
        return virtqueue_break(q, "an indirect table whose length is no multiple of 16");
    if (d->addr > UINT64_MAX - d->len)
        return virtqueue_break(q, "an indirect table that ends beyond the last address");
    *t = (struct table){ d->addr, d->len / (uint32_t)sizeof(struct desc), true };
    return 0;
}

static int add_segment(struct virtqueue *q, struct virtq_chain *c, const struct desc *d)
{
    bool write = d->flags & DESC_WRITE;

    if (d->len && d->addr > UINT64_MAX - d->len)
        return virtqueue_break(q, "a buffer that ends beyond the last address");
    if (!write && c->seen_writable)
        return virtqueue_break(q, "a readable descriptor behind a writable one");
    c->seen_writable = write;
    *(write ? &c->write_bytes : &c->read_bytes) += d->len;
    if (c->read_bytes + c->write_bytes > CHAIN_BYTES)
        return virtqueue_break(q, "a chain of more than 4 GiB");
    if (d->len == 0) /* nothing to transfer, but it counted */
        return 0;
    c->segment[c->readable + c->writable] = (struct virtq_segment){ d->addr, d->len };
    if (write)
        c->writable++;
    else
        c->readable++;
    return 0;
}

static int walk(struct virtqueue *q, uint16_t head, struct virtq_chain *c)
{
    struct table t = { q->desc, q->size, false };
    uint32_t at = head;
    int rc = 0;

    for (unsigned seen = 0;;) {
        struct desc d;

        if (at >= t.count)
            return virtqueue_break(q, "a descriptor number beyond its table");
        rc = get(q, t.at + (uint64_t)at * sizeof(d), &d, sizeof(d),
                 t.indirect ? "an indirect table" : "the descriptor table");
        if (rc < 0)
            return rc;
        if (d.flags & DESC_INDIRECT) {
            rc = enter_indirect(q, &d, &t);
            at = 0;
            if (rc < 0)
                return rc;
            continue; /* once at most: the next one would be nested */
        }
        if (seen++ == q->size)
            return virtqueue_break(q, "a chain of more descriptors than the queue has");
        rc = add_segment(q, c, &d);
        if (rc < 0 || !(d.flags & DESC_NEXT))
            return rc;
        at = d.next;
    }
}

int virtqueue_pop(struct virtqueue *q, struct virtq_chain *out)
{
    uint16_t index = 0, head = 0;
    uint64_t entry = q->avail + 4 + 2 * (uint64_t)(q->avail_next & (q->size - 1u));
    int rc;

    if (q->broken)
        return -EPROTO;
    if (!q->ready)
        return 0;
    rc = get16(q, q->avail + 2, &index, "the avail ring");
    if (rc < 0)
        return rc;
    if ((uint16_t)(index - q->avail_next) > q->size)
        return virtqueue_break(q, "the avail index went on by more than the queue's size");
    if (index == q->avail_next)
        return 0;
    rc = get16(q, entry, &head, "the avail ring");
    if (rc < 0)
        return rc;
    out->head = head;
    out->readable = out->writable = 0;
    out->read_bytes = out->write_bytes = 0;
    out->seen_writable = false;
    rc = walk(q, head, out);
    if (rc < 0)
        return rc;
    q->avail_next++;
    q->chains++;
    return 1;
}

/* --- data ---------------------------------------------------------------------------- */

/* The part of segment `s` from *offset on, at most `left`; moves *offset on. */
static uint64_t piece(const struct virtq_segment *s, uint64_t *offset, uint64_t left,
                      uint64_t *addr)
{
    uint64_t len;

    if (*offset >= s->len) {
        *offset -= s->len;
        return 0;
    }
    len = s->len - *offset;
    *addr = s->addr + *offset;
    *offset = 0;
    return len < left ? len : left;
}

int64_t virtqueue_read(struct virtqueue *q, const struct virtq_chain *c, uint64_t offset, void *buf,
                       uint64_t len)
{
    uint64_t done = 0;

    for (unsigned i = 0; i < c->readable && done < len; i++) {
        uint64_t addr, n = piece(&c->segment[i], &offset, len - done, &addr);

        if (n && dma_read(q->dma, addr, (uint8_t *)buf + done, n) < 0)
            return -EFAULT;
        done += n;
    }
    return (int64_t)done;
}

int64_t virtqueue_write(struct virtqueue *q, const struct virtq_chain *c, uint64_t offset,
                        const void *buf, uint64_t len)
{
    uint64_t done = 0;

    for (unsigned i = c->readable; i < c->readable + c->writable && done < len; i++) {
        uint64_t addr, n = piece(&c->segment[i], &offset, len - done, &addr);

        if (n && dma_write(q->dma, addr, (const uint8_t *)buf + done, n) < 0)
            return -EFAULT;
        done += n;
    }
    return (int64_t)done;
}

/* --- the way back ---------------------------------------------------------------------- */

int virtqueue_push(struct virtqueue *q, uint16_t head, uint32_t written)
{
    struct used_elem e = { head, written };
    uint16_t next = (uint16_t)(q->used_next + 1);
    int rc;

    if (q->broken)
        return -EPROTO;
    rc = put(q, q->used + 4 + sizeof(e) * (uint64_t)(q->used_next & (q->size - 1u)), &e, sizeof(e));
    if (rc < 0)
        return rc;
    rc = put16(q, q->used + 2, next);
    if (rc == 0)
        q->used_next = next;
    return rc;
}

bool virtqueue_should_signal(struct virtqueue *q)
{
    uint16_t before = q->signalled, value = 0;
    uint64_t at = q->event_idx ? q->avail + 4 + 2 * (uint64_t)q->size : q->avail;
    bool wanted;

    if (q->broken || !q->ready || q->used_next == before)
        return false;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (get16(q, at, &value, "the avail ring") < 0)
        return false;
    q->signalled = q->used_next;
    if (q->event_idx) /* 2.7.10: the index that the driver waits for was passed */
        wanted = (uint16_t)(q->used_next - value - 1) < (uint16_t)(q->used_next - before);
    else
        wanted = !(value & NO_INTERRUPT);
    q->interrupts += wanted;
    return wanted;
}

bool virtqueue_want_kicks(struct virtqueue *q, bool want)
{
    uint16_t value = want ? 0 : NO_NOTIFY, index = 0;
    uint64_t at = q->used;
    int rc;

    if (q->broken || !q->ready)
        return false;
    if (q->event_idx) {
        if (!want) /* the index that was asked for last lies behind: nothing is sent */
            return false;
        value = q->avail_next;
        at = q->used + 4 + sizeof(struct used_elem) * (uint64_t)q->size;
    }
    rc = put16(q, at, value);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (rc == 0 && want)
        rc = get16(q, q->avail + 2, &index, "the avail ring");
    /* Broken: the caller finds out by its next pop. */
    return rc < 0 || (want && index != q->avail_next);
}
