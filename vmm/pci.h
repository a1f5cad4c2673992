/*
 * PCI: a host bridge with bus 0, which holds emulated and passed-through devices alike
 * (docs/devices.md). Config space by ports 0xcf8/0xcfc and by ECAM; BARs, capabilities, MSI, MSI-X
 * and INTx are handled here, so that a device has only its registers.
 *
 * Threads: config and BAR accesses come from vCPU threads, several at a time. pci.c serves one
 * config access at a time, under its lock; BAR handlers run without it and may call pci_notify().
 */
#ifndef TWOFOLD_VMM_PCI_H
#define TWOFOLD_VMM_PCI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/bus.h"
#include "vmm/devices.h"
#include "vmm/error.h"

/* Where devices are (docs/memory-map.md). */
#define PCI_MMIO_BASE UINT64_C(0xc0000000) /* 32-bit BARs, to PCI_ECAM_BASE */
#define PCI_ECAM_BASE UINT64_C(0xe0000000) /* 1 MiB: bus 0 */
#define PCI_ECAM_SIZE UINT64_C(0x00100000)
#define PCI_PIO_BASE  0xc000u /* I/O BARs, to 0xffff */

#define PCI_BARS                    6
#define PCI_ROM                     6 /* the expansion ROM's number among BARs: never decoded here */
#define PCI_CONFIG                  4096u
#define PCI_DEVFN(device, function) (((device) << 3) | (function))

/* A message-signalled interrupt on its way: KVM_SIGNAL_MSI in a VM, a recorder in a unit test. */
struct msi_message {
    uint64_t address;
    uint32_t data;
    uint16_t requester; /* bus << 8 | devfn */
};
struct msi_sink {
    void (*send)(void *ctx, const struct msi_message *message);
    void *ctx;
};

struct pci_bar {
    uint64_t size;           /* a power of two, at least 16 (memory) or 4 (I/O); 0: there is none */
    bool io, wide, prefetch; /* wide: 64 bits, takes the next BAR's place too */
    uint64_t address;        /* as the guest set it; valid while `decoded` */
    bool decoded;
};

/* What a device does. All may be NULL. `dev` is pci_function.dev. */
struct pci_ops {
    uint64_t (*bar_read)(void *dev, unsigned bar, uint64_t offset, unsigned size);
    void (*bar_write)(void *dev, unsigned bar, uint64_t offset, unsigned size, uint64_t value);
    /* A BAR's decoding came, went or moved: see function->bar[bar]. Under the config lock. */
    void (*bar_placed)(void *dev, unsigned bar);
    /* After a config write took effect in `config`; and before a read, to refresh it. Both under
     * the config lock, with an aligned access of 1, 2 or 4 bytes. */
    void (*config_written)(void *dev, unsigned offset, unsigned size);
    void (*config_read)(void *dev, unsigned offset, unsigned size);
    /* MSI or MSI-X: the message, mask or enabling of `vector` changed (UINT_MAX: of all). Under the
     * config lock. */
    void (*vectors_changed)(void *dev, unsigned vector);
};

enum pci_interrupts { PCI_NONE, PCI_INTX, PCI_MSI, PCI_MSIX };

/*
 * One function. A device embeds it, fills what is marked, adds capabilities and BARs, and calls
 * pci_add(). `config` holds the registers as the guest reads them, `writable` the bits that it may
 * change, `clear` those that a 1 clears. Only under the config lock once the VM runs.
 */
struct pci_function {
    const struct pci_ops *ops; /* filled by the device */
    void *dev;                 /* filled by the device */
    const char *name;          /* filled by the device: "virtio-blk" */
    struct pci *pci;
    uint8_t devfn;
    uint8_t config[PCI_CONFIG], writable[PCI_CONFIG], clear[PCI_CONFIG];
    struct pci_bar bar[PCI_BARS];
    struct pci_msix *msix;                /* NULL: none */
    unsigned msi_cap, msix_cap, next_cap; /* offsets in config */
    bool intx;                            /* the line's level as the device wants it */
    bool asserted;                        /* and as it is, after what the guest enabled */
    uint64_t raised[4];                   /* interrupts sent, by enum pci_interrupts */
    bool by_irqfd;                        /* KVM takes others, which `raised` has not */
};

struct pci;

/*
 * The host bridge, on both buses. `intx` drives GSI intx.gsi + n for lines 0..3 (docs/devices.md);
 * 64-bit BARs may lie in the wide window too (wide_size 0: there is none).
 */
int pci_create(struct pci **out, struct bus *bus, struct irq_line intx, struct msi_sink msi,
               uint64_t wide_base, uint64_t wide_size, struct error *err);
void pci_destroy(struct pci *pci); /* touches no function: devices may be gone */

/* Fills the header: ids, class (24 bits: base, sub, interface), command and status. */
void pci_header(struct pci_function *f, uint16_t vendor, uint16_t device, uint32_t class,
                uint8_t revision, uint16_t subvendor, uint16_t subsystem);
void pci_add_bar(struct pci_function *f, unsigned bar, uint64_t size, bool io, bool wide,
                 bool prefetch);

/* Reserves `size` bytes for a capability (size includes the two of its head); its offset. Express
 * ones come after 0x100 and are the caller's own. 0: no room. */
unsigned pci_add_cap(struct pci_function *f, uint8_t id, unsigned size);
int pci_add_msi(struct pci_function *f); /* one vector, 64 bits, maskable; -ENOSPC */
/* The table and the pending bits at these offsets (multiples of 8) of a memory BAR, which the
 * device's own handlers then don't see. -EINVAL, -ENOSPC, -ENOMEM; pci_remove() frees it. */
int pci_add_msix(struct pci_function *f, unsigned vectors, unsigned bar, uint64_t table,
                 uint64_t pending);
void pci_use_intx(struct pci_function *f); /* INTA for function 0, and so on */

/*
 * Puts the function on the bus. devfn < 0: the next free device number. BARs get addresses, as
 * firmware would give them; decoding stays off until the guest asks. `f` stays the device's.
 */
int pci_add(struct pci *pci, struct pci_function *f, int devfn, struct error *err);

/*
 * Takes the function off its bus (it may be on none) and frees what belongs to it here, the MSI-X
 * table; a device calls it in its destroy. No access to the function may be under way.
 */
void pci_remove(struct pci_function *f);

/* Which kind of interrupt the guest has enabled. Any thread; takes no lock. */
enum pci_interrupts pci_interrupt_kind(const struct pci_function *f);

/* Raises `vector` by MSI-X or MSI, or asserts INTx; true when something was sent. A masked vector
 * becomes pending, and one of a function that is no bus master. MSI has one vector, INTx none: any
 * number is that one. Any thread; takes the config lock, which is recursive. */
bool pci_notify(struct pci_function *f, unsigned vector);
void pci_intx_set(struct pci_function *f, bool level);

/* The message of `vector`, for irqfd routes. False when it is masked or not enabled. */
bool pci_message(struct pci_function *f, unsigned vector, struct msi_message *out);

/* True while the guest lets the device be a bus master: no DMA without. Any thread; no lock. */
bool pci_bus_master(const struct pci_function *f);

/* The n-th function in the order of device numbers, from the bridge on, or NULL. Before the VM
 * runs, or on the I/O thread; what the guest changes in it is not to be read so: pci_stat_read().
 */
const struct pci_function *pci_at(const struct pci *pci, size_t n);

/* A function as it is at one moment. */
struct pci_stat {
    const char *name;
    uint8_t devfn;
    uint16_t vendor, device;
    uint32_t class;
    struct pci_bar bar[PCI_BARS]; /* address: what the guest set, decoded or not */
    enum pci_interrupts kind;
    bool bus_master;
    uint64_t sent[4]; /* by enum pci_interrupts */
    bool by_irqfd;    /* of a passed-through device: others were not seen */
};

/* False when there is no n-th function. On the I/O thread. */
bool pci_stat_read(struct pci *pci, size_t n, struct pci_stat *out);

#endif
