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

#endif
