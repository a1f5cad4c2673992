/*
 * A passed-through device: opened, reset, its config space watched, and given back.
 */
#include "vmm/vfio_impl.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/terminal.h"

/* --- config space
 * --------------------------------------------------------------------------------- */

static bool config_pread(const struct vfio_device *dev, unsigned offset, void *buf, unsigned size)
{
    return pread(dev->fd, buf, size, (off_t)(dev->config_region + offset)) == (ssize_t)size;
}

/* What it doesn't take is lost, as on a bus. */
static void config_pwrite(const struct vfio_device *dev, unsigned offset, const void *buf,
                          unsigned size)
{
    (void)!pwrite(dev->fd, buf, size, (off_t)(dev->config_region + offset));
}

/*
 * The device decodes its BARs all the time: where they are for the guest is a matter of our memory
 * slots, and a mapped BAR that stops decoding would be a fault of the host. Bus master and the mask
 * of INTx are the guest's.
 */
static void command_write(struct vfio_device *dev, uint16_t guest)
{
    uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_IO |
                       (guest & (PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE));

    config_pwrite(dev, PCI_COMMAND, &command, sizeof(command));
}

static void config_written(void *opaque, unsigned offset, unsigned size)
{
    struct vfio_device *dev = opaque;
    const uint8_t *config = dev->f.config;
    unsigned run;

    if (offset < PCI_COMMAND + 2 && offset + size > PCI_COMMAND) {
        command_write(dev, (uint16_t)(config[PCI_COMMAND] | config[PCI_COMMAND + 1] << 8));
        vfio_irq_follow(dev, 0); /* the guest may have masked INTx; vectors are told apart */
    }
    for (unsigned at = offset; at < offset + size && at < VFIO_CONFIG_BYTES; at += run) {
        bool through = dev->config.through[at];

        run = 1;
        while (at + run < offset + size && at + run < VFIO_CONFIG_BYTES &&
               dev->config.through[at + run] == through)
            run++;
        if (through)
            config_pwrite(dev, at, config + at, run);
    }
}

static void config_read(void *opaque, unsigned offset, unsigned size)
{
    struct vfio_device *dev = opaque;
    uint8_t real[4];
    bool any = offset <= PCI_STATUS && offset + size > PCI_STATUS;

    for (unsigned i = 0; i < size && offset + i < VFIO_CONFIG_BYTES; i++)
        any = any || dev->config.through[offset + i];
    if (!any || !config_pread(dev, offset, real, size))
        return;
    for (unsigned i = 0; i < size; i++) {
        unsigned at = offset + i;
        uint8_t *to = &dev->f.config[at];

        if (at < VFIO_CONFIG_BYTES && dev->config.through[at])
            *to = real[i];
        if (at == PCI_STATUS) /* INTx is the device's own */
            *to = (uint8_t)((*to & ~PCI_STATUS_INTERRUPT) | (real[i] & PCI_STATUS_INTERRUPT));
    }
}

static const struct pci_ops ops = {
    .bar_read = vfio_bar_read,
    .bar_write = vfio_bar_write,
    .bar_placed = vfio_bar_placed,
    .config_written = config_written,
    .config_read = config_read,
    .vectors_changed = vfio_irq_follow,
};

/* --- reset ---------------------------------------------------------------------------------------
 */

/* The groups that a hot reset concerns, all of them ours: their descriptors in `fds`. 0: it
 * concerns others, or there is none. */
static size_t hot_reset_groups(struct vfio_device *dev, int32_t *fds, size_t max)
{
    union {
        struct vfio_pci_hot_reset_info info;
        uint8_t bytes[4096];
    } u = { .info = { .argsz = sizeof(u) } };
    bool used[DEVICES_MAX] = { false };
    struct vfio *v = dev->vfio;
    size_t n = 0;

    if (ioctl(dev->fd, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &u.info) < 0)
        return 0;
    for (uint32_t i = 0; i < u.info.count; i++) {
        size_t g = 0;

        while (g < v->groups && v->group[g].number != u.info.devices[i].group_id)
            g++;
        if (g == v->groups)
            return 0;
        used[g] = true;
    }
    for (size_t g = 0; g < v->groups && n < max; g++)
        if (used[g])
            fds[n++] = v->group[g].fd;
    return n;
}

static int hot_reset(struct vfio_device *dev)
{
    union {
        struct vfio_pci_hot_reset reset;
        uint8_t bytes[sizeof(struct vfio_pci_hot_reset) + DEVICES_MAX * sizeof(int32_t)];
    } u = { .reset = { .argsz = sizeof(u) } };
    size_t n = hot_reset_groups(dev, u.reset.group_fds, DEVICES_MAX);

    u.reset.count = (uint32_t)n;
    if (n == 0)
        return -ENOTSUP;
    return ioctl(dev->fd, VFIO_DEVICE_PCI_HOT_RESET, &u.reset) < 0 ? -errno : 0;
}

void vfio_device_ready(struct vfio_device *dev)
{
    if (dev->resets)
        return;
    dev->hot_resets = hot_reset(dev) == 0;
    if (!dev->hot_resets)
        terminal_message("%s can't be reset: the guest finds it as its last user left it, and the "
                         "next user as the guest did",
                         dev->bdf.name);
    command_write(dev, 0);
}

/* --- life
 * ----------------------------------------------------------------------------------------- */

static int device_open(struct vfio_device *dev, struct error *err)
{
    struct vfio_device_info info = { .argsz = sizeof(info) };
    struct vfio_region_info region = { .argsz = sizeof(region),
                                       .index = VFIO_PCI_CONFIG_REGION_INDEX };

    dev->fd = ioctl(dev->group->fd, VFIO_GROUP_GET_DEVICE_FD, dev->bdf.name);
    if (dev->fd < 0)
        return error_set(err, error_of_kernel(-errno), "--vfio %s: VFIO doesn't give it: %s",
                         dev->bdf.name, strerror(errno));
    if (ioctl(dev->fd, VFIO_DEVICE_GET_INFO, &info) < 0 ||
        ioctl(dev->fd, VFIO_DEVICE_GET_REGION_INFO, &region) < 0)
        return error_set(err, error_of_kernel(-errno), "--vfio %s: %s", dev->bdf.name,
                         strerror(errno));
    if (!(info.flags & VFIO_DEVICE_FLAGS_PCI) || region.size < VFIO_CONFIG_BYTES)
        return error_set(err, -ENOTSUP, "--vfio %s: VFIO has no PCI config space of it",
                         dev->bdf.name);
    dev->resets = info.flags & VFIO_DEVICE_FLAGS_RESET;
    dev->irqs = info.num_irqs;
    dev->config_region = region.offset;
    /* Fails when the device doesn't come back: what is then read of it tells. */
    if (dev->resets && ioctl(dev->fd, VFIO_DEVICE_RESET) < 0)
        return error_set(err, error_of_kernel(-errno), "--vfio %s: its reset failed: %s",
                         dev->bdf.name, strerror(errno));
    return 0;
}

static int function_build(struct vfio_device *dev, struct error *err)
{
    uint8_t real[VFIO_CONFIG_BYTES];
    struct vfio_facts facts = { 0 };
    int rc = vfio_bars_read(dev, facts.bar, err);

    if (rc < 0)
        return rc;
    if (!config_pread(dev, 0, real, sizeof(real)))
        return error_set(err, -EIO, "--vfio %s: its config space can't be read", dev->bdf.name);
    vfio_irq_facts(dev, &facts);
    dev->f.ops = &ops;
    dev->f.dev = dev;
    (void)snprintf(dev->name, sizeof(dev->name), "vfio %s", dev->bdf.name);
    dev->f.name = dev->name;
    dev->f.by_irqfd = true;
    rc = vfio_config_build(&dev->config, &dev->f, real, &facts, err);
    if (rc == 0)
        rc = vfio_irq_create(dev, err);
    if (rc < 0)
        return rc;
    command_write(dev, 0);
    vfio_bars_map(dev);
    return 0;
}

int vfio_device_create(struct vfio_device **out, struct vfio *v, struct vfio_group *g,
                       const struct vfio_bdf *bdf, int devfn, struct error *err)
{
    struct vfio_device *dev = calloc(1, sizeof(*dev));
    int rc;

    *out = NULL;
    if (!dev)
        return error_set(err, -ENOMEM, "no memory for device %s", bdf->name);
    dev->vfio = v;
    dev->group = g;
    dev->bdf = *bdf;
    dev->fd = dev->intx_fd = dev->unmask_fd = -1;
    rc = device_open(dev, err);
    if (rc == 0)
        rc = function_build(dev, err);
    if (rc == 0)
        rc = pci_add(v->host.pci, &dev->f, devfn, err);
    if (rc < 0) {
        vfio_device_destroy(dev);
        return rc;
    }
    dev->intx_gsi = dev->f.config[PCI_INTERRUPT_LINE];
    *out = dev;
    return 0;
}

void vfio_device_destroy(void *opaque)
{
    struct vfio_device *dev = opaque;

    if (!dev)
        return;
    vfio_forget(dev->vfio, dev);
    if (dev->fd >= 0 && dev->config_region)
        command_write(dev, 0); /* no DMA from here on */
    vfio_irq_destroy(dev);
    vfio_bars_unmap(dev);
    pci_remove(&dev->f);
    if (dev->fd >= 0) {
        if (dev->resets)
            (void)ioctl(dev->fd, VFIO_DEVICE_RESET);
        else if (dev->hot_resets)
            (void)hot_reset(dev);
        (void)close(dev->fd);
    }
    free(dev);
}
