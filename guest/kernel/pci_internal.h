/*
 * What the parts of PCI know of each other: config registers by number ("PCI Local Bus
 * Specification" 3.0, 6.1 and 6.8), and the lock over a device's record.
 */
#ifndef GUEST_KERNEL_PCI_INTERNAL_H
#define GUEST_KERNEL_PCI_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/kernel/lock.h"
#include "guest/kernel/pci.h"

#define PCI_VENDOR      0x00
#define PCI_COMMAND     0x04
#define PCI_STATUS      0x06
#define PCI_CLASS       0x08 /* revision in the low byte */
#define PCI_HEADER_TYPE 0x0e
#define PCI_BAR(n)      (0x10u + 4 * (n))
#define PCI_SECONDARY   0x19 /* a bridge's */
#define PCI_CAPS        0x34
#define PCI_IRQ_LINE    0x3c

#define PCI_COMMAND_IO     0x1u
#define PCI_COMMAND_MEMORY 0x2u
#define PCI_COMMAND_MASTER 0x4u
#define PCI_COMMAND_NO_INT 0x400u /* INTx off */
#define PCI_STATUS_CAPS    0x10u

#define PCI_CAP_MSI  0x05
#define PCI_CAP_MSIX 0x11

/* By requester id; for a device of which there is no record yet. */
uint32_t pci_config_read(uint16_t bdf, unsigned offset, unsigned size);
void pci_config_write(uint16_t bdf, unsigned offset, unsigned size, uint32_t value);

/* How many interrupts it can give, and (unless NULL) by MSI-X or else by MSI. */
unsigned pci_interrupts_offered(const struct pci_device *d, bool *msix);

/* Sets and clears bits of the command register. */
void pci_command(const struct pci_device *d, uint32_t set, uint32_t clear);

#endif
