/*
 * The kernel's heap: size classes of 32 to 2048 bytes in slab pages, larger
 * requests in whole blocks of pages.
 */
#ifndef GUEST_KERNEL_HEAP_H
#define GUEST_KERNEL_HEAP_H

#include <stddef.h>
#include <stdint.h>

/* Returns at least `size` bytes, 16-byte aligned (32 or more: aligned to 32), or NULL. Not cleared.
 */
void *kmalloc(size_t size);

/* The same, cleared. */
void *kzalloc(size_t size);

/* Frees what kmalloc() or kzalloc() gave; NULL is allowed. */
void kfree(void *p);

/* Number of objects in use, for leak checks. */
uint64_t heap_objects(void);

#endif
