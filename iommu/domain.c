/*
 * Domains: who is attached, and what is mapped, in a list and in a table that say the same.
 */
#include <errno.h>
#include <stdlib.h>

#include "ept/format_vtd.h"
#include "iommu/iommu_impl.h"

#define OUTPUT_BITS 52

struct domain *iommu_find_domain(const struct iommu *m, uint32_t domain)
{
    for (size_t i = 0; i < m->domains; i++)
        if (m->domain[i]->id == domain)
            return m->domain[i];
    return NULL;
}

/* --- making and freeing ----------------------------------------------------------------- */

static int domain_tables(struct iommu *m, struct domain *d)
{
    struct vtd_paging regs = {
        .levels = m->format->levels, .phys_bits = OUTPUT_BITS, .large_2m = true, .large_1g = true
    };
    int rc = pt_table_init(&d->table, m->format, &m->pool);

    if (rc < 0)
        return rc;
    regs.root = d->table.root;
    rc = vtd_pt_space(&d->space, &regs);
    if (rc < 0)
        pt_table_free(&d->table);
    return rc;
}

static int domain_create(struct iommu *m, uint32_t id, bool bypass, struct domain **out)
{
    struct domain **more = reallocarray(m->domain, m->domains + 1, sizeof(struct domain *));
    struct domain *d;
    int rc;

    if (!more)
        return -ENOMEM;
    m->domain = more;
    d = calloc(1, sizeof(*d));
    if (!d)
        return -ENOMEM;
    d->id = id;
    d->bypass = bypass;
    rc = bypass ? 0 : domain_tables(m, d);
    if (rc < 0) {
        free(d);
        return rc;
    }
    m->domain[m->domains++] = d;
    *out = d;
    return 0;
}

/* The leaves of a mapping, by size: pt_map() takes the largest that both addresses are aligned to.
 */
enum { LEAF_1G, LEAF_2M, LEAF_4K, LEAVES };

static void leaves_of(uint64_t iova, uint64_t output, uint64_t len, uint64_t n[LEAVES])
{
    static const unsigned shifts[LEAVES] = { PAGE_SHIFT_1G, PAGE_SHIFT_2M, PAGE_SHIFT_4K };
    uint64_t covered = 0; /* by larger leaves */

    for (size_t i = 0; i < LEAVES; i++) {
        uint64_t size = UINT64_C(1) << shifts[i];
        uint64_t begin = (iova + size - 1) & ~(size - 1), end = (iova + len) & ~(size - 1);

        n[i] = 0;
        if (((iova ^ output) & (size - 1)) != 0 || begin >= end)
            continue;
        n[i] = (end - begin - covered) >> shifts[i];
        covered = end - begin;
    }
}

static void count_leaves(struct iommu_stat *stat, const struct iommu_mapping *map, bool there)
{
    uint64_t n[LEAVES];

    leaves_of(map->iova.v, map->output, map->len, n);
    stat->leaves_1g += there ? n[LEAF_1G] : 0 - n[LEAF_1G];
    stat->leaves_2m += there ? n[LEAF_2M] : 0 - n[LEAF_2M];
    stat->leaves_4k += there ? n[LEAF_4K] : 0 - n[LEAF_4K];
}

/* False when the tables that are left can't be enough: said at once, where pt_map() would take them
 * all first. Tables at the two ends may be there. */
static bool may_fit(const struct iommu *m, uint64_t iova, uint64_t output, uint64_t len)
{
    uint64_t n[LEAVES];

    leaves_of(iova, output, len, n);
    return n[LEAF_4K] / 512 + n[LEAF_2M] / 512 + n[LEAF_1G] / 512 <=
           IOMMU_TABLES_MAX - m->tables.used + 6;
}

static void forget_mapping(struct iommu *m, struct domain *d, uint64_t iova)
{
    struct mapping *gone = mapping_remove(&d->maps, iova);

    count_leaves(&m->stat, &gone->m, false);
    m->mappings--;
    free(gone);
}

void domain_destroy(struct iommu *m, struct domain *d)
{
    size_t i = 0;

    m->stat.invalidations += iotlb_drop(&m->iotlb, d->id, 0, UINT64_MAX);
    while (d->maps)
        forget_mapping(m, d, d->maps->m.iova.v);
    if (!d->bypass)
        pt_table_free(&d->table);
    while (m->domain[i] != d)
        i++;
    for (m->domains--; i < m->domains; i++)
        m->domain[i] = m->domain[i + 1];
    free(d);
}

/* --- attaching --------------------------------------------------------------------------- */

static void leave(struct iommu *m, struct endpoint *e)
{
    struct domain *d = e->domain;

    if (!d)
        return;
    if (m->on_unmap)
        m->on_unmap(m->unmap_ctx, d->id);
    e->domain = NULL;
    if (--d->endpoints == 0)
        domain_destroy(m, d);
}

/* Does the domain map what the endpoint has reserved? */
static bool conflicts(const struct domain *d, const struct endpoint *e)
{
    for (size_t i = 0; i < e->reserved_count; i++) {
        const struct mapping *n = mapping_first(d->maps, e->reserved[i].first);

        if (n && n->m.iova.v <= e->reserved[i].last)
            return true;
    }
    return false;
}

int iommu_attach(struct iommu *m, uint32_t endpoint, uint32_t domain, bool bypass_domain)
{
    struct endpoint *e = iommu_find_endpoint(m, endpoint);
    struct domain *d = iommu_find_domain(m, domain);
    int rc;

    if (!e)
        return -ENOENT;
    if (d && d->bypass != bypass_domain)
        return -EINVAL;
    if (d && conflicts(d, e))
        return -ENOTSUP;
    if (d && e->domain == d)
        return 0;
    if (!d) {
        rc = domain_create(m, domain, bypass_domain, &d);
        if (rc < 0)
            return rc;
    }
    leave(m, e);
    e->domain = d;
    d->endpoints++;
    return 0;
}

int iommu_detach(struct iommu *m, uint32_t endpoint, uint32_t domain)
{
    struct endpoint *e = iommu_find_endpoint(m, endpoint);

    if (!e)
        return -ENOENT;
    if (!e->domain || e->domain->id != domain)
        return -EINVAL;
    leave(m, e);
    return 0;
}

/* --- mapping ----------------------------------------------------------------------------- */

static int map_check(const struct iommu *m, const struct domain *d, uint64_t iova, uint64_t len,
                     uint64_t output, unsigned prot)
{
    uint64_t last = iova + (len - 1);
    const struct mapping *n;

    if (d->bypass || len == 0 || ((iova | len | output) & (PAGE_SIZE_4K - 1)) != 0 || prot == 0 ||
        (prot & ~(IOMMU_READ | IOMMU_WRITE)) != 0)
        return -EINVAL;
    if (last < iova || last > iommu_last_iova(m) || output >> OUTPUT_BITS ||
        len > (UINT64_C(1) << OUTPUT_BITS) - output)
        return -ERANGE;
    for (size_t i = 0; i < m->endpoints; i++)
        if (m->endpoint[i].domain == d && endpoint_reserved(&m->endpoint[i], iova, last))
            return -ERANGE;
    n = mapping_first(d->maps, iova);
    if (n && n->m.iova.v <= last)
        return -EEXIST;
    return m->mappings < IOMMU_MAPPINGS_MAX && may_fit(m, iova, output, len) ? 0 : -ENOMEM;
}

/* xorshift: priorities only have to be unknown to who maps. */
static uint32_t next_random(struct iommu *m)
{
    m->random ^= m->random << 13;
    m->random ^= m->random >> 7;
    m->random ^= m->random << 17;
    return (uint32_t)(m->random >> 32);
}

int iommu_map(struct iommu *m, uint32_t domain, iova_t iova, uint64_t len, uint64_t output,
              unsigned prot)
{
    struct domain *d = iommu_find_domain(m, domain);
    uint64_t bits = (prot & IOMMU_READ ? VTD_READ : 0) | (prot & IOMMU_WRITE ? VTD_WRITE : 0);
    struct mapping *n;
    int rc = d ? map_check(m, d, iova.v, len, output, prot) : -ENOENT;

    if (rc < 0)
        return rc;
    n = calloc(1, sizeof(*n));
    if (!n)
        return -ENOMEM;
    rc = pt_map(&d->table, iova.v, len, output, bits, PAGE_SHIFT_1G);
    if (rc < 0) {
        free(n);
        return rc;
    }
    n->priority = next_random(m);
    n->m = (struct iommu_mapping){ .iova = iova, .len = len, .output = output, .prot = prot };
    mapping_insert(&d->maps, n);
    m->mappings++;
    m->stat.maps++;
    m->stat.map_bytes += len;
    count_leaves(&m->stat, &n->m, true);
    return 0;
}

/* Would it cut a mapping at one of its ends? */
static bool cuts(const struct domain *d, uint64_t first, uint64_t last)
{
    const struct mapping *a = mapping_first(d->maps, first), *b = mapping_first(d->maps, last);

    return (a && a->m.iova.v < first) ||
           (b && b->m.iova.v <= last && b->m.iova.v + (b->m.len - 1) > last);
}

int iommu_unmap(struct iommu *m, uint32_t domain, iova_t iova, uint64_t len, uint64_t *covered)
{
    struct domain *d = iommu_find_domain(m, domain);
    uint64_t last = iova.v + (len - 1);
    const struct mapping *n;

    *covered = 0;
    if (!d)
        return -ENOENT;
    if (d->bypass || len == 0)
        return -EINVAL;
    if (last < iova.v)
        last = UINT64_MAX;
    if (cuts(d, iova.v, last))
        return -ERANGE;
    n = mapping_first(d->maps, iova.v);
    if (!n || n->m.iova.v > last)
        return 0;
    if (m->on_unmap)
        m->on_unmap(m->unmap_ctx, domain);
    m->stat.invalidations += iotlb_drop(&m->iotlb, domain, iova.v, last);
    while (n && n->m.iova.v <= last) {
        int rc = pt_unmap(&d->table, n->m.iova.v, n->m.len, 0);

        if (rc < 0)
            return rc;
        *covered += n->m.len;
        m->stat.unmaps++;
        m->stat.unmap_bytes += n->m.len;
        forget_mapping(m, d, n->m.iova.v);
        n = mapping_first(d->maps, iova.v);
    }
    return 0;
}
