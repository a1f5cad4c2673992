/*
 * PCI functions for programs: SYS_INFO_PCI.
 */
#ifndef GUEST_KERNEL_PCI_INFO_H
#define GUEST_KERNEL_PCI_INFO_H

#include <stdint.h>

#include "guest/sys.h"

/* Fills a record, which is zero, for function `index`, after all drivers had their turn: its size,
 * or -ENOENT. May sleep. */
int64_t pci_info(struct sys_pci *out, uint64_t index);

#endif
