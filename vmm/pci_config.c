/*
 * The registers of a function: what a guest reads, and what its writes change.
 */
#include "vmm/pci_impl.h"

#include <string.h>

#define BAR_IO       0x1u
#define BAR_64       0x4u
#define BAR_PREFETCH 0x8u

uint32_t pci_get(const struct pci_function *f, unsigned offset, unsigned bytes)
{
    uint32_t value = 0;

    for (unsigned i = 0; i < bytes; i++)
        value |= (uint32_t)__atomic_load_n(&f->config[offset + i], __ATOMIC_RELAXED) << (8 * i);
    return value;
}

void pci_put(struct pci_function *f, unsigned offset, unsigned bytes, uint32_t value)
{
    for (unsigned i = 0; i < bytes; i++)
        __atomic_store_n(&f->config[offset + i], (uint8_t)(value >> (8 * i)), __ATOMIC_RELAXED);
}

static void put_mask(uint8_t *mask, unsigned offset, unsigned bytes, uint32_t value)
{
    for (unsigned i = 0; i < bytes; i++)
        mask[offset + i] = (uint8_t)(value >> (8 * i));
}

/* --- what a device is made of --------------------------------------------------------- */

void pci_header(struct pci_function *f, uint16_t vendor, uint16_t device, uint32_t class,
                uint8_t revision, uint16_t subvendor, uint16_t subsystem)
{
    pci_put(f, PCI_CFG_VENDOR, 2, vendor);
    pci_put(f, PCI_CFG_DEVICE, 2, device);
    pci_put(f, PCI_CFG_REVISION, 1, revision);
    pci_put(f, PCI_CFG_CLASS, 3, class);
    pci_put(f, PCI_CFG_SUBVENDOR, 2, subvendor);
    pci_put(f, PCI_CFG_SUBSYSTEM, 2, subsystem);
    put_mask(f->writable, PCI_CFG_COMMAND, 2,
             PCI_CMD_IO | PCI_CMD_MEMORY | PCI_CMD_MASTER | PCI_CMD_PARITY | PCI_CMD_SERR |
                 PCI_CMD_NO_INTX);
    put_mask(f->clear, PCI_CFG_STATUS, 2, PCI_STATUS_CLEAR);
    put_mask(f->writable, PCI_CFG_CACHELINE, 1, 0xff);
    put_mask(f->writable, PCI_CFG_LATENCY, 1, 0xff);
    put_mask(f->writable, PCI_CFG_LINE, 1, 0xff);
}

void pci_add_bar(struct pci_function *f, unsigned bar, uint64_t size, bool io, bool wide,
                 bool prefetch)
{
    unsigned at = PCI_CFG_BAR + 4 * bar;
    uint32_t flags = io ? BAR_IO : (wide ? BAR_64 : 0) | (prefetch ? BAR_PREFETCH : 0);

    f->bar[bar] = (struct pci_bar){ .size = size, .io = io, .wide = wide, .prefetch = prefetch };
    pci_put(f, at, 4, flags);
    put_mask(f->writable, at, 4, (uint32_t) ~(size - 1));
    if (wide)
        put_mask(f->writable, at + 4, 4, (uint32_t)(~(size - 1) >> 32));
}

unsigned pci_add_cap(struct pci_function *f, uint8_t id, unsigned size)
{
    unsigned at = f->next_cap ? f->next_cap : PCI_CFG_FIRST_CAP;

    if (size < 2 || size > PCI_CFG_LEGACY - at)
        return 0;
    f->next_cap = (at + size + 3) & ~3u;
    pci_put(f, at, 1, id);
    pci_put(f, at + 1, 1, pci_get(f, PCI_CFG_CAPS, 1));
    pci_put(f, PCI_CFG_CAPS, 1, at);
    pci_put(f, PCI_CFG_STATUS, 2, pci_get(f, PCI_CFG_STATUS, 2) | PCI_STATUS_CAPS);
    return at;
}

/* --- accesses ------------------------------------------------------------------------- */

/* The largest aligned piece, up to a dword, at the start of [offset, offset + size). */
static unsigned piece(unsigned offset, unsigned size)
{
    unsigned bytes = 4;

    while (bytes > size || offset % bytes != 0)
        bytes /= 2;
    return bytes;
}

static void write_piece(struct pci_function *f, unsigned offset, unsigned bytes, uint32_t value)
{
    unsigned dword = offset & ~3u;
    uint32_t old = pci_get(f, dword, 4);

    for (unsigned i = 0; i < bytes; i++) {
        unsigned at = offset + i;
        uint8_t wanted = (uint8_t)(value >> (8 * i)), writable = f->writable[at];
        uint8_t byte = (uint8_t)((f->config[at] & ~writable) | (wanted & writable));

        pci_put(f, at, 1, byte & ~(uint32_t)(f->clear[at] & wanted));
    }
    if (dword == PCI_CFG_COMMAND || (dword >= PCI_CFG_BAR && dword < PCI_CFG_BAR + 4 * PCI_BARS))
        pci_place(f);
    pci_interrupts_written(f, dword, old);
    if (f->ops && f->ops->config_written)
        f->ops->config_written(f->dev, offset, bytes);
}

static uint32_t read_piece(struct pci_function *f, unsigned offset, unsigned bytes)
{
    if (f->ops && f->ops->config_read)
        f->ops->config_read(f->dev, offset, bytes);
    return pci_get(f, offset, bytes);
}

uint64_t pci_config_access_read(struct pci *pci, unsigned devfn, unsigned offset, unsigned size)
{
    uint64_t value = UINT64_MAX;
    struct pci_function *f;
    unsigned bytes;

    pthread_mutex_lock(&pci->lock);
    f = pci->function[devfn];
    for (unsigned i = 0; f && i < size && offset + i < PCI_CONFIG; i += bytes) {
        uint32_t got;

        bytes = piece(offset + i, size - i);
        got = read_piece(f, offset + i, bytes);
        memcpy((uint8_t *)&value + i, &got, bytes); /* little-endian, both */
    }
    pthread_mutex_unlock(&pci->lock);
    return value;
}

void pci_config_access_write(struct pci *pci, unsigned devfn, unsigned offset, unsigned size,
                             uint64_t value)
{
    struct pci_function *f;
    unsigned bytes;

    pthread_mutex_lock(&pci->lock);
    f = pci->function[devfn];
    for (unsigned i = 0; f && i < size && offset + i < PCI_CONFIG; i += bytes) {
        bytes = piece(offset + i, size - i);
        write_piece(f, offset + i, bytes, (uint32_t)(value >> (8 * i)));
    }
    pthread_mutex_unlock(&pci->lock);
}
