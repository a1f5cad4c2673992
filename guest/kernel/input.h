/*
 * Reading from the console: waits until there is something.
 */
#ifndef GUEST_KERNEL_INPUT_H
#define GUEST_KERNEL_INPUT_H

#include <stddef.h>
#include <stdint.h>

/* Returns 1 to `len` bytes, or -EINTR when the caller is to be killed. */
int64_t input_read(char *buf, size_t len);

#endif
