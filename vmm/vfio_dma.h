/*
 * What passed-through devices reach by DMA: guest memory, or parts of it, under the guest's own
 * addresses (iova = gpa). What is mapped is pinned: no page of it may change its frame.
 */
#ifndef TWOFOLD_VMM_VFIO_DMA_H
#define TWOFOLD_VMM_VFIO_DMA_H

#include "vmm/memory.h"
#include "vmm/pages.h"
#include "vmm/vfio_group.h"

/* Whether the ranges that a device may reach are whole pages of RAM, and apart from each other, in
 * a VM with so many bytes of it. -EINVAL. */
int vfio_dma_check(const struct device_config *cfg, uint64_t ram, struct error *err);

/*
 * Takes over what was asked for, once it is right: as above, and memory that the host populates
 * (not --populate lazy: pinning a page does not wait for us to bring it). `name` is the device's.
 * -EINVAL.
 */
int vfio_dma_ranges(struct vfio_container *c, const char *name, const struct device_config *cfg,
                    const struct memory *mem, struct pages *pages, struct error *err);

/* True when both reach the same. */
bool vfio_dma_same(const struct vfio_container *a, const struct vfio_container *b);

/* Maps and pins all ranges. -EPERM: RLIMIT_MEMLOCK is too low, with the limit that is needed;
 * -ENOTSUP: the IOMMU can't map that; in any case what was mapped is for vfio_dma_unmap(). */
int vfio_dma_map(struct vfio_container *c, struct memory *mem, struct error *err);
void vfio_dma_unmap(struct vfio_container *c, struct memory *mem);

#endif
