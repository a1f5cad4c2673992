/*
 * Copies between the kernel and the running process. A user address is checked to
 * lie below the kernel's half and to be the process's own to read or write; a page
 * that is missing but allowed is supplied on the way.
 */
#ifndef GUEST_KERNEL_USERCOPY_H
#define GUEST_KERNEL_USERCOPY_H

#include <stddef.h>
#include <stdint.h>

/* Both return 0 or -EFAULT, after which a part may have been copied. */
int copy_from_user(void *dst, uint64_t src, size_t len);
int copy_to_user(uint64_t dst, const void *src, size_t len);

/* Are all of these bytes the process's own to read, or to write? 0 or -EFAULT. */
int user_readable(uint64_t addr, size_t len);
int user_writable(uint64_t addr, size_t len);

#endif
