/*
 * Taking devices of this machine from their drivers for vfio-pci, and giving them back. What a
 * device was bound to is written down before anything changes, in a record whose lock says that
 * its holder lives: after a kill, bind_restore() finds it.
 */
#ifndef TWOFOLD_TOOLS_BIND_H
#define TWOFOLD_TOOLS_BIND_H

#include <stdbool.h>
#include <stddef.h>

#include "tools/host_device.h"

#define BIND_MAX 24

struct binding {
    char bdf[BDF_SIZE];
    char driver[48];          /* "": none; where it goes back to */
    char driver_override[48]; /* as it was before; "": none */
    bool libvirt;             /* libvirt took it from its driver */
    bool kept;                /* was on vfio-pci, without a record: stays there */
    int record;               /* the locked file; -1: none */
};

/*
 * Whether the devices can be taken together: each is there, has an IOMMU, is no bridge, is not
 * needed by the machine itself, appears once, and its group holds nothing else that a driver has.
 * Changes nothing. 0, or -errno with a sentence.
 */
int bind_check(const struct host *h, const char *const bdf[], size_t n, struct error *err);

/*
 * Binds a device to vfio-pci, after bind_check(). On failure it is where it was. Errors: -EBUSY
 * somebody else has it, -ENOENT no vfio-pci in this kernel, -EACCES, ...
 */
int bind_take(struct binding *b, const struct host *h, const char *bdf, struct error *err);

/*
 * Back to its driver; the device must be closed, or the kernel waits for it. The record stays,
 * for another try, when that fails. A binding that was never taken is fine if it is zeroed or
 * bind_take() failed with it. 0, or -errno with a sentence.
 */
int bind_give_back(struct binding *b, const struct host *h, struct error *err);

/* All of several: bind_check(), then bind_take() for each; on failure those before are back. */
int bind_take_all(struct binding *b, const struct host *h, const char *const bdf[], size_t n,
                  struct error *err);
/* Each is tried; the first error is returned. */
int bind_give_back_all(struct binding *b, size_t n, const struct host *h, struct error *err);

enum bind_restored {
    BIND_RESTORED,
    BIND_HELD,   /* its holder lives */
    BIND_GONE,   /* there is no such device any more; the record was removed */
    BIND_MOVED,  /* it is on b->driver by somebody else's doing; the record was removed */
    BIND_FAILED, /* see `err` */
};

/*
 * Gives back the devices of holders that are gone: `bdf`, or all with NULL. Calls `fn` for each
 * record. 0, also without any; -ENOENT when there is no record of `bdf`; -errno of the folder.
 */
int bind_restore(const struct host *h, const char *bdf,
                 void (*fn)(void *ctx, enum bind_restored what, const struct binding *b,
                            const struct error *why),
                 void *ctx, struct error *err);

/* --- records (bind_record.c) --- */

/* The folder, made if need be: /run/twofold/devices for root, beside the control sockets for
 * others.
 */
int bind_records(const struct host *h, char *buf, size_t size, struct error *err);
/*
 * Locks the record of b->bdf. *found: it was there already, left by a holder that is gone, and *b
 * was read from it. -EBUSY with the holder's pid in the sentence.
 */
int bind_record_open(struct binding *b, const struct host *h, bool *found, struct error *err);
/* Of a device that is kept the holder's pid only. */
int bind_record_write(const struct binding *b, struct error *err);
void bind_record_remove(struct binding *b, const struct host *h);
/* Without removing it. */
void bind_record_close(struct binding *b);

/* --- libvirt (bind_libvirt.c) --- */

/*
 * Detaches a device from its driver for vfio-pci (take), or attaches it again, by the daemon of
 * qemu:///system. 1 done; 0 no daemon answers, or it knows no such device; or -errno.
 */
int bind_by_libvirt(const struct host *h, const char *bdf, bool take, struct error *err);

#endif
