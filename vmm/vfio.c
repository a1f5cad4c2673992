/*
 * All passed-through devices of a VM: which container a group joins, which device number a function
 * gets, and what KVM has to know of them.
 */
#include "vmm/vfio_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/vfio_dma.h"

/* The number of the VFIO device, from `first` on, that `cfg` names as `bdf`; or cfg->count. */
static size_t named(const struct devices_config *cfg, size_t first, const struct vfio_bdf *bdf)
{
    struct vfio_bdf other;

    for (; first < cfg->count; first++)
        if (cfg->device[first].kind == DEVICE_VFIO &&
            vfio_bdf_parse(cfg->device[first].path, &other, NULL) == 0 &&
            !strcmp(other.name, bdf->name))
            break;
    return first;
}

int vfio_check(const struct devices_config *cfg, uint64_t ram, struct error *err)
{
    struct vfio_bdf bdf;
    int rc = 0;

    for (size_t i = 0; i < cfg->count && rc == 0; i++) {
        if (cfg->device[i].kind != DEVICE_VFIO)
            continue;
        rc = vfio_bdf_parse(cfg->device[i].path, &bdf, err);
        if (rc == 0)
            rc = vfio_dma_check(&cfg->device[i], ram, err);
        if (rc == 0 && named(cfg, i + 1, &bdf) < cfg->count)
            rc = error_set(err, -EINVAL, "--vfio %s: it is named twice", bdf.name);
    }
    return rc;
}

int vfio_create(struct vfio **out, const struct vfio_host *host, struct error *err)
{
    struct vfio *v;
    int rc = vfio_check(host->wanted, memory_size(host->mem), err);

    *out = NULL;
    if (rc < 0)
        return rc;
    v = calloc(1, sizeof(*v));
    if (!v)
        return error_set(err, -ENOMEM, "no memory for passed-through devices");
    v->host = *host;
    v->kvm_device = -1;
    v->next_slot = VFIO_SLOT_FIRST;
    rc = irq_routes_create(&v->routes, host->routes, irq_routes_kvm, &v->host.vm_fd, err);
    if (rc < 0) {
        free(v);
        return rc;
    }
    *out = v;
    return 0;
}

/* --- KVM
 * ------------------------------------------------------------------------------------------ */

/* So that KVM knows of DMA that bypasses caches. Without it guests run, as nearly all devices' DMA
 * is coherent. */
static void tell_kvm(struct vfio *v, const struct vfio_group *g, uint64_t what)
{
    struct kvm_create_device create = { .type = KVM_DEV_TYPE_VFIO };
    int32_t fd = g->fd;
    struct kvm_device_attr attr = { .group = KVM_DEV_VFIO_GROUP,
                                    .attr = what,
                                    .addr = (uintptr_t)&fd };

    if (v->kvm_device < 0 && ioctl(v->host.vm_fd, KVM_CREATE_DEVICE, &create) == 0)
        v->kvm_device = (int)create.fd;
    if (v->kvm_device >= 0)
        (void)ioctl(v->kvm_device, KVM_SET_DEVICE_ATTR, &attr);
}

/* --- groups
 * ----------------------------------------------------------------------------------------- */

/* The container of those that reach the same memory as `want`, or a new one. */
static int container_find(struct vfio *v, const struct vfio_container *want,
                          struct vfio_container **out, bool *fresh, struct error *err)
{
    int rc;

    *fresh = false;
    for (size_t i = 0; i < v->containers; i++) {
        *out = &v->container[i];
        if (vfio_dma_same(*out, want))
            return 0;
    }
    *fresh = true;
    *out = &v->container[v->containers];
    **out = *want;
    rc = vfio_container_open(*out, err);
    if (rc == 0)
        v->containers++;
    return rc;
}

/* Gives up a container that has no group. */
static void container_drop(struct vfio *v, struct vfio_container *c)
{
    vfio_dma_unmap(c, v->host.mem);
    (void)close(c->fd);
    v->containers--;
}

static int group_join(struct vfio *v, unsigned number, const struct vfio_container *want,
                      struct vfio_group **out, struct error *err)
{
    struct vfio_group *g = &v->group[v->groups];
    struct vfio_container *c = NULL;
    bool fresh = false;
    int rc = vfio_group_open(g, number, err);

    if (rc < 0)
        return rc;
    rc = container_find(v, want, &c, &fresh, err);
    if (rc == 0) {
        rc = vfio_container_join(c, g, fresh, err);
        if (rc == 0 && fresh)
            rc = vfio_dma_map(c, v->host.mem, err);
        if (rc < 0 && fresh)
            container_drop(v, c);
    }
    if (rc < 0) {
        (void)close(g->fd);
        return rc;
    }
    tell_kvm(v, g, KVM_DEV_VFIO_GROUP_ADD);
    v->groups++;
    *out = g;
    return 0;
}

/* The device's group, opened if it isn't. All of a group have one address space of DMA. */
static int group_of(struct vfio *v, const struct vfio_bdf *bdf, const struct vfio_container *want,
                    struct vfio_group **out, struct error *err)
{
    unsigned number;
    int rc = vfio_group_check("--vfio", bdf, &number, err);

    if (rc < 0)
        return rc;
    for (size_t i = 0; i < v->groups; i++) {
        *out = &v->group[i];
        if ((*out)->number == number)
            return vfio_dma_same((*out)->container, want)
                       ? 0
                       : error_set(err, -EINVAL,
                                   "--vfio %s: it is in IOMMU group %u with another device of the "
                                   "VM, and both reach the same memory: give the same iova= to "
                                   "both",
                                   bdf->name, number);
    }
    return group_join(v, number, want, out, err);
}

/* --- device numbers
 * ------------------------------------------------------------------------------------ */

static bool same_device(const struct vfio_bdf *a, const struct vfio_bdf *b)
{
    return a->domain == b->domain && a->bus == b->bus && a->device == b->device;
}

/*
 * Where the function goes on the guest's bus: alone on a device number of its own, or beside the
 * others of its device, function 0 first. -1: the next free number.
 */
static int place(const struct vfio *v, const struct vfio_bdf *bdf, int *devfn, struct error *err)
{
    unsigned functions = 0;

    *devfn = -1;
    for (size_t i = 0; i < v->host.wanted->count; i++) {
        const struct device_config *cfg = &v->host.wanted->device[i];
        struct vfio_bdf other;

        functions += cfg->kind == DEVICE_VFIO && vfio_bdf_parse(cfg->path, &other, NULL) == 0 &&
                     same_device(&other, bdf);
    }
    for (size_t i = 0; i < v->devices; i++) {
        const struct vfio_device *d = v->device[i];

        if (same_device(&d->bdf, bdf) && d->bdf.function == 0)
            *devfn = PCI_DEVFN(d->f.devfn >> 3, (int)bdf->function);
    }
    if (functions > 1 && bdf->function != 0 && *devfn < 0)
        return error_set(err, -EINVAL,
                         "--vfio %s: functions of one device stay together: name its function 0 "
                         "too, and first",
                         bdf->name);
    return 0;
}

int vfio_add(struct vfio *v, const struct device_config *cfg, struct vfio_device **out,
             struct error *err)
{
    struct vfio_container want = { .fd = -1 };
    struct vfio_group *g = NULL;
    struct vfio_bdf bdf;
    int devfn, rc = vfio_bdf_parse(cfg->path, &bdf, err);

    *out = NULL;
    if (rc == 0)
        rc = vfio_dma_ranges(&want, bdf.name, cfg, v->host.mem, v->host.pages, err);
    if (rc == 0)
        rc = place(v, &bdf, &devfn, err);
    if (rc == 0)
        rc = group_of(v, &bdf, &want, &g, err);
    if (rc == 0)
        rc = vfio_device_create(out, v, g, &bdf, devfn, err);
    if (rc == 0)
        v->device[v->devices++] = *out;
    return rc;
}

void vfio_forget(struct vfio *v, const struct vfio_device *dev)
{
    if (v->devices && v->device[v->devices - 1] == dev)
        v->devices--;
}

void vfio_ready(struct vfio *v)
{
    for (size_t i = 0; v && i < v->devices; i++)
        vfio_device_ready(v->device[i]);
}

void vfio_destroy(struct vfio *v)
{
    if (!v)
        return;
    for (size_t i = 0; i < v->groups; i++)
        tell_kvm(v, &v->group[i], KVM_DEV_VFIO_GROUP_DEL);
    if (v->kvm_device >= 0)
        (void)close(v->kvm_device);
    for (size_t i = 0; i < v->containers; i++)
        vfio_dma_unmap(&v->container[i], v->host.mem);
    for (size_t i = 0; i < v->groups; i++)
        (void)close(v->group[i].fd);
    for (size_t i = 0; i < v->containers; i++)
        (void)close(v->container[i].fd);
    irq_routes_destroy(v->routes);
    free(v);
}
