/*
 * The one gate of emulated devices to guest memory: through the virtual IOMMU when there is one
 * and the device stands behind it, else by gpa (docs/iommu.md).
 *
 * All emulated DMA happens on the I/O thread, and so do all changes of IOMMU domains: no lock is
 * needed, and an unmapping that was answered is one that no emulated device uses any more. A device
 * whose transfers outlive a callback (virtio-blk's io_uring) gives a `drain`.
 */
#ifndef TWOFOLD_VMM_DMA_H
#define TWOFOLD_VMM_DMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/memory.h"
#include "vmm/pci.h"

/* A write there is a message-signalled interrupt; it is never memory, and never mapped. */
#define DMA_MSI_BASE UINT64_C(0xfee00000)
#define DMA_MSI_SIZE UINT64_C(0x00100000)

enum dma_access { DMA_READ, DMA_WRITE }; /* by the device, of memory */

struct iommu; /* iommu/iommu.h */

struct dma_stat {
    uint64_t reads, writes, bytes_read, bytes_written;
    uint64_t faults;  /* translation failed */
    uint64_t refused; /* no bus master, or outside of RAM */
};

/* A device's view of memory; embedded in the device. */
struct dma {
    struct memory *mem;
    struct iommu *iommu;                 /* NULL: addresses are gpas */
    const struct pci_function *function; /* requester id, bus master; NULL in unit tests: allowed */
    void (*drain)(void *dev); /* waits for all transfers in flight; NULL: there are none */
    void *dev;
    /* Memory of the device's own, which CPUs reach by a BAR at own_base (0: not now; atomic): an
     * address that leads there does not leave the device. own_size 0: it has none. */
    uint8_t *own;
    uint64_t own_base, own_size;
    struct dma_stat stat;
};

/* Copies; may cross pages and slots. 0; -EFAULT: a fault was recorded (IOMMU) or the range is no
 * RAM, a prefix may have been copied, as by a real device; -EPERM: not a bus master. */
int dma_read(struct dma *dma, uint64_t addr, void *buf, uint64_t len);
int dma_write(struct dma *dma, uint64_t addr, const void *buf, uint64_t len);

/*
 * The same range as host pointers, for I/O without a copy: at most `max` pieces into iov, *count of
 * them used. Pointers are valid until the next event of the I/O thread, or until drain() returned.
 * After a write through them call dma_wrote(). Errors as above, and -E2BIG: more pieces than max.
 */
int dma_map(struct dma *dma, uint64_t addr, uint64_t len, enum dma_access access, struct iovec *iov,
            unsigned max, unsigned *count);
void dma_wrote(struct dma *dma, const struct iovec *iov, unsigned count);

#endif
