/* MSI-X and MSI ("PCI Local Bus Specification" 3.0, 6.8): messages to the boot CPU's local APIC. */
#include <stddef.h>

#include "guest/kernel/apic.h"
#include "guest/kernel/cpu.h"
#include "guest/kernel/errno.h"
#include "guest/kernel/mm.h"
#include "guest/kernel/mmio.h"
#include "guest/kernel/pci_internal.h"

#define MSIX_CONTROL  2 /* offsets in the capability */
#define MSIX_TABLE    4
#define MSIX_ENABLE   0x8000u
#define MSIX_MASK_ALL 0x4000u
#define MSIX_SIZE     0x7ffu
#define MSIX_BIR      7u
#define ENTRY_SIZE    16u
#define ENTRY_ADDR    0
#define ENTRY_ADDR_HI 4
#define ENTRY_DATA    8
#define ENTRY_CONTROL 12
#define ENTRY_MASKED  1u
#define MSI_CONTROL   2
#define MSI_ADDR      4
#define MSI_ENABLE    0x1u
#define MSI_MULTIPLE  0x70u /* how many are enabled, as a power of 2 */
#define MSI_WIDE      0x80u
#define MESSAGE_ADDR  0xfee00000u /* Intel SDM vol. 3A, "Message Address Register Format" */

struct vector {
    void (*handler)(void *arg);
    void *arg;
    bool taken;
    bool was_taken; /* a late message of a device that was turned off is no surprise */
};

static struct lock lock; /* held while a handler is looked up and marked, never while it runs */
static struct vector vectors[VECTOR_MSI_COUNT];
static int running = -1; /* the vector whose handler runs: one at a time, on the boot CPU */

bool pci_msi_interrupt(unsigned vector)
{
    void (*handler)(void *arg) = NULL;
    struct vector *v;
    void *arg = NULL;
    bool known;

    if (vector < VECTOR_MSI_BASE || vector >= VECTOR_MSI_BASE + VECTOR_MSI_COUNT)
        return false;
    v = &vectors[vector - VECTOR_MSI_BASE];
    lock_acquire(&lock);
    known = v->was_taken;
    if (v->taken) {
        handler = v->handler;
        arg = v->arg;
        __atomic_store_n(&running, (int)(vector - VECTOR_MSI_BASE), __ATOMIC_RELAXED);
    }
    lock_release(&lock);
    if (handler)
        handler(arg);
    __atomic_store_n(&running, -1, __ATOMIC_RELEASE);
    return known;
}

/* `n` vectors side by side, from now on taken; VECTOR_MSI_COUNT: there are none. */
static unsigned take(unsigned n, void (*handler[])(void *), void *arg[])
{
    unsigned first = 0, run = 0;

    lock_acquire(&lock);
    for (unsigned i = 0; i < VECTOR_MSI_COUNT && run < n; i++) {
        run = vectors[i].taken ? 0 : run + 1;
        first = i + 1 - run;
    }
    for (unsigned i = 0; run == n && i < n; i++)
        vectors[first + i] = (struct vector){ handler[i], arg[i], true, true };
    lock_release(&lock);
    return run == n ? first : VECTOR_MSI_COUNT;
}

static void give_back(unsigned first, unsigned n)
{
    lock_acquire(&lock);
    for (unsigned i = first; i < first + n; i++)
        vectors[i].taken = false;
    lock_release(&lock);
    if (this_cpu() == cpus[0]) /* where handlers run: none does */
        return;
    for (;;) {
        int now = __atomic_load_n(&running, __ATOMIC_ACQUIRE);

        if (now < (int)first || now >= (int)(first + n))
            return;
        cpu_relax();
        tlb_poll();
    }
}

static uint32_t message_addr(void)
{
    return MESSAGE_ADDR | cpus[0]->apic_id << 12;
}

static volatile uint8_t *map_table(struct pci_device *d, unsigned entries)
{
    uint32_t where = pci_read(d, d->msix_cap + MSIX_TABLE, 4);
    const struct pci_bar *b = &d->bar[where & MSIX_BIR];
    uint64_t offset = where & ~MSIX_BIR, len = (uint64_t)entries * ENTRY_SIZE;

    if (d->msix_table)
        return d->msix_table;
    if ((where & MSIX_BIR) >= 6 || b->io || b->addr == 0 || offset > b->size ||
        len > b->size - offset)
        return NULL;
    d->msix_table = mmio_map(b->addr + offset, len);
    return d->msix_table;
}

/* Fills the table while all is masked. The other entries are masked: by the reset, or msix_off().
 */
static int msix_on(struct pci_device *d, unsigned n, unsigned first)
{
    unsigned control = pci_read(d, d->msix_cap + MSIX_CONTROL, 2);
    unsigned entries = (control & MSIX_SIZE) + 1;
    volatile uint8_t *e = map_table(d, entries);

    if (!e)
        return -ENXIO;
    pci_command(d, PCI_COMMAND_MEMORY | PCI_COMMAND_NO_INT, 0);
    control |= MSIX_ENABLE | MSIX_MASK_ALL;
    pci_write(d, d->msix_cap + MSIX_CONTROL, 2, control);
    for (unsigned i = 0; i < n; i++, e += ENTRY_SIZE) {
        mmio_write32(e + ENTRY_ADDR, message_addr());
        mmio_write32(e + ENTRY_ADDR_HI, 0);
        mmio_write32(e + ENTRY_DATA, VECTOR_MSI_BASE + first + i);
        mmio_write32(e + ENTRY_CONTROL, 0);
    }
    pci_write(d, d->msix_cap + MSIX_CONTROL, 2, control & ~MSIX_MASK_ALL);
    return 0;
}

static void msix_off(struct pci_device *d)
{
    volatile uint8_t *e = d->msix_table;

    for (unsigned i = 0; i < d->vectors; i++)
        mmio_write32(e + i * ENTRY_SIZE + ENTRY_CONTROL, ENTRY_MASKED);
    pci_write(d, d->msix_cap + MSIX_CONTROL, 2,
              pci_read(d, d->msix_cap + MSIX_CONTROL, 2) & ~MSIX_ENABLE);
}

static void msi_on(struct pci_device *d, unsigned first)
{
    unsigned control = pci_read(d, d->msi_cap + MSI_CONTROL, 2);
    unsigned data = d->msi_cap + MSI_ADDR + (control & MSI_WIDE ? 8 : 4);

    pci_command(d, PCI_COMMAND_NO_INT, 0);
    pci_write(d, d->msi_cap + MSI_ADDR, 4, message_addr());
    if (control & MSI_WIDE)
        pci_write(d, d->msi_cap + MSI_ADDR + 4, 4, 0);
    pci_write(d, data, 2, VECTOR_MSI_BASE + first);
    pci_write(d, d->msi_cap + MSI_CONTROL, 2, (control & ~MSI_MULTIPLE) | MSI_ENABLE);
}

static void msi_off(struct pci_device *d)
{
    unsigned at = d->msi_cap + MSI_CONTROL;

    pci_write(d, at, 2, pci_read(d, at, 2) & ~MSI_ENABLE);
}

unsigned pci_interrupts_offered(const struct pci_device *d, bool *msix)
{
    if (msix)
        *msix = d->msix_cap != 0;
    if (d->msix_cap)
        return (pci_read(d, d->msix_cap + MSIX_CONTROL, 2) & MSIX_SIZE) + 1;
    return d->msi_cap ? 1 : 0;
}

int pci_interrupts(struct pci_device *d, unsigned n, void (*handler[])(void *arg), void *arg[])
{
    unsigned first, most;
    bool msix;
    int rc = 0;

    if (d->vectors)
        return -EBUSY;
    most = pci_interrupts_offered(d, &msix);
    if (most == 0)
        return -ENOENT;
    if (n == 0 || n > most)
        return -EINVAL;
    first = take(n, handler, arg);
    if (first == VECTOR_MSI_COUNT)
        return -ENOSPC;
    if (msix)
        rc = msix_on(d, n, first);
    else
        msi_on(d, first);
    if (rc) {
        give_back(first, n);
        return rc;
    }
    d->msix = msix;
    d->vectors = (uint16_t)n;
    d->first_vector = (uint8_t)(VECTOR_MSI_BASE + first);
    return 0;
}

void pci_interrupts_off(struct pci_device *d)
{
    if (!d->vectors)
        return;
    if (d->msix)
        msix_off(d);
    else
        msi_off(d);
    give_back(d->first_vector - VECTOR_MSI_BASE, d->vectors);
    d->vectors = 0;
}
