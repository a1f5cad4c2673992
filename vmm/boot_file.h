/*
 * A file of the host that goes into the guest.
 */
#ifndef TWOFOLD_VMM_BOOT_FILE_H
#define TWOFOLD_VMM_BOOT_FILE_H

#include <stdint.h>

#include "vmm/error.h"

struct boot_file {
    const char *what; /* "kernel" or "initrd", for messages */
    const char *path;
    int fd; /* -1: not open */
    uint64_t size;
};

/*
 * Opens a regular file that is not empty. `what` and `path` must outlive it.
 * Returns 0, or -errno with the sentence and nothing open.
 */
int boot_file_open(struct boot_file *file, const char *what, const char *path, struct error *err);

/* A file that is not open is fine. */
void boot_file_close(struct boot_file *file);

/* Reads exactly `size` bytes; a file that ends before is -EINVAL. */
int boot_file_read(const struct boot_file *file, void *buf, uint64_t size, uint64_t offset,
                   struct error *err);

#endif
