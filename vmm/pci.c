/*
 * The host bridge: config accesses by ports and by ECAM, and which functions are on the bus.
 */
#include "vmm/pci_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* "PCI Local Bus Specification 3.0", 3.2.2.3.2 Software Generation of Configuration
 * Transactions. */
#define ADDRESS_PORT   0xcf8
#define DATA_PORT      0xcfc
#define ADDRESS_ENABLE 0x80000000u
#define ADDRESS_BITS   0x80fffffcu /* others read as zeros */

#define BRIDGE_VENDOR                                                          \
    0x1b36 /* what QEMU's generic PCIe host bridge says: no kernel has a quirk \
            */
#define BRIDGE_DEVICE 0x0008
#define BRIDGE_CLASS  0x060000

/* --- config space, by ports and by ECAM --------------------------------------------------- */

static uint64_t address_read(void *dev, uint64_t offset, unsigned size)
{
    const struct pci *pci = dev;

    (void)offset;
    (void)size;
    return __atomic_load_n(&pci->address, __ATOMIC_RELAXED);
}

static void address_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct pci *pci = dev;

    (void)offset;
    (void)size;
    __atomic_store_n(&pci->address, (uint32_t)value & ADDRESS_BITS, __ATOMIC_RELAXED);
}

/* Takes the address apart; false when it names no function of bus 0. */
static bool data_target(const struct pci *pci, unsigned *devfn, unsigned *offset)
{
    uint32_t address = __atomic_load_n(&pci->address, __ATOMIC_RELAXED);

    *devfn = address >> 8 & 0xff;
    *offset = address & 0xfc;
    return address & ADDRESS_ENABLE && !(address >> 16 & 0xff);
}

static uint64_t data_read(void *dev, uint64_t port, unsigned size)
{
    struct pci *pci = dev;
    unsigned devfn, offset;

    if (!data_target(pci, &devfn, &offset))
        return UINT64_MAX;
    return pci_config_access_read(pci, devfn, offset + (unsigned)port, size);
}

static void data_write(void *dev, uint64_t port, unsigned size, uint64_t value)
{
    struct pci *pci = dev;
    unsigned devfn, offset;

    if (data_target(pci, &devfn, &offset))
        pci_config_access_write(pci, devfn, offset + (unsigned)port, size, value);
}

/* "PCI Express Base Specification", 7.2.2 PCI Express Enhanced Configuration Access Mechanism. */
static uint64_t ecam_read(void *dev, uint64_t offset, unsigned size)
{
    return pci_config_access_read(dev, (unsigned)(offset / PCI_CONFIG),
                                  (unsigned)(offset % PCI_CONFIG), size);
}

static void ecam_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    pci_config_access_write(dev, (unsigned)(offset / PCI_CONFIG), (unsigned)(offset % PCI_CONFIG),
                            size, value);
}

static const struct bus_ops address_ops = { .read = address_read, .write = address_write };
static const struct bus_ops data_ops = { .read = data_read, .write = data_write };
static const struct bus_ops ecam_ops = { .read = ecam_read, .write = ecam_write };

/* --- functions ---------------------------------------------------------------------------------
 */

static int find_place(const struct pci *pci, const char *name, int devfn, struct error *err)
{
    if (devfn >= PCI_FUNCTIONS)
        return error_set(err, -EINVAL, "PCI device %s: bus 0 has no function number %d", name,
                         devfn);
    if (devfn >= 0)
        return !pci->function[devfn]
                   ? devfn
                   : error_set(err, -EEXIST, "PCI device %s: 00:%02x.%x is taken by %s", name,
                               (unsigned)devfn >> 3, (unsigned)devfn & 7,
                               pci->function[devfn]->name);
    for (int first = 0; first < PCI_FUNCTIONS; first += 8) {
        bool used = false;

        for (int i = 0; i < 8; i++)
            used = used || pci->function[first + i];
        if (!used)
            return first;
    }
    return error_set(err, -ENOSPC, "PCI device %s: all 32 devices of bus 0 are taken", name);
}

/* A device with more than its function 0 says so in all of them. */
static void mark_functions(struct pci *pci, unsigned device)
{
    unsigned count = 0;

    for (unsigned i = 0; i < 8; i++)
        count += pci->function[PCI_DEVFN(device, i)] != NULL;
    for (unsigned i = 0; i < 8; i++) {
        struct pci_function *f = pci->function[PCI_DEVFN(device, i)];
        uint32_t header = f ? pci_get(f, PCI_CFG_HEADER, 1) & ~PCI_MULTI : 0;

        if (f)
            pci_put(f, PCI_CFG_HEADER, 1, header | (count > 1 ? PCI_MULTI : 0));
    }
}

/* Under the config lock. */
static int add_at(struct pci *pci, struct pci_function *f, unsigned devfn, struct error *err)
{
    int rc = pci_give_addresses(pci, f, err);

    if (rc < 0)
        return rc;
    f->pci = pci;
    f->devfn = (uint8_t)devfn;
    pci->function[devfn] = f;
    mark_functions(pci, devfn >> 3);
    if (pci_get(f, PCI_CFG_PIN, 1)) {
        unsigned pin = devfn % PCI_LINES;

        pci_put(f, PCI_CFG_PIN, 1, pin + 1);
        pci_put(f, PCI_CFG_LINE, 1, pci->intx.gsi + ((devfn >> 3) + pin) % PCI_LINES);
    }
    pci_place(f);
    return 0;
}

int pci_add(struct pci *pci, struct pci_function *f, int devfn, struct error *err)
{
    int rc = pci_bars_check(f, err);

    if (rc == 0)
        rc = pci_msix_check(f, err);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&pci->lock);
    rc = find_place(pci, f->name, devfn, err);
    if (rc >= 0)
        rc = add_at(pci, f, (unsigned)rc, err);
    pthread_mutex_unlock(&pci->lock);
    return rc;
}

void pci_remove(struct pci_function *f)
{
    struct pci *pci = f->pci;

    if (pci) {
        pthread_mutex_lock(&pci->lock);
        pci_intx_set(f, false);
        pci->function[f->devfn] = NULL;
        mark_functions(pci, f->devfn >> 3);
        pci_unplace(f);
        pthread_mutex_unlock(&pci->lock);
    }
    free(f->msix);
    f->msix = NULL;
    f->pci = NULL;
}

const struct pci_function *pci_at(const struct pci *pci, size_t n)
{
    for (unsigned devfn = 0; devfn < PCI_FUNCTIONS; devfn++)
        if (pci->function[devfn] && n-- == 0)
            return pci->function[devfn];
    return NULL;
}

bool pci_stat_read(struct pci *pci, size_t n, struct pci_stat *out)
{
    const struct pci_function *f;

    pthread_mutex_lock(&pci->lock);
    f = pci_at(pci, n);
    if (f) {
        *out = (struct pci_stat){
            .name = f->name,
            .devfn = f->devfn,
            .vendor = (uint16_t)pci_get(f, PCI_CFG_VENDOR, 2),
            .device = (uint16_t)pci_get(f, PCI_CFG_DEVICE, 2),
            .class = pci_get(f, PCI_CFG_CLASS, 3),
            .kind = pci_interrupt_kind(f),
            .bus_master = pci_bus_master(f),
            .by_irqfd = f->by_irqfd,
        };
        memcpy(out->sent, f->raised, sizeof(out->sent));
        memcpy(out->bar, f->bar, sizeof(out->bar));
        for (unsigned i = 0; i < PCI_BARS; i++)
            if (out->bar[i].size)
                out->bar[i].address = pci_bar_address(f, i);
    }
    pthread_mutex_unlock(&pci->lock);
    return f;
}

/* --- life ----------------------------------------------------------------------------------------
 */

static void set_window(struct pci *pci, enum pci_window_kind kind, uint64_t base, uint64_t size)
{
    pci->window[kind] = (struct pci_window){
        .pci = pci, .base = base, .end = base + size, .next = base, .io = kind == PCI_WINDOW_IO
    };
}

static int claim(struct pci *pci, struct bus *bus, struct error *err)
{
    int rc = bus_add_exact(bus, BUS_PIO, ADDRESS_PORT, 4, &address_ops, pci, "pci address", err);

    if (rc == 0)
        rc = bus_add(bus, BUS_PIO, DATA_PORT, 4, &data_ops, pci, "pci data", err);
    if (rc == 0)
        rc =
            bus_add(bus, BUS_MMIO, PCI_ECAM_BASE, PCI_ECAM_SIZE, &ecam_ops, pci, "pci config", err);
    for (int i = 0; i < PCI_WINDOWS && rc == 0; i++) {
        struct pci_window *w = &pci->window[i];

        if (w->end > w->base)
            rc = bus_add(bus, w->io ? BUS_PIO : BUS_MMIO, w->base, w->end - w->base,
                         &pci_window_ops, w, "pci", err);
    }
    return rc;
}

static void locks_init(struct pci *pci)
{
    pthread_mutexattr_t attr;

    (void)pthread_mutexattr_init(&attr);
    (void)pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
    (void)pthread_mutex_init(&pci->lock, &attr);
    (void)pthread_mutexattr_destroy(&attr);
    (void)pthread_rwlock_init(&pci->placed_lock, NULL);
}

int pci_create(struct pci **out, struct bus *bus, struct irq_line intx, struct msi_sink msi,
               uint64_t wide_base, uint64_t wide_size, struct error *err)
{
    struct pci *pci = calloc(1, sizeof(*pci));
    int rc;

    *out = NULL;
    if (!pci)
        return error_set(err, -ENOMEM, "no memory for the PCI bus");
    locks_init(pci);
    pci->intx = intx;
    pci->msi = msi;
    set_window(pci, PCI_WINDOW_IO, PCI_PIO_BASE, 0x10000 - PCI_PIO_BASE);
    set_window(pci, PCI_WINDOW_LOW, PCI_MMIO_BASE, PCI_ECAM_BASE - PCI_MMIO_BASE);
    set_window(pci, PCI_WINDOW_WIDE, wide_base, wide_size);
    pci->bridge.name = "host bridge";
    pci_header(&pci->bridge, BRIDGE_VENDOR, BRIDGE_DEVICE, BRIDGE_CLASS, 0, 0, 0);
    rc = pci_add(pci, &pci->bridge, PCI_DEVFN(0, 0), err);
    if (rc == 0)
        rc = claim(pci, bus, err);
    if (rc < 0) {
        pci_destroy(pci);
        return rc;
    }
    *out = pci;
    return 0;
}

void pci_destroy(struct pci *pci)
{
    if (!pci)
        return;
    (void)pthread_rwlock_destroy(&pci->placed_lock);
    (void)pthread_mutex_destroy(&pci->lock);
    free(pci->placed);
    free(pci);
}
