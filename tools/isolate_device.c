/* A device through VFIO, type 1: what the demonstration needs of it. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tools/isolate_vfio.h"
#include "tools/table.h"

/* PCI Local Bus 3.0, 6.1 and 6.2.2 (command register). */
#define PCI_VENDOR  0x00u
#define PCI_DEVICE  0x02u
#define PCI_COMMAND 0x04u
#define PCI_MEMORY  2u
#define PCI_MASTER  4u

static int open_device(struct isolate_device *d, struct error *err)
{
    struct vfio_bdf bdf;
    unsigned group;
    int rc = vfio_bdf_parse(d->bdf, &bdf, err);

    if (rc == 0)
        rc = vfio_group_check("isolate --device", &bdf, &group, err);
    if (rc == 0)
        rc = vfio_group_open(&d->group, group, err);
    if (rc == 0)
        rc = vfio_container_open(&d->container, err);
    if (rc == 0)
        rc = vfio_container_join(&d->container, &d->group, true, err);
    if (rc)
        return rc;
    d->fd = ioctl(d->group.fd, VFIO_GROUP_GET_DEVICE_FD, d->bdf);
    if (d->fd < 0)
        return error_set(err, -errno, "device %s can't be opened: %s", d->bdf, strerror(errno));
    d->info.argsz = sizeof(d->info);
    if (ioctl(d->fd, VFIO_DEVICE_GET_INFO, &d->info) < 0 ||
        !isolate_device_region(d, VFIO_PCI_CONFIG_REGION_INDEX, &d->config))
        return error_set(err, -EIO, "device %s: VFIO tells nothing of it", d->bdf);
    return 0;
}

int isolate_device_open(struct isolate_device *d, const char *bdf, struct error *err)
{
    int rc;

    *d = (struct isolate_device){ .fd = -1, .container.fd = -1, .group.fd = -1 };
    (void)snprintf(d->bdf, sizeof(d->bdf), "%s", bdf);
    rc = open_device(d, err);
    if (rc)
        return rc;
    d->vendor = isolate_config_read(d, PCI_VENDOR, 2);
    d->device = isolate_config_read(d, PCI_DEVICE, 2);
    return 0;
}

void isolate_device_close(struct isolate_device *d)
{
    const int files[] = { d->fd, d->group.fd, d->container.fd };

    if (d->fd >= 0 && d->info.flags & VFIO_DEVICE_FLAGS_RESET)
        (void)ioctl(d->fd, VFIO_DEVICE_RESET);
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        if (files[i] >= 0)
            close(files[i]);
    d->fd = d->group.fd = d->container.fd = -1;
}

bool isolate_device_region(const struct isolate_device *d, unsigned n, struct vfio_region_info *out)
{
    *out = (struct vfio_region_info){ .argsz = sizeof(*out), .index = n };
    return n < d->info.num_regions && ioctl(d->fd, VFIO_DEVICE_GET_REGION_INFO, out) == 0 &&
           out->size > 0;
}

uint32_t isolate_config_read(const struct isolate_device *d, unsigned at, unsigned bytes)
{
    uint8_t raw[4] = { 0xff, 0xff, 0xff, 0xff };
    uint32_t value = 0;

    if (pread(d->fd, raw, bytes, (off_t)(d->config.offset + at)) != (ssize_t)bytes)
        memset(raw, 0xff, sizeof(raw));
    for (unsigned i = 0; i < bytes; i++)
        value |= (uint32_t)raw[i] << 8 * i;
    return value;
}

int isolate_bus_master(const struct isolate_device *d, bool on)
{
    uint32_t command = isolate_config_read(d, PCI_COMMAND, 2) | PCI_MEMORY;
    uint8_t raw[2];

    command = on ? command | PCI_MASTER : command & ~PCI_MASTER;
    raw[0] = (uint8_t)command;
    raw[1] = (uint8_t)(command >> 8);
    return pwrite(d->fd, raw, 2, (off_t)(d->config.offset + PCI_COMMAND)) == 2 ? 0 : -EIO;
}

int isolate_map(const struct isolate_device *d, uint64_t iova, void *at, uint64_t len,
                uint32_t prot)
{
    struct vfio_iommu_type1_dma_map map = {
        .argsz = sizeof(map), .flags = prot, .vaddr = (uintptr_t)at, .iova = iova, .size = len
    };

    return ioctl(d->container.fd, VFIO_IOMMU_MAP_DMA, &map) < 0 ? -errno : 0;
}

int isolate_unmap(const struct isolate_device *d, uint64_t iova, uint64_t len)
{
    struct vfio_iommu_type1_dma_unmap unmap = { .argsz = sizeof(unmap), .iova = iova, .size = len };

    return ioctl(d->container.fd, VFIO_IOMMU_UNMAP_DMA, &unmap) < 0 ? -errno : 0;
}

/* --- devices that we have no driver for ------------------------------------------------ */

static void print_regions(const struct isolate_device *d)
{
    char size[24];

    for (unsigned n = 0; n <= VFIO_PCI_ROM_REGION_INDEX; n++) {
        struct vfio_region_info r;
        uint32_t first;

        if (!isolate_device_region(d, n, &r))
            continue;
        (void)format_bytes(r.size, size, sizeof(size));
        if (n == VFIO_PCI_ROM_REGION_INDEX) {
            printf("ROM      %s\n", size);
            continue;
        }
        /* PCI Local Bus 3.0, 6.2.5.1: bit 0 tells I/O from memory. What a read of a register does
         * only its driver knows: none is made. */
        first = isolate_config_read(d, 0x10 + 4 * n, 4);
        printf("BAR %u    %s, %s, %s\n", n, size, first & 1 ? "I/O ports" : "memory",
               r.flags & VFIO_REGION_INFO_FLAG_MMAP ? "a VM would reach it directly"
                                                    : "by the monitor only");
    }
}

static void print_interrupts(const struct isolate_device *d)
{
    static const char *const names[] = { "INTx", "MSI", "MSI-X" };

    for (unsigned n = 0; n < 3 && n < d->info.num_irqs; n++) {
        struct vfio_irq_info irq = { .argsz = sizeof(irq), .index = n };

        if (ioctl(d->fd, VFIO_DEVICE_GET_IRQ_INFO, &irq) == 0 && irq.count > 0)
            printf("%-8s %u\n", names[n], irq.count);
    }
}

void isolate_device_print(const struct isolate_device *d)
{
    printf("device   %s %04x:%04x, class %06x, command %04x, status %04x\n", d->bdf, d->vendor,
           d->device, isolate_config_read(d, 0x08, 4) >> 8, isolate_config_read(d, PCI_COMMAND, 2),
           isolate_config_read(d, 0x06, 2));
    printf("group    %u\n", d->group.number);
    printf("reset    %s\n", d->info.flags & VFIO_DEVICE_FLAGS_RESET ? "yes" : "none");
    print_regions(d);
    print_interrupts(d);
    for (size_t i = 0; i < d->container.iovas; i++)
        printf("reach    0x%" PRIx64 " to 0x%" PRIx64 " could be mapped for it; nothing is\n",
               d->container.iova[i].first, d->container.iova[i].last);
    printf("no DMA was tried: twofold has no driver for this device (only for edu, 1234:11e8)\n");
}
