/*
 * A virtio device as a function on PCI, from its making to its end. Its registers are in
 * virtio_regs.c, its work is in virtio_work.c.
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
    rc = v->work_fd < 0 ? -errno
                        : io_loop_add(v->place.loop, v->work_fd, EPOLLIN, virtio_on_work, v);
    for (unsigned i = 0; rc == 0 && i < v->ops->queues; i++) {
        v->kick[i].fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        rc = v->kick[i].fd < 0
                 ? -errno
                 : io_loop_add(v->place.loop, v->kick[i].fd, EPOLLIN, virtio_on_kick, &v->kick[i]);
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
    virtio_config_refresh(v);
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
    pci_remove(&v->function);
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
        .negotiated = v->regs.status & VIRTIO_STATUS_FEATURES_OK ? v->regs.driver_features : 0,
        .kicks = v->kicks,
        .config_interrupts = v->config_interrupts,
    };
    (void)pthread_mutex_unlock(&v->lock);
}
