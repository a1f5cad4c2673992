/*
 * The PCI devices of a VM: made in the order of the command line, freed together.
 */
#ifndef TWOFOLD_VMM_VM_DEVICES_H
#define TWOFOLD_VMM_VM_DEVICES_H

#include <stdint.h>

#include "vmm/device_config.h"
#include "vmm/error.h"

struct vm;
struct vm_devices;

/* The host bridge, the IOMMU if one was asked for, and the devices. The VM's memory, buses, I/O
 * loop and interrupt controllers exist; no vCPU does. */
int vm_devices_create(struct vm_devices **out, struct vm *vm, struct error *err);

/* No vCPU and no I/O thread runs any more. NULL is fine. */
void vm_devices_destroy(struct vm_devices *d);

/* Where large 64-bit BARs may lie: above RAM, below the upper half of the CPU's address width. A
 * size of 0: RAM left no room. Needs the VM's memory and CPUID alone. */
void vm_devices_window(const struct vm *vm, uint64_t *base, uint64_t *size);

struct pci;
struct iommu;
struct virtio_iommu;
struct acpi_viot;
struct pci *vm_devices_pci(struct vm_devices *d);
struct iommu *vm_devices_iommu(struct vm_devices *d);               /* NULL: none */
struct virtio_iommu *vm_devices_virtio_iommu(struct vm_devices *d); /* NULL: none */

/* Who stands behind the IOMMU, for the ACPI tables. */
void vm_devices_viot(struct vm_devices *d, struct acpi_viot *out);

/*
 * Holds all emulated devices: transfers in flight are finished and none starts, until they are let
 * go; what the guest asked for meanwhile waits. Holding what is held is fine. On the I/O thread;
 * vm_pause() and vm_resume() do it.
 */
void vm_devices_hold(struct vm_devices *d, bool held);

/* The n-th virtio device, or NULL. The disk behind `v`, with its path, or NULL. */
struct virtio_device;
struct virtio_blk;
struct virtio_device *vm_devices_virtio(struct vm_devices *d, size_t n);
const struct virtio_blk *vm_devices_disk(struct vm_devices *d, const struct virtio_device *v,
                                         const char **path);

/* What the emulated device at `devfn` did to memory: NULL when there is none, or it does no DMA.
 * And the DMA test device there, or NULL. */
struct dma;
struct edu;
const struct dma *vm_devices_dma(struct vm_devices *d, unsigned devfn);
struct edu *vm_devices_edu(struct vm_devices *d, unsigned devfn);

#endif
