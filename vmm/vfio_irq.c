/*
 * Interrupts of a passed-through device. VFIO gives each as an eventfd; KVM takes it as an
 * interrupt without us (irqfd): a message by a route that follows what the guest wrote, INTx with a
 * second eventfd that unmasks the line at the guest's end of interrupt. While the guest masks a
 * vector its eventfd comes to the I/O loop and makes the vector pending.
 *
 * All but the I/O loop's part runs under PCI's config lock.
 */
#include "vmm/vfio_impl.h"

#include <errno.h>
#include <limits.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/terminal.h"

static void complain(struct vfio_device *dev, enum pci_interrupts kind, const char *what, int rc)
{
    static const char *const name[] = { "no interrupts", "INTx", "MSI", "MSI-X" };

    if (!dev->complained[kind])
        terminal_message("%s: %s: %s: %s; not all of these reach the guest", dev->bdf.name,
                         name[kind], what, strerror(-rc));
    dev->complained[kind] = true;
}

/* --- what VFIO is told ---------------------------------------------------------------------------
 */

static unsigned index_of(enum pci_interrupts kind)
{
    if (kind == PCI_MSIX)
        return VFIO_PCI_MSIX_IRQ_INDEX;
    return kind == PCI_MSI ? VFIO_PCI_MSI_IRQ_INDEX : VFIO_PCI_INTX_IRQ_INDEX;
}

/* `action` is VFIO_IRQ_SET_ACTION_...; fds NULL: no data. 0 or -errno. */
static int set_irqs(struct vfio_device *dev, enum pci_interrupts kind, uint32_t action,
                    const int *fds, unsigned count)
{
    size_t bytes = sizeof(struct vfio_irq_set) + (fds ? count * sizeof(*fds) : 0);
    struct vfio_irq_set *set = calloc(1, bytes);
    int rc;

    if (!set)
        return -ENOMEM;
    *set = (struct vfio_irq_set){
        .argsz = (uint32_t)bytes,
        .flags = action | (fds ? VFIO_IRQ_SET_DATA_EVENTFD : VFIO_IRQ_SET_DATA_NONE),
        .index = index_of(kind),
        .count = count,
    };
    if (fds)
        memcpy(set->data, fds, count * sizeof(*fds));
    rc = ioctl(dev->fd, VFIO_DEVICE_SET_IRQS, set);
    if (rc > 0) /* so many it could have given */
        rc = -ENOSPC;
    else if (rc < 0)
        rc = -errno;
    free(set);
    return rc;
}

static bool told_of(struct vfio_device *dev, unsigned index)
{
    struct vfio_irq_info info = { .argsz = sizeof(info), .index = index };

    return index < dev->irqs && ioctl(dev->fd, VFIO_DEVICE_GET_IRQ_INFO, &info) == 0 &&
           info.count > 0 && info.flags & VFIO_IRQ_INFO_EVENTFD;
}

void vfio_irq_facts(struct vfio_device *dev, struct vfio_facts *facts)
{
    facts->intx = told_of(dev, VFIO_PCI_INTX_IRQ_INDEX);
    facts->msi = told_of(dev, VFIO_PCI_MSI_IRQ_INDEX);
    facts->msix = told_of(dev, VFIO_PCI_MSIX_IRQ_INDEX);
}

static int irqfd(struct vfio_device *dev, int fd, unsigned gsi, int resample, uint32_t flags)
{
    struct kvm_irqfd arg = {
        .fd = (uint32_t)fd,
        .gsi = gsi,
        .flags = flags | (resample >= 0 ? KVM_IRQFD_FLAG_RESAMPLE : 0),
        .resamplefd = resample >= 0 ? (uint32_t)resample : 0,
    };

    return ioctl(dev->vfio->host.vm_fd, KVM_IRQFD, &arg) < 0 ? -errno : 0;
}

/* --- a vector
 * --------------------------------------------------------------------------------------
 */

static bool taken(int fd)
{
    uint64_t count;

    return read(fd, &count, sizeof(count)) == sizeof(count);
}

/* The device interrupted while the guest masks the vector, or KVM couldn't take it. */
static void came(void *ctx, int fd, uint32_t events)
{
    struct vfio_vector *v = ctx;
    struct pci_function *f = &v->dev->f;
    enum pci_interrupts kind = pci_interrupt_kind(f);

    (void)events;
    if (!taken(fd) || (kind != PCI_MSI && kind != PCI_MSIX))
        return;
    (void)pci_notify(f, v->number);
    if (f->intx) /* the guest changed its mind in between: VFIO's INTx is none of pci.c's */
        pci_intx_set(f, false);
}

static void watch(struct vfio_vector *v)
{
    if (!v->watched)
        v->watched = io_loop_add(v->dev->vfio->host.loop, v->fd, EPOLLIN, came, v) == 0;
}

static void unwatch(struct vfio_vector *v)
{
    if (v->watched)
        io_loop_remove(v->dev->vfio->host.loop, v->fd);
    v->watched = false;
}

static void unwire(struct vfio_vector *v)
{
    if (v->wired)
        (void)irqfd(v->dev, v->fd, v->gsi, -1, KVM_IRQFD_FLAG_DEASSIGN);
    v->wired = false;
}

/* To the guest as `message`; by the monitor where KVM can't. */
static void wire(struct vfio_vector *v, const struct msi_message *message)
{
    bool routed = irq_routes_set(v->dev->vfio->routes, v->gsi, message) == 0;

    if (!routed)
        unwire(v); /* the old route would be wrong */
    if (v->wired)
        return;
    unwatch(v);
    v->wired = routed && irqfd(v->dev, v->fd, v->gsi, -1, 0) == 0;
    if (!v->wired)
        watch(v);
}

static int vector_make(struct vfio_vector *v)
{
    int rc;

    v->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (v->fd < 0)
        return -errno;
    rc = irq_routes_take(v->dev->vfio->routes, &v->gsi, NULL);
    if (rc < 0) {
        (void)close(v->fd);
        v->fd = -1;
    }
    return rc;
}

/* --- a kind
 * -----------------------------------------------------------------------------------------
 */

static void disarm(struct vfio_device *dev)
{
    if (dev->armed != PCI_NONE)
        (void)set_irqs(dev, dev->armed, VFIO_IRQ_SET_ACTION_TRIGGER, NULL, 0);
    if (dev->armed == PCI_INTX)
        (void)irqfd(dev, dev->intx_fd, dev->intx_gsi, -1, KVM_IRQFD_FLAG_DEASSIGN);
    for (unsigned i = 0; i < dev->vectors && dev->vector[i].fd >= 0; i++) {
        unwire(&dev->vector[i]);
        unwatch(&dev->vector[i]);
        (void)taken(dev->vector[i].fd); /* of before: nobody's any more */
    }
    dev->armed = PCI_NONE;
    dev->armed_vectors = dev->refused = 0;
}

static void arm_intx(struct vfio_device *dev)
{
    int rc;

    if (dev->intx_fd < 0)
        dev->intx_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (dev->unmask_fd < 0)
        dev->unmask_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    rc = dev->intx_fd < 0 || dev->unmask_fd < 0 ? -EMFILE : 0;
    if (rc == 0)
        rc = irqfd(dev, dev->intx_fd, dev->intx_gsi, dev->unmask_fd, 0);
    if (rc < 0) {
        complain(dev, PCI_INTX, "KVM takes no level-triggered eventfd", rc);
        return;
    }
    dev->armed = PCI_INTX;
    rc = set_irqs(dev, PCI_INTX, VFIO_IRQ_SET_ACTION_TRIGGER, &dev->intx_fd, 1);
    if (rc == 0)
        rc = set_irqs(dev, PCI_INTX, VFIO_IRQ_SET_ACTION_UNMASK, &dev->unmask_fd, 1);
    if (rc == 0)
        return;
    disarm(dev);
    complain(dev, PCI_INTX, "VFIO doesn't give it", rc);
}

/* VFIO is told of the first `count` vectors, which it isn't told of any. 0 or -errno. */
static int try_vectors(struct vfio_device *dev, enum pci_interrupts kind, unsigned count)
{
    int *fds = calloc(count, sizeof(*fds));
    int rc = fds ? 0 : -ENOMEM;

    for (unsigned i = 0; i < count && rc == 0; i++) {
        if (dev->vector[i].fd < 0)
            rc = vector_make(&dev->vector[i]);
        fds[i] = dev->vector[i].fd;
    }
    if (rc == 0)
        rc = set_irqs(dev, kind, VFIO_IRQ_SET_ACTION_TRIGGER, fds, count);
    free(fds);
    if (rc == 0) {
        dev->armed = kind;
        dev->armed_vectors = count;
    }
    return rc;
}

/*
 * So that VFIO tells of the first `need` vectors, better of `wish`. It can't add some: all go, and
 * come again, and where this machine has no more interrupts those of before do.
 */
static void arm_vectors(struct vfio_device *dev, enum pci_interrupts kind, unsigned need,
                        unsigned wish)
{
    unsigned before = dev->armed == kind ? dev->armed_vectors : 0;
    int rc;

    if (dev->armed != PCI_NONE)
        (void)set_irqs(dev, dev->armed, VFIO_IRQ_SET_ACTION_TRIGGER, NULL, 0);
    dev->armed = PCI_NONE;
    rc = try_vectors(dev, kind, wish);
    if (rc < 0 && need < wish)
        rc = try_vectors(dev, kind, need);
    if (rc == 0)
        return;
    if (before > 0 && try_vectors(dev, kind, before) == 0) {
        complain(dev, kind, "VFIO gives no more vectors than before", rc);
    } else {
        disarm(dev);
        complain(dev, kind, "VFIO doesn't give it", rc);
    }
    dev->refused = need;
}

static void follow_vectors(struct vfio_device *dev, enum pci_interrupts kind, unsigned vector)
{
    unsigned all = kind == PCI_MSI ? 1 : dev->vectors, need = dev->armed_vectors;
    unsigned first = vector == UINT_MAX ? 0 : vector, end = vector == UINT_MAX ? all : vector + 1;
    struct msi_message m;

    for (unsigned i = first; i < end && i < all; i++)
        if (i >= need && pci_message(&dev->f, i, &m))
            need = i + 1;
    if (need > dev->armed_vectors && (dev->refused == 0 || need < dev->refused)) {
        /* More than is asked for: guests unmask one after the other. */
        unsigned wish = need < 2 * dev->armed_vectors ? 2 * dev->armed_vectors : need;

        arm_vectors(dev, kind, need, wish < all ? wish : all);
        first = 0; /* those that are new are nobody's yet, and disarm() left none wired */
        end = all;
    }
    for (unsigned i = first; i < end && i < dev->armed_vectors; i++) {
        if (pci_message(&dev->f, i, &m)) {
            wire(&dev->vector[i], &m);
        } else {
            unwire(&dev->vector[i]);
            watch(&dev->vector[i]);
        }
    }
}

void vfio_irq_follow(void *opaque, unsigned vector)
{
    struct vfio_device *dev = opaque;
    enum pci_interrupts kind = pci_interrupt_kind(&dev->f);

    if (dev->armed != kind)
        disarm(dev);
    if (kind == PCI_INTX && dev->armed == PCI_NONE)
        arm_intx(dev);
    else if (kind == PCI_MSI || kind == PCI_MSIX)
        follow_vectors(dev, kind, vector);
}

/* --- life
 * -------------------------------------------------------------------------------------------
 */

int vfio_irq_create(struct vfio_device *dev, struct error *err)
{
    unsigned msix = 0, vectors;

    if (dev->f.msix_cap)
        msix = (dev->f.config[dev->f.msix_cap + PCI_MSIX_FLAGS] |
                (unsigned)dev->f.config[dev->f.msix_cap + PCI_MSIX_FLAGS + 1] << 8) &
               PCI_MSIX_FLAGS_QSIZE;
    vectors = dev->f.msix_cap ? msix + 1 : 1;
    dev->vector = calloc(vectors, sizeof(*dev->vector));
    if (!dev->vector)
        return error_set(err, -ENOMEM, "no memory for the vectors of %s", dev->bdf.name);
    dev->vectors = vectors; /* as long as there are none, none are taken down */
    for (unsigned i = 0; i < dev->vectors; i++)
        dev->vector[i] = (struct vfio_vector){ .dev = dev, .number = i, .fd = -1 };
    return 0;
}

static void shut(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

void vfio_irq_destroy(struct vfio_device *dev)
{
    if (dev->fd >= 0)
        disarm(dev);
    for (unsigned i = 0; dev->vector && i < dev->vectors; i++)
        shut(&dev->vector[i].fd);
    free(dev->vector);
    dev->vector = NULL;
    dev->vectors = 0;
    shut(&dev->intx_fd);
    shut(&dev->unmask_fd);
}
