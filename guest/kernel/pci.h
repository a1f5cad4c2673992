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
    void *map; /* kernel address once mapped */
};

struct pci_device {
    uint16_t bdf; /* bus << 8 | device << 3 | function: the requester id */
    uint16_t vendor, id;
    uint32_t class; /* 24 bits */
    uint8_t revision, irq_line, irq_pin;
    struct pci_bar bar[6];
    uint16_t msi_cap, msix_cap;
    uint16_t vectors;   /* interrupts enabled; 0: none */
    const char *driver; /* NULL: nobody's */
};

void pci_init(void); /* scans; prints nothing */
unsigned pci_count(void);
struct pci_device *pci_get(unsigned index); /* NULL after the last */

/* The n-th device of this id, or NULL. */
struct pci_device *pci_find(uint16_t vendor, uint16_t id, unsigned n);

/* Config space by mechanism 1, or ECAM beyond 256 bytes; size 1, 2 or 4. */
uint32_t pci_read(const struct pci_device *d, unsigned offset, unsigned size);
void pci_write(const struct pci_device *d, unsigned offset, unsigned size, uint32_t value);
uint16_t pci_find_cap(const struct pci_device *d, uint8_t id, uint16_t after); /* 0: none */

/* Maps a memory BAR, uncached, and enables decoding. NULL when there is none. */
void *pci_map(struct pci_device *d, unsigned bar);
void pci_bus_master(struct pci_device *d, bool on);

/*
 * `vectors` interrupts of the device by MSI-X, else (vectors 1) by MSI: `handler(arg)` runs on the
 * boot CPU with interrupts off. 0 or a negative error number.
 */
int pci_interrupts(struct pci_device *d, unsigned vectors, void (*handler[])(void *arg),
                   void *arg[]);
void pci_interrupts_off(struct pci_device *d);

#endif
