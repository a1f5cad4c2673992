#include "tools/host_names.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pci/pci.h>

struct host_names {
    void *handle;
    struct pci_access *access;
    void (*cleanup)(struct pci_access *a);
    char *(*lookup)(struct pci_access *a, char *buf, int size, int flags, ...);
};

/* Where libpci has something to say: a list that is missing is told by its numbers. */
static void quiet(char *msg, ...)
{
    (void)msg;
}

struct host_names *host_names_open(void)
{
    struct host_names *n = calloc(1, sizeof(*n));
    struct pci_access *(*alloc)(void);
    void *symbol[3];

    if (!n)
        return NULL;
    n->handle = dlopen("libpci.so.3", RTLD_NOW | RTLD_LOCAL);
    if (!n->handle) {
        free(n);
        return NULL;
    }
    symbol[0] = dlsym(n->handle, "pci_alloc");
    symbol[1] = dlsym(n->handle, "pci_cleanup");
    symbol[2] = dlsym(n->handle, "pci_lookup_name");
    if (symbol[0] && symbol[1] && symbol[2]) {
        memcpy(&alloc, &symbol[0], sizeof(alloc));
        memcpy(&n->cleanup, &symbol[1], sizeof(n->cleanup));
        memcpy(&n->lookup, &symbol[2], sizeof(n->lookup));
        n->access = alloc();
    }
    if (!n->access) {
        host_names_close(n);
        return NULL;
    }
    /* Not pci_init(): it opens the bus, and ends the program where there is none. Names need only
     * these. */
    n->access->warning = quiet;
    n->access->debug = quiet;
    return n;
}

void host_names_close(struct host_names *n)
{
    if (!n)
        return;
    if (n->access)
        n->cleanup(n->access);
    (void)dlclose(n->handle);
    free(n);
}

char *host_name(struct host_names *n, unsigned vendor, unsigned device, unsigned class_code,
                char *buf, size_t size)
{
    const int flags = PCI_LOOKUP_NO_NUMBERS | PCI_LOOKUP_NO_HWDB;
    char one[128], two[128];
    const char *v = NULL, *d = NULL;

    if (n) {
        v = n->lookup(n->access, one, sizeof(one), flags | PCI_LOOKUP_VENDOR, vendor);
        d = n->lookup(n->access, two, sizeof(two), flags | PCI_LOOKUP_DEVICE, vendor, device);
        if (!d) /* what kind it is, at least */
            d = n->lookup(n->access, two, sizeof(two), flags | PCI_LOOKUP_CLASS, class_code >> 8);
    }
    if (v || d)
        (void)snprintf(buf, size, "%s%s%s", v ? v : "", v && d ? " " : "", d ? d : "");
    else
        (void)snprintf(buf, size, "class %04x", class_code >> 8);
    return buf;
}
