/*
 * The config space that a guest sees of a passed-through device: what is the device's own and what
 * pci.c emulates. Knows no VFIO: it works on bytes.
 */
#ifndef TWOFOLD_VMM_VFIO_CONFIG_H
#define TWOFOLD_VMM_VFIO_CONFIG_H

#include "vmm/error.h"
#include "vmm/pci.h"
#include "vmm/vfio_group.h"

#define VFIO_CONFIG_BYTES 256 /* with capabilities; extended ones are hidden */

struct vfio_config {
    /* The guest's accesses to these bytes go to the device; the others end in pci_function. */
    bool through[VFIO_CONFIG_BYTES];
};

/* What VFIO says of the device beside its config space. */
struct vfio_facts {
    uint64_t bar[PCI_BARS]; /* size; 0: none */
    bool intx, msi, msix;   /* it can be told where these go */
};

/*
 * Makes the function of the device's own bytes: ids and class; BARs, command, MSI and MSI-X
 * emulated; power management with its state emulated; PCI Express without a link, and
 * vendor-specific capabilities; other capabilities hidden, what lies outside of all of them the
 * device's own. Each capability stays where it is, but for MSI where ours is larger and something
 * else is behind it. `real` has VFIO_CONFIG_BYTES and is trusted for nothing. -EINVAL: not a
 * device's config space, or a bridge; -ENOMEM.
 */
int vfio_config_build(struct vfio_config *c, struct pci_function *f, const uint8_t *real,
                      const struct vfio_facts *facts, struct error *err);

/*
 * The parts of a BAR that a guest may reach without us: whole pages of what VFIO lets map
 * (`mappable`), without those that hold a part of the MSI-X table or its pending bits, which pci.c
 * answers. At most `max` of them, ascending as `mappable` is; how many.
 */
size_t vfio_config_windows(const struct pci_function *f, unsigned bar,
                           const struct vfio_span *mappable, size_t count, struct vfio_span *out,
                           size_t max);

#endif
