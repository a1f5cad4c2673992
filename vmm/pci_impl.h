/*
 * The inside of the PCI bus, shared by pci.c and pci_*.c. Everybody else uses
 * vmm/pci.h.
 *
 * Two locks. `lock` is the config lock: config space, MSI and MSI-X state, INTx lines; recursive,
 * since a device's callback, called under it, may ask or notify. `placed` guards the list of
 * decoded BARs alone and is held for the look-up, never while a device is called.
 */
#ifndef TWOFOLD_VMM_PCI_IMPL_H
#define TWOFOLD_VMM_PCI_IMPL_H

#include <pthread.h>

#include "vmm/pci.h"

/* "PCI Local Bus Specification 3.0", 6.1 Configuration Space Organization. */
#define PCI_CFG_VENDOR    0x00
#define PCI_CFG_DEVICE    0x02
#define PCI_CFG_COMMAND   0x04
#define PCI_CFG_STATUS    0x06
#define PCI_CFG_REVISION  0x08
#define PCI_CFG_CLASS     0x09
#define PCI_CFG_CACHELINE 0x0c
#define PCI_CFG_LATENCY   0x0d
#define PCI_CFG_HEADER    0x0e
#define PCI_CFG_BAR       0x10
#define PCI_CFG_SUBVENDOR 0x2c
#define PCI_CFG_SUBSYSTEM 0x2e
#define PCI_CFG_CAPS      0x34
#define PCI_CFG_LINE      0x3c
#define PCI_CFG_PIN       0x3d
#define PCI_CFG_FIRST_CAP 0x40
#define PCI_CFG_LEGACY    0x100 /* capabilities end here */

#define PCI_CMD_IO       0x0001u
#define PCI_CMD_MEMORY   0x0002u
#define PCI_CMD_MASTER   0x0004u
#define PCI_CMD_PARITY   0x0040u
#define PCI_CMD_SERR     0x0100u
#define PCI_CMD_NO_INTX  0x0400u
#define PCI_STATUS_INTX  0x0008u
#define PCI_STATUS_CAPS  0x0010u
#define PCI_STATUS_CLEAR 0xf900u /* errors, cleared by a 1 */
#define PCI_MULTI        0x80u   /* header type: the device has several functions */

#define PCI_FUNCTIONS 256
#define PCI_LINES     4

enum pci_window_kind { PCI_WINDOW_IO, PCI_WINDOW_LOW, PCI_WINDOW_WIDE, PCI_WINDOWS };

/* A part of an address space that BARs may lie in. */
struct pci_window {
    struct pci *pci;
    uint64_t base, end; /* equal: there is none */
    uint64_t next;      /* where the next BAR of pci_add() may start */
    bool io;
};

/* A BAR that is decoded now. */
struct pci_placed {
    struct pci_function *f;
    uint64_t base, last;
    unsigned bar;
    bool io;
};

/* 6.8.2.3 Message Control for MSI-X; 6.8.2.9 Vector Control. */
#define PCI_MSIX_CONTROL  2
#define PCI_MSIX_ENABLE   0x8000u
#define PCI_MSIX_MASK     0x4000u /* function mask */
#define PCI_MSIX_ENTRY    16u
#define PCI_ENTRY_DATA    8
#define PCI_ENTRY_CONTROL 12
#define PCI_ENTRY_MASKED  0x01

struct pci_msix {
    unsigned vectors, bar;
    uint64_t table, pending; /* offsets in the BAR */
    uint8_t *entry;          /* 16 bytes a vector, as the guest reads them */
    uint8_t *bit;            /* pending bits, padded to 8 bytes */
};

struct pci {
    pthread_mutex_t lock;
    pthread_rwlock_t placed_lock;
    struct irq_line intx;
    struct msi_sink msi;
    uint32_t address; /* CONFIG_ADDRESS, atomic */
    struct pci_window window[PCI_WINDOWS];
    struct pci_function *function[PCI_FUNCTIONS]; /* by devfn */
    unsigned line[PCI_LINES];                     /* how many functions assert it */
    struct pci_placed *placed;                    /* by devfn and BAR */
    size_t placed_count, placed_max;
    struct pci_function bridge;
};

/* --- pci_config.c --- */

/* Little-endian fields of config space, 1 to 4 bytes. */
uint32_t pci_get(const struct pci_function *f, unsigned offset, unsigned bytes);
void pci_put(struct pci_function *f, unsigned offset, unsigned bytes, uint32_t value);

/* One access by the guest, any size up to 8 and any alignment; what lies beyond config space reads
 * as ones. Take the config lock. */
uint64_t pci_config_access_read(struct pci *pci, unsigned devfn, unsigned offset, unsigned size);
void pci_config_access_write(struct pci *pci, unsigned devfn, unsigned offset, unsigned size,
                             uint64_t value);

/* --- pci_bar.c --- */

/* What a window of the bus does with an access; its device is struct pci_window. */
extern const struct bus_ops pci_window_ops;

/* What the BAR's register says. */
uint64_t pci_bar_address(const struct pci_function *f, unsigned bar);

/* Sizes and kinds that can be; -EINVAL. */
int pci_bars_check(const struct pci_function *f, struct error *err);

/* Gives each BAR an address, and the look-up's list room for them. -ENOSPC, -ENOMEM. */
int pci_give_addresses(struct pci *pci, struct pci_function *f, struct error *err);

/* Takes the function's BARs off the look-up's list. Under the config lock. */
void pci_unplace(const struct pci_function *f);

/* The command or a BAR was written: which BARs are decoded, and where. Under the config lock. */
void pci_place(struct pci_function *f);

/* --- pci_msi.c --- */

/* A config write changed [offset, offset + size) from `old` (the dword that holds it). Under the
 * config lock. */
void pci_interrupts_written(struct pci_function *f, unsigned offset, uint32_t old);

/* INTx, by what the device wants and the guest allows. Under the config lock. */
void pci_intx_update(struct pci_function *f);

/* A message of the table changed: sends what waited for it, tells the device. Under the config
 * lock. */
void pci_vector_written(struct pci_function *f, unsigned vector);

/* --- pci_msix.c --- */

uint64_t pci_msix_pending_bytes(const struct pci_msix *m);

/* True when the access is to the MSI-X table or the pending bits; it is then done. */
bool pci_msix_read(struct pci_function *f, unsigned bar, uint64_t offset, unsigned size,
                   uint64_t *value);
bool pci_msix_write(struct pci_function *f, unsigned bar, uint64_t offset, unsigned size,
                    uint64_t value);

/* The table and the pending bits lie in a memory BAR, apart from each other. */
int pci_msix_check(const struct pci_function *f, struct error *err);

#endif
