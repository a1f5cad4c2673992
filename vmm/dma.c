#include "vmm/dma.h"

#include <errno.h>
#include <string.h>

#include "iommu/iommu.h"

/* Where a write is an interrupt: never memory, since RAM has its hole there. */
_Static_assert(MEMORY_HOLE_START <= DMA_MSI_BASE && DMA_MSI_BASE + DMA_MSI_SIZE <= MEMORY_HOLE_END,
               "RAM would lie in the window of MSIs");

/* A part of a transfer: contiguous in the device's addresses, in guest memory and here. */
struct piece {
    gpa_t at;
    uint8_t *host;
    uint64_t len;
    bool own; /* the device's memory, not the guest's */
};

static int begin(struct dma *dma, uint64_t addr, uint64_t len, enum dma_access access)
{
    if (dma->function && !pci_bus_master(dma->function)) {
        dma->stat.refused++;
        return -EPERM;
    }
    if (len != 0 && addr + (len - 1) < addr) {
        dma->stat.refused++;
        return -EFAULT;
    }
    if (access == DMA_READ)
        dma->stat.reads++;
    else
        dma->stat.writes++;
    return 0;
}

/* The requester id of a device on bus 0. */
static uint32_t endpoint_of(const struct dma *dma)
{
    return dma->function ? dma->function->devfn : 0;
}

/* The gpa behind `addr`, and how far it goes on without a gap, at most *len. */
static int translate(struct dma *dma, uint64_t addr, enum dma_access access, gpa_t *at,
                     uint64_t *len)
{
    struct iommu_translation t;

    if (!dma->iommu) {
        *at = gpa(addr);
        return 0;
    }
    if (iommu_translate(dma->iommu, endpoint_of(dma), (iova_t){ addr }, *len,
                        access == DMA_READ ? IOMMU_READ : IOMMU_WRITE, &t) < 0) {
        dma->stat.faults++;
        return -EFAULT;
    }
    *at = gpa(t.output);
    *len = t.len;
    return 0;
}

/* The host's side of as much of [at, at + *len) as lies in one slot; NULL: `at` is no RAM, or is
 * guarded. */
static uint8_t *ram(struct memory *mem, gpa_t at, uint64_t *len)
{
    size_t count;
    const struct mem_slot *slot = memory_slots(mem, &count);

    for (size_t i = 0; i < count; i++) {
        uint64_t offset = at.v - slot[i].base.v; /* huge when `at` is below the slot */

        if (offset >= slot[i].size)
            continue;
        if (*len > slot[i].size - offset)
            *len = slot[i].size - offset;
        return memory_at(mem, at, *len);
    }
    return NULL;
}

/* The same for the memory of the device's own. */
static uint8_t *own(const struct dma *dma, gpa_t at, uint64_t *len)
{
    uint64_t base = __atomic_load_n(&dma->own_base, __ATOMIC_ACQUIRE), offset = at.v - base;

    if (base == 0 || offset >= dma->own_size)
        return NULL;
    if (*len > dma->own_size - offset)
        *len = dma->own_size - offset;
    return dma->own + offset;
}

static int piece_at(struct dma *dma, uint64_t addr, uint64_t len, enum dma_access access,
                    struct piece *out)
{
    int rc;

    out->len = len;
    rc = translate(dma, addr, access, &out->at, &out->len);
    if (rc < 0)
        return rc;
    out->host = ram(dma->mem, out->at, &out->len);
    out->own = !out->host;
    if (out->own)
        out->host = own(dma, out->at, &out->len);
    if (out->host)
        return 0;
    dma->stat.refused++;
    if (dma->iommu)
        iommu_report(dma->iommu, endpoint_of(dma), (iova_t){ addr }, access == DMA_WRITE,
                     IOMMU_OUTPUT);
    return -EFAULT;
}

static void count_bytes(struct dma *dma, enum dma_access access, uint64_t len)
{
    if (access == DMA_READ)
        dma->stat.bytes_read += len;
    else
        dma->stat.bytes_written += len;
}

int dma_read(struct dma *dma, uint64_t addr, void *buf, uint64_t len)
{
    uint8_t *to = buf;
    int rc = begin(dma, addr, len, DMA_READ);

    while (rc == 0 && len > 0) {
        struct piece p;

        rc = piece_at(dma, addr, len, DMA_READ, &p);
        if (rc < 0)
            break;
        memmove(to, p.host, p.len); /* both may be the device's own memory */
        count_bytes(dma, DMA_READ, p.len);
        to += p.len;
        addr += p.len;
        len -= p.len;
    }
    return rc;
}

int dma_write(struct dma *dma, uint64_t addr, const void *buf, uint64_t len)
{
    const uint8_t *from = buf;
    int rc = begin(dma, addr, len, DMA_WRITE);

    while (rc == 0 && len > 0) {
        struct piece p;

        rc = piece_at(dma, addr, len, DMA_WRITE, &p);
        if (rc < 0)
            break;
        memmove(p.host, from, p.len);
        if (!p.own)
            memory_wrote(dma->mem, p.at, p.len);
        count_bytes(dma, DMA_WRITE, p.len);
        from += p.len;
        addr += p.len;
        len -= p.len;
    }
    return rc;
}

/* True when `p` goes on where the last one ended, so that one piece of I/O does for both. */
static bool follows(const struct iovec *last, const struct piece *p)
{
    return (uint8_t *)last->iov_base + last->iov_len == p->host;
}

int dma_map(struct dma *dma, uint64_t addr, uint64_t len, enum dma_access access, struct iovec *iov,
            unsigned max, unsigned *count)
{
    uint64_t left = len;
    int rc = begin(dma, addr, len, access);

    *count = 0;
    while (rc == 0 && left > 0) {
        struct piece p;

        rc = piece_at(dma, addr, left, access, &p);
        if (rc < 0)
            break;
        if (*count > 0 && follows(&iov[*count - 1], &p)) {
            iov[*count - 1].iov_len += p.len;
        } else if (*count < max) {
            iov[(*count)++] = (struct iovec){ .iov_base = p.host, .iov_len = p.len };
        } else {
            return -E2BIG;
        }
        addr += p.len;
        left -= p.len;
    }
    if (rc == 0)
        count_bytes(dma, access, len);
    return rc;
}

void dma_wrote(struct dma *dma, const struct iovec *iov, unsigned count)
{
    size_t slots;
    const struct mem_slot *slot = memory_slots(dma->mem, &slots);

    for (unsigned i = 0; i < count; i++) {
        uint64_t at = hva_of(iov[i].iov_base).v, left = iov[i].iov_len;

        /* Slots may touch here, too, and a piece go over several of them. */
        for (size_t s = 0; s < slots && left > 0; s++) {
            uint64_t offset = at - hva_of(slot[s].host).v, n;

            if (offset >= slot[s].size)
                continue;
            n = left < slot[s].size - offset ? left : slot[s].size - offset;
            memory_wrote(dma->mem, gpa(slot[s].base.v + offset), n);
            at += n;
            left -= n;
        }
    }
}
