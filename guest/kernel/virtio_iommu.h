/*
 * virtio-iommu ("VIRTIO Version 1.2", 5.13, "IOMMU device"), from the driver's side: the requests
 * as functions, and the faults as they were reported. Who gets which iova is dma.c's.
 */
#ifndef GUEST_KERNEL_VIRTIO_IOMMU_H
#define GUEST_KERNEL_VIRTIO_IOMMU_H

#include <stdbool.h>
#include <stdint.h>

struct pci_device;

/* Where iovas may lie, ends included; and the smallest page, in bytes. */
struct viommu_limits {
    uint64_t first, last, page;
    uint32_t first_domain, last_domain;
};

/* A region that must not be used as iova; the end is included. */
struct viommu_reserved {
    uint64_t start, end;
    bool msi;
};

/* Finds the device, sets it up and turns bypass off. 0; -ENOENT: there is none; or why not. */
int viommu_init(struct viommu_limits *out);

/* The device itself, which does not stand behind itself; NULL without one. */
const struct pci_device *viommu_device(void);

/*
 * Requests; each waits for its answer. 0, or what the device's status says: -ENOENT (no such
 * endpoint or domain), -EINVAL, -EEXIST never comes from the device, -EIO for the rest.
 *
 * viommu_probe() gives the endpoint's reserved regions, at most `max`, and how many.
 */
int viommu_probe(uint16_t endpoint, struct viommu_reserved *out, unsigned max, unsigned *count);
int viommu_attach(uint32_t domain, uint16_t endpoint);
int viommu_map(uint32_t domain, uint64_t iova, uint64_t gpa, uint64_t len, unsigned access);
int viommu_unmap(uint32_t domain, uint64_t iova, uint64_t len);

#endif
