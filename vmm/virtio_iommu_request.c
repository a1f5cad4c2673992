/*
 * Requests of virtio-iommu as bytes in and bytes out. Section numbers are those of "Virtual I/O
 * Device (VIRTIO) Version 1.2".
 */
#include <endian.h>
#include <errno.h>
#include <linux/virtio_iommu.h>
#include <string.h>

#include "vmm/virtio_iommu.h"

_Static_assert(sizeof(struct virtio_iommu_req_probe) == VIRTIO_IOMMU_READ_MAX,
               "a probe is the longest request");

static bool is_zero(const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i])
            return false;
    return true;
}

static uint8_t status_of(int rc)
{
    switch (rc) {
    case 0:
        return VIRTIO_IOMMU_S_OK;
    case -ENOENT:
        return VIRTIO_IOMMU_S_NOENT;
    case -EINVAL:
    case -EEXIST:
        return VIRTIO_IOMMU_S_INVAL;
    case -ERANGE:
        return VIRTIO_IOMMU_S_RANGE;
    case -ENOTSUP:
        return VIRTIO_IOMMU_S_UNSUPP;
    case -ENOMEM:
        return VIRTIO_IOMMU_S_NOMEM;
    default:
        return VIRTIO_IOMMU_S_DEVERR;
    }
}

/* 5.13.6.3 ATTACH request */
static uint8_t attach(struct iommu *m, uint64_t features, const void *in)
{
    const struct virtio_iommu_req_attach *r = in;
    uint32_t known =
        features & UINT64_C(1) << VIRTIO_IOMMU_F_BYPASS_CONFIG ? VIRTIO_IOMMU_ATTACH_F_BYPASS : 0;
    uint32_t flags = le32toh(r->flags), domain = le32toh(r->domain);

    if (!is_zero(r->reserved, sizeof(r->reserved)) || (flags & ~known) != 0)
        return VIRTIO_IOMMU_S_INVAL;
    if (domain > VIRTIO_IOMMU_LAST_DOMAIN)
        return VIRTIO_IOMMU_S_RANGE;
    return status_of(iommu_attach(m, le32toh(r->endpoint), domain, flags != 0));
}

/* 5.13.6.4 DETACH request: its reserved field is to be ignored. */
static uint8_t detach(struct iommu *m, const void *in)
{
    const struct virtio_iommu_req_detach *r = in;

    return status_of(iommu_detach(m, le32toh(r->endpoint), le32toh(r->domain)));
}

/* 5.13.6.5 MAP request. What the output is, RAM or not, is the access's affair, not the mapping's:
 * memory may come and go. */
static uint8_t map(struct iommu *m, const void *in)
{
    const struct virtio_iommu_req_map *r = in;
    uint64_t start = le64toh(r->virt_start), end = le64toh(r->virt_end);
    uint64_t phys = le64toh(r->phys_start);
    uint32_t flags = le32toh(r->flags);
    unsigned prot = (flags & VIRTIO_IOMMU_MAP_F_READ ? IOMMU_READ : 0) |
                    (flags & VIRTIO_IOMMU_MAP_F_WRITE ? IOMMU_WRITE : 0);

    if ((flags & ~(VIRTIO_IOMMU_MAP_F_READ | VIRTIO_IOMMU_MAP_F_WRITE)) != 0 || end < start)
        return VIRTIO_IOMMU_S_INVAL;
    if (((start | (end + 1) | phys) & (PAGE_SIZE_4K - 1)) != 0 || end > iommu_last_iova(m))
        return VIRTIO_IOMMU_S_RANGE;
    return status_of(
        iommu_map(m, le32toh(r->domain), (iova_t){ start }, end - start + 1, phys, prot));
}

/* 5.13.6.6 UNMAP request */
static uint8_t unmap(struct iommu *m, const void *in)
{
    const struct virtio_iommu_req_unmap *r = in;
    uint64_t start = le64toh(r->virt_start), end = le64toh(r->virt_end), covered;

    if (!is_zero(r->reserved, sizeof(r->reserved)) || end < start)
        return VIRTIO_IOMMU_S_INVAL;
    /* Nothing is mapped in the last page of 2^64, whose end no length could tell. */
    if (end == UINT64_MAX)
        end--;
    return status_of(iommu_unmap(m, le32toh(r->domain), (iova_t){ start },
                                 end >= start ? end - start + 1 : 1, &covered));
}

/* 5.13.6.7 PROBE request: fills `list` of `room` bytes, which are zero. */
static uint8_t probe(struct iommu *m, const void *in, uint8_t *list, size_t room)
{
    const struct virtio_iommu_req_probe *r = in;
    uint32_t endpoint = le32toh(r->endpoint);
    struct iommu_mapping region;
    bool msi;

    if (!iommu_has_endpoint(m, endpoint))
        return VIRTIO_IOMMU_S_NOENT;
    if (room < VIRTIO_IOMMU_PROBE_BYTES)
        return VIRTIO_IOMMU_S_INVAL;
    for (size_t n = 0; iommu_reserved(m, endpoint, n, &region, &msi); n++) {
        struct virtio_iommu_probe_resv_mem p = {
            .head.type = htole16(VIRTIO_IOMMU_PROBE_T_RESV_MEM),
            .head.length = htole16(sizeof(p) - sizeof(p.head)),
            .subtype = msi ? VIRTIO_IOMMU_RESV_MEM_T_MSI : VIRTIO_IOMMU_RESV_MEM_T_RESERVED,
            .start = htole64(region.iova.v),
            .end = htole64(region.iova.v + (region.len - 1)),
        };

        if ((n + 1) * sizeof(p) > VIRTIO_IOMMU_PROBE_BYTES)
            return VIRTIO_IOMMU_S_DEVERR;
        memcpy(list + n * sizeof(p), &p, sizeof(p));
    }
    return VIRTIO_IOMMU_S_OK;
}

/* Bytes of the readable part, 0 for a type that isn't known. */
static size_t readable_bytes(uint8_t type, uint64_t features)
{
    const size_t tail = sizeof(struct virtio_iommu_req_tail);
    bool maps = features & UINT64_C(1) << VIRTIO_IOMMU_F_MAP_UNMAP;

    switch (type) {
    case VIRTIO_IOMMU_T_ATTACH:
        return sizeof(struct virtio_iommu_req_attach) - tail;
    case VIRTIO_IOMMU_T_DETACH:
        return sizeof(struct virtio_iommu_req_detach) - tail;
    case VIRTIO_IOMMU_T_MAP:
        return maps ? sizeof(struct virtio_iommu_req_map) - tail : 0;
    case VIRTIO_IOMMU_T_UNMAP:
        return maps ? sizeof(struct virtio_iommu_req_unmap) - tail : 0;
    case VIRTIO_IOMMU_T_PROBE:
        return features & UINT64_C(1) << VIRTIO_IOMMU_F_PROBE
                   ? sizeof(struct virtio_iommu_req_probe)
                   : 0;
    default:
        return 0;
    }
}

size_t virtio_iommu_request(struct iommu *m, uint64_t features, const void *in, size_t len,
                            void *out, size_t room)
{
    struct virtio_iommu_req_tail tail = { 0 };
    /* A copy: aligned, and of full length for any type. */
    union {
        struct virtio_iommu_req_head head;
        uint64_t words[VIRTIO_IOMMU_READ_MAX / 8];
    } r = { .words = { 0 } };
    size_t list = 0, need;

    memcpy(&r, in, len < sizeof(r) ? len : sizeof(r));
    need = len < sizeof(r.head) ? 0 : readable_bytes(r.head.type, features);
    if (need == 0 || len < need || room < sizeof(tail))
        return 0;
    switch (r.head.type) {
    case VIRTIO_IOMMU_T_ATTACH:
        tail.status = attach(m, features, &r);
        break;
    case VIRTIO_IOMMU_T_DETACH:
        tail.status = detach(m, &r);
        break;
    case VIRTIO_IOMMU_T_MAP:
        tail.status = map(m, &r);
        break;
    case VIRTIO_IOMMU_T_UNMAP:
        tail.status = unmap(m, &r);
        break;
    default:
        list = room - sizeof(tail);
        if (list > VIRTIO_IOMMU_PROBE_BYTES)
            list = VIRTIO_IOMMU_PROBE_BYTES;
        memset(out, 0, list);
        tail.status = probe(m, &r, out, list);
        break;
    }
    memcpy((uint8_t *)out + list, &tail, sizeof(tail));
    return list + sizeof(tail);
}
