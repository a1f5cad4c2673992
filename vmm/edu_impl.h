/*
 * The inside of the DMA test device, shared by edu.c (registers) and edu_dma.c (transfers).
 */
#ifndef TWOFOLD_VMM_EDU_IMPL_H
#define TWOFOLD_VMM_EDU_IMPL_H

#include <pthread.h>

#include "guest/abi.h"
#include "vmm/edu.h"

#define EDU_MEMORY (UINT64_C(1) << 20) /* behind BAR 2 */

/* Bits of TF_EDU_STATUS, QEMU docs/specs/edu: "status register". */
#define EDU_COMPUTING     0x01u
#define EDU_FACTORIAL_IRQ 0x80u

enum edu_phase {
    EDU_IDLE,
    EDU_STARTED, /* to be begun, or gone on with, by the I/O thread */
    EDU_WAITING, /* for the answer to a page request */
};

/* A transfer on its way. The I/O thread's, while the phase is not EDU_IDLE. */
struct edu_transfer {
    uint64_t iova; /* of the next byte */
    uint64_t left;
    uint8_t *device; /* its side of the next byte */
    bool from_device;
};

struct edu {
    struct pci_function function;
    struct dma dma; /* the I/O thread's */
    struct io_loop *loop;
    int kick;        /* an eventfd: there is work for the I/O thread */
    uint8_t *memory; /* EDU_MEMORY bytes, written by CPUs at any time */
    uint8_t buffer[TF_EDU_BYTES];
    struct edu_transfer transfer;
    bool held; /* the I/O thread's */

    pthread_mutex_t lock; /* guards what follows */
    uint32_t live, factorial, status, irq_status;
    uint64_t source, destination, count, command;
    uint64_t device_offset, result;
    uint64_t request_control, request_addr;
    enum edu_phase phase;
    bool begun;   /* `transfer` is filled */
    bool refused; /* the page request was answered so */
    struct edu_stat stat;
};

/* Or-s `bits` into IRQ_STATUS and interrupts. Needs e->lock. */
void edu_raise(struct edu *e, uint32_t bits);

/* Has the I/O thread look for work; any thread. */
void edu_kick(struct edu *e);

/* The eventfd's callback: does what was asked for. */
void edu_work(void *ctx, int fd, uint32_t events);

#endif
