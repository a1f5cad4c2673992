/*
 * virtio-iommu: the guest's way to the IOMMU ("Virtual I/O Device (VIRTIO) Version 1.2", 5.13 IOMMU
 * device). Requests change a struct iommu; its faults become events (docs/iommu.md).
 */
#ifndef TWOFOLD_VMM_VIRTIO_IOMMU_H
#define TWOFOLD_VMM_VIRTIO_IOMMU_H

#include "iommu/iommu.h"
#include "vmm/virtio.h"

#define VIRTIO_IOMMU_PROBE_BYTES 128u
#define VIRTIO_IOMMU_LAST_DOMAIN 0xffffu
#define VIRTIO_IOMMU_READ_MAX    72u /* bytes of the longest request's readable part */
#define VIRTIO_IOMMU_WRITE_MAX   (VIRTIO_IOMMU_PROBE_BYTES + 4u)

/*
 * Carries out one request: `in` is its readable part, `out` receives its writable part, of which
 * there are `room` bytes; `features` as negotiated. Returns bytes written to `out`; 0: it could not
 * be parsed or its type is not known, so that nothing is written and nothing was done (5.13.6).
 */
size_t virtio_iommu_request(struct iommu *m, uint64_t features, const void *in, size_t len,
                            void *out, size_t room);

struct virtio_iommu;

struct virtio_iommu_stat {
    uint64_t requests, refused;      /* refused: with another status than OK, or without one */
    uint64_t events, events_dropped; /* faults told to the guest; there was no buffer */
};

/* Puts the device on the bus; place->iommu is not used: it does not stand behind itself. `iommu` is
 * the caller's and outlives it. */
int virtio_iommu_create(struct virtio_iommu **out, struct iommu *iommu,
                        const struct virtio_place *place, struct error *err);
void virtio_iommu_destroy(void *v);

/* A device that stands behind it, after it was put on the bus: becomes an endpoint by its requester
 * id, with the window of MSIs reserved, and is drained before what it uses is unmapped. */
int virtio_iommu_cover(struct virtio_iommu *v, struct dma *dma, struct error *err);

void virtio_iommu_stat(const struct virtio_iommu *v, struct virtio_iommu_stat *out);
struct virtio_device *virtio_iommu_device(struct virtio_iommu *v);

#endif
