/*
 * Devices of this machine, passed through (docs/passthrough.md): Linux' VFIO gives their registers,
 * their interrupts as eventfds, and DMA that the IOMMU keeps to guest memory.
 *
 * They have to be on the driver vfio-pci already; who binds them is a matter of tools/.
 */
#ifndef TWOFOLD_VMM_VFIO_H
#define TWOFOLD_VMM_VFIO_H

#include "vmm/device_config.h"
#include "vmm/error.h"
#include "vmm/io_loop.h"
#include "vmm/memory.h"
#include "vmm/pages.h"
#include "vmm/pci.h"

/* What the devices need of their VM; all of it outlives them. */
struct vfio_host {
    struct memory *mem;
    struct pages *pages;
    struct pci *pci;
    struct io_loop *loop;
    int vm_fd;
    unsigned routes;                     /* KVM_CAP_IRQ_ROUTING */
    const struct devices_config *wanted; /* all devices of the command line */
    /* The guest's accesses to BARs reach the bus (--paging shadow): map none as a memory slot. */
    bool trap_bars;
};

struct vfio;
struct vfio_device;

/* What is wrong with the command line alone, in a VM with so many bytes of RAM: names that are
 * none, or there twice, and ranges. To be asked before a driver loses its device. 0 or -EINVAL. */
int vfio_check(const struct devices_config *cfg, uint64_t ram, struct error *err);

/* Touches nothing of the system yet. -ENOMEM. */
int vfio_create(struct vfio **out, const struct vfio_host *host, struct error *err);

/* After all its devices. Takes all DMA mappings away and unpins guest memory. NULL is fine. */
void vfio_destroy(struct vfio *v);

/*
 * Opens the device that `cfg` names, gives it its DMA mappings, resets it and puts it on the bus.
 * Errors leave nothing behind but a container, which vfio_destroy() takes; -EINVAL: what was asked
 * is wrong; -ENODEV: no IOMMU, or not on vfio-pci; -EBUSY: others of its group are in use; -EPERM:
 * RLIMIT_MEMLOCK.
 */
int vfio_add(struct vfio *v, const struct device_config *cfg, struct vfio_device **out,
             struct error *err);

/* All devices were added: resets those that can only be reset together, and warns of those that
 * can't be reset at all. NULL is fine. */
void vfio_ready(struct vfio *v);

/* The last one that was made goes first. Resets the device and gives it back to VFIO. No vCPU and
 * no I/O thread runs. NULL is fine. */
void vfio_device_destroy(void *dev);

#endif
