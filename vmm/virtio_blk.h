/*
 * virtio-blk: a disk on a raw file or a block device ("Virtual I/O Device (VIRTIO) Version 1.2",
 * 5.2 Block Device).
 */
#ifndef TWOFOLD_VMM_VIRTIO_BLK_H
#define TWOFOLD_VMM_VIRTIO_BLK_H

#include "vmm/device_config.h"
#include "vmm/virtio.h"

struct virtio_blk;

/* Opens cfg->path, which outlives the device (disk_file.h says what is refused), and puts the
 * device on the bus. */
int virtio_blk_create(struct virtio_blk **out, const struct device_config *cfg,
                      const struct virtio_place *place, struct error *err);
/* Finishes what is in flight; the I/O loop no longer runs. NULL is fine. */
void virtio_blk_destroy(void *blk);
struct virtio_device *virtio_blk_device(struct virtio_blk *b);

struct virtio_blk_stat {
    uint64_t reads, writes, flushes, others; /* requests, good or not */
    uint64_t bytes_read, bytes_written;      /* of the file */
    uint64_t failed;                         /* answered by IOERR or UNSUPP */
    unsigned in_flight;
    bool async; /* by io_uring */
    uint64_t bytes;
    bool read_only;
};
void virtio_blk_stat(const struct virtio_blk *b, struct virtio_blk_stat *out);

#endif
