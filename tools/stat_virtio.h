/*
 * What `twofold stat` says of virtio devices.
 */
#ifndef TWOFOLD_TOOLS_STAT_VIRTIO_H
#define TWOFOLD_TOOLS_STAT_VIRTIO_H

#include <jansson.h>

/* The queues and disks of the functions in `pci`; nothing when none is virtio's. */
void stat_print_virtio(const json_t *pci);

#endif
