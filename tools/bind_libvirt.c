/* Binding by libvirt's daemon, which keeps its own book of who has which device. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/bind.h"
#include "tools/libvirt_load.h"

/* As libvirt-host.h, libvirt-nodedev.h and virterror.h declare them. */
struct calls {
    void *(*virConnectOpen)(const char *name);
    int (*virConnectClose)(void *conn);
    void *(*virNodeDeviceLookupByName)(void *conn, const char *name);
    int (*virNodeDeviceDetachFlags)(void *dev, const char *driver, unsigned flags);
    int (*virNodeDeviceReAttach)(void *dev);
    int (*virNodeDeviceFree)(void *dev);
    void (*virSetErrorFunc)(void *ctx, void (*fn)(void *ctx, void *error));
    const char *(*virGetLastErrorMessage)(void);
};

static int load(struct calls *c)
{
    const struct libvirt_symbol symbols[] = {
        { "virConnectOpen", &c->virConnectOpen },
        { "virConnectClose", &c->virConnectClose },
        { "virNodeDeviceLookupByName", &c->virNodeDeviceLookupByName },
        { "virNodeDeviceDetachFlags", &c->virNodeDeviceDetachFlags },
        { "virNodeDeviceReAttach", &c->virNodeDeviceReAttach },
        { "virNodeDeviceFree", &c->virNodeDeviceFree },
        { "virSetErrorFunc", &c->virSetErrorFunc },
        { "virGetLastErrorMessage", &c->virGetLastErrorMessage },
    };

    return libvirt_load(symbols, sizeof(symbols) / sizeof(symbols[0]), NULL);
}

static void quiet(void *ctx, void *error)
{
    (void)ctx;
    (void)error;
}

/* pci_0000_00_04_0 */
static void device_name(const char *bdf, char *buf, size_t size)
{
    (void)snprintf(buf, size, "pci_%s", bdf);
    for (char *at = buf; *at; at++)
        if (*at == ':' || *at == '.')
            *at = '_';
}

/* No need to load libvirt, and to wait for it, where no daemon listens. */
static bool daemon_listens(const struct host *h)
{
    static const char *const sockets[] = { "libvirt-sock", "virtqemud-sock" };
    char path[256];

    for (size_t i = 0; h->libvirt && i < sizeof(sockets) / sizeof(sockets[0]); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", h->libvirt, sockets[i]);
        if (access(path, W_OK) == 0)
            return true;
    }
    return false;
}

int bind_by_libvirt(const struct host *h, const char *bdf, bool take, struct error *err)
{
    char name[BDF_SIZE + 8];
    struct calls c;
    void *conn, *dev;
    int rc = 0;

    if (!daemon_listens(h) || load(&c))
        return 0;
    c.virSetErrorFunc(NULL, quiet);
    conn = c.virConnectOpen("qemu:///system");
    if (!conn)
        return 0;
    device_name(bdf, name, sizeof(name));
    dev = c.virNodeDeviceLookupByName(conn, name);
    if (dev) {
        rc = take ? c.virNodeDeviceDetachFlags(dev, "vfio", 0) : c.virNodeDeviceReAttach(dev);
        if (rc < 0) {
            const char *why = c.virGetLastErrorMessage();

            rc = error_set(err, -EBUSY, "libvirt can't %s device %s: %s",
                           take ? "detach" : "reattach", bdf, why ? why : "no reason given");
        } else {
            rc = 1;
        }
        (void)c.virNodeDeviceFree(dev);
    }
    (void)c.virConnectClose(conn);
    return rc;
}
