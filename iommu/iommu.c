#include "iommu/iommu.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "ept/format_vtd.h"
#include "iommu/iommu_impl.h"

int iommu_create(struct iommu **out, unsigned levels, bool bypass)
{
    const struct pt_format *const formats[] = { &pt_vtd_3, &pt_vtd_4, &pt_vtd_5 };
    struct iommu *m;

    *out = NULL;
    if (levels < 3 || levels > 5)
        return -EINVAL;
    m = calloc(1, sizeof(*m));
    if (!m)
        return -ENOMEM;
    m->format = formats[levels - 3];
    m->bypass = bypass;
    if (getrandom(&m->random, sizeof(m->random), GRND_NONBLOCK) != (ssize_t)sizeof(m->random) ||
        m->random == 0)
        m->random = (uintptr_t)m;
    table_pool_init(&m->tables, &m->pool);
    *out = m;
    return 0;
}

void iommu_destroy(struct iommu *m)
{
    if (!m)
        return;
    while (m->domains > 0)
        domain_destroy(m, m->domain[m->domains - 1]);
    for (size_t i = 0; i < m->endpoints; i++)
        free(m->endpoint[i].reserved);
    free(m->endpoint);
    free(m->domain);
    table_pool_free(&m->tables);
    free(m);
}

void iommu_set_bypass(struct iommu *m, bool bypass)
{
    m->bypass = bypass;
}

bool iommu_bypass(const struct iommu *m)
{
    return m->bypass;
}

uint64_t iommu_last_iova(const struct iommu *m)
{
    return (UINT64_C(1) << m->format->input_bits) - 1;
}

/* --- endpoints ---------------------------------------------------------------------------- */

struct endpoint *iommu_find_endpoint(const struct iommu *m, uint32_t endpoint)
{
    for (size_t i = 0; i < m->endpoints; i++)
        if (m->endpoint[i].id == endpoint)
            return &m->endpoint[i];
    return NULL;
}

int iommu_add_endpoint(struct iommu *m, uint32_t endpoint)
{
    struct endpoint *more;

    if (iommu_find_endpoint(m, endpoint))
        return -EEXIST;
    more = reallocarray(m->endpoint, m->endpoints + 1, sizeof(*more));
    if (!more)
        return -ENOMEM;
    m->endpoint = more;
    m->endpoint[m->endpoints++] = (struct endpoint){ .id = endpoint };
    return 0;
}

bool iommu_has_endpoint(const struct iommu *m, uint32_t endpoint)
{
    return iommu_find_endpoint(m, endpoint) != NULL;
}

const struct reserved *endpoint_reserved(const struct endpoint *e, uint64_t first, uint64_t last)
{
    for (size_t i = 0; i < e->reserved_count; i++)
        if (e->reserved[i].first <= last && e->reserved[i].last >= first)
            return &e->reserved[i];
    return NULL;
}

int iommu_reserve(struct iommu *m, uint32_t endpoint, iova_t iova, uint64_t len, bool msi)
{
    struct endpoint *e = iommu_find_endpoint(m, endpoint);
    uint64_t last = iova.v + (len - 1);
    struct reserved *more;

    if (!e)
        return -ENOENT;
    if (len == 0 || last < iova.v)
        return -EINVAL;
    if (e->domain)
        return -EBUSY;
    if (endpoint_reserved(e, iova.v, last))
        return -EEXIST;
    more = reallocarray(e->reserved, e->reserved_count + 1, sizeof(*more));
    if (!more)
        return -ENOMEM;
    e->reserved = more;
    e->reserved[e->reserved_count++] =
        (struct reserved){ .first = iova.v, .last = last, .msi = msi };
    return 0;
}

bool iommu_reserved(const struct iommu *m, uint32_t endpoint, size_t n, struct iommu_mapping *out,
                    bool *msi)
{
    const struct endpoint *e = iommu_find_endpoint(m, endpoint);

    if (!e || n >= e->reserved_count)
        return false;
    *out = (struct iommu_mapping){ .iova = { e->reserved[n].first },
                                   .len = e->reserved[n].last - e->reserved[n].first + 1 };
    *msi = e->reserved[n].msi;
    return true;
}

/* --- looking ------------------------------------------------------------------------------ */

bool iommu_endpoint(const struct iommu *m, size_t n, uint32_t *endpoint, bool *attached,
                    uint32_t *domain)
{
    const struct endpoint *e;

    if (n >= m->endpoints)
        return false;
    e = &m->endpoint[n];
    *endpoint = e->id;
    *attached = e->domain != NULL;
    *domain = e->domain ? e->domain->id : 0;
    return true;
}

bool iommu_domain(const struct iommu *m, size_t n, uint32_t *domain, bool *bypass_domain)
{
    if (n >= m->domains)
        return false;
    *domain = m->domain[n]->id;
    *bypass_domain = m->domain[n]->bypass;
    return true;
}

size_t iommu_mappings(const struct iommu *m, uint32_t domain)
{
    const struct domain *d = iommu_find_domain(m, domain);

    return d ? mapping_count(d->maps) : 0;
}

bool iommu_mapping(const struct iommu *m, uint32_t domain, size_t n, struct iommu_mapping *out)
{
    const struct domain *d = iommu_find_domain(m, domain);
    const struct mapping *found = d ? mapping_nth(d->maps, n) : NULL;

    if (!found)
        return false;
    *out = found->m;
    return true;
}

bool iommu_find_mapping(const struct iommu *m, uint32_t domain, iova_t iova,
                        struct iommu_mapping *out)
{
    const struct domain *d = iommu_find_domain(m, domain);
    const struct mapping *found = d ? mapping_first(d->maps, iova.v) : NULL;

    if (!found || found->m.iova.v > iova.v)
        return false;
    *out = found->m;
    return true;
}

void iommu_on_unmap(struct iommu *m, void (*fn)(void *ctx, uint32_t domain), void *ctx)
{
    m->on_unmap = fn;
    m->unmap_ctx = ctx;
}

void iommu_stat(const struct iommu *m, struct iommu_stat *out)
{
    *out = m->stat;
    out->tables = m->tables.used;
}
