/*
 * MSI-X: the capability, and the table and pending bits in a BAR ("PCI Local Bus Specification
 * 3.0", 6.8.2 MSI-X Capability and Table Structures).
 */
#include "vmm/pci_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>

#define CAP_MSIX         0x11
#define MSIX_BYTES       12
#define MSIX_TABLE       4
#define MSIX_PENDING     8
#define MSIX_VECTORS_MAX 2048

int pci_add_msix(struct pci_function *f, unsigned vectors, unsigned bar, uint64_t table,
                 uint64_t pending)
{
    size_t bits = ((size_t)vectors + 63) / 64 * 8;
    struct pci_msix *m;
    unsigned cap;

    if (vectors < 1 || vectors > MSIX_VECTORS_MAX || bar >= PCI_BARS || (table | pending) % 8 ||
        table > UINT32_MAX || pending > UINT32_MAX || f->msix)
        return -EINVAL;
    m = calloc(1, sizeof(*m) + (size_t)vectors * PCI_MSIX_ENTRY + bits);
    cap = m ? pci_add_cap(f, CAP_MSIX, MSIX_BYTES) : 0;
    if (!cap) {
        free(m);
        return m ? -ENOSPC : -ENOMEM;
    }
    *m = (struct pci_msix){ .vectors = vectors,
                            .bar = bar,
                            .table = table,
                            .pending = pending,
                            .entry = (uint8_t *)(m + 1) };
    m->bit = m->entry + (size_t)vectors * PCI_MSIX_ENTRY;
    for (unsigned v = 0; v < vectors; v++)
        m->entry[v * PCI_MSIX_ENTRY + PCI_ENTRY_CONTROL] = PCI_ENTRY_MASKED;
    f->msix = m;
    f->msix_cap = cap;
    pci_put(f, cap + PCI_MSIX_CONTROL, 2, vectors - 1);
    f->writable[cap + PCI_MSIX_CONTROL + 1] = (PCI_MSIX_ENABLE | PCI_MSIX_MASK) >> 8;
    pci_put(f, cap + MSIX_TABLE, 4, (uint32_t)table | bar);
    pci_put(f, cap + MSIX_PENDING, 4, (uint32_t)pending | bar);
    return 0;
}

uint64_t pci_msix_pending_bytes(const struct pci_msix *m)
{
    return ((uint64_t)m->vectors + 63) / 64 * 8;
}

int pci_msix_check(const struct pci_function *f, struct error *err)
{
    const struct pci_msix *m = f->msix;
    const struct pci_bar *bar = m ? &f->bar[m->bar] : NULL;
    uint64_t table_end, pending_end;

    if (!m)
        return 0;
    table_end = m->table + (uint64_t)m->vectors * PCI_MSIX_ENTRY;
    pending_end = m->pending + pci_msix_pending_bytes(m);
    if (bar->io || table_end > bar->size || pending_end > bar->size ||
        (m->table < pending_end && m->pending < table_end))
        return error_set(err, -EINVAL,
                         "PCI device %s: the MSI-X table and pending bits of %u vectors don't fit "
                         "BAR %u of %" PRIu64 " bytes",
                         f->name, m->vectors, m->bar, bar->size);
    return 0;
}

/* --- the table in its BAR -------------------------------------------------------------------- */

static bool touches(uint64_t offset, unsigned size, uint64_t start, uint64_t bytes)
{
    return offset < start + bytes && offset + size > start;
}

bool pci_msix_read(struct pci_function *f, unsigned bar, uint64_t offset, unsigned size,
                   uint64_t *value)
{
    const struct pci_msix *m = f->msix;
    uint64_t table_bytes, bits;

    if (!m || bar != m->bar)
        return false;
    table_bytes = (uint64_t)m->vectors * PCI_MSIX_ENTRY;
    bits = pci_msix_pending_bytes(m);
    if (!touches(offset, size, m->table, table_bytes) && !touches(offset, size, m->pending, bits))
        return false;
    *value = 0;
    pthread_mutex_lock(&f->pci->lock);
    for (unsigned i = 0; i < size; i++) {
        uint64_t at = offset + i;

        if (touches(at, 1, m->table, table_bytes))
            *value |= (uint64_t)m->entry[at - m->table] << (8 * i);
        else if (touches(at, 1, m->pending, bits))
            *value |= (uint64_t)m->bit[at - m->pending] << (8 * i);
    }
    pthread_mutex_unlock(&f->pci->lock);
    return true;
}

/* The bits of an entry's byte that a guest may change. */
static uint8_t entry_writable(uint64_t byte)
{
    if (byte >= PCI_ENTRY_CONTROL)
        return byte == PCI_ENTRY_CONTROL ? PCI_ENTRY_MASKED : 0;
    return byte == 0 ? 0xfc : 0xff;
}

bool pci_msix_write(struct pci_function *f, unsigned bar, uint64_t offset, unsigned size,
                    uint64_t value)
{
    struct pci_msix *m = f->msix;
    unsigned vector = UINT_MAX; /* changed so far, and not yet told */
    uint64_t table_bytes, ignored;

    if (!m || bar != m->bar || !pci_msix_read(f, bar, offset, size, &ignored))
        return false;
    table_bytes = (uint64_t)m->vectors * PCI_MSIX_ENTRY;
    pthread_mutex_lock(&f->pci->lock);
    for (unsigned i = 0; i < size; i++) {
        uint64_t at = offset + i - m->table;
        uint8_t writable, byte;

        if (!touches(offset + i, 1, m->table, table_bytes))
            continue;
        writable = entry_writable(at % PCI_MSIX_ENTRY);
        byte = (uint8_t)((m->entry[at] & ~writable) | (value >> (8 * i) & writable));
        if (byte == m->entry[at])
            continue;
        m->entry[at] = byte;
        if (vector != UINT_MAX && vector != at / PCI_MSIX_ENTRY)
            pci_vector_written(f, vector);
        vector = (unsigned)(at / PCI_MSIX_ENTRY);
    }
    if (vector != UINT_MAX)
        pci_vector_written(f, vector);
    pthread_mutex_unlock(&f->pci->lock);
    return true;
}
