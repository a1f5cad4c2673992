/* A device's queues: chains of descriptors to it, used ones back, and waiting for them. */
#include <stddef.h>

#include "guest/kernel/clock.h"
#include "guest/kernel/cpu.h"
#include "guest/kernel/dma.h"
#include "guest/kernel/errno.h"
#include "guest/kernel/heap.h"
#include "guest/kernel/mm.h"
#include "guest/kernel/mmio.h"
#include "guest/kernel/printk.h"
#include "guest/kernel/sched.h"
#include "guest/kernel/string.h"
#include "guest/kernel/virtio_internal.h"

#define DESC_NEXT  1u
#define DESC_WRITE 2u
#define NO_NOTIFY  1u
#define NO_VECTOR  0xffffu

#define ANSWER_NS     UINT64_C(10000000000) /* that long, and the device counts as dead */
#define LOOK_NS       UINT64_C(250000000)   /* how often it is looked at meanwhile */
#define POLL_FIRST_NS UINT64_C(50000)       /* without interrupts */
#define POLL_LAST_NS  UINT64_C(10000000)

_Static_assert(sizeof(struct virtqueue_page) <= PAGE_SIZE, "one page a queue");

/* --- set-up ------------------------------------------------------------------------ */

/* 64-bit fields take two accesses of 32 bits (4.1.3.1). */
static void write_address(struct virtio *v, unsigned reg, uint64_t addr)
{
    mmio_write32(v->common + reg, (uint32_t)addr);
    mmio_write32(v->common + reg + 4, (uint32_t)(addr >> 32));
}

static int alloc_page(struct virtqueue *q)
{
    uint64_t gpa = pmm_alloc(0, PMM_ZERO);
    int rc = 0;

    if (!gpa)
        return -ENOMEM;
    q->iova = gpa;
    if (q->v->translated)
        q->iova = dma_map(q->v->pci, gpa, PAGE_SIZE, DMA_READ | DMA_WRITE, &rc);
    if (!q->iova) {
        pmm_free(gpa);
        return rc;
    }
    q->page = phys_to_virt(gpa);
    return 0;
}

static void link_free(struct virtqueue *q)
{
    for (uint16_t i = 0; i < q->size; i++)
        q->next[i] = (uint16_t)(i + 1);
    q->n_free = q->size;
    q->first_free = 0;
}

/* The largest power of 2 that both can do. */
static uint16_t choose_size(uint16_t most)
{
    uint16_t size = VIRTQUEUE_SIZE;

    while (size > most)
        size /= 2;
    return size;
}

static int find_doorbell(struct virtqueue *q)
{
    struct virtio *v = q->v;
    uint64_t at = (uint64_t)mmio_read16(v->common + COMMON_QUEUE_NOTIFY) * v->notify_step;

    if (at + sizeof(uint16_t) > v->notify_len)
        return -ENODEV;
    q->doorbell = v->notify + at;
    return 0;
}

int virtqueue_open(struct virtio *v, unsigned index)
{
    struct virtqueue *q = &v->queue[index];
    uint16_t vector = v->pci->vectors == 0 ? NO_VECTOR : v->pci->vectors == 1 ? 0 : (uint16_t)index;
    int rc;

    q->v = v;
    q->index = index;
    mmio_write16(v->common + COMMON_QUEUE_SELECT, (uint16_t)index);
    q->size = choose_size(mmio_read16(v->common + COMMON_QUEUE_SIZE));
    if (q->size == 0)
        return -ENODEV;
    link_free(q);
    rc = find_doorbell(q);
    if (!rc)
        rc = alloc_page(q);
    if (rc)
        return rc;
    mmio_write16(v->common + COMMON_QUEUE_SIZE, q->size);
    mmio_write16(v->common + COMMON_QUEUE_VECTOR, vector);
    if (mmio_read16(v->common + COMMON_QUEUE_VECTOR) != vector)
        return -EBUSY; /* the device has no vector for it (4.1.5.1.2) */
    write_address(v, COMMON_QUEUE_DESC, q->iova + offsetof(struct virtqueue_page, desc));
    write_address(v, COMMON_QUEUE_DRIVER, q->iova + offsetof(struct virtqueue_page, avail));
    write_address(v, COMMON_QUEUE_DEVICE, q->iova + offsetof(struct virtqueue_page, used));
    mmio_write16(v->common + COMMON_QUEUE_ENABLE, 1);
    return 0;
}

void virtqueue_close(struct virtqueue *q)
{
    if (!q->page)
        return;
    if (q->v->translated)
        dma_unmap(q->v->pci, q->iova, PAGE_SIZE);
    pmm_free(virt_to_phys(q->page));
    q->page = NULL;
}

/* --- a device that fails ------------------------------------------------------------- */

static bool has_failed(const struct virtio *v)
{
    return __atomic_load_n(&v->failed, __ATOMIC_ACQUIRE);
}

/* It is reset, and loses the bus: after that, nobody's memory is written to. */
static void fail(struct virtqueue *q, const char *why)
{
    struct virtio *v = q->v;
    uint16_t bdf = v->pci->bdf;

    if (has_failed(v))
        return;
    printk("kernel: virtio %02x:%02x.%u, queue %u: %s; it is not used any more\n", bdf >> 8,
           bdf >> 3 & 31, bdf & 7, q->index, why);
    virtio_reset(v);
    pci_bus_master(v->pci, false);
    __atomic_store_n(&v->failed, true, __ATOMIC_RELEASE);
}

/* --- used chains -------------------------------------------------------------------- */

static void free_chain(struct virtqueue *q, uint16_t first, unsigned count)
{
    uint16_t last = first;

    for (unsigned i = 1; i < count; i++)
        last = q->next[last];
    q->next[last] = q->first_free;
    q->first_free = first;
    q->n_free = (uint16_t)(q->n_free + count);
    for (struct virtio_waiter *w = q->waiters; w; w = w->next)
        sched_wake(w->thread);
}

/* The next chain that the device gave back, or NULL. What it says is read once. */
static struct virtio_chain *take_chain(struct virtqueue *q)
{
    volatile struct virtq_used_elem *e = &q->page->used.ring[q->used_seen % q->size];
    struct virtio_chain *c;
    uint32_t id, len;

    if (has_failed(q->v) || __atomic_load_n(&q->page->used.idx, __ATOMIC_ACQUIRE) == q->used_seen)
        return NULL;
    id = e->id;
    len = e->len;
    c = id < q->size ? q->chain[id] : NULL;
    if (!c) {
        fail(q, "it gave back what it was not given");
        return NULL;
    }
    if (len > c->writable) {
        fail(q, "it wrote more than there was place for");
        return NULL;
    }
    q->used_seen++;
    q->chain[id] = NULL;
    c->written = len;
    free_chain(q, (uint16_t)id, c->count);
    return c;
}

/* Under the queue's lock, which is free while a `done` runs: it may post again. */
static void take_used(struct virtqueue *q)
{
    struct virtio_chain *c;

    while ((c = take_chain(q)) != NULL) {
        if (c->waiter) {
            c->ended = true;
            sched_wake(c->waiter);
            continue;
        }
        lock_release(&q->lock);
        c->done(c->arg, c->written);
        kfree(c);
        lock_acquire(&q->lock);
    }
}

void virtqueue_interrupt(void *arg)
{
    struct virtqueue *q = arg;

    lock_acquire(&q->lock);
    if (q->page)
        take_used(q);
    lock_release(&q->lock);
}

/* --- chains to the device -------------------------------------------------------------- */

static uint64_t writable_bytes(const struct virtio_piece *piece, unsigned n)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++)
        sum += piece[i].write ? piece[i].len : 0;
    return sum;
}

/* Under the lock, with n descriptors free. Returns the first. */
static uint16_t add_chain(struct virtqueue *q, struct virtio_chain *c,
                          const struct virtio_piece *piece, unsigned n)
{
    struct virtq_ring *avail = &q->page->avail;
    uint16_t first = q->first_free, at = first;

    for (unsigned i = 0; i < n; i++) {
        bool last = i + 1 == n;

        q->page->desc[at] = (struct virtq_desc){
            .addr = piece[i].addr,
            .len = piece[i].len,
            .flags = (uint16_t)((piece[i].write ? DESC_WRITE : 0) | (last ? 0 : DESC_NEXT)),
            .next = last ? 0 : q->next[at],
        };
        at = q->next[at];
    }
    q->first_free = at;
    q->n_free = (uint16_t)(q->n_free - n);
    q->chain[first] = c;
    c->count = n;
    c->writable = writable_bytes(piece, n);
    avail->ring[avail->idx % q->size] = first;
    /* An exchange, as the flags must be read after it (2.7.13.4.1); MFENCE may be unknown. */
    __atomic_store_n(&avail->idx, (uint16_t)(avail->idx + 1), __ATOMIC_SEQ_CST);
    if (!(__atomic_load_n(&q->page->used.flags, __ATOMIC_RELAXED) & NO_NOTIFY))
        mmio_write16(q->doorbell, (uint16_t)q->index);
    return first;
}

static void add_waiter(struct virtqueue *q, struct virtio_waiter *w)
{
    w->next = q->waiters;
    q->waiters = w;
}

static void forget_waiter(struct virtqueue *q, const struct virtio_waiter *w)
{
    struct virtio_waiter **at = &q->waiters;

    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
}

/* Until n descriptors are free. */
static void wait_for_room(struct virtqueue *q, unsigned n)
{
    struct virtio_waiter me = { .thread = this_cpu()->current };

    if (q->n_free >= n)
        return;
    add_waiter(q, &me);
    while (q->n_free < n && !has_failed(q->v)) {
        sched_wait(&q->lock, LOOK_NS);
        lock_acquire(&q->lock);
    }
    forget_waiter(q, &me);
}

/*
 * Until the chain ended or the device failed. Without interrupts the queue is looked at now and
 * then; with them, only when the time is over, to tell a lost interrupt from a dead device.
 */
static void wait_for_end(struct virtqueue *q, struct virtio_chain *c)
{
    uint64_t end = clock_ns() + ANSWER_NS;
    bool polls = q->v->pci->vectors == 0;
    uint64_t ns = polls ? POLL_FIRST_NS : LOOK_NS;

    while (!c->ended && !has_failed(q->v)) {
        bool over;

        sched_wait(&q->lock, ns);
        lock_acquire(&q->lock);
        over = clock_ns() > end;
        if (!c->ended && (polls || over)) {
            take_used(q);
            if (c->ended && !polls)
                fail(q, "its interrupt was lost");
        }
        if (!c->ended && virtio_status(q->v) & STATUS_NEEDS_RESET)
            fail(q, "it asks to be reset");
        if (!c->ended && over)
            fail(q, "it does not answer");
        if (polls && ns < POLL_LAST_NS)
            ns *= 2;
    }
}

static int64_t request(struct virtqueue *q, const struct virtio_piece *piece, unsigned n)
{
    struct virtio_chain c = { .waiter = this_cpu()->current };
    int64_t rc = -EIO;

    lock_acquire(&q->lock);
    wait_for_room(q, n);
    if (!has_failed(q->v)) {
        uint16_t first = add_chain(q, &c, piece, n);

        wait_for_end(q, &c);
        if (!has_failed(q->v))
            rc = c.written;
        else if (!c.ended)
            q->chain[first] = NULL;
    }
    lock_release(&q->lock);
    return rc;
}

static bool pieces_ok(const struct virtio *v, unsigned queue, unsigned n)
{
    return queue < v->n_queues && n > 0 && n <= v->queue[queue].size;
}

/* The same by iovas: each piece is mapped for this request alone. */
static int64_t request_translated(struct virtqueue *q, const struct virtio_piece *piece, unsigned n)
{
    struct virtio_piece mapped[VIRTQUEUE_SIZE];
    struct pci_device *d = q->v->pci;
    unsigned done;
    int error = 0;
    int64_t rc;

    memcpy(mapped, piece, n * sizeof(*piece));
    for (done = 0; done < n; done++) {
        mapped[done].addr = dma_map(d, piece[done].addr, piece[done].len,
                                    piece[done].write ? DMA_WRITE : DMA_READ, &error);
        if (!mapped[done].addr)
            break;
    }
    rc = done < n ? error : request(q, mapped, n);
    while (done-- > 0)
        dma_unmap(d, mapped[done].addr, mapped[done].len);
    return rc;
}

int64_t virtio_request(struct virtio *v, unsigned queue, const struct virtio_piece *piece,
                       unsigned pieces)
{
    if (!pieces_ok(v, queue, pieces))
        return -EINVAL;
    return v->translated ? request_translated(&v->queue[queue], piece, pieces)
                         : request(&v->queue[queue], piece, pieces);
}

int virtio_post(struct virtio *v, unsigned queue, const struct virtio_piece *piece, unsigned pieces,
                void (*done)(void *arg, uint32_t written), void *arg)
{
    struct virtqueue *q = &v->queue[queue];
    struct virtio_chain *c;
    int rc = 0;

    if (!pieces_ok(v, queue, pieces) || v->translated)
        return -EINVAL;
    if (v->pci->vectors == 0)
        return -ENXIO;
    c = kzalloc(sizeof(*c));
    if (!c)
        return -ENOMEM;
    c->done = done;
    c->arg = arg;
    lock_acquire(&q->lock);
    if (has_failed(v))
        rc = -EIO;
    else if (q->n_free < pieces)
        rc = -EBUSY;
    else
        add_chain(q, c, piece, pieces);
    lock_release(&q->lock);
    if (rc)
        kfree(c);
    return rc;
}
