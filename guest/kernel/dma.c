/* Without an IOMMU: an iova is a gpa, and all of memory is reachable. */
#include "guest/kernel/dma.h"

#include "guest/kernel/errno.h"

void dma_init(void)
{
}

bool dma_translated(const struct pci_device *d)
{
    (void)d;
    return false;
}

uint64_t dma_map(struct pci_device *d, uint64_t gpa, uint64_t len, unsigned access, int *error)
{
    (void)d;
    (void)len;
    (void)access;
    *error = 0;
    return gpa;
}

int dma_map_at(struct pci_device *d, uint64_t iova, uint64_t gpa, uint64_t len, unsigned access)
{
    (void)d;
    (void)len;
    (void)access;
    return iova == gpa ? 0 : -ENODEV; /* there is nothing that could translate */
}

int dma_unmap(struct pci_device *d, uint64_t iova, uint64_t len)
{
    (void)d;
    (void)iova;
    (void)len;
    return 0;
}
