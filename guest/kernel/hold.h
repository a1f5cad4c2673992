/*
 * A program's memory for a device: the pages themselves, in pieces. While they are held they stay
 * where they are and nobody else gets them, whatever becomes of the program's mappings.
 */
#ifndef GUEST_KERNEL_HOLD_H
#define GUEST_KERNEL_HOLD_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/kernel/virtio.h"

#define HOLD_MAX 60 /* pages: with what a request needs besides, a queue has room for them */

struct hold {
    struct virtio_piece piece[HOLD_MAX];
    uint64_t page[HOLD_MAX];
    unsigned pieces, pages;
    uint64_t len; /* of all pieces */
};

/*
 * Holds the running process's memory from `addr` on: up to `len` bytes in up to `pieces` (at most
 * HOLD_MAX) pieces of up to `most` bytes each. `write`: the device will write there, and the
 * process itself must be allowed to. Pages that are missing are supplied. 0, with less than `len`
 * when there is no room for more; or -EFAULT, with nothing held.
 */
int hold_user(struct hold *h, uint64_t addr, uint64_t len, unsigned pieces, uint32_t most,
              bool write);
void hold_release(struct hold *h);

#endif
