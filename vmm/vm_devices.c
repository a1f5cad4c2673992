#include "vmm/vm_devices.h"

#include <errno.h>
#include <stdlib.h>

#include "vmm/vm_impl.h"

/* A device that was made, and how it goes. */
struct made {
    void *dev;
    void (*destroy)(void *dev);
};

struct vm_devices {
    struct vm *vm;
    struct pci *pci;
    struct iommu *iommu; /* NULL: none was asked for */
    struct made made[DEVICES_MAX];
    size_t count;
};

static int make(struct vm_devices *d, const struct device_config *cfg, struct made *out,
                struct error *err)
{
    (void)d;
    (void)out;
    switch (cfg->kind) {
    case DEVICE_DISK:
    case DEVICE_RNG:
    case DEVICE_EDU:
    case DEVICE_VFIO:
        break;
    }
    return error_set(err, -ENOTSUP, "no such device yet");
}

int vm_devices_create(struct vm_devices **out, struct vm *vm, struct error *err)
{
    const struct devices_config *cfg = &vm->cfg->devices;
    struct vm_devices *d = calloc(1, sizeof(*d));
    int rc = 0;

    *out = d;
    if (!d)
        return error_set(err, -ENOMEM, "no memory for the devices");
    d->vm = vm;
    for (size_t i = 0; i < cfg->count && rc == 0; i++) {
        rc = make(d, &cfg->device[i], &d->made[d->count], err);
        if (rc == 0)
            d->count++;
    }
    return rc; /* vm_destroy() frees what is there */
}

void vm_devices_destroy(struct vm_devices *d)
{
    if (!d)
        return;
    while (d->count > 0) {
        d->count--;
        d->made[d->count].destroy(d->made[d->count].dev);
    }
    free(d);
}

struct pci *vm_devices_pci(struct vm_devices *d)
{
    return d->pci;
}

struct iommu *vm_devices_iommu(struct vm_devices *d)
{
    return d->iommu;
}
