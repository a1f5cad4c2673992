#include "vmm/control_pci.h"

#include <stdio.h>

#include "vmm/pci.h"
#include "vmm/vm.h"
#include "vmm/vm_devices.h"

static const char *kind_name(enum pci_interrupts kind)
{
    switch (kind) {
    case PCI_NONE:
        break;
    case PCI_INTX:
        return "intx";
    case PCI_MSI:
        return "msi";
    case PCI_MSIX:
        return "msix";
    }
    return "none";
}

static json_t *bars_json(const struct pci_stat *s)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < PCI_BARS; i++) {
        const struct pci_bar *bar = &s->bar[i];

        if (bar->size)
            (void)json_array_append_new(
                list, json_pack("{s:i, s:s, s:o, s:o, s:b}", "bar", (int)i, "space",
                                bar->io ? "pio" : "mmio", "address", control_hex(bar->address),
                                "size", control_number(bar->size), "decoded", (int)bar->decoded));
    }
    return list;
}

static json_t *function_json(const struct pci_stat *s)
{
    char bdf[16], id[16];
    uint64_t sent = 0;

    (void)snprintf(bdf, sizeof(bdf), "00:%02x.%x", s->devfn >> 3, s->devfn & 7u);
    (void)snprintf(id, sizeof(id), "%04x:%04x", s->vendor, s->device);
    for (size_t i = 0; i < sizeof(s->sent) / sizeof(s->sent[0]); i++)
        sent += s->sent[i];
    return json_pack("{s:s, s:s, s:s, s:o, s:o, s:b, s:s, s:o}", "name", s->name, "bdf", bdf, "id",
                     id, "class", control_hex(s->class), "bars", bars_json(s), "bus_master",
                     (int)s->bus_master, "interrupts", kind_name(s->kind), "sent",
                     control_number(sent));
}

json_t *control_pci_json(struct vm *vm)
{
    struct pci *pci = vm_devices_pci(vm_pci_devices(vm));
    json_t *list = json_array();
    struct pci_stat s;

    for (size_t n = 0; pci_stat_read(pci, n, &s); n++)
        (void)json_array_append_new(list, function_json(&s));
    return list;
}
