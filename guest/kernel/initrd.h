/*
 * The programs: files of the initrd, an uncompressed tar archive (ustar) that the
 * boot loader gave or that is part of the kernel's image.
 */
#ifndef GUEST_KERNEL_INITRD_H
#define GUEST_KERNEL_INITRD_H

#include <stdbool.h>
#include <stdint.h>

struct initrd_file {
    const char *name; /* without a leading "./" */
    const uint8_t *data;
    uint64_t size;
};

/*
 * Finds a regular file by its name, and by its place in the archive from 0. The whole pages of
 * a file that was found by name and lies on a page border may be mapped: page_get()
 * and page_put() work on them, and they are never freed.
 */
bool initrd_find(const char *name, struct initrd_file *out);
bool initrd_entry(unsigned index, struct initrd_file *out);

#endif
