/*
 * The DMA test device of guest/abi.h (TF_EDU_*): QEMU's `edu`, register for register, with memory
 * of its own and page requests besides (docs/iommu.md).
 *
 * Registers are accessed by vCPU threads; transfers and factorials are done on the I/O thread, as
 * all emulated DMA is (vmm/dma.h). A lock guards the registers and the interrupt line; no lock is
 * held while bytes are copied, since a running transfer's registers can't be changed.
 */
#ifndef TWOFOLD_VMM_EDU_H
#define TWOFOLD_VMM_EDU_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/dma.h"
#include "vmm/error.h"
#include "vmm/io_loop.h"
#include "vmm/pci.h"

struct edu;

struct edu_stat {
    uint64_t transfers;     /* that are over, whatever became of them */
    uint64_t failed;        /* of them, with another result than TF_EDU_OK */
    uint64_t page_requests; /* made */
    uint64_t factorials;
    bool waiting; /* for the answer to a page request */
    struct dma_stat dma;
};

/*
 * Puts the device on `pci` (at `devfn`, or the next free place when that is negative), and on
 * `loop`. Addresses are gpas until edu_dma() is put behind an IOMMU. All of them outlive the
 * device. 0 or -errno.
 */
int edu_create(struct edu **out, struct pci *pci, int devfn, struct io_loop *loop,
               struct memory *mem, struct error *err);

/* No vCPU and no I/O thread runs any more. A transfer that waits is dropped. NULL is fine. */
void edu_destroy(struct edu *e);

/* While held no transfer starts or goes on; what was asked for is done when it is let go. On the
 * I/O thread, where none is halfway. */
void edu_hold(struct edu *e, bool held);

const struct pci_function *edu_function(const struct edu *e);

/* Its view of memory, for who puts it behind an IOMMU before the VM runs. */
struct dma *edu_dma(struct edu *e);

/* Its memory behind BAR 2, *size bytes, page-aligned; the device's until edu_destroy(). */
void *edu_memory(const struct edu *e, uint64_t *size);

/* On the I/O thread, or when no thread runs. */
void edu_stat(struct edu *e, struct edu_stat *out);

#endif
