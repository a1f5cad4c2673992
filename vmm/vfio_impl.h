/*
 * The inside of passed-through devices, shared by vfio.c, vfio_device.c, vfio_bar.c and vfio_irq.c.
 * Everybody else uses vmm/vfio.h.
 */
#ifndef TWOFOLD_VMM_VFIO_IMPL_H
#define TWOFOLD_VMM_VFIO_IMPL_H

#include "vmm/irq_routes.h"
#include "vmm/vfio.h"
#include "vmm/vfio_config.h"
#include "vmm/vfio_group.h"

#define VFIO_WINDOWS_MAX 8   /* of one BAR */
#define VFIO_SLOT_FIRST  200 /* KVM memory slots of ours: from here on */

struct vfio {
    struct vfio_host host;
    struct irq_routes *routes;
    int kvm_device; /* KVM_DEV_TYPE_VFIO; -1: this KVM has none */
    struct vfio_container container[DEVICES_MAX];
    struct vfio_group group[DEVICES_MAX];
    size_t containers, groups;
    unsigned next_slot;
    struct vfio_device *device[DEVICES_MAX]; /* in the order they were made */
    size_t devices;
};

/* A part of a BAR that the guest reaches without us. */
struct vfio_window {
    uint64_t offset, size; /* in the BAR */
    void *host;
    unsigned slot;
    uint64_t gpa; /* where it is placed; valid while `placed` */
    bool placed;
};

struct vfio_bar {
    uint64_t region; /* offset on the device's descriptor */
    struct vfio_window window[VFIO_WINDOWS_MAX];
    size_t windows;
};

/* A vector of MSI or MSI-X: VFIO writes the eventfd, and either KVM takes it (`wired`) or the I/O
 * loop (`watched`): while the guest masks it. */
struct vfio_vector {
    struct vfio_device *dev;
    unsigned number;
    int fd; /* -1: not made yet */
    unsigned gsi;
    bool wired, watched;
};

struct vfio_device {
    struct vfio *vfio;
    struct vfio_group *group;
    struct vfio_bdf bdf;
    char name[24]; /* in `stat` */
    int fd;
    bool resets;     /* VFIO_DEVICE_RESET is there */
    bool hot_resets; /* VFIO_DEVICE_PCI_HOT_RESET is, and concerns nobody else */
    unsigned irqs;
    uint64_t config_region; /* offset on fd */
    struct vfio_config config;
    struct vfio_bar bar[PCI_BARS];
    struct pci_function f;

    /* vfio_irq.c */
    enum pci_interrupts armed; /* what VFIO is told to tell us */
    unsigned armed_vectors;
    unsigned refused; /* so many vectors there were not; 0: not known */
    struct vfio_vector *vector;
    unsigned vectors;
    int intx_fd, unmask_fd;
    unsigned intx_gsi;  /* as pci_add() wired the pin; the guest may write what it likes there */
    bool complained[4]; /* of a kind of interrupts (enum pci_interrupts); once is enough */
};

/* --- vfio.c --- */

/* The device is about to go: the last one that was made. */
void vfio_forget(struct vfio *v, const struct vfio_device *dev);

/* --- vfio_device.c --- */

/* Opens, resets and adds a device of an open group. Nothing is left behind on failure. */
int vfio_device_create(struct vfio_device **out, struct vfio *v, struct vfio_group *g,
                       const struct vfio_bdf *bdf, int devfn, struct error *err);
/* All groups are there: resets what only a hot reset can, or warns. */
void vfio_device_ready(struct vfio_device *dev);

/* --- vfio_bar.c --- */

/* Reads what VFIO says of the BARs: sizes into `size`. */
int vfio_bars_read(struct vfio_device *dev, uint64_t size[PCI_BARS], struct error *err);
/* Maps what may be mapped, once the function is built. What can't be mapped goes by the monitor. */
void vfio_bars_map(struct vfio_device *dev);
void vfio_bars_unmap(struct vfio_device *dev);
/* Memory slots where the guest placed the BARs; pci_ops.bar_placed. */
void vfio_bar_placed(void *dev, unsigned bar);
uint64_t vfio_bar_read(void *dev, unsigned bar, uint64_t offset, unsigned size);
void vfio_bar_write(void *dev, unsigned bar, uint64_t offset, unsigned size, uint64_t value);

/* --- vfio_irq.c --- */

/* What kinds VFIO can tell of. */
void vfio_irq_facts(struct vfio_device *dev, struct vfio_facts *facts);
/* Room for the function's vectors. */
int vfio_irq_create(struct vfio_device *dev, struct error *err);
/* Follows what the guest enabled, masked or wrote; pci_ops.vectors_changed. */
void vfio_irq_follow(void *dev, unsigned vector);
void vfio_irq_destroy(struct vfio_device *dev);

#endif
