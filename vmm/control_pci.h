/*
 * What the control socket says of a VM's PCI bus.
 */
#ifndef TWOFOLD_VMM_CONTROL_PCI_H
#define TWOFOLD_VMM_CONTROL_PCI_H

#include "vmm/control_impl.h"

/* `pci` of `stat`; NULL when memory is out. */
json_t *control_pci_json(struct vm *vm);

#endif
