/*
 * What the control socket says of the virtual IOMMU (docs/iommu.md).
 */
#ifndef TWOFOLD_VMM_CONTROL_IOMMU_H
#define TWOFOLD_VMM_CONTROL_IOMMU_H

#include "vmm/control_impl.h"

/* Argument "mappings": at most so many of each domain. -ENOTSUP: the VM has no IOMMU. */
int control_iommu(struct vm *vm, const json_t *arguments, struct control_outcome *out);

/* The counters, for `stat` too, of a VM that has one. NULL when memory is out. */
json_t *control_iommu_json(struct vm *vm);

#endif
