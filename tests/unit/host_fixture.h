/*
 * A machine in a folder: /sys as far as PCI is concerned, and a kernel that does what writes to it
 * ask for.
 */
#ifndef TWOFOLD_TESTS_UNIT_HOST_FIXTURE_H
#define TWOFOLD_TESTS_UNIT_HOST_FIXTURE_H

#include "tools/host_device.h"

struct fake_host {
    struct host host; /* host.ctx is this struct */
    char dir[64], sys[80], proc[80], records[80];
    bool no_module;       /* vfio-pci can't be loaded */
    bool refuse_bind;     /* vfio-pci's probe fails */
    const char *deny;     /* writes to paths that end so are refused */
    int deny_code;        /* with this; 0: -EACCES */
    int writes;           /* that got through */
    int die_after_writes; /* SIGKILL to ourselves after so many; 0: never */
};

/* vfio-pci is not loaded yet; drivers "e1000e" and "ahci" are. NULL when that fails. */
struct fake_host *fake_host_create(void);
void fake_host_destroy(struct fake_host *f);

/* A device below `parent` ("": below the root), of a class like 0x020000; driver "" or group -1:
 * none. */
void fake_device(struct fake_host *f, const char *parent, const char *bdf, unsigned class_code,
                 const char *driver, int group);

/* A file or a link below the folder, with its folders made. */
void fake_file(struct fake_host *f, const char *path, const char *text, size_t size);
void fake_link(struct fake_host *f, const char *path, const char *target);

/* Puts a device on a driver; "": none. */
void fake_set_driver(struct fake_host *f, const char *bdf, const char *driver);

/* The driver of a device now; "" for none. */
const char *fake_driver(struct fake_host *f, const char *bdf);

#define NIC     "0000:00:03.0"
#define ALONE   "0000:00:04.0"
#define DISK    "0000:02:00.0"
#define SISTER  "0000:02:00.1"
#define PORT    "0000:00:1c.0"
#define OUTSIDE "0000:00:05.0"

/* cmocka's setup and teardown. A NIC alone in its group, a device without a driver, two functions
 * behind a port in one group, one device that no IOMMU stands before. */
int fake_machine_start(void **state);
int fake_machine_stop(void **state);

#endif
