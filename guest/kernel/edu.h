/*
 * The DMA test device (guest/abi.h, TF_EDU_*): the monitor's, QEMU's, or one that is passed
 * through.
 */
#ifndef GUEST_KERNEL_EDU_H
#define GUEST_KERNEL_EDU_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/kernel/pci.h"

struct edu_info {
    uint32_t features;     /* TF_EDU_HAS_* */
    bool results;          /* it says what became of a transfer */
    uint32_t transfer_max; /* bytes */
    uint64_t device_bytes; /* of its own memory */
    uint64_t interrupts;   /* so far */
    uint32_t vectors;      /* 0: it is asked instead */
};

/* The device, set up by the first call; NULL when there is none. */
struct pci_device *edu_device(void);

/* The rest is for who got a device from edu_device(). */
void edu_info(struct edu_info *out);

struct edu_transfer {
    uint64_t iova, len;
    uint64_t offset; /* on the device's side */
    bool to_memory;  /* else from it */
    bool own_memory; /* the device's side is its own memory, else its buffer */
    /* Not NULL: page requests are on. Called for each, by the caller of edu_transfer(), which may
     * sleep: true, the page is ready now; false, the transfer fails. */
    bool (*page_request)(uint64_t iova, bool write);
};

/*
 * Transfers, and waits for the end; callers take turns. 0, and in *result an enum tf_edu_error
 * (TF_EDU_OK from a device that gives none); -EINVAL: too long, or outside of the device's side;
 * -ENOENT: the device has no such feature; -EIO: no end was seen in two seconds.
 * The device is no bus master any more then.
 */
int edu_transfer(const struct edu_transfer *t, uint32_t *result);

/* Has the device raise an interrupt with these bits, and waits for it: those seen, or -EIO. *cycles
 * of the TSC are between the write of the register and the handler; 0 without a vector. */
int64_t edu_raise(uint32_t bits, uint64_t *cycles);
/* Factorial of n modulo 2^32, by the device; -EIO. */
int64_t edu_factorial(uint32_t n);
/* Writes the liveness register; what it reads as. */
uint32_t edu_live(uint32_t value);

/* Its own memory as the CPU sees it, and as the bus does; NULL: it has none. */
volatile void *edu_memory(uint64_t *gpa);

#endif
