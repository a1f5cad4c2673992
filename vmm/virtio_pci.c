/*
 * A virtio device on PCI, from the I/O thread's side: its queues, kicks and interrupts. The
 * registers are in virtio_regs.c.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/virtio_impl.h"

#define VENDOR       0x1af4u
#define DEVICE(type) (0x1040u + (type))
#define SUBSYSTEM    0x1100u /* any from 0x40 on (4.1.2.1) */
#define REVISION     1u

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

/* 4.1.5.1.2 and 7.2: by MSI-X where the driver enabled it and gave a vector, else by the line. */
static void interrupt(struct virtio_device *v, uint16_t vector, uint8_t isr)
{
    if (pci_interrupt_kind(&v->function) == PCI_MSIX) {
        if (vector != VIRTIO_NO_VECTOR)
            (void)pci_notify(&v->function, vector);
        return;
    }
    (void)pthread_mutex_lock(&v->isr_lock);
    (void)__atomic_fetch_or(&v->isr, isr, __ATOMIC_ACQ_REL);
    pci_intx_set(&v->function, true);
    (void)pthread_mutex_unlock(&v->isr_lock);
}

static void line_follows(struct virtio_device *v)
{
    (void)pthread_mutex_lock(&v->isr_lock);
    pci_intx_set(&v->function, __atomic_load_n(&v->isr, __ATOMIC_ACQUIRE) != 0);
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
    alive = (v->regs.status & VIRTIO_DRIVER_OK) && !v->resetting;
    (void)pthread_mutex_unlock(&v->lock);
    if (!alive)
        return;
    v->config_interrupts++;
    interrupt(v, vector, VIRTIO_ISR_CONFIG);
}

/* What the driver reads, as the device has it now. */
static void config_refresh(struct virtio_device *v)
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
    config_refresh(v);
    config_interrupt(v);
}

void virtio_broken(struct virtio_device *v, unsigned n)
{
    bool first;

    (void)n;
    (void)pthread_mutex_lock(&v->lock);
    first = !(v->regs.status & VIRTIO_NEEDS_RESET);
    v->regs.status |= VIRTIO_NEEDS_RESET;
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
    config_refresh(v);
    (void)pthread_mutex_lock(&v->lock);
    virtio_regs_reset(v);
    v->posted = 0;
    (void)pthread_mutex_unlock(&v->lock);
}

static void config_written(struct virtio_device *v)
{
    uint8_t bytes[VIRTIO_CONFIG_MAX];
    unsigned first, end;

    (void)pthread_mutex_lock(&v->lock);
    memcpy(bytes, v->config, sizeof(bytes));
    first = v->config_first;
    end = v->config_end;
    v->config_first = v->config_end = 0;
    (void)pthread_mutex_unlock(&v->lock);
    if (end > first)
        v->ops->config_written(v->dev, first, bytes + first, end - first);
    config_refresh(v);
}

/* Queues that the driver enabled, once it said DRIVER_OK: a bit for each that starts. */
static unsigned adopt(struct virtio_device *v)
{
    uint64_t features;
    unsigned fresh = 0;

    (void)pthread_mutex_lock(&v->lock);
    features = v->regs.driver_features;
    for (unsigned i = 0; (v->regs.status & VIRTIO_DRIVER_OK) && i < v->ops->queues; i++) {
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

static void on_work(void *ctx, int fd, uint32_t events)
{
    (void)events;
    event_take(fd);
    work(ctx);
}

static void on_kick(void *ctx, int fd, uint32_t events)
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

/* --- PCI ----------------------------------------------------------------------------------- */

static uint64_t bar_read(void *dev, unsigned bar, uint64_t offset, unsigned size)
{
    return bar == VIRTIO_BAR ? virtio_regs_read(dev, offset, size, false) : UINT64_MAX;
}

static void bar_write(void *dev, unsigned bar, uint64_t offset, unsigned size, uint64_t value)
{
    if (bar == VIRTIO_BAR)
        virtio_regs_write(dev, offset, size, value);
}

/* Has KVM signal the kicks' eventfds for writes at `at`, or no longer. Where it does not, the
 * access comes to bar_write(), which does the same. */
static void watch(struct virtio_device *v, uint64_t at, bool on)
{
    for (unsigned i = 0; i < v->ops->queues; i++) {
        struct kvm_ioeventfd io = {
            .addr = at + VIRTIO_NOTIFY_AT + (uint64_t)i * VIRTIO_NOTIFY_MUL,
            .fd = v->kick[i].fd,
            .flags = on ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN,
        };

        (void)ioctl(v->place.vm_fd, KVM_IOEVENTFD, &io);
    }
}

static void bar_placed(void *dev, unsigned bar)
{
    struct virtio_device *v = dev;
    const struct pci_bar *b = &v->function.bar[VIRTIO_BAR];

    if (bar != VIRTIO_BAR || v->place.vm_fd < 0)
        return;
    if (v->watched)
        watch(v, v->watched_at, false);
    v->watched = b->decoded;
    v->watched_at = b->address;
    if (v->watched)
        watch(v, v->watched_at, true);
}

static const struct pci_ops pci_ops = {
    .bar_read = bar_read,
    .bar_write = bar_write,
    .bar_placed = bar_placed,
    .config_read = virtio_window_read,
    .config_written = virtio_window_written,
};

static int put_on_bus(struct virtio_device *v, struct error *err)
{
    struct pci_function *f = &v->function;
    int rc;

    f->ops = &pci_ops;
    f->dev = v;
    f->name = v->ops->name;
    pci_header(f, VENDOR, (uint16_t)DEVICE(v->ops->type), v->ops->class, REVISION, VENDOR,
               SUBSYSTEM);
    pci_add_bar(f, VIRTIO_BAR, VIRTIO_BAR_BYTES, false, false, false);
    pci_add_bar(f, VIRTIO_MSIX_BAR, VIRTIO_MSIX_BYTES, false, false, false);
    pci_use_intx(f);
    rc = virtio_regs_caps(v);
    if (rc == 0)
        rc = pci_add_msix(f, v->ops->queues + 1, VIRTIO_MSIX_BAR, 0, VIRTIO_MSIX_PBA);
    if (rc < 0)
        return error_set(err, rc, "%s: its capabilities: %s", f->name, strerror(-rc));
    return pci_add(v->place.pci, f, -1, err);
}

/* --- creation -------------------------------------------------------------------------------- */

static int open_events(struct virtio_device *v)
{
    int rc;

    v->work_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rc = v->work_fd < 0 ? -errno : io_loop_add(v->place.loop, v->work_fd, EPOLLIN, on_work, v);
    for (unsigned i = 0; rc == 0 && i < v->ops->queues; i++) {
        v->kick[i].fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        rc = v->kick[i].fd < 0
                 ? -errno
                 : io_loop_add(v->place.loop, v->kick[i].fd, EPOLLIN, on_kick, &v->kick[i]);
    }
    return rc;
}

int virtio_create(struct virtio_device **out, const struct virtio_ops *ops, void *dev,
                  const struct virtio_place *place, struct error *err)
{
    struct virtio_device *v = calloc(1, sizeof(*v));
    int rc;

    *out = NULL;
    if (!v)
        return error_set(err, -ENOMEM, "%s: no memory", ops->name);
    v->ops = ops;
    v->dev = dev;
    v->place = *place;
    v->features = ops->features | VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX |
                  (place->iommu ? VIRTIO_F_ACCESS_PLATFORM : 0);
    v->dma = (struct dma){ .mem = place->mem, .iommu = place->iommu, .function = &v->function };
    v->work_fd = -1;
    (void)pthread_mutex_init(&v->lock, NULL);
    (void)pthread_mutex_init(&v->isr_lock, NULL);
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
        v->kick[i] = (struct virtio_kick){ .v = v, .queue = i, .fd = -1 };
        virtqueue_init(&v->queue[i], &v->dma, ops->queue_max);
    }
    virtio_regs_reset(v);
    config_refresh(v);
    rc = open_events(v);
    if (rc < 0)
        (void)error_set(err, rc, "%s: eventfd: %s; raise the limit of open files (ulimit -n)",
                        ops->name, strerror(-rc));
    else
        rc = put_on_bus(v, err);
    if (rc < 0) {
        virtio_destroy(v);
        return rc;
    }
    *out = v;
    return 0;
}

static void close_event(struct virtio_device *v, int fd)
{
    if (fd < 0)
        return;
    io_loop_remove(v->place.loop, fd);
    (void)close(fd);
}

/* KVM forgets what it watches when the VM's descriptor is closed. */
void virtio_destroy(struct virtio_device *v)
{
    if (!v)
        return;
    close_event(v, v->work_fd);
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
        close_event(v, v->kick[i].fd);
    (void)pthread_mutex_destroy(&v->isr_lock);
    (void)pthread_mutex_destroy(&v->lock);
    free(v);
}

/* --- for the device ----------------------------------------------------------------------------
 */

struct virtqueue *virtio_queue(struct virtio_device *v, unsigned n)
{
    return &v->queue[n];
}

uint64_t virtio_features(const struct virtio_device *v)
{
    struct virtio_state s;

    virtio_state((struct virtio_device *)v, &s);
    return s.negotiated;
}

struct dma *virtio_dma(struct virtio_device *v)
{
    return &v->dma;
}

struct pci_function *virtio_function(struct virtio_device *v)
{
    return &v->function;
}

const struct virtio_ops *virtio_ops(const struct virtio_device *v)
{
    return v->ops;
}

void virtio_state(struct virtio_device *v, struct virtio_state *out)
{
    (void)pthread_mutex_lock(&v->lock);
    *out = (struct virtio_state){
        .status = v->regs.status,
        .offered = v->features,
        .negotiated = v->regs.status & VIRTIO_FEATURES_OK ? v->regs.driver_features : 0,
        .kicks = v->kicks,
        .config_interrupts = v->config_interrupts,
    };
    (void)pthread_mutex_unlock(&v->lock);
}
