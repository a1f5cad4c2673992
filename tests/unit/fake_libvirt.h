/*
 * What the libvirt of the tests has done, and is to do (tests/unit/fake_libvirt.c).
 */
#ifndef TWOFOLD_TESTS_UNIT_FAKE_LIBVIRT_H
#define TWOFOLD_TESTS_UNIT_FAKE_LIBVIRT_H

#include <stdbool.h>

struct fake_libvirt {
    bool no_daemon, refuse;
    char name[32];                   /* of the one device that it knows */
    void (*move)(void *ctx, int on); /* to vfio-pci, or back */
    void *ctx;
    int open; /* connections and devices */
    int detached, attached;
};
struct fake_libvirt *fake_libvirt(void);

/* The calls of libvirt that it has; their declarations are what warnings ask for. */
void *virConnectOpen(const char *name);
int virConnectClose(void *conn);
void *virNodeDeviceLookupByName(void *conn, const char *name);
int virNodeDeviceDetachFlags(void *dev, const char *driver, unsigned flags);
int virNodeDeviceReAttach(void *dev);
int virNodeDeviceFree(void *dev);
void virSetErrorFunc(void *ctx, void (*fn)(void *ctx, void *error));
const char *virGetLastErrorMessage(void);

#endif
