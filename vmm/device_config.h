/*
 * The devices that `twofold run` was asked for, and how they are made (vm_devices.c).
 */
#ifndef TWOFOLD_VMM_DEVICE_CONFIG_H
#define TWOFOLD_VMM_DEVICE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DEVICES_MAX       24
#define DEVICE_RANGES_MAX 8

enum device_kind {
    DEVICE_DISK, /* virtio-blk on a raw file */
    DEVICE_RNG,  /* virtio-rng */
    DEVICE_EDU,  /* the DMA test device of guest/abi.h */
    DEVICE_VFIO, /* a host device, passed through */
};

struct device_config {
    enum device_kind kind;
    const char *path; /* disk: the file; VFIO: the BDF; the caller's, outlives the VM */
    bool read_only;   /* disk */
    bool direct;      /* disk: O_DIRECT */
    /* VFIO: the parts of guest RAM that the device may reach; none: all of it. */
    struct {
        uint64_t gpa, size;
    } range[DEVICE_RANGES_MAX];
    size_t ranges;
};

struct devices_config {
    struct device_config device[DEVICES_MAX];
    size_t count;
    bool iommu; /* a virtio-iommu, with all emulated devices behind it */
};

#endif
