/* The scan of all buses, and the BARs. Firmware or the monitor has given out buses and addresses.
 */
#include "guest/kernel/pci.h"

#include <stddef.h>

#include "guest/kernel/lock.h"
#include "guest/kernel/mmio.h"
#include "guest/kernel/pci_internal.h"

#define MULTI_FUNCTION 0x80u
#define HEADER_BRIDGE  1
#define CLASS_HOST     0x060000u
#define BUSES          256u

#define BAR_IO    0x1u
#define BAR_64    0x4u
#define BAR_TYPE  0x6u
#define BAR_FLAGS 0xfu

static struct lock scan_lock;
static bool scanned; /* set last, after `devices` */
static struct pci_device devices[PCI_DEVICES_MAX];
static unsigned n_devices;
static uint64_t buses_found[BUSES / 64], buses_seen[BUSES / 64]; /* a bit a bus */

void pci_command(const struct pci_device *d, uint32_t set, uint32_t clear)
{
    uint32_t old = pci_read(d, PCI_COMMAND, 2), new = (old & ~clear) | set;

    if (new != old)
        pci_write(d, PCI_COMMAND, 2, new);
}

/* --- BARs -------------------------------------------------------------------------- */

/* What of a BAR's register can be set; the register is as before afterwards. */
static uint32_t writable_bits(const struct pci_device *d, unsigned n, uint32_t value)
{
    uint32_t bits;

    pci_write(d, PCI_BAR(n), 4, UINT32_MAX);
    bits = pci_read(d, PCI_BAR(n), 4);
    pci_write(d, PCI_BAR(n), 4, value);
    return bits;
}

/* Reads BAR `n`; decoding is off. Returns how many registers it takes. */
static unsigned read_bar(struct pci_device *d, unsigned n, unsigned count)
{
    struct pci_bar *b = &d->bar[n];
    uint32_t low = pci_read(d, PCI_BAR(n), 4), bits = writable_bits(d, n, low);
    bool wide = !(bits & BAR_IO) && (bits & BAR_TYPE) == BAR_64 && n + 1 < count;
    uint64_t mask = bits & (bits & BAR_IO ? ~3u : ~BAR_FLAGS);

    if (bits == 0)
        return 1;
    b->io = bits & BAR_IO;
    b->addr = low & (b->io ? ~3u : ~BAR_FLAGS);
    b->wide = wide;
    if (wide) {
        uint32_t high = pci_read(d, PCI_BAR(n + 1), 4);

        b->addr |= (uint64_t)high << 32;
        mask |= (uint64_t)writable_bits(d, n + 1, high) << 32;
    } else if (mask) {
        /* I/O BARs may have only 16 bits. */
        mask |= b->io ? UINT64_MAX << 16 : UINT64_MAX << 32;
    }
    b->size = mask & -mask;
    return wide ? 2 : 1;
}

/* Sizing moves a BAR for a moment, so nothing may be decoded meanwhile. */
static void read_bars(struct pci_device *d, unsigned count)
{
    uint32_t command = pci_read(d, PCI_COMMAND, 2);

    pci_write(d, PCI_COMMAND, 2, command & ~(PCI_COMMAND_IO | PCI_COMMAND_MEMORY));
    for (unsigned n = 0; n < count;)
        n += read_bar(d, n, count);
    pci_write(d, PCI_COMMAND, 2, command);
}

void *pci_map(struct pci_device *d, unsigned bar)
{
    struct pci_bar *b = bar < 6 ? &d->bar[bar] : NULL;

    if (!b || b->size == 0 || b->io || b->addr == 0)
        return NULL;
    if (!b->map)
        b->map = (void *)mmio_map(b->addr, b->size);
    if (b->map)
        pci_command(d, PCI_COMMAND_MEMORY, 0);
    return b->map;
}

void pci_bus_master(struct pci_device *d, bool on)
{
    pci_command(d, on ? PCI_COMMAND_MASTER : 0, on ? 0 : PCI_COMMAND_MASTER);
}

/* --- scan -------------------------------------------------------------------------- */

static void find_bus(unsigned bus)
{
    buses_found[bus / 64] |= UINT64_C(1) << bus % 64;
}

/* Takes a function that is there into the table. */
static void add_function(uint16_t bdf, uint32_t ids, uint8_t header)
{
    struct pci_device *d;
    uint32_t v;

    if (n_devices == PCI_DEVICES_MAX)
        return;
    d = &devices[n_devices++];
    d->bdf = bdf;
    d->vendor = (uint16_t)ids;
    d->id = (uint16_t)(ids >> 16);
    v = pci_read(d, PCI_CLASS, 4);
    d->class = v >> 8;
    d->revision = (uint8_t)v;
    v = pci_read(d, PCI_IRQ_LINE, 2);
    d->irq_line = (uint8_t)v;
    d->irq_pin = (uint8_t)(v >> 8);
    d->msi_cap = pci_find_cap(d, PCI_CAP_MSI, 0);
    d->msix_cap = pci_find_cap(d, PCI_CAP_MSIX, 0);
    if (d->class != CLASS_HOST)
        read_bars(d, header == HEADER_BRIDGE ? 2 : 6);
    if (header == HEADER_BRIDGE)
        find_bus(pci_read(d, PCI_SECONDARY, 1));
}

static void scan_device(unsigned bus, unsigned device)
{
    unsigned functions = 1;

    for (unsigned f = 0; f < functions; f++) {
        uint16_t bdf = (uint16_t)(bus << 8 | device << 3 | f);
        uint32_t ids = pci_config_read(bdf, PCI_VENDOR, 4);
        uint8_t header;

        if ((ids & 0xffff) == 0xffff || (ids & 0xffff) == 0)
            continue;
        header = (uint8_t)pci_config_read(bdf, PCI_HEADER_TYPE, 1);
        if (f == 0 && header & MULTI_FUNCTION)
            functions = 8;
        add_function(bdf, ids, header & 0x7f);
    }
}

/* One that was found and not scanned yet, which it counts as from now on; BUSES: none is left. */
static unsigned next_bus(void)
{
    for (unsigned i = 0; i < BUSES / 64; i++) {
        uint64_t left = buses_found[i] & ~buses_seen[i];

        if (left) {
            buses_seen[i] |= left & -left;
            return i * 64 + (unsigned)__builtin_ctzl(left);
        }
    }
    return BUSES;
}

/* Each bus once, wherever bridges point to; one that was given no bus points to bus 0. */
static void scan(void)
{
    unsigned bus;

    find_bus(0);
    while ((bus = next_bus()) != BUSES)
        for (unsigned device = 0; device < 32; device++)
            scan_device(bus, device);
}

void pci_init(void)
{
    if (__atomic_load_n(&scanned, __ATOMIC_ACQUIRE))
        return;
    lock_acquire(&scan_lock);
    if (!scanned) {
        scan();
        __atomic_store_n(&scanned, true, __ATOMIC_RELEASE);
    }
    lock_release(&scan_lock);
}

unsigned pci_count(void)
{
    pci_init();
    return n_devices;
}

struct pci_device *pci_get(unsigned index)
{
    pci_init();
    return index < n_devices ? &devices[index] : NULL;
}

struct pci_device *pci_find(uint16_t vendor, uint16_t id, unsigned n)
{
    pci_init();
    for (unsigned i = 0; i < n_devices; i++)
        if (devices[i].vendor == vendor && devices[i].id == id && n-- == 0)
            return &devices[i];
    return NULL;
}
