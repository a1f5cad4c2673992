/*
 * The BARs of a passed-through device: memory slots of the VM where they can be mapped, reads and
 * writes of the device's file for all else.
 */
#include "vmm/vfio_impl.h"

#include <errno.h>
#include <linux/vfio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* A region's description with its capabilities. */
union region {
    struct vfio_region_info info;
    uint8_t bytes[1024];
};

static int region_read(struct vfio_device *dev, unsigned index, union region *r)
{
    memset(r, 0, sizeof(*r));
    r->info.argsz = sizeof(*r);
    r->info.index = index;
    return ioctl(dev->fd, VFIO_DEVICE_GET_REGION_INFO, &r->info) < 0 ? -errno : 0;
}

int vfio_bars_read(struct vfio_device *dev, uint64_t size[PCI_BARS], struct error *err)
{
    union region r;
    int rc;

    for (unsigned i = 0; i < PCI_BARS; i++) {
        rc = region_read(dev, VFIO_PCI_BAR0_REGION_INDEX + i, &r);
        if (rc < 0)
            return error_set(err, error_of_kernel(rc), "--vfio %s: BAR %u: %s", dev->bdf.name, i,
                             strerror(-rc));
        size[i] = r.info.size;
        dev->bar[i].region = r.info.offset;
    }
    return 0;
}

/* --- mapping --------------------------------------------------------------------------------- */

/* What of the region VFIO lets map: its number of parts. */
static size_t mappable(const union region *r, struct vfio_span *out, size_t max)
{
    const struct vfio_region_info_cap_sparse_mmap *sparse = NULL;
    size_t n = 0;

    if (!(r->info.flags & VFIO_REGION_INFO_FLAG_MMAP))
        return 0;
    for (uint32_t at = r->info.flags & VFIO_REGION_INFO_FLAG_CAPS ? r->info.cap_offset : 0;
         at && at + sizeof(*sparse) <= sizeof(r->bytes);) {
        const struct vfio_info_cap_header *head = (const void *)(r->bytes + at);

        if (head->id == VFIO_REGION_INFO_CAP_SPARSE_MMAP)
            sparse = (const void *)head;
        at = head->next;
    }
    if (!sparse) {
        out[0] = (struct vfio_span){ 0, r->info.size - 1 };
        return 1;
    }
    for (uint32_t i = 0; i < sparse->nr_areas && n < max; i++) {
        if ((const uint8_t *)&sparse->areas[i + 1] > r->bytes + sizeof(r->bytes))
            break;
        if (sparse->areas[i].size)
            out[n++] = (struct vfio_span){ sparse->areas[i].offset,
                                           sparse->areas[i].offset + sparse->areas[i].size - 1 };
    }
    return n;
}

static void map_windows(struct vfio_device *dev, unsigned bar, const union region *r)
{
    struct vfio_span may[VFIO_WINDOWS_MAX], part[VFIO_WINDOWS_MAX];
    struct vfio_bar *b = &dev->bar[bar];
    size_t n = mappable(r, may, VFIO_WINDOWS_MAX);
    int access = (r->info.flags & VFIO_REGION_INFO_FLAG_READ ? PROT_READ : 0) |
                 (r->info.flags & VFIO_REGION_INFO_FLAG_WRITE ? PROT_WRITE : 0);

    n = vfio_config_windows(&dev->f, bar, may, n, part, VFIO_WINDOWS_MAX);
    for (size_t i = 0; i < n; i++) {
        uint64_t size = part[i].last - part[i].first + 1;
        void *host =
            mmap(NULL, size, access, MAP_SHARED, dev->fd, (off_t)(r->info.offset + part[i].first));

        if (host == MAP_FAILED)
            continue;
        b->window[b->windows++] = (struct vfio_window){
            .offset = part[i].first, .size = size, .host = host, .slot = dev->vfio->next_slot++
        };
    }
}

void vfio_bars_map(struct vfio_device *dev)
{
    union region r;

    if (dev->vfio->host.trap_bars)
        return;
    for (unsigned i = 0; i < PCI_BARS; i++) {
        const struct pci_bar *bar = &dev->f.bar[i];

        if (bar->size && !bar->io && region_read(dev, VFIO_PCI_BAR0_REGION_INDEX + i, &r) == 0)
            map_windows(dev, i, &r);
    }
}

/* --- memory slots ----------------------------------------------------------------------------- */

static int set_slot(struct vfio_device *dev, const struct vfio_window *w, uint64_t gpa, bool on)
{
    struct kvm_userspace_memory_region region = {
        .slot = w->slot,
        .guest_phys_addr = gpa,
        .memory_size = on ? w->size : 0,
        .userspace_addr = (uintptr_t)w->host,
    };

    return ioctl(dev->vfio->host.vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0 ? -errno : 0;
}

static void take_away(struct vfio_device *dev, struct vfio_window *w)
{
    if (w->placed)
        (void)set_slot(dev, w, w->gpa, false);
    w->placed = false;
}

/* What left its place goes first: another BAR may be there now. */
void vfio_bar_placed(void *opaque, unsigned which)
{
    struct vfio_device *dev = opaque;

    (void)which;
    for (int pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < PCI_BARS; i++) {
            const struct pci_bar *bar = &dev->f.bar[i];

            for (size_t n = 0; n < dev->bar[i].windows; n++) {
                struct vfio_window *w = &dev->bar[i].window[n];
                uint64_t gpa = bar->address + w->offset;

                if (pass == 0 && (!bar->decoded || w->gpa != gpa))
                    take_away(dev, w);
                if (pass == 0 || !bar->decoded || w->placed)
                    continue;
                /* Refused where it overlaps another slot, by the guest's doing: the bus handler
                 * answers then. */
                w->gpa = gpa;
                w->placed = set_slot(dev, w, gpa, true) == 0;
            }
        }
    }
}

void vfio_bars_unmap(struct vfio_device *dev)
{
    for (unsigned i = 0; i < PCI_BARS; i++) {
        struct vfio_bar *b = &dev->bar[i];

        for (size_t n = 0; n < b->windows; n++) {
            take_away(dev, &b->window[n]);
            (void)munmap(b->window[n].host, b->window[n].size);
        }
        b->windows = 0;
    }
}

/* --- through the monitor ------------------------------------------------------------------------
 */

uint64_t vfio_bar_read(void *opaque, unsigned bar, uint64_t offset, unsigned size)
{
    const struct vfio_device *dev = opaque;
    uint64_t value = 0;

    if (pread(dev->fd, &value, size, (off_t)(dev->bar[bar].region + offset)) != (ssize_t)size)
        return UINT64_MAX;
    return value;
}

void vfio_bar_write(void *opaque, unsigned bar, uint64_t offset, unsigned size, uint64_t value)
{
    const struct vfio_device *dev = opaque;

    /* What the device doesn't take is lost, as on a bus. */
    (void)!pwrite(dev->fd, &value, size, (off_t)(dev->bar[bar].region + offset));
}
