/*
 * The IOMMU as a data structure: domains (iova -> output address, in VT-d's second-level table
 * format), endpoints attached to them, an IOTLB with counters, and a record of what was blocked.
 * It knows no KVM and no virtio: the monitor's virtio-iommu, the demonstration and the unit tests
 * share it. Not locked: one thread at a time.
 */
#ifndef TWOFOLD_IOMMU_IOMMU_H
#define TWOFOLD_IOMMU_IOMMU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ept/addr.h"

#define IOMMU_READ  (1u << 0) /* the device may read memory */
#define IOMMU_WRITE (1u << 1)

/* Of all domains together: what a guest can make the monitor keep. */
#define IOMMU_MAPPINGS_MAX 65536u
#define IOMMU_TABLES_MAX   16384u /* of 4 KiB */

enum iommu_reason {
    IOMMU_NO_DOMAIN,  /* the endpoint is attached to nothing, and there is no bypass */
    IOMMU_NOT_MAPPED, /* nothing at this iova */
    IOMMU_READ_ONLY,  /* mapped, but not for writing */
    IOMMU_WRITE_ONLY,
    IOMMU_TOO_WIDE, /* beyond the domain's address width */
    IOMMU_RESERVED, /* in a region reserved for interrupts or by the platform */
    IOMMU_OUTPUT,   /* translated, but what it leads to is no memory */
};
const char *iommu_reason_name(enum iommu_reason reason); /* one phrase; never NULL */

struct iommu_fault {
    uint64_t number;   /* from 1 on, in order */
    uint64_t time_ns;  /* CLOCK_MONOTONIC */
    uint32_t endpoint; /* requester id */
    uint32_t domain;   /* when attached */
    bool attached, write;
    enum iommu_reason reason;
    iova_t iova;
};

struct iommu_mapping {
    iova_t iova;
    uint64_t len, output;
    unsigned prot; /* IOMMU_READ | IOMMU_WRITE */
};

struct iommu_translation {
    uint64_t output; /* of the first byte */
    uint64_t len;    /* contiguous from there, at most what was asked for */
    unsigned prot;
    unsigned shift; /* log2 of the leaf's size */
    bool hit;       /* from the IOTLB */
};

struct iommu_stat {
    uint64_t translations, hits, misses, invalidations; /* IOTLB */
    uint64_t walk_refs;                                 /* entries read by walks */
    uint64_t maps, unmaps, map_bytes, unmap_bytes;      /* since the start */
    uint64_t faults, faults_lost;                       /* lost: pushed out of the record */
    uint64_t tables, leaves_4k, leaves_2m, leaves_1g;   /* now, all domains */
};

struct iommu;

/* `levels` of every domain's tables: 3 to 5 (39, 48, 57 bits). bypass: an endpoint that is attached
 * to nothing reaches everything. */
int iommu_create(struct iommu **out, unsigned levels, bool bypass);
void iommu_destroy(struct iommu *m);
void iommu_set_bypass(struct iommu *m, bool bypass);
bool iommu_bypass(const struct iommu *m);
uint64_t iommu_last_iova(const struct iommu *m); /* of the input range */

/* Endpoints there are, each with its reserved regions. */
int iommu_add_endpoint(struct iommu *m, uint32_t endpoint);
bool iommu_has_endpoint(const struct iommu *m, uint32_t endpoint);
/* -EBUSY: it is attached; -EEXIST: meets another one; -EINVAL: empty; -ENOENT; -ENOMEM. */
int iommu_reserve(struct iommu *m, uint32_t endpoint, iova_t iova, uint64_t len, bool msi);
bool iommu_reserved(const struct iommu *m, uint32_t endpoint, size_t n, struct iommu_mapping *out,
                    bool *msi); /* the n-th */

/*
 * Attaching creates the domain; it goes with its last endpoint, mappings and all. A second attach
 * moves the endpoint. bypass_domain: everything passes through it untranslated; -EINVAL when the
 * domain exists and is of the other kind. -ENOENT: no such endpoint. -ENOTSUP: the domain maps what
 * is reserved for the endpoint. -ENOMEM.
 */
int iommu_attach(struct iommu *m, uint32_t endpoint, uint32_t domain, bool bypass_domain);
int iommu_detach(struct iommu *m, uint32_t endpoint, uint32_t domain); /* -EINVAL: not attached */

/*
 * -ENOENT: no such domain; -EINVAL: not aligned to 4 KiB, empty, without a right, or a bypass
 * domain; -ERANGE: beyond the address width (outputs: 52 bits), or meets a reserved region of an
 * endpoint; -EEXIST: something is mapped there; -ENOMEM: also at the limits above. Nothing changed
 * then.
 */
int iommu_map(struct iommu *m, uint32_t domain, iova_t iova, uint64_t len, uint64_t output,
              unsigned prot);
/* Removes all mappings that lie in the range; *covered: bytes of them. -ERANGE, and nothing
 * removed, when one would be cut. 0 also when there was none. -ENOENT, -EINVAL as above, but any
 * range that is not empty is allowed; an end beyond 2^64 is 2^64. */
int iommu_unmap(struct iommu *m, uint32_t domain, iova_t iova, uint64_t len, uint64_t *covered);

/* The n-th mapping of a domain in order of iova, and how many there are; the n-th domain; the n-th
 * endpoint and where it is. */
size_t iommu_mappings(const struct iommu *m, uint32_t domain);
bool iommu_mapping(const struct iommu *m, uint32_t domain, size_t n, struct iommu_mapping *out);
/* The mapping that has `iova` in it; no access, so it counts as none and faults never. */
bool iommu_find_mapping(const struct iommu *m, uint32_t domain, iova_t iova,
                        struct iommu_mapping *out);
bool iommu_domain(const struct iommu *m, size_t n, uint32_t *domain, bool *bypass_domain);
bool iommu_endpoint(const struct iommu *m, size_t n, uint32_t *endpoint, bool *attached,
                    uint32_t *domain);

/*
 * What the device's access to `iova` leads to: 0, or -EFAULT with the fault recorded and on_fault()
 * called. `prot` is what the access needs (one of IOMMU_*); `len` at least 1.
 */
int iommu_translate(struct iommu *m, uint32_t endpoint, iova_t iova, uint64_t len, unsigned prot,
                    struct iommu_translation *out);

/* A fault that somebody else found (IOMMU_OUTPUT, IOMMU_RESERVED). */
void iommu_report(struct iommu *m, uint32_t endpoint, iova_t iova, bool write,
                  enum iommu_reason reason);
void iommu_on_fault(struct iommu *m, void (*fn)(void *ctx, const struct iommu_fault *f), void *ctx);
/* Before mappings go: who has transfers in flight in `domain` is to finish them. */
void iommu_on_unmap(struct iommu *m, void (*fn)(void *ctx, uint32_t domain), void *ctx);

/* The last faults, oldest first: the n-th of those kept (up to 256). */
bool iommu_fault(const struct iommu *m, size_t n, struct iommu_fault *out);
void iommu_stat(const struct iommu *m, struct iommu_stat *out);

#endif
