/*
 * PCI: a real scan of every bus that bridges lead to, BARs, MSI and MSI-X. Drivers ask for devices
 * by id.
 */
#ifndef GUEST_KERNEL_PCI_H
#define GUEST_KERNEL_PCI_H

#include <stdbool.h>
#include <stdint.h>

#define PCI_DEVICES_MAX 32

struct pci_bar {
    uint64_t addr, size; /* size 0: none */
    bool io;
    bool wide; /* 64 bits: takes the next register too */
    void *map; /* kernel address once mapped */
};

struct pci_device {
    uint16_t bdf; /* bus << 8 | device << 3 | function: the requester id */
    uint16_t vendor, id;
    uint32_t class; /* 24 bits */
    uint8_t revision, irq_line, irq_pin;
    struct pci_bar bar[6];
    uint16_t msi_cap, msix_cap;
    uint16_t vectors;          /* interrupts enabled; 0: none */
    uint8_t first_vector;      /* the CPU's, of the first of them */
    bool msix;                 /* they are MSI-X, not MSI */
    volatile void *msix_table; /* once mapped */
    const char *driver;        /* NULL: nobody's */
};

/*
 * Scans, the first time, and prints nothing. The functions below that look for a device call it
 * themselves, so that a start without drivers makes no scan.
 */
void pci_init(void);
unsigned pci_count(void);
struct pci_device *pci_get(unsigned index); /* NULL after the last */

/* The n-th device of this id, or NULL. */
struct pci_device *pci_find(uint16_t vendor, uint16_t id, unsigned n);

/* Config space by mechanism 1, or ECAM beyond 256 bytes; size 1, 2 or 4. */
uint32_t pci_read(const struct pci_device *d, unsigned offset, unsigned size);
void pci_write(const struct pci_device *d, unsigned offset, unsigned size, uint32_t value);
uint16_t pci_find_cap(const struct pci_device *d, uint8_t id, uint16_t after); /* 0: none */

/* Maps a memory BAR, uncached, and enables decoding. NULL when there is none, or no address space
 * for it. Accesses: mmio.h. */
void *pci_map(struct pci_device *d, unsigned bar);
void pci_bus_master(struct pci_device *d, bool on);

/*
 * `vectors` interrupts of the device by MSI-X, else (vectors 1) by MSI: `handler(arg)` runs on the
 * boot CPU with interrupts off, and may take locks that are held with interrupts off only, as all
 * of this kernel's are. A NULL handler is a vector that interrupts nobody. 0; -EBUSY: it has some
 * already; -ENOENT: it has neither MSI-X nor, for one, MSI; -EINVAL: it has fewer than `vectors`;
 * -ENOSPC: no vectors of the CPU are left. A message is a write by the device: pci_bus_master().
 */
int pci_interrupts(struct pci_device *d, unsigned vectors, void (*handler[])(void *arg),
                   void *arg[]);
/* When it returns no handler runs, nor will. Not while holding a lock that a handler takes. */
void pci_interrupts_off(struct pci_device *d);

/* VECTOR_MSI_BASE and up came in; false: nobody's. Called by trap.c. */
bool pci_msi_interrupt(unsigned vector);

#endif
