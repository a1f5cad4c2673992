/*
 * Interrupts of PCI functions: messages ("PCI Local Bus Specification 3.0", 6.8 Message Signaled
 * Interrupts) and INTx (2.2.6 Interrupt Pins). The table of MSI-X is in pci_msix.c.
 */
#include "vmm/pci_impl.h"

#include <errno.h>
#include <limits.h>

#define CAP_MSI 0x05

#define MSI_BYTES    24
#define MSI_CONTROL  2
#define MSI_ADDRESS  4
#define MSI_DATA     12
#define MSI_MASK     16
#define MSI_PENDING  20
#define MSI_ENABLE   0x0001u
#define MSI_64       0x0080u
#define MSI_MASKABLE 0x0100u

static uint64_t little(const uint8_t *at, unsigned bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

/* --- what a device is made of --------------------------------------------------------- */

int pci_add_msi(struct pci_function *f)
{
    unsigned cap = pci_add_cap(f, CAP_MSI, MSI_BYTES);

    if (!cap)
        return -ENOSPC;
    f->msi_cap = cap;
    pci_put(f, cap + MSI_CONTROL, 2, MSI_64 | MSI_MASKABLE);
    f->writable[cap + MSI_CONTROL] = MSI_ENABLE;
    for (unsigned i = 0; i < 8; i++)
        f->writable[cap + MSI_ADDRESS + i] = i ? 0xff : 0xfc;
    f->writable[cap + MSI_DATA] = f->writable[cap + MSI_DATA + 1] = 0xff;
    f->writable[cap + MSI_MASK] = 1;
    return 0;
}

void pci_use_intx(struct pci_function *f)
{
    /* pci_add() knows the function's number. */
    pci_put(f, PCI_CFG_PIN, 1, 1);
}

/* --- which kind ------------------------------------------------------------------------- */

static bool msi_enabled(const struct pci_function *f)
{
    return f->msi_cap && pci_get(f, f->msi_cap + MSI_CONTROL, 2) & MSI_ENABLE;
}

static bool msix_enabled(const struct pci_function *f)
{
    return f->msix && pci_get(f, f->msix_cap + PCI_MSIX_CONTROL, 2) & PCI_MSIX_ENABLE;
}

enum pci_interrupts pci_interrupt_kind(const struct pci_function *f)
{
    if (msix_enabled(f))
        return PCI_MSIX;
    if (msi_enabled(f))
        return PCI_MSI;
    if (pci_get(f, PCI_CFG_PIN, 1) && !(pci_get(f, PCI_CFG_COMMAND, 2) & PCI_CMD_NO_INTX))
        return PCI_INTX;
    return PCI_NONE;
}

bool pci_bus_master(const struct pci_function *f)
{
    return pci_get(f, PCI_CFG_COMMAND, 2) & PCI_CMD_MASTER;
}

/* --- INTx ------------------------------------------------------------------------------- */

/* Pins of neighbours are wired to different lines, as on a board. */
static unsigned line_of(const struct pci_function *f)
{
    return ((f->devfn >> 3) + pci_get(f, PCI_CFG_PIN, 1) - 1) % PCI_LINES;
}

void pci_intx_update(struct pci_function *f)
{
    bool asserted = f->intx && pci_interrupt_kind(f) == PCI_INTX;
    uint32_t status = pci_get(f, PCI_CFG_STATUS, 2) & ~PCI_STATUS_INTX;
    struct pci *pci = f->pci;
    unsigned line = line_of(f), others;

    if (!pci_get(f, PCI_CFG_PIN, 1))
        return;
    pci_put(f, PCI_CFG_STATUS, 2, status | (f->intx ? PCI_STATUS_INTX : 0));
    if (asserted == f->asserted)
        return;
    f->asserted = asserted;
    f->raised[PCI_INTX] += asserted;
    others = asserted ? pci->line[line]++ : --pci->line[line];
    if (others == 0)
        pci->intx.set(pci->intx.ctx, pci->intx.gsi + line, asserted);
}

void pci_intx_set(struct pci_function *f, bool level)
{
    if (!f->pci)
        return;
    pthread_mutex_lock(&f->pci->lock);
    f->intx = level;
    pci_intx_update(f);
    pthread_mutex_unlock(&f->pci->lock);
}

/* --- messages ----------------------------------------------------------------------------- */

/* A message is a write by the device: none without bus master. */
static bool message(const struct pci_function *f, unsigned vector, struct msi_message *out)
{
    enum pci_interrupts kind = pci_interrupt_kind(f);
    const uint8_t *entry;

    out->requester = f->devfn;
    if (!pci_bus_master(f))
        return false;
    if (kind == PCI_MSI) {
        out->address = pci_get(f, f->msi_cap + MSI_ADDRESS, 4) |
                       (uint64_t)pci_get(f, f->msi_cap + MSI_ADDRESS + 4, 4) << 32;
        out->data = pci_get(f, f->msi_cap + MSI_DATA, 2);
        return !(pci_get(f, f->msi_cap + MSI_MASK, 1) & 1);
    }
    if (kind != PCI_MSIX || !f->msix || vector >= f->msix->vectors ||
        pci_get(f, f->msix_cap + PCI_MSIX_CONTROL, 2) & PCI_MSIX_MASK)
        return false;
    entry = f->msix->entry + (size_t)vector * PCI_MSIX_ENTRY;
    out->address = little(entry, 8);
    out->data = (uint32_t)little(entry + PCI_ENTRY_DATA, 4);
    return !(entry[PCI_ENTRY_CONTROL] & PCI_ENTRY_MASKED);
}

bool pci_message(struct pci_function *f, unsigned vector, struct msi_message *out)
{
    bool there;

    if (!f->pci)
        return false;
    pthread_mutex_lock(&f->pci->lock);
    there = message(f, vector, out);
    pthread_mutex_unlock(&f->pci->lock);
    return there;
}

static void set_pending(struct pci_function *f, unsigned vector, bool on)
{
    if (msix_enabled(f)) {
        uint8_t bit = (uint8_t)(1u << vector % 8), *at = &f->msix->bit[vector / 8];

        *at = (uint8_t)(on ? *at | bit : *at & ~bit);
    } else {
        pci_put(f, f->msi_cap + MSI_PENDING, 1, on);
    }
}

static bool is_pending(const struct pci_function *f, unsigned vector)
{
    return msix_enabled(f) ? f->msix->bit[vector / 8] >> vector % 8 & 1
                           : pci_get(f, f->msi_cap + MSI_PENDING, 1) & 1;
}

/* With MSI or MSI-X enabled, and `vector` one of them. */
static bool send_or_keep(struct pci_function *f, unsigned vector)
{
    struct msi_message m;
    bool send = message(f, vector, &m);

    set_pending(f, vector, !send);
    if (send) {
        f->raised[pci_interrupt_kind(f)]++;
        f->pci->msi.send(f->pci->msi.ctx, &m);
    }
    return send;
}

bool pci_notify(struct pci_function *f, unsigned vector)
{
    bool sent = false;

    if (!f->pci)
        return false;
    pthread_mutex_lock(&f->pci->lock);
    if (msix_enabled(f)) {
        sent = vector < f->msix->vectors && send_or_keep(f, vector);
    } else if (msi_enabled(f)) {
        sent = send_or_keep(f, 0);
    } else {
        pci_intx_set(f, true);
        sent = f->asserted;
    }
    pthread_mutex_unlock(&f->pci->lock);
    return sent;
}

/* What was kept back goes out where it may now; what was kept for a kind that is off is lost. */
static void send_pending(struct pci_function *f)
{
    if (f->msix && !msix_enabled(f))
        for (size_t i = 0; i < pci_msix_pending_bytes(f->msix); i++)
            f->msix->bit[i] = 0;
    if (f->msi_cap && pci_interrupt_kind(f) != PCI_MSI)
        pci_put(f, f->msi_cap + MSI_PENDING, 1, 0);
    if (msix_enabled(f)) {
        for (unsigned v = 0; v < f->msix->vectors; v++)
            if (is_pending(f, v))
                (void)send_or_keep(f, v);
    } else if (msi_enabled(f) && is_pending(f, 0)) {
        (void)send_or_keep(f, 0);
    }
}

static bool inside(unsigned offset, unsigned start, unsigned bytes)
{
    return start && offset >= start && offset < start + bytes;
}

void pci_interrupts_written(struct pci_function *f, unsigned offset, uint32_t old)
{
    uint32_t changed = old ^ pci_get(f, offset, 4);
    bool vectors =
        (changed && (inside(offset, f->msi_cap, MSI_BYTES) || offset == f->msix_cap)) ||
        (offset == PCI_CFG_COMMAND && changed & PCI_CMD_MASTER && (f->msi_cap || f->msix_cap));

    if (!vectors && !(offset == PCI_CFG_COMMAND && changed & PCI_CMD_NO_INTX))
        return;
    pci_intx_update(f);
    if (!vectors)
        return;
    send_pending(f);
    if (f->ops && f->ops->vectors_changed)
        f->ops->vectors_changed(f->dev, UINT_MAX);
}

void pci_vector_written(struct pci_function *f, unsigned vector)
{
    if (msix_enabled(f) && is_pending(f, vector))
        (void)send_or_keep(f, vector);
    if (f->ops && f->ops->vectors_changed)
        f->ops->vectors_changed(f->dev, vector);
}
