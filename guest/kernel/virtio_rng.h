/*
 * Random bytes: virtio-rng ("VIRTIO Version 1.2", 5.4).
 */
#ifndef GUEST_KERNEL_VIRTIO_RNG_H
#define GUEST_KERNEL_VIRTIO_RNG_H

#include <stdint.h>

/* Takes the first of these devices; drivers_init() calls it. */
void virtio_rng_init(void);

/* SYS_RANDOM (guest/sys.h): fills the caller's memory. `len` or a negative error number. */
int64_t virtio_rng_call(uint64_t buf, uint64_t len);

#endif
