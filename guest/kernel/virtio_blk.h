/*
 * Disks: virtio-blk ("VIRTIO Version 1.2", 5.2).
 */
#ifndef GUEST_KERNEL_VIRTIO_BLK_H
#define GUEST_KERNEL_VIRTIO_BLK_H

#include <stdint.h>

/* Takes the devices there are; drivers_init() calls it. */
void virtio_blk_init(void);

/* SYS_BLOCK (guest/sys.h), whose arguments these are; the result is the call's. */
int64_t virtio_blk_call(uint64_t op, uint64_t disk, uint64_t sector, uint64_t buf,
                        uint64_t sectors);

#endif
