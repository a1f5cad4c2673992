/*
 * What a virtio device does on the I/O thread: what registers posted, kicks, interrupts.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "vmm/virtio_impl.h"

static void event_set(int fd)
{
    uint64_t one = 1;

    /* Full means that it is set already. */
    while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

static void event_take(int fd)
{
    uint64_t count;

    (void)!read(fd, &count, sizeof(count));
}

void virtio_post(struct virtio_device *v, unsigned what)
{
    v->posted |= what;
    event_set(v->work_fd);
}

void virtio_kick(struct virtio_device *v, unsigned n)
{
    event_set(v->kick[n].fd);
}

/* --- interrupts ------------------------------------------------------------------------- */

static void line_follows(struct virtio_device *v)
{
    (void)pthread_mutex_lock(&v->isr_lock);
    pci_intx_set(&v->function, __atomic_load_n(&v->isr, __ATOMIC_ACQUIRE) != 0);
    (void)pthread_mutex_unlock(&v->isr_lock);
}

/* 4.1.5.1.2 and 7.2: by MSI-X where the driver enabled it and gave a vector, else by the line. */
static void interrupt(struct virtio_device *v, uint16_t vector, uint8_t isr)
{
    if (pci_interrupt_kind(&v->function) == PCI_MSIX) {
        if (vector != VIRTIO_NO_VECTOR)
            (void)pci_notify(&v->function, vector);
        /* Turned off just before, that raised the line, without a cause that would lower it. */
        if (pci_interrupt_kind(&v->function) != PCI_MSIX)
            line_follows(v);
        return;
    }
    (void)pthread_mutex_lock(&v->isr_lock);
    (void)__atomic_fetch_or(&v->isr, isr, __ATOMIC_ACQ_REL);
    pci_intx_set(&v->function, true);
    (void)pthread_mutex_unlock(&v->isr_lock);
}

void virtio_signal(struct virtio_device *v, unsigned n)
{
    uint16_t vector;

    if (!virtqueue_should_signal(&v->queue[n]))
        return;
    (void)pthread_mutex_lock(&v->lock);
    vector = v->regs.queue[n].vector;
    (void)pthread_mutex_unlock(&v->lock);
    interrupt(v, vector, VIRTIO_ISR_QUEUE);
}

static void config_interrupt(struct virtio_device *v)
{
    uint16_t vector;
    bool alive;

    (void)pthread_mutex_lock(&v->lock);
    vector = v->regs.config_vector;
    alive = (v->regs.status & VIRTIO_STATUS_DRIVER_OK) && !v->resetting;
    (void)pthread_mutex_unlock(&v->lock);
    if (!alive)
        return;
    v->config_interrupts++;
    interrupt(v, vector, VIRTIO_ISR_CONFIG);
}

/* What the driver reads, as the device has it now. */
void virtio_config_refresh(struct virtio_device *v)
{
    uint8_t fresh[VIRTIO_CONFIG_MAX] = { 0 };

    if (v->ops->config_read)
        v->ops->config_read(v->dev, fresh);
    (void)pthread_mutex_lock(&v->lock);
    if (memcmp(v->config, fresh, v->ops->config_bytes) != 0) {
        memcpy(v->config, fresh, v->ops->config_bytes);
        v->regs.generation++;
    }
    (void)pthread_mutex_unlock(&v->lock);
}

void virtio_config_changed(struct virtio_device *v)
{
    virtio_config_refresh(v);
    config_interrupt(v);
}

void virtio_broken(struct virtio_device *v, unsigned n)
{
    bool first;

    (void)n;
    (void)pthread_mutex_lock(&v->lock);
    first = !(v->regs.status & VIRTIO_STATUS_NEEDS_RESET);
    v->regs.status |= VIRTIO_STATUS_NEEDS_RESET;
    (void)pthread_mutex_unlock(&v->lock);
    if (first)
        config_interrupt(v);
}

/* --- what was posted --------------------------------------------------------------------- */

static void reset(struct virtio_device *v)
{
    if (v->ops->reset)
        v->ops->reset(v->dev);
    for (unsigned i = 0; i < v->ops->queues; i++)
        virtqueue_reset(&v->queue[i]);
    __atomic_store_n(&v->isr, 0, __ATOMIC_RELEASE);
    line_follows(v);
    virtio_config_refresh(v);
    (void)pthread_mutex_lock(&v->lock);
    virtio_regs_reset(v);
    v->posted = 0;
    (void)pthread_mutex_unlock(&v->lock);
}

static void config_written(struct virtio_device *v)
{
    uint8_t bytes[VIRTIO_CONFIG_MAX];
    bool written[VIRTIO_CONFIG_MAX];

    (void)pthread_mutex_lock(&v->lock);
    memcpy(bytes, v->pending, sizeof(bytes));
    memcpy(written, v->written, sizeof(written));
    memset(v->written, 0, sizeof(v->written));
    (void)pthread_mutex_unlock(&v->lock);
    for (unsigned first = 0, end; first < v->ops->config_bytes; first = end) {
        for (end = first; end < v->ops->config_bytes && written[end];)
            end++;
        if (end > first)
            v->ops->config_written(v->dev, first, bytes + first, end - first);
        else
            end++;
    }
    virtio_config_refresh(v);
}

/* Queues that the driver enabled, once it said DRIVER_OK: a bit for each that starts. */
static unsigned adopt(struct virtio_device *v)
{
    uint64_t features;
    unsigned fresh = 0;

    (void)pthread_mutex_lock(&v->lock);
    features = v->regs.driver_features;
    for (unsigned i = 0; (v->regs.status & VIRTIO_STATUS_DRIVER_OK) && i < v->ops->queues; i++) {
        const struct virtio_queue_regs *r = &v->regs.queue[i];
        struct virtqueue *q = &v->queue[i];

        if (!r->enabled || q->ready)
            continue;
        q->size = r->size;
        q->desc = r->desc;
        q->avail = r->driver;
        q->used = r->device;
        q->indirect = features & VIRTIO_F_INDIRECT_DESC;
        q->event_idx = features & VIRTIO_F_EVENT_IDX;
        fresh |= 1u << i;
    }
    (void)pthread_mutex_unlock(&v->lock);
    return fresh;
}

static void start(struct virtio_device *v)
{
    unsigned fresh = adopt(v);

    for (unsigned i = 0; i < v->ops->queues; i++) {
        if (!(fresh & 1u << i))
            continue;
        if (virtqueue_start(&v->queue[i]) < 0)
            virtio_broken(v, i);
        else
            virtio_kick(v, i); /* the driver may have put requests there before DRIVER_OK */
    }
}

static void work(struct virtio_device *v)
{
    unsigned posted;

    (void)pthread_mutex_lock(&v->lock);
    posted = v->posted;
    v->posted = 0;
    (void)pthread_mutex_unlock(&v->lock);
    if (posted & VIRTIO_POST_RESET) { /* what was posted before it is void */
        reset(v);
        return;
    }
    if (posted & VIRTIO_POST_CONFIG)
        config_written(v);
    if (posted & VIRTIO_POST_START)
        start(v);
    if (posted & VIRTIO_POST_INTX)
        line_follows(v);
}

void virtio_on_work(void *ctx, int fd, uint32_t events)
{
    (void)events;
    event_take(fd);
    work(ctx);
}

void virtio_on_kick(void *ctx, int fd, uint32_t events)
{
    struct virtio_kick *k = ctx;
    struct virtio_device *v = k->v;

    (void)events;
    if (v->held) /* in the same round of the loop; the event stays */
        return;
    event_take(fd);
    v->kicks++;
    work(v); /* a DRIVER_OK that came before it */
    if (v->queue[k->queue].ready && !v->queue[k->queue].broken)
        v->ops->kicked(v->dev, k->queue);
}

void virtio_hold(struct virtio_device *v, bool held)
{
    if (v->held == held)
        return;
    v->held = held;
    for (unsigned i = 0; i < v->ops->queues; i++) {
        (void)io_loop_change(v->place.loop, v->kick[i].fd, held ? 0 : EPOLLIN);
        if (!held) /* completions meanwhile may have left something to do */
            virtio_kick(v, i);
    }
    if (held && v->dma.drain)
        v->dma.drain(v->dma.dev);
}
