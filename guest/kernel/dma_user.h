/*
 * SYS_DMA (guest/sys.h): the test device for programs.
 */
#ifndef GUEST_KERNEL_DMA_USER_H
#define GUEST_KERNEL_DMA_USER_H

#include <stdint.h>

#include "guest/sys.h"

/* The call; *a is the kernel's copy, which goes back to the program. */
int64_t dma_user(struct sys_dma *a);

/* The calling process ends, or becomes another program: what it gave the device is taken back. */
void dma_user_end(void);

/* VECTOR_WATCHED came in. */
void dma_user_watched(void);

#endif
