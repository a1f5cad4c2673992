#include "vmm/control_pci.h"

#include <stdio.h>

#include "vmm/control_virtio.h"
#include "vmm/edu.h"
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

static void add_number(json_t *object, const char *key, uint64_t value)
{
    (void)json_object_set_new(object, key, control_number(value));
}

static json_t *dma_json(const struct dma_stat *s)
{
    json_t *out = json_object();

    add_number(out, "reads", s->reads);
    add_number(out, "writes", s->writes);
    add_number(out, "bytes_read", s->bytes_read);
    add_number(out, "bytes_written", s->bytes_written);
    add_number(out, "faults", s->faults);
    add_number(out, "refused", s->refused);
    return out;
}

static json_t *edu_json(struct edu *edu)
{
    json_t *out = json_object();
    struct edu_stat s;

    edu_stat(edu, &s);
    add_number(out, "transfers", s.transfers);
    add_number(out, "failed", s.failed);
    add_number(out, "page_requests", s.page_requests);
    add_number(out, "factorials", s.factorials);
    (void)json_object_set_new(out, "waiting", json_boolean(s.waiting));
    return out;
}

/* Of emulated devices: what they did to memory, and what they were asked for. */
static void add_work(json_t *object, struct vm *vm, unsigned devfn)
{
    struct vm_devices *devices = vm_pci_devices(vm);
    json_t *virtio = control_virtio_json(vm, devfn);
    const struct dma *dma = vm_devices_dma(devices, devfn);
    struct edu *edu = vm_devices_edu(devices, devfn);

    if (dma)
        (void)json_object_set_new(object, "dma", dma_json(&dma->stat));
    if (edu)
        (void)json_object_set_new(object, "edu", edu_json(edu));
    if (virtio)
        (void)json_object_set_new(object, "virtio", virtio);
}

static json_t *function_json(const struct pci_stat *s)
{
    char bdf[16], id[16];
    uint64_t sent = 0;

    (void)snprintf(bdf, sizeof(bdf), "00:%02x.%x", s->devfn >> 3, s->devfn & 7u);
    (void)snprintf(id, sizeof(id), "%04x:%04x", s->vendor, s->device);
    for (size_t i = 0; i < sizeof(s->sent) / sizeof(s->sent[0]); i++)
        sent += s->sent[i];
    return json_pack("{s:s, s:s, s:s, s:o, s:o, s:b, s:s, s:o, s:b}", "name", s->name, "bdf", bdf,
                     "id", id, "class", control_hex(s->class), "bars", bars_json(s), "bus_master",
                     (int)s->bus_master, "interrupts", kind_name(s->kind), "sent",
                     control_number(sent), "by_irqfd", (int)s->by_irqfd);
}

json_t *control_pci_json(struct vm *vm)
{
    struct pci *pci = vm_devices_pci(vm_pci_devices(vm));
    json_t *list = json_array();
    struct pci_stat s;

    for (size_t n = 0; pci_stat_read(pci, n, &s); n++) {
        json_t *function = function_json(&s);

        add_work(function, vm, s.devfn);
        (void)json_array_append_new(list, function);
    }
    return list;
}
