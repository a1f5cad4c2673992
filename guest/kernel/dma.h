/*
 * What a device may reach. Without an IOMMU, or for a device that does not stand behind it, an iova
 * is a gpa and everything is reachable; dma_map() hides the difference.
 */
#ifndef GUEST_KERNEL_DMA_H
#define GUEST_KERNEL_DMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/kernel/pci.h"

#define DMA_READ  1u /* by the device */
#define DMA_WRITE 2u

/* Finds the virtio-iommu and attaches each endpoint behind it to a domain of its own, with nothing
 * mapped. The first call does it, and later ones wait for its end. */
void dma_init(void);

/* True when the device stands behind the IOMMU. */
bool dma_translated(const struct pci_device *d);

/* Lets the device reach [gpa, gpa + len), which need not be aligned (whole pages are given): the
 * iova of its first byte, or 0 with *error set. */
uint64_t dma_map(struct pci_device *d, uint64_t gpa, uint64_t len, unsigned access, int *error);
/* At an iova of the caller's choice (page-aligned, as gpa and len, and not 0). -EEXIST: something
 * is mapped there; -EINVAL: reserved, or out of the IOMMU's range; -ENODEV: the device is not
 * behind the IOMMU, and iova is not gpa. */
int dma_map_at(struct pci_device *d, uint64_t iova, uint64_t gpa, uint64_t len, unsigned access);
/* Pages from here and there at consecutive iovas, from `iova` on (0: chosen here), as one mapping.
 * The iova, or 0 with *error as above. Without an IOMMU they have to be consecutive themselves. */
uint64_t dma_map_pages(struct pci_device *d, uint64_t iova, const uint64_t *gpa, unsigned n,
                       unsigned access, int *error);

/* What one dma_map(), dma_map_pages() or dma_map_at() mapped, as a whole; after it the device
 * reaches none of it. -ENOENT: there is no such mapping. */
int dma_unmap(struct pci_device *d, uint64_t iova, uint64_t len);

/* Iovas for dma_map_at() alone: whole pages in a row, that nobody else is given; 0: the device does
 * not stand behind the IOMMU, or has such a range already. */
uint64_t dma_keep(struct pci_device *d, uint64_t len);
void dma_keep_no_more(struct pci_device *d);

/* Why the IOMMU blocks an access of the device `bdf` at `iova`, as far as its mappings tell. */
const char *dma_why_blocked(uint16_t bdf, uint64_t iova);

#endif
