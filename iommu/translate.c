/*
 * A device's access: reserved regions, bypass, the IOTLB, and the walk.
 */
#include <errno.h>

#include "ept/access.h"
#include "iommu/iommu_impl.h"

static uint64_t at_most(uint64_t len, uint64_t most)
{
    return len < most ? len : most;
}

/* Up to the next reserved region, and to the end of all addresses. */
static uint64_t clip(const struct endpoint *e, uint64_t iova, uint64_t len)
{
    len = at_most(len - 1, ~iova) + 1;
    for (size_t i = 0; i < e->reserved_count; i++)
        if (e->reserved[i].first > iova)
            len = at_most(len, e->reserved[i].first - iova);
    return len;
}

static void pass(uint64_t iova, uint64_t len, struct iommu_translation *out)
{
    *out = (struct iommu_translation){
        .output = iova, .len = len, .prot = IOMMU_READ | IOMMU_WRITE, .shift = PAGE_SHIFT_4K
    };
}

/* Walks the domain's table, for what the IOTLB has not; NULL with the reason when it has nothing,
 * either. */
static const struct iotlb_entry *walk(struct iommu *m, struct domain *d, uint64_t iova,
                                      enum iommu_reason *reason)
{
    struct pt_access access = { .op = PT_READ };
    struct pt_walk w;
    enum pt_fault fault = pt_access(&d->space, iova, &access, pt_table_read, &d->table, &w);
    unsigned prot = 0;

    m->stat.walk_refs += w.count;
    /* Both rights are wanted of the walk, which asks for one: a leaf for writing only refuses it,
     * and tells its rights all the same. */
    if (fault != PT_OK && fault != PT_PROTECTION) {
        *reason = fault == PT_NON_CANONICAL ? IOMMU_TOO_WIDE : IOMMU_NOT_MAPPED;
        return NULL;
    }
    if (w.rights & PT_RIGHT_READ)
        prot |= IOMMU_READ;
    if (w.rights & PT_RIGHT_WRITE)
        prot |= IOMMU_WRITE;
    return iotlb_fill(&m->iotlb, d->id, iova, w.output & ~((UINT64_C(1) << w.shift) - 1), w.shift,
                      prot);
}

static bool resolve(struct iommu *m, struct domain *d, uint64_t iova, uint64_t len, unsigned prot,
                    struct iommu_translation *out, enum iommu_reason *reason)
{
    const struct iotlb_entry *leaf = iotlb_find(&m->iotlb, d->id, iova);
    bool hit = leaf != NULL;
    uint64_t offset;

    if (hit)
        m->stat.hits++;
    else
        m->stat.misses++;
    if (!hit)
        leaf = walk(m, d, iova, reason);
    if (!leaf)
        return false;
    if ((prot & ~(unsigned)leaf->prot) != 0) {
        *reason = prot & ~(unsigned)leaf->prot & IOMMU_WRITE ? IOMMU_READ_ONLY : IOMMU_WRITE_ONLY;
        return false;
    }
    offset = iova & ((UINT64_C(1) << leaf->shift) - 1);
    *out = (struct iommu_translation){ .output = leaf->output + offset,
                                       .len = at_most(len, (UINT64_C(1) << leaf->shift) - offset),
                                       .prot = leaf->prot,
                                       .shift = leaf->shift,
                                       .hit = hit };
    return true;
}

int iommu_translate(struct iommu *m, uint32_t endpoint, iova_t iova, uint64_t len, unsigned prot,
                    struct iommu_translation *out)
{
    const struct endpoint *e = iommu_find_endpoint(m, endpoint);
    enum iommu_reason reason = IOMMU_NO_DOMAIN;
    bool ok = false;

    m->stat.translations++;
    if (e && endpoint_reserved(e, iova.v, iova.v)) {
        reason = IOMMU_RESERVED;
    } else if (e && len > 0) {
        len = clip(e, iova.v, len);
        if (e->domain ? e->domain->bypass : m->bypass) {
            pass(iova.v, len, out);
            return 0;
        }
        if (e->domain)
            ok = resolve(m, e->domain, iova.v, len, prot, out, &reason);
    }
    if (ok)
        return 0;
    iommu_report(m, endpoint, iova, (prot & IOMMU_WRITE) != 0, reason);
    return -EFAULT;
}
