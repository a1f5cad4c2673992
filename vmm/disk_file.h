/*
 * The file behind a disk: a raw image or a block device, opened, locked and measured.
 */
#ifndef TWOFOLD_VMM_DISK_FILE_H
#define TWOFOLD_VMM_DISK_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/error.h"

#define DISK_SECTOR 512u

struct disk_file {
    int fd;
    uint64_t bytes;    /* a multiple of DISK_SECTOR, not 0 */
    unsigned block;    /* the smallest transfer: 512, or more with direct I/O */
    unsigned align;    /* of addresses in memory; 1 without direct I/O */
    bool read_only;    /* as asked for */
    const char *label; /* the file's name without its folders; lives as long as the path */
};

/*
 * Opens `path`. Two VMs can't share an image that one of them writes: an open file description lock
 * (fcntl(2)) keeps them apart; a block device is opened exclusively for writing, so that a mounted
 * one is refused. direct: O_DIRECT. 0, or a sentence and -errno: -EINVAL when
 * it is the wrong file, -EBUSY when it is locked.
 */
int disk_file_open(struct disk_file *out, const char *path, bool read_only, bool direct,
                   struct error *err);
void disk_file_close(struct disk_file *f);

#endif
