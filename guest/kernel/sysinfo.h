/*
 * What a program may ask the kernel about the machine (SYS_INFO).
 */
#ifndef GUEST_KERNEL_SYSINFO_H
#define GUEST_KERNEL_SYSINFO_H

#include <stdint.h>

/*
 * Copies record `index` of kind `what` (SYS_INFO_*) to a user address, at most `len` bytes.
 * Returns the record's size, -ENOENT, -EINVAL or -EFAULT.
 */
int64_t sysinfo_copy(uint64_t what, uint64_t index, uint64_t to, uint64_t len);

#endif
