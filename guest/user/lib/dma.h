/*
 * The DMA test device for programs: SYS_DMA's operations as functions. Each returns what the system
 * call does, a negative error number or more.
 */
#ifndef TWOFOLD_GUEST_USER_DMA_H
#define TWOFOLD_GUEST_USER_DMA_H

#include "guest/user/lib/lib.h"

long dma_info(struct sys_dma_info *out);
/* Maps memory of the program for the device; *iova is where. */
long dma_map(const void *p, uint64_t len, unsigned flags, uint64_t *iova);
long dma_unmap(uint64_t iova);
long dma_identity(bool on);
/* SYS_DMA_TRANSFER from or to the device's buffer (own memory); the enum tf_edu_error. */
long dma_transfer(uint64_t iova, uint64_t len, unsigned flags, uint64_t offset);
/* Bytes at a gpa. */
long dma_peek(uint64_t gpa, void *to, uint64_t len);
/* The kernel's page, filled anew: its gpa. */
long dma_victim(uint64_t *gpa);
long dma_gpa(const void *p, uint64_t *gpa);
/* The next report of the IOMMU behind number `after`; 0 when there is none yet. */
long dma_fault(uint64_t after, struct sys_dma_fault *out);
/* Has the device raise these bits; those seen, and TSC cycles to the kernel's handler. */
long dma_raise(uint64_t *bits, uint64_t *cycles);
/* An operation with nothing but a value, which it changes. */
long dma_value(enum sys_dma_op op, uint64_t *value);

/* A range of gpas as the command line has it, START+SIZE; the device was given it from outside. */
struct dma_window {
    uint64_t start, size; /* size 0: there is none */
};
/* [--window START+SIZE] and nothing else; ends the program with its usage otherwise. */
struct dma_window dma_window_argument(int argc, char **argv);
bool dma_in_window(const struct dma_window *w, uint64_t gpa, uint64_t len);
/* A fresh page of the program's, inside the window if there is one; or the end of the program. */
void *dma_page(const struct dma_window *w);

/* xxHash64 with seed 0. */
uint64_t xxh64(const void *p, size_t len);

#endif
