/*
 * Writes a cpio archive of the "newc" kind, the one that a Linux kernel unpacks
 * as its initramfs. Everything in it belongs to root. Folders above a path
 * come by themselves.
 */
#ifndef TWOFOLD_TOOLS_LAB_CPIO_H
#define TWOFOLD_TOOLS_LAB_CPIO_H

#include <stddef.h>
#include <sys/types.h>

#include "vmm/error.h"

struct cpio;

/*
 * Creates (or empties) the archive `path`. With `base`, it starts with the
 * bytes of that archive: the kernel unpacks one behind the other. 0 or -errno.
 */
int cpio_create(struct cpio **out, const char *path, const char *base, struct error *err);

/*
 * Paths in the archive are taken from its root, with or without a leading
 * slash; "." and ".." as a part are refused with -EINVAL.
 */
int cpio_add_bytes(struct cpio *cpio, const char *path, mode_t mode, const void *bytes, size_t len,
                   struct error *err);

/*
 * Adds the file, folder (with all that is in it) or link `source` of the
 * host. A link that is named itself is followed, one inside a folder is kept.
 * Sockets and devices inside a folder are left out.
 */
int cpio_add_host(struct cpio *cpio, const char *path, const char *source, struct error *err);

/* Writes the trailer and closes; also after an error, which it then returns. NULL is fine. */
int cpio_finish(struct cpio *cpio, struct error *err);

#endif
