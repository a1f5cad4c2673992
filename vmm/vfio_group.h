/*
 * VFIO containers and groups. A group is what the IOMMU can't tell apart: it is given as a whole. A
 * container is an address space of DMA with the groups in it.
 */
#ifndef TWOFOLD_VMM_VFIO_GROUP_H
#define TWOFOLD_VMM_VFIO_GROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/device_config.h"
#include "vmm/error.h"

/* Where a device is on this machine. */
struct vfio_bdf {
    unsigned domain, bus, device, function;
    char name[16]; /* as Linux calls it: "0000:00:04.0" */
};

/* DDDD:BB:DD.F or BB:DD.F, hexadecimal. -EINVAL with a sentence. */
int vfio_bdf_parse(const char *text, struct vfio_bdf *out, struct error *err);

struct vfio_span {
    uint64_t first, last; /* both inclusive */
};

#define VFIO_SPANS_MAX 64
#define VFIO_MAPS_MAX  (DEVICE_RANGES_MAX + 2)

struct vfio_container {
    int fd;
    /* As asked for; none: all of guest memory. */
    struct vfio_span range[DEVICE_RANGES_MAX];
    size_t ranges;
    /* What the IOMMU offers: none known, then VFIO says at the mapping what it can't do. */
    struct vfio_span iova[VFIO_SPANS_MAX];
    size_t iovas;
    uint32_t maps_left;
    bool maps_left_known;
    /* What is mapped and pinned, iova = gpa; vfio_dma.c. */
    struct vfio_span map[VFIO_MAPS_MAX];
    size_t maps;
};

struct vfio_group {
    unsigned number;
    int fd;
    struct vfio_container *container;
};

/* The IOMMU group of a device that is there and on vfio-pci, with no other device of the group in
 * use. `what` is what the user gave, as sentences begin: "--vfio". -EINVAL: there is no such
 * device; -ENODEV: no IOMMU, or another driver; -EBUSY: the others, each with its driver and what
 * to do. */
int vfio_group_check(const char *what, const struct vfio_bdf *bdf, unsigned *number,
                     struct error *err);

/* Opens the group and asks whether it is viable; fd is the caller's. */
int vfio_group_open(struct vfio_group *g, unsigned number, struct error *err);

/* Opens an empty container of type 1 (version 2). */
int vfio_container_open(struct vfio_container *c, struct error *err);

/* Puts the group into the container; the first one brings the IOMMU, and what it offers. */
int vfio_container_join(struct vfio_container *c, struct vfio_group *g, bool first,
                        struct error *err);

#endif
