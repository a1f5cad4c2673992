/*
 * What `stat` says of a virtio device (docs/control.md).
 */
#ifndef TWOFOLD_VMM_CONTROL_VIRTIO_H
#define TWOFOLD_VMM_CONTROL_VIRTIO_H

#include "vmm/control_impl.h"

/* The device at `devfn`; NULL when that is none of virtio's. */
json_t *control_virtio_json(struct vm *vm, unsigned devfn);

#endif
