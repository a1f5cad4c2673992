#include "guest/kernel/pci_info.h"

#include "guest/kernel/dma.h"
#include "guest/kernel/drivers.h"
#include "guest/kernel/pci_internal.h"
#include "guest/kernel/printk.h"

static void fill_interrupts(struct sys_pci *out, const struct pci_device *d)
{
    out->vectors_max = (uint16_t)pci_interrupts_offered(d, NULL);
    out->vectors = d->vectors;
    if (d->msix_cap)
        out->offers = SYS_PCI_MSIX;
    else if (d->msi_cap)
        out->offers = SYS_PCI_MSI;
    else if (d->irq_pin)
        out->offers = SYS_PCI_INTX;
    if (d->vectors) {
        out->uses = d->msix ? SYS_PCI_MSIX : SYS_PCI_MSI;
        out->first_vector = d->first_vector;
    }
}

int64_t pci_info(struct sys_pci *out, uint64_t index)
{
    const struct pci_device *d;

    drivers_init();
    d = index < PCI_DEVICES_MAX ? pci_get((unsigned)index) : NULL;
    if (!d)
        return -ENOENT;
    out->bdf = d->bdf;
    out->vendor = d->vendor;
    out->id = d->id;
    out->revision = d->revision;
    out->iommu = dma_translated(d);
    out->class = d->class;
    out->command = (uint16_t)pci_read(d, PCI_COMMAND, 2);
    fill_interrupts(out, d);
    kformat(out->driver, sizeof out->driver, "%s", d->driver ? d->driver : "");
    for (unsigned i = 0; i < 6; i++) {
        out->bar[i].addr = d->bar[i].addr;
        out->bar[i].size = d->bar[i].size;
        out->bar[i].io = d->bar[i].io;
        out->bar[i].wide = d->bar[i].wide;
    }
    return sizeof *out;
}
