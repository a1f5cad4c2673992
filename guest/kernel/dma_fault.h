/*
 * What the IOMMU blocked: the last reports, for a program to read, and a line on the console each.
 */
#ifndef GUEST_KERNEL_DMA_FAULT_H
#define GUEST_KERNEL_DMA_FAULT_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/sys.h"

enum dma_fault_reason { DMA_FAULT_UNKNOWN, DMA_FAULT_DOMAIN, DMA_FAULT_MAPPING };

/* Notes one; may be called from interrupt context. */
void dma_fault_add(uint16_t bdf, uint64_t iova, bool write, enum dma_fault_reason reason);

/* How many there were. */
uint64_t dma_faults(void);

/* The oldest of those kept whose number is above `after`; false when there is none. */
bool dma_fault_after(uint64_t after, struct sys_dma_fault *out);

#endif
