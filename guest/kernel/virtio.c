/* A virtio device: capabilities, negotiation, and its end ("VIRTIO Version 1.2", 3.1 and 4.1). */
#include "guest/kernel/virtio.h"

#include <stddef.h>

#include "guest/kernel/clock.h"
#include "guest/kernel/cpu.h"
#include "guest/kernel/dma.h"
#include "guest/kernel/errno.h"
#include "guest/kernel/heap.h"
#include "guest/kernel/mmio.h"
#include "guest/kernel/virtio_internal.h"

#define CAP_VENDOR 0x09
#define CAP_TYPE   3 /* offsets in the capability */
#define CAP_BAR    4
#define CAP_OFFSET 8
#define CAP_LENGTH 12
#define CAP_MULTI  16 /* of the notifications' */

enum { CFG_COMMON = 1, CFG_NOTIFY = 2, CFG_DEVICE = 4 };

#define CAPS_MAX 48 /* a list of more is a loop */

#define COMMON_SIZE 0x38u
#define RESET_NS    1000000000u

#define FEATURES_OURS (VIRTIO_F_VERSION_1 | VIRTIO_F_ACCESS_PLATFORM)

/* Where a structure lies, mapped, by its capability; NULL when it lies nowhere. */
static volatile uint8_t *map_structure(struct pci_device *d, uint16_t cap, uint32_t *len)
{
    unsigned bar = pci_read(d, cap + CAP_BAR, 1);
    uint64_t offset = pci_read(d, cap + CAP_OFFSET, 4);
    uint8_t *base;

    *len = pci_read(d, cap + CAP_LENGTH, 4);
    if (bar >= 6 || offset > d->bar[bar].size || *len > d->bar[bar].size - offset)
        return NULL;
    base = pci_map(d, bar);
    return base ? base + offset : NULL;
}

/* The first capability of each type counts (4.1.4). */
static int find_structures(struct virtio *v)
{
    struct pci_device *d = v->pci;
    uint16_t at = 0;

    for (unsigned n = 0; n < CAPS_MAX && (at = pci_find_cap(d, CAP_VENDOR, at)) != 0; n++) {
        unsigned type = pci_read(d, at + CAP_TYPE, 1);
        volatile uint8_t *p;
        uint32_t len;

        if (type != CFG_COMMON && type != CFG_NOTIFY && type != CFG_DEVICE)
            continue;
        p = map_structure(d, at, &len);
        if (type == CFG_COMMON && !v->common && len >= COMMON_SIZE)
            v->common = p;
        if (type == CFG_DEVICE && !v->config)
            v->config = p;
        if (type == CFG_NOTIFY && !v->notify) {
            v->notify = p;
            v->notify_len = len;
            v->notify_step = pci_read(d, at + CAP_MULTI, 4);
        }
    }
    return v->common && v->notify ? 0 : -ENODEV;
}

uint8_t virtio_status(const struct virtio *v)
{
    return mmio_read8(v->common + COMMON_STATUS);
}

static void add_status(struct virtio *v, uint8_t bit)
{
    mmio_write8(v->common + COMMON_STATUS, (uint8_t)(virtio_status(v) | bit));
}

bool virtio_reset(struct virtio *v)
{
    uint64_t end = clock_ns() + RESET_NS;

    mmio_write8(v->common + COMMON_STATUS, 0);
    while (virtio_status(v) != 0) {
        if (clock_ns() > end)
            return false;
        cpu_relax();
    }
    return true;
}

static uint64_t offered_features(struct virtio *v)
{
    uint64_t features = 0;

    for (unsigned half = 0; half < 2; half++) {
        mmio_write32(v->common + COMMON_DEVICE_SELECT, half);
        features |= (uint64_t)mmio_read32(v->common + COMMON_DEVICE_FEATURES) << 32 * half;
    }
    return features;
}

static int negotiate(struct virtio *v, uint64_t wanted)
{
    v->features = offered_features(v) & (wanted | FEATURES_OURS);
    if (!(v->features & VIRTIO_F_VERSION_1))
        return -ENODEV;
    for (unsigned half = 0; half < 2; half++) {
        mmio_write32(v->common + COMMON_DRIVER_SELECT, half);
        mmio_write32(v->common + COMMON_DRIVER_FEATURES, (uint32_t)(v->features >> 32 * half));
    }
    add_status(v, STATUS_FEATURES_OK);
    return virtio_status(v) & STATUS_FEATURES_OK ? 0 : -ENODEV;
}

/* --- interrupts -------------------------------------------------------------------- */

static void all_queues(void *arg)
{
    struct virtio *v = arg;

    for (unsigned i = 0; i < v->n_queues; i++)
        virtqueue_interrupt(&v->queue[i]);
}

/* A vector a queue, else one for all. Without MSI-X there are none, and requests poll. */
static int set_interrupts(struct virtio *v)
{
    void (*handler[VIRTIO_QUEUES_MAX])(void *);
    void *arg[VIRTIO_QUEUES_MAX];
    int rc;

    if (!v->pci->msix_cap)
        return 0;
    for (unsigned i = 0; i < v->n_queues; i++) {
        handler[i] = virtqueue_interrupt;
        arg[i] = &v->queue[i];
    }
    rc = pci_interrupts(v->pci, v->n_queues, handler, arg);
    if (rc == -EINVAL) {
        handler[0] = all_queues;
        arg[0] = v;
        rc = pci_interrupts(v->pci, 1, handler, arg);
    }
    return rc;
}

/* --- open -------------------------------------------------------------------------- */

static int set_up(struct virtio *v, uint64_t wanted)
{
    int rc = find_structures(v);

    if (rc)
        return rc;
    if (!virtio_reset(v))
        return -EIO;
    add_status(v, STATUS_ACKNOWLEDGE);
    add_status(v, STATUS_DRIVER);
    rc = negotiate(v, wanted);
    if (!rc && mmio_read16(v->common + COMMON_QUEUES) < v->n_queues)
        rc = -ENODEV;
    if (rc)
        return rc;
    v->translated = v->features & VIRTIO_F_ACCESS_PLATFORM && dma_translated(v->pci);
    pci_bus_master(v->pci, true);
    rc = set_interrupts(v);
    for (unsigned i = 0; i < v->n_queues && !rc; i++)
        rc = virtqueue_open(v, i);
    if (!rc)
        add_status(v, STATUS_DRIVER_OK);
    return rc;
}

/* Nothing is given back while the device may still write to it. */
static void give_up(struct virtio *v)
{
    bool stopped = !v->common;

    if (v->common) {
        add_status(v, STATUS_FAILED);
        stopped = virtio_reset(v);
    }
    pci_bus_master(v->pci, false);
    pci_interrupts_off(v->pci);
    for (unsigned i = 0; i < v->n_queues && stopped; i++)
        virtqueue_close(&v->queue[i]);
    if (stopped)
        kfree(v);
}

struct virtio *virtio_open(struct pci_device *d, uint64_t wanted, unsigned queues, int *error)
{
    struct virtio *v;

    *error = -EINVAL;
    if (queues == 0 || queues > VIRTIO_QUEUES_MAX)
        return NULL;
    v = kzalloc(sizeof(*v));
    *error = -ENOMEM;
    if (!v)
        return NULL;
    v->pci = d;
    v->n_queues = queues;
    *error = set_up(v, wanted);
    if (*error) {
        give_up(v);
        return NULL;
    }
    return v;
}

uint64_t virtio_features(const struct virtio *v)
{
    return v->features;
}

volatile void *virtio_config(struct virtio *v)
{
    return v->config;
}

/* 4.1.4.3.1: what is read between two equal generations belongs together. */
uint64_t virtio_config64(struct virtio *v, unsigned offset)
{
    uint8_t generation;
    uint64_t value;

    do {
        generation = mmio_read8(v->common + COMMON_GENERATION);
        value = mmio_read32(v->config + offset);
        value |= (uint64_t)mmio_read32(v->config + offset + 4) << 32;
    } while (mmio_read8(v->common + COMMON_GENERATION) != generation);
    return value;
}

struct pci_device *virtio_pci(struct virtio *v)
{
    return v->pci;
}
