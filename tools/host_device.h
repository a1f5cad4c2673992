/*
 * PCI devices of this machine as sysfs shows them: what they are, who drives them, what they share
 * an IOMMU group with, and what the machine itself needs them for. Nothing here changes anything.
 */
#ifndef TWOFOLD_TOOLS_HOST_DEVICE_H
#define TWOFOLD_TOOLS_HOST_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/error.h"

#define BDF_SIZE 20 /* "0000:00:04.0"; domains of some bridges have more digits */

/* Where the machine is looked at and changed; unit tests have one of their own in a folder. */
struct host {
    const char *sys, *proc; /* "/sys", "/proc" */
    const char *records;    /* folder of records; NULL: see bind_records() */
    const char *libvirt;    /* folder of its daemon's sockets; NULL: not asked */
    /* Writes `text` to an attribute of sysfs. 0 or -errno. */
    int (*write)(void *ctx, const char *path, const char *text);
    /* Loads a kernel module. 0 or -errno. */
    int (*load)(void *ctx, const char *module);
    void *ctx;
};
extern const struct host host_machine;

struct host_device {
    char bdf[BDF_SIZE];
    unsigned vendor, device, class_code;  /* class_code: 24 bits */
    char driver[48], driver_override[48]; /* "": none */
    int group;                            /* IOMMU group; -1: none */
    bool bridge;                          /* of any kind: stays with the machine */
    bool port;                            /* PCI-to-PCI or host bridge */
    char reset[48];                       /* "flr bus"; "": none */
    char use[96]; /* what the machine needs it for: "holds / (vda1)"; "": nothing known */
};

/*
 * "[DOMAIN:]BUS:DEVICE.FUNCTION" in hexadecimal; the domain is 0 when left out. `what` names the
 * option in the error. 0, or -EINVAL.
 */
int bdf_parse(const char *what, const char *text, char out[BDF_SIZE], struct error *err);

/* 0, or -EINVAL with a sentence: there is no such device. */
int host_device_read(const struct host *h, const char *bdf, struct host_device *out,
                     struct error *err);

/* All of them, in order of BDF; *out is for free(). None, or no PCI at all: 0 with *n = 0. */
int host_devices(const struct host *h, struct host_device **out, size_t *n, struct error *err);

/* Fills d->use: mounted file systems and swap on disks below the device, network interfaces of it
 * that are up. */
void host_device_use(const struct host *h, struct host_device *d);

/* A member of a group that is in nobody's way there: on vfio-pci, on no driver, or a port. */
bool host_device_yields(const struct host_device *d);

/* What isolates a device, or what is in the way. */
struct host_verdict {
    bool isolated; /* alone in its group, but for ports */
    bool usable;   /* may be taken for a VM now */
    char why[256]; /* one line; never empty */
    char advice[256];
};
void host_device_judge(const struct host *h, const struct host_device *list, size_t n,
                       const struct host_device *d, struct host_verdict *out);

/*
 * Why the group of a device holds more than it: the first bridge above it that doesn't tell its
 * devices apart (no access control services). False when that isn't seen.
 */
bool host_device_no_acs(const struct host *h, const char *bdf, char bridge[BDF_SIZE]);

#endif
