/*
 * The record of what was blocked: a ring of the last ones, and who is told.
 */
#include <time.h>

#include "iommu/iommu_impl.h"

const char *iommu_reason_name(enum iommu_reason reason)
{
    switch (reason) {
    case IOMMU_NO_DOMAIN:
        return "attached to no domain";
    case IOMMU_NOT_MAPPED:
        return "not mapped";
    case IOMMU_READ_ONLY:
        return "mapped for reading only";
    case IOMMU_WRITE_ONLY:
        return "mapped for writing only";
    case IOMMU_TOO_WIDE:
        return "beyond the address width";
    case IOMMU_RESERVED:
        return "in a reserved region";
    case IOMMU_OUTPUT:
        return "mapped to what is no memory";
    }
    return "unknown";
}

void iommu_report(struct iommu *m, uint32_t endpoint, iova_t iova, bool write,
                  enum iommu_reason reason)
{
    const struct endpoint *e = iommu_find_endpoint(m, endpoint);
    uint64_t number = ++m->stat.faults;
    struct iommu_fault *f = &m->fault[number % FAULTS_KEPT];
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    if (number > FAULTS_KEPT)
        m->stat.faults_lost++;
    *f = (struct iommu_fault){ .number = number,
                               .time_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec,
                               .endpoint = endpoint,
                               .domain = e && e->domain ? e->domain->id : 0,
                               .attached = e && e->domain,
                               .write = write,
                               .reason = reason,
                               .iova = iova };
    if (m->on_fault)
        m->on_fault(m->fault_ctx, f);
}

void iommu_on_fault(struct iommu *m, void (*fn)(void *ctx, const struct iommu_fault *f), void *ctx)
{
    m->on_fault = fn;
    m->fault_ctx = ctx;
}

bool iommu_fault(const struct iommu *m, size_t n, struct iommu_fault *out)
{
    uint64_t kept = m->stat.faults - m->stat.faults_lost;

    if (n >= kept)
        return false;
    *out = m->fault[(m->stat.faults_lost + 1 + n) % FAULTS_KEPT];
    return true;
}
