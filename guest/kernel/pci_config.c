/* Config space: by ports 0xcf8 and 0xcfc, and by ECAM where an offset is beyond their reach. */
#include <stddef.h>

#include "guest/kernel/boot_info.h"
#include "guest/kernel/cpu.h"
#include "guest/kernel/lock.h"
#include "guest/kernel/mmio.h"
#include "guest/kernel/pci_internal.h"

#define PORT_ADDRESS 0xcf8
#define PORT_DATA    0xcfc
#define ENABLE       0x80000000u

#define CONFIG_SIZE 256u  /* what the ports reach */
#define ECAM_SIZE   4096u /* of a function */

#define CAPS_MAX 48 /* a list has no more; a longer one is a loop */

/* PCI Firmware Specification 3.3, 4.1.2 "MCFG Table Description". */
struct mcfg_entry {
    uint64_t base; /* of bus 0, whatever the first bus is */
    uint16_t segment;
    uint8_t first_bus, last_bus;
    uint32_t reserved;
} __attribute__((packed));

#define MCFG_ENTRIES 44

static struct lock port_lock;

/* Caller holds port_lock, or is alone. */
static void select_register(uint16_t bdf, unsigned offset)
{
    outl(PORT_ADDRESS, ENABLE | (uint32_t)bdf << 8 | (offset & 0xfc));
}

static uint32_t port_read(uint16_t bdf, unsigned offset, unsigned size)
{
    uint16_t port = (uint16_t)(PORT_DATA + offset % 4);
    uint32_t v;

    lock_acquire(&port_lock);
    select_register(bdf, offset);
    v = size == 1 ? inb(port) : size == 2 ? inw(port) : inl(port);
    lock_release(&port_lock);
    return v;
}

static void port_write(uint16_t bdf, unsigned offset, unsigned size, uint32_t value)
{
    uint16_t port = (uint16_t)(PORT_DATA + offset % 4);

    lock_acquire(&port_lock);
    select_register(bdf, offset);
    if (size == 1)
        outb(port, (uint8_t)value);
    else if (size == 2)
        outw(port, (uint16_t)value);
    else
        outl(port, value);
    lock_release(&port_lock);
}

/* The function's 4 KiB of ECAM, mapped; NULL when the MCFG has no such bus in segment 0. */
static volatile uint8_t *ecam(uint16_t bdf)
{
    uint32_t length;
    const uint8_t *t = acpi_table("MCFG", &length);
    unsigned bus = bdf >> 8;

    for (uint32_t at = MCFG_ENTRIES; t && at + sizeof(struct mcfg_entry) <= length;
         at += sizeof(struct mcfg_entry)) {
        struct mcfg_entry e;

        __builtin_memcpy(&e, t + at, sizeof(e));
        if (e.segment == 0 && bus >= e.first_bus && bus <= e.last_bus)
            return mmio_map(e.base + (uint64_t)bdf * ECAM_SIZE, ECAM_SIZE);
    }
    return NULL;
}

static bool in_register(unsigned offset, unsigned size, unsigned end)
{
    return (size == 1 || size == 2 || size == 4) && offset % size == 0 && offset < end;
}

uint32_t pci_config_read(uint16_t bdf, unsigned offset, unsigned size)
{
    volatile uint8_t *p;

    if (in_register(offset, size, CONFIG_SIZE))
        return port_read(bdf, offset, size);
    p = in_register(offset, size, ECAM_SIZE) ? ecam(bdf) : NULL;
    if (!p)
        return size >= 4 ? UINT32_MAX : (1u << 8 * size) - 1;
    return size == 1   ? mmio_read8(p + offset)
           : size == 2 ? mmio_read16(p + offset)
                       : mmio_read32(p + offset);
}

void pci_config_write(uint16_t bdf, unsigned offset, unsigned size, uint32_t value)
{
    volatile uint8_t *p;

    if (in_register(offset, size, CONFIG_SIZE)) {
        port_write(bdf, offset, size, value);
        return;
    }
    p = in_register(offset, size, ECAM_SIZE) ? ecam(bdf) : NULL;
    if (!p)
        return;
    if (size == 1)
        mmio_write8(p + offset, (uint8_t)value);
    else if (size == 2)
        mmio_write16(p + offset, (uint16_t)value);
    else
        mmio_write32(p + offset, value);
}

uint32_t pci_read(const struct pci_device *d, unsigned offset, unsigned size)
{
    return pci_config_read(d->bdf, offset, size);
}

void pci_write(const struct pci_device *d, unsigned offset, unsigned size, uint32_t value)
{
    pci_config_write(d->bdf, offset, size, value);
}

uint16_t pci_find_cap(const struct pci_device *d, uint8_t id, uint16_t after)
{
    unsigned at;

    if (after)
        at = pci_read(d, after + 1u, 1);
    else if (pci_read(d, PCI_STATUS, 2) & PCI_STATUS_CAPS)
        at = pci_read(d, PCI_CAPS, 1);
    else
        return 0;
    for (unsigned n = 0; n < CAPS_MAX && (at &= 0xfc) >= 0x40; n++) {
        uint32_t head = pci_read(d, at, 2);

        if ((head & 0xff) == id)
            return (uint16_t)at;
        at = head >> 8;
    }
    return 0;
}
