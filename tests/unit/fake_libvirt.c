/*
 * libvirt's calls for node devices, as a library of that name: what they do to a device is the
 * test's.
 */
#include <string.h>

#include "tests/unit/fake_libvirt.h"

#define CALL __attribute__((visibility("default")))

static struct fake_libvirt state;
static int connection;

CALL struct fake_libvirt *fake_libvirt(void)
{
    return &state;
}

CALL void *virConnectOpen(const char *name)
{
    if (state.no_daemon || strcmp(name, "qemu:///system") != 0)
        return NULL;
    state.open++;
    return &connection;
}

CALL int virConnectClose(void *conn)
{
    state.open -= conn == &connection;
    return 0;
}

CALL void *virNodeDeviceLookupByName(void *conn, const char *name)
{
    if (conn != &connection || strcmp(name, state.name) != 0)
        return NULL;
    state.open++;
    return state.name;
}

CALL int virNodeDeviceDetachFlags(void *dev, const char *driver, unsigned flags)
{
    if (dev != state.name || strcmp(driver, "vfio") != 0 || flags || state.refuse)
        return -1;
    state.detached++;
    state.move(state.ctx, 1);
    return 0;
}

CALL int virNodeDeviceReAttach(void *dev)
{
    if (dev != state.name || state.refuse)
        return -1;
    state.attached++;
    state.move(state.ctx, 0);
    return 0;
}

CALL int virNodeDeviceFree(void *dev)
{
    state.open -= dev == state.name;
    return 0;
}

CALL void virSetErrorFunc(void *ctx, void (*fn)(void *ctx, void *error))
{
    (void)ctx;
    (void)fn;
}

CALL const char *virGetLastErrorMessage(void)
{
    return "PCI device is in use by domain demo";
}
