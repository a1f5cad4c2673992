/*
 * What the files of isolate_vfio() share: a device of this machine through VFIO, the kernel's log,
 * and somebody else's memory.
 */
#ifndef TWOFOLD_TOOLS_ISOLATE_VFIO_H
#define TWOFOLD_TOOLS_ISOLATE_VFIO_H

#include <linux/vfio.h>

#include "tools/host_device.h"
#include "tools/isolate.h"
#include "vmm/vfio_group.h"

/* --- the device (isolate_device.c) --- */

struct isolate_device {
    char bdf[BDF_SIZE];
    unsigned vendor, device;
    struct vfio_container container;
    struct vfio_group group;
    int fd;
    struct vfio_device_info info;
    struct vfio_region_info config;
};

/* A device on vfio-pci, in a container of its own; nothing is mapped for it yet. On failure close
 * it nevertheless. */
int isolate_device_open(struct isolate_device *d, const char *bdf, struct error *err);
void isolate_device_close(struct isolate_device *d);

/* The n-th region; false when the device has none there. */
bool isolate_device_region(const struct isolate_device *d, unsigned n,
                           struct vfio_region_info *out);

/* 16 or 32 bits of configuration space; all ones when that can't be read. */
uint32_t isolate_config_read(const struct isolate_device *d, unsigned at, unsigned bytes);
int isolate_bus_master(const struct isolate_device *d, bool on);

/* `prot`: VFIO_DMA_MAP_FLAG_READ | WRITE. 0 or -errno. */
int isolate_map(const struct isolate_device *d, uint64_t iova, void *at, uint64_t len,
                uint32_t prot);
int isolate_unmap(const struct isolate_device *d, uint64_t iova, uint64_t len);

/* What can be told of any device without a driver for it, on stdout. It does no DMA. */
void isolate_device_print(const struct isolate_device *d);

/* The attempts of QEMU's `edu` (isolate_edu.c). */
int isolate_edu(struct isolate_device *d, struct isolate_report *r, struct error *err);

/* --- the kernel's log (isolate_log.c) --- */

struct isolate_log {
    int fd;          /* -1: it can't be read */
    char device[16]; /* "[00:04.0]", as IOMMU drivers name it: without the brackets */
};
void isolate_log_open(struct isolate_log *l, const char *bdf);
void isolate_log_close(struct isolate_log *l);
/* What was said up to now is past. */
void isolate_log_skip(struct isolate_log *l);
/* Waits up to half a second for a fault of the device. False when none is told. */
bool isolate_log_fault(struct isolate_log *l, char *out, size_t size);

/* --- somebody else (isolate_victim.c) --- */

/* A process with a page of memory of its own, as a second VM has it. */
struct isolate_victim {
    int pid, socket, memory; /* memory: a memfd of one page, for the contrast */
};
int isolate_victim_start(struct isolate_victim *v, struct error *err);
void isolate_victim_end(struct isolate_victim *v);
/* Where its page is now, and the xxh64 of its first `len` bytes. */
int isolate_victim_ask(const struct isolate_victim *v, size_t len, uint64_t *hpa, uint64_t *sum,
                       struct error *err);

#endif
