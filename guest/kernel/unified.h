/*
 * Unified memory: pages that a program and the test device share. Each is at one of two places: in
 * RAM, mapped in the program and nowhere for the device; or in the device's own memory, mapped for
 * the device and nowhere in the program. Who touches a page that is at the other place brings it
 * over: the device by a page request, the program by a page fault.
 *
 * One process has such a range at a time, and all of this happens in that process: its faults, and
 * the requests of the transfers that it waits for.
 */
#ifndef GUEST_KERNEL_UNIFIED_H
#define GUEST_KERNEL_UNIFIED_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/kernel/pci.h"
#include "guest/sys.h"

struct vm;

/* SYS_DMA_SHARE, SYS_DMA_UNSHARE, SYS_DMA_SHARED. */
int64_t unified_share(struct pci_device *d, struct sys_dma *a);
int64_t unified_unshare(void);
int64_t unified_shared(const struct sys_dma *a);

/* The program's page fault on a page of a VMA_SHARED; true: it is there now. */
bool unified_fault(struct vm *vm, uint64_t gva);

/* The device's page request, for edu_transfer(). */
bool unified_request(uint64_t iova, bool write);

/* The calling process ends. */
void unified_end(void);

#endif
