/*
 * What the files of iommu/ share: domains, mappings, the pool of tables, the IOTLB.
 */
#ifndef TWOFOLD_IOMMU_IOMMU_IMPL_H
#define TWOFOLD_IOMMU_IOMMU_IMPL_H

#include "ept/table.h"
#include "iommu/iommu.h"

/* --- mappings: a treap, in order of iova; each knows how many there are below it ------ */

struct mapping {
    struct mapping *left, *right;
    size_t count; /* of this one and all below */
    uint32_t priority;
    struct iommu_mapping m;
};

size_t mapping_count(const struct mapping *root);
void mapping_insert(struct mapping **root, struct mapping *n);
struct mapping *mapping_remove(struct mapping **root, uint64_t iova); /* the caller frees it */
/* The first mapping that ends behind `iova`, and so may contain it; NULL: none. */
const struct mapping *mapping_first(const struct mapping *root, uint64_t iova);
const struct mapping *mapping_nth(const struct mapping *root, size_t n);

/* --- tables: from chunks that are kept until the end ---------------------------------- */

struct table_pool {
    void **chunk;
    size_t chunks, used;
    void *free; /* the first free table, whose first bytes point to the next */
};

void table_pool_init(struct table_pool *p, struct pt_pool *out);
void table_pool_free(struct table_pool *p);

/* --- the IOTLB ------------------------------------------------------------------------- */

#define IOTLB_SETS  64
#define IOTLB_WAYS  4
#define IOTLB_SIZES 3 /* of leaves: 4 KiB, 2 MiB, 1 GiB */

struct iotlb_entry {
    uint64_t page;   /* iova >> shift */
    uint64_t output; /* of the leaf */
    uint64_t used;   /* when */
    uint32_t domain;
    uint8_t shift; /* 0: empty */
    uint8_t prot;
};

struct iotlb {
    struct iotlb_entry entry[IOTLB_SETS][IOTLB_WAYS];
    size_t held[IOTLB_SIZES]; /* entries by size: what isn't there isn't looked for */
    uint64_t clock;
};

const struct iotlb_entry *iotlb_find(struct iotlb *t, uint32_t domain, uint64_t iova);
const struct iotlb_entry *iotlb_fill(struct iotlb *t, uint32_t domain, uint64_t iova,
                                     uint64_t output, unsigned shift, unsigned prot);
/* Drops what meets [first, last] of the domain; how many entries. */
uint64_t iotlb_drop(struct iotlb *t, uint32_t domain, uint64_t first, uint64_t last);

/* --- the whole ------------------------------------------------------------------------- */

#define FAULTS_KEPT 256

struct domain {
    uint32_t id;
    bool bypass; /* has no table then */
    size_t endpoints;
    struct pt_table table;
    struct pt_space space;
    struct mapping *maps;
};

struct reserved {
    uint64_t first, last;
    bool msi;
};

struct endpoint {
    uint32_t id;
    struct domain *domain; /* NULL: attached to none */
    struct reserved *reserved;
    size_t reserved_count;
};

struct iommu {
    const struct pt_format *format;
    bool bypass;
    struct pt_pool pool;
    struct table_pool tables;
    uint64_t random;
    size_t mappings; /* of all domains */
    struct endpoint *endpoint;
    size_t endpoints;
    struct domain **domain; /* in the order in which they were made */
    size_t domains;
    struct iotlb iotlb;
    struct iommu_fault fault[FAULTS_KEPT]; /* number n at n % FAULTS_KEPT */
    void (*on_fault)(void *ctx, const struct iommu_fault *f);
    void *fault_ctx;
    void (*on_unmap)(void *ctx, uint32_t domain);
    void *unmap_ctx;
    struct iommu_stat stat;
};

/* NULL: there is none. */
struct endpoint *iommu_find_endpoint(const struct iommu *m, uint32_t endpoint);
struct domain *iommu_find_domain(const struct iommu *m, uint32_t domain);

/* The region of `e` that [first, last] meets; NULL: none. */
const struct reserved *endpoint_reserved(const struct endpoint *e, uint64_t first, uint64_t last);

/* With all mappings; no endpoint is attached any more. */
void domain_destroy(struct iommu *m, struct domain *d);

#endif
