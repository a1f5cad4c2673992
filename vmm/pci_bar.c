/*
 * BARs: the addresses that they are given, where they are decoded, and which function an access is
 * for.
 */
#include "vmm/pci_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

/* A BAR of this size or more is put above RAM when it may be. */
#define WIDE_FROM (UINT64_C(64) << 20)

/* --- accesses ------------------------------------------------------------------------- */

/* The lowest device whose BAR holds all of the access. */
static bool find_bar(struct pci_window *w, uint64_t addr, unsigned size, struct pci_placed *out)
{
    struct pci *pci = w->pci;
    bool found = false;

    pthread_rwlock_rdlock(&pci->placed_lock);
    for (size_t i = 0; i < pci->placed_count && !found; i++) {
        const struct pci_placed *p = &pci->placed[i];

        found = p->io == w->io && addr >= p->base && addr <= p->last && p->last - addr >= size - 1;
        if (found)
            *out = *p;
    }
    pthread_rwlock_unlock(&pci->placed_lock);
    return found;
}

static uint64_t window_read(void *dev, uint64_t offset, unsigned size)
{
    struct pci_window *w = dev;
    uint64_t addr = w->base + offset, value = UINT64_MAX;
    struct pci_placed p;

    if (!find_bar(w, addr, size, &p) || pci_msix_read(p.f, p.bar, addr - p.base, size, &value) ||
        !p.f->ops || !p.f->ops->bar_read)
        return value;
    return p.f->ops->bar_read(p.f->dev, p.bar, addr - p.base, size);
}

static void window_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct pci_window *w = dev;
    uint64_t addr = w->base + offset;
    struct pci_placed p;

    if (find_bar(w, addr, size, &p) && !pci_msix_write(p.f, p.bar, addr - p.base, size, value) &&
        p.f->ops && p.f->ops->bar_write)
        p.f->ops->bar_write(p.f->dev, p.bar, addr - p.base, size, value);
}

const struct bus_ops pci_window_ops = { .read = window_read, .write = window_write };

uint64_t pci_bar_address(const struct pci_function *f, unsigned bar)
{
    unsigned at = PCI_CFG_BAR + 4 * bar;
    uint64_t high = f->bar[bar].wide ? pci_get(f, at + 4, 4) : 0;

    return (high << 32 | pci_get(f, at, 4)) & ~(f->bar[bar].size - 1);
}

/* RAM and fixed devices lie outside of the windows: a BAR that is not in one of them is nowhere. */
static bool in_window(const struct pci *pci, const struct pci_bar *bar, uint64_t address)
{
    for (int i = 0; i < PCI_WINDOWS; i++) {
        const struct pci_window *w = &pci->window[i];

        if (w->io == bar->io && address >= w->base && address < w->end &&
            w->end - address >= bar->size)
            return true;
    }
    return false;
}

/* Makes the look-up's list anew, of what is decoded; pci_add() made room. */
static void list_placed(struct pci *pci)
{
    pthread_rwlock_wrlock(&pci->placed_lock);
    pci->placed_count = 0;
    for (unsigned devfn = 0; devfn < PCI_FUNCTIONS; devfn++) {
        struct pci_function *f = pci->function[devfn];

        for (unsigned bar = 0; f && bar < PCI_BARS; bar++) {
            const struct pci_bar *b = &f->bar[bar];

            if (b->size && b->decoded)
                pci->placed[pci->placed_count++] =
                    (struct pci_placed){ .f = f,
                                         .base = b->address,
                                         .last = b->address + b->size - 1,
                                         .bar = bar,
                                         .io = b->io };
        }
    }
    pthread_rwlock_unlock(&pci->placed_lock);
}

void pci_unplace(const struct pci_function *f)
{
    struct pci *pci = f->pci;
    size_t kept = 0;

    pthread_rwlock_wrlock(&pci->placed_lock);
    for (size_t i = 0; i < pci->placed_count; i++)
        if (pci->placed[i].f != f)
            pci->placed[kept++] = pci->placed[i];
    pci->placed_count = kept;
    pthread_rwlock_unlock(&pci->placed_lock);
}

void pci_place(struct pci_function *f)
{
    uint32_t command = pci_get(f, PCI_CFG_COMMAND, 2);
    struct pci *pci = f->pci;
    bool moved[PCI_BARS] = { false }, any = false;

    for (unsigned i = 0; i < PCI_BARS; i++) {
        struct pci_bar *bar = &f->bar[i], now = *bar;

        if (!bar->size)
            continue;
        now.address = pci_bar_address(f, i);
        now.decoded =
            command & (bar->io ? PCI_CMD_IO : PCI_CMD_MEMORY) && in_window(pci, bar, now.address);
        moved[i] = now.decoded != bar->decoded || (now.decoded && now.address != bar->address);
        any = any || moved[i];
        *bar = now;
    }
    if (!any)
        return;
    list_placed(pci);
    for (unsigned i = 0; i < PCI_BARS; i++)
        if (moved[i] && f->ops && f->ops->bar_placed)
            f->ops->bar_placed(f->dev, i);
}

/* --- before the start ----------------------------------------------------------------- */

/* Where in the window a BAR of this size fits; 0: nowhere. */
static uint64_t take(struct pci_window *w, uint64_t size)
{
    uint64_t at = (w->next + size - 1) & ~(size - 1);

    if (at < w->next || at >= w->end || w->end - at < size)
        return 0;
    w->next = at + size;
    return at;
}

static int give_address(struct pci *pci, struct pci_function *f, unsigned i, struct error *err)
{
    const struct pci_bar *bar = &f->bar[i];
    unsigned reg = PCI_CFG_BAR + 4 * i;
    uint64_t at = 0;

    if (bar->io)
        at = take(&pci->window[PCI_WINDOW_IO], bar->size);
    if (!bar->io && bar->wide && bar->size >= WIDE_FROM)
        at = take(&pci->window[PCI_WINDOW_WIDE], bar->size);
    if (!bar->io && !at)
        at = take(&pci->window[PCI_WINDOW_LOW], bar->size);
    if (!bar->io && bar->wide && !at)
        at = take(&pci->window[PCI_WINDOW_WIDE], bar->size);
    if (!at)
        return error_set(err, -ENOSPC,
                         "PCI device %s: no address is left for BAR %u of %" PRIu64
                         " bytes: give the VM fewer devices%s",
                         f->name, i, bar->size, bar->wide ? " or less memory" : "");
    pci_put(f, reg, 4, (uint32_t)at | pci_get(f, reg, 1));
    if (bar->wide)
        pci_put(f, reg + 4, 4, (uint32_t)(at >> 32));
    return 0;
}

int pci_bars_check(const struct pci_function *f, struct error *err)
{
    for (unsigned i = 0; i < PCI_BARS; i++) {
        const struct pci_bar *bar = &f->bar[i];
        uint64_t least = bar->io ? 4 : 16, most = bar->io ? 256 : UINT64_C(1) << 31;

        if (!bar->size)
            continue;
        if (bar->wide)
            most = UINT64_C(1) << 62;
        if (bar->size & (bar->size - 1) || bar->size < least || bar->size > most ||
            (bar->wide && (bar->io || i + 1 == PCI_BARS || f->bar[i + 1].size)))
            return error_set(err, -EINVAL,
                             "PCI device %s: BAR %u of %" PRIu64 " bytes can't be: it takes a "
                             "power of two from %" PRIu64 " to %" PRIu64
                             ", and one of 64 bits the next BAR's place too",
                             f->name, i, bar->size, least, most);
    }
    return 0;
}

int pci_give_addresses(struct pci *pci, struct pci_function *f, struct error *err)
{
    size_t room = pci->placed_max + PCI_BARS;
    struct pci_placed *more;
    int rc = 0;

    for (unsigned i = 0; i < PCI_BARS && rc == 0; i++)
        if (f->bar[i].size)
            rc = give_address(pci, f, i, err);
    if (rc < 0)
        return rc;
    pthread_rwlock_wrlock(&pci->placed_lock);
    more = realloc(pci->placed, room * sizeof(*more));
    if (more) {
        pci->placed = more;
        pci->placed_max = room;
    }
    pthread_rwlock_unlock(&pci->placed_lock);
    return more ? 0 : error_set(err, -ENOMEM, "no memory for PCI device %s", f->name);
}
