#include "vmm/vm_devices.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "iommu/iommu.h"
#include "vmm/acpi.h"
#include "vmm/edu.h"
#include "vmm/pci.h"
#include "vmm/vfio.h"
#include "vmm/virtio.h"
#include "vmm/virtio_blk.h"
#include "vmm/virtio_iommu.h"
#include "vmm/virtio_rng.h"
#include "vmm/vm_impl.h"

#define INTX_GSI 16 /* four lines, in the DSDT too */

#define GIB           (UINT64_C(1) << 30)
#define WIDE_BITS_MAX 46 /* four levels of any hypervisor's tables reach it */
#define WIDE_MAX      (UINT64_C(1) << 40)

/* A device that was made, and how it goes. */
struct made {
    void *dev;
    void (*destroy)(void *dev);
    void (*hold)(void *dev, bool held); /* NULL: it is virtio, or does no DMA of its own accord */
    struct virtio_device *virtio;       /* NULL: it is none */
    const struct device_config *cfg;
    struct dma *dma; /* of an emulated device: stands behind the IOMMU. NULL: beside it */
};

struct vm_devices {
    struct vm *vm;
    struct pci *pci;
    struct iommu *iommu; /* NULL: none was asked for */
    struct vfio *vfio;   /* NULL: no device is passed through */
    struct virtio_iommu *virtio_iommu;
    struct made made[DEVICES_MAX + 1]; /* and the IOMMU */
    size_t count;
};

static int make_vfio(struct vm_devices *d, const struct device_config *cfg, struct made *out,
                     struct error *err)
{
    struct vm *vm = d->vm;
    const struct vfio_host host = {
        .mem = vm->mem,
        .pages = vm->pages,
        .pci = d->pci,
        .loop = vm->loop,
        .vm_fd = vm->fd,
        .routes = (unsigned)kvm_cap(&vm->kvm, KVM_CAP_IRQ_ROUTING),
        .wanted = &vm->cfg->devices,
        .trap_bars = vm->cfg->paging == PAGING_SHADOW,
    };
    struct vfio_device *dev = NULL;
    int rc = d->vfio ? 0 : vfio_create(&d->vfio, &host, err);

    if (rc == 0)
        rc = vfio_add(d->vfio, cfg, &dev, err);
    *out = (struct made){ .dev = dev, .destroy = vfio_device_destroy };
    return rc;
}

/* Where emulated devices are put: behind the IOMMU, when there is one. */
static struct virtio_place place_of(struct vm_devices *d)
{
    return (struct virtio_place){
        .pci = d->pci,
        .mem = d->vm->mem,
        .loop = d->vm->loop,
        .iommu = d->iommu,
        .vm_fd = d->vm->fd,
    };
}

static int make_disk(struct vm_devices *d, struct made *out, struct error *err)
{
    struct virtio_place place = place_of(d);
    struct virtio_blk *b;
    int rc = virtio_blk_create(&b, out->cfg, &place, err);

    if (rc < 0)
        return rc;
    out->dev = b;
    out->destroy = virtio_blk_destroy;
    out->virtio = virtio_blk_device(b);
    out->dma = virtio_dma(out->virtio);
    return 0;
}

static int make_rng(struct vm_devices *d, struct made *out, struct error *err)
{
    struct virtio_place place = place_of(d);
    struct virtio_rng *r;
    int rc = virtio_rng_create(&r, &place, err);

    if (rc < 0)
        return rc;
    out->dev = r;
    out->destroy = virtio_rng_destroy;
    out->virtio = virtio_rng_device(r);
    out->dma = virtio_dma(out->virtio);
    return 0;
}

static void destroy_edu(void *dev)
{
    edu_destroy(dev);
}

static void hold_edu(void *dev, bool held)
{
    edu_hold(dev, held);
}

static int make_edu(struct vm_devices *d, struct made *out, struct error *err)
{
    struct edu *edu;
    int rc = edu_create(&edu, d->pci, -1, d->vm->loop, d->vm->mem, err);

    if (rc < 0)
        return rc;
    out->dev = edu;
    out->destroy = destroy_edu;
    out->hold = hold_edu;
    out->dma = edu_dma(edu);
    out->dma->iommu = d->iommu;
    return 0;
}

static int make(struct vm_devices *d, const struct device_config *cfg, struct made *out,
                struct error *err)
{
    out->cfg = cfg;
    switch (cfg->kind) {
    case DEVICE_EDU:
        return make_edu(d, out, err);
    case DEVICE_DISK:
        return make_disk(d, out, err);
    case DEVICE_RNG:
        return make_rng(d, out, err);
    case DEVICE_VFIO:
        return make_vfio(d, cfg, out, err);
    }
    return error_set(err, -ENOTSUP, "no such device yet");
}

static void send_msi(void *ctx, const struct msi_message *message)
{
    struct vm *vm = ctx;
    struct kvm_msi msi = {
        .address_lo = (uint32_t)message->address,
        .address_hi = (uint32_t)(message->address >> 32),
        .data = message->data,
    };

    /* Fails for an address that is no APIC's: the guest's doing, and its loss. */
    (void)ioctl(vm->fd, KVM_SIGNAL_MSI, &msi);
}

static void set_line(void *ctx, unsigned gsi, int level)
{
    struct vm *vm = ctx;
    struct kvm_irq_level irq = { .irq = gsi, .level = (uint32_t)level };

    /* All 24 lines of the I/O APIC are there. */
    (void)ioctl(vm->fd, KVM_IRQ_LINE, &irq);
}

void vm_devices_window(const struct vm *vm, uint64_t *base, uint64_t *size)
{
    unsigned bits = cpuid_phys_bits(vm->cpuid);
    uint64_t end, ram;
    size_t count;
    const struct mem_slot *slot = memory_slots(vm->mem, &count);

    if (bits > WIDE_BITS_MAX)
        bits = WIDE_BITS_MAX;
    /* The upper half is the hidden slot's of --paging shadow; at home in both, so that a guest
     * sees the same machine. */
    end = UINT64_C(1) << (bits - 1);
    ram = (slot[count - 1].base.v + slot[count - 1].size + GIB - 1) & ~(GIB - 1);
    *base = end / 2 < WIDE_MAX ? end / 2 : end - WIDE_MAX;
    if (*base < ram)
        *base = ram;
    if (*base < MEMORY_HOLE_END)
        *base = MEMORY_HOLE_END;
    *size = *base < end ? end - *base : 0;
}

static int bus_make(struct vm_devices *d, struct error *err)
{
    struct vm *vm = d->vm;
    struct irq_line intx = { .set = set_line, .ctx = vm, .gsi = INTX_GSI };
    struct msi_sink msi = { .send = send_msi, .ctx = vm };
    uint64_t base, size;

    vm_devices_window(vm, &base, &size);
    return pci_create(&d->pci, vm->bus, intx, msi, base, size, err);
}

/* Four levels, as most hardware has them: 48 bits. Without bypass from the start. */
static int iommu_make(struct vm_devices *d, struct error *err)
{
    struct virtio_place place = place_of(d);
    struct made *m = &d->made[d->count];
    int rc = iommu_create(&d->iommu, 4, false);

    if (rc < 0)
        return error_set(err, rc, "no memory for the IOMMU");
    rc = virtio_iommu_create(&d->virtio_iommu, d->iommu, &place, err);
    if (rc < 0)
        return rc;
    m->dev = d->virtio_iommu;
    m->destroy = virtio_iommu_destroy;
    m->virtio = virtio_iommu_device(d->virtio_iommu);
    d->count++;
    return 0;
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
    rc = bus_make(d, err);
    if (rc == 0 && cfg->iommu)
        rc = iommu_make(d, err);
    for (size_t i = 0; i < cfg->count && rc == 0; i++) {
        struct made *m = &d->made[d->count];

        rc = make(d, &cfg->device[i], m, err);
        if (rc < 0)
            break;
        d->count++;
        if (d->virtio_iommu && m->dma)
            rc = virtio_iommu_cover(d->virtio_iommu, m->dma, err);
    }
    if (rc == 0)
        vfio_ready(d->vfio);
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
    vfio_destroy(d->vfio);
    iommu_destroy(d->iommu);
    pci_destroy(d->pci);
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

struct virtio_iommu *vm_devices_virtio_iommu(struct vm_devices *d)
{
    return d->virtio_iommu;
}

void vm_devices_viot(struct vm_devices *d, struct acpi_viot *out)
{
    *out = (struct acpi_viot){ 0 };
    if (!d->virtio_iommu)
        return;
    out->present = true;
    out->iommu = virtio_function(virtio_iommu_device(d->virtio_iommu))->devfn;
    for (size_t i = 0; i < d->count; i++)
        if (d->made[i].dma)
            out->endpoint[out->endpoints++] = d->made[i].dma->function->devfn;
}

void vm_devices_hold(struct vm_devices *d, bool held)
{
    for (size_t i = 0; d && i < d->count; i++) {
        struct made *m = &d->made[i];

        if (m->virtio)
            virtio_hold(m->virtio, held);
        else if (m->hold)
            m->hold(m->dev, held);
    }
}

struct virtio_device *vm_devices_virtio(struct vm_devices *d, size_t n)
{
    for (size_t i = 0; d && i < d->count; i++)
        if (d->made[i].virtio && n-- == 0)
            return d->made[i].virtio;
    return NULL;
}

const struct virtio_blk *vm_devices_disk(struct vm_devices *d, const struct virtio_device *v,
                                         const char **path)
{
    for (size_t i = 0; d && i < d->count; i++) {
        const struct made *m = &d->made[i];

        if (m->virtio == v && m->cfg && m->cfg->kind == DEVICE_DISK) {
            *path = m->cfg->path;
            return m->dev;
        }
    }
    return NULL;
}

static const struct made *made_at(const struct vm_devices *d, unsigned devfn)
{
    for (size_t i = 0; d && i < d->count; i++)
        if (d->made[i].dma && d->made[i].dma->function->devfn == devfn)
            return &d->made[i];
    return NULL;
}

const struct dma *vm_devices_dma(struct vm_devices *d, unsigned devfn)
{
    const struct made *m = made_at(d, devfn);

    return m ? m->dma : NULL;
}

struct edu *vm_devices_edu(struct vm_devices *d, unsigned devfn)
{
    const struct made *m = made_at(d, devfn);

    return m && m->cfg && m->cfg->kind == DEVICE_EDU ? m->dev : NULL;
}
