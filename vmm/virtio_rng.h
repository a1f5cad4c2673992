/*
 * virtio-rng: random bytes of the host ("Virtual I/O Device (VIRTIO) Version 1.2", 5.4 Entropy
 * Device).
 */
#ifndef TWOFOLD_VMM_VIRTIO_RNG_H
#define TWOFOLD_VMM_VIRTIO_RNG_H

#include "vmm/virtio.h"

struct virtio_rng;

int virtio_rng_create(struct virtio_rng **out, const struct virtio_place *place, struct error *err);
void virtio_rng_destroy(void *rng); /* NULL is fine */
struct virtio_device *virtio_rng_device(struct virtio_rng *r);

#endif
