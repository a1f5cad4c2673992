/*
 * What programs have given the test device: pages of theirs that are held meanwhile, and the
 * identity mapping.
 */
#ifndef GUEST_KERNEL_DMA_HELD_H
#define GUEST_KERNEL_DMA_HELD_H

#include "guest/kernel/pci.h"
#include "guest/sys.h"

/* SYS_DMA_MAP, SYS_DMA_UNMAP, SYS_DMA_IDENTITY, for the calling process. */
int64_t held_map(struct pci_device *d, struct sys_dma *a);
int64_t held_unmap(struct pci_device *d, struct sys_dma *a);
int64_t held_identity(struct pci_device *d, struct sys_dma *a);

/* Unmaps all that the calling process has. */
void held_end(void);

#endif
