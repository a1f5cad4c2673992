#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/bus.h"
#include "vmm/console.h"
#include "vmm/control_impl.h"
#include "vmm/control_iommu.h"
#include "vmm/control_migrate.h"
#include "vmm/control_pages.h"
#include "vmm/control_pci.h"
#include "vmm/control_track.h"
#include "vmm/depriv.h"
#include "vmm/residency.h"
#include "vmm/vm_devices.h"

#define RANGES_MAX 256

static const char *state_name(enum vm_state state)
{
    switch (state) {
    case VM_CREATED:
        return "created";
    case VM_RUNNING:
        return "running";
    case VM_PAUSED:
        return "paused";
    case VM_ENDED:
        return "ended";
    }
    return "unknown";
}

static json_t *console_json(struct vm *vm)
{
    const struct vm_config *cfg = vm_config(vm);
    const char *path = cfg->console_path;

    switch (cfg->console) {
    case CONSOLE_STDIO:
        return json_pack("{s:s}", "kind", "stdio");
    case CONSOLE_PTY:
        path = console_pty_name(vm_console(vm));
        break;
    case CONSOLE_FILE:
        break;
    }
    return json_pack("{s:s, s:o}", "kind", cfg->console == CONSOLE_PTY ? "pty" : "file", "path",
                     control_text(path ? path : ""));
}

json_t *control_status(struct vm *vm)
{
    const struct vm_config *cfg = vm_config(vm);
    uint64_t create_ns = 0, run_ns = 0;

    vm_times(vm, &create_ns, &run_ns);
    return json_pack("{s:s, s:i, s:s, s:i, s:I, s:s, s:s, s:o, s:o, s:o, s:f}", "name", cfg->name,
                     "pid", (int)getpid(), "state", state_name(vm_state(vm)), "cpus",
                     (int)cfg->cpus, "mem_bytes", (json_int_t)cfg->mem_bytes, "paging",
                     paging_name(cfg->paging), "backing", mem_backing_name(cfg->backing), "kernel",
                     control_text(cfg->kernel), "cmdline", control_text(cfg->cmdline), "console",
                     console_json(vm), "uptime_s", (double)run_ns / 1e9);
}

static json_t *vcpus_json(struct vm *vm)
{
    json_t *list = json_array();
    struct vcpu_stat s;

    for (unsigned cpu = 0; vm_vcpu_stat(vm, cpu, &s) == 0; cpu++) {
        (void)json_array_append_new(
            list, json_pack("{s:i, s:{s:I, s:I, s:I, s:I, s:I, s:I, s:I}, s:I, s:{s:I, s:I}}",
                            "cpu", (int)cpu, "exits", "total", (json_int_t)s.exits_total, "pio",
                            (json_int_t)s.pio, "mmio", (json_int_t)s.mmio, "hlt", (json_int_t)s.hlt,
                            "intr", (json_int_t)s.intr, "traps", (json_int_t)s.traps, "other",
                            (json_int_t)s.other, "run_ns", (json_int_t)s.run_ns, "host_faults",
                            "minor", (json_int_t)s.host_minor, "major", (json_int_t)s.host_major));
    }
    return list;
}

static json_t *devices_json(struct vm *vm)
{
    struct bus_range_stat *ranges = calloc(RANGES_MAX, sizeof(*ranges));
    json_t *list = json_array();
    size_t n = ranges ? bus_stats(vm_bus(vm), ranges, RANGES_MAX) : 0;

    if (n > RANGES_MAX)
        n = RANGES_MAX;
    for (size_t i = 0; i < n; i++) {
        const struct bus_range_stat *r = &ranges[i];

        (void)json_array_append_new(
            list, json_pack("{s:s, s:s, s:I, s:I, s:I, s:I}", "name", r->name, "space",
                            r->space == BUS_PIO ? "pio" : "mmio", "base", (json_int_t)r->base,
                            "length", (json_int_t)r->length, "reads", (json_int_t)r->reads,
                            "writes", (json_int_t)r->writes));
    }
    free(ranges);
    return list;
}

static json_t *memory_json(struct vm *vm)
{
    const struct memory *mem = vm_memory(vm);
    json_t *slots = json_array();
    struct residency r;
    uint64_t resident;
    size_t count;
    const struct mem_slot *slot = memory_slots(mem, &count);

    for (size_t i = 0; i < count; i++)
        (void)json_array_append_new(slots,
                                    json_pack("{s:I, s:I, s:s}", "base", (json_int_t)slot[i].base.v,
                                              "size", (json_int_t)slot[i].size, "backing",
                                              mem_backing_name(slot[i].backing)));
    residency_read(mem, &r);
    resident = r.mapped_4k + r.mapped_2m + r.mapped_1g;
    return json_pack("{s:I, s:s, s:o, s:I, s:{s:I, s:I, s:I}, s:I, s:I, s:o}", "bytes",
                     (json_int_t)memory_size(mem), "backing",
                     mem_backing_name(vm_config(vm)->backing), "slots", slots, "resident_bytes",
                     (json_int_t)resident, "mapped_bytes", "4K", (json_int_t)r.mapped_4k, "2M",
                     (json_int_t)r.mapped_2m, "1G", (json_int_t)r.mapped_1g, "swapped_bytes",
                     (json_int_t)r.swapped, "monitor_bytes", (json_int_t)r.monitor, "nodes",
                     control_nodes_json(vm, &resident));
}

static void add_number(json_t *object, const char *key, uint64_t value)
{
    (void)json_object_set_new(object, key, control_number(value));
}

/* What all vCPUs were helped with. */
static json_t *depriv_json(struct vm *vm)
{
    struct depriv_stat sum = { 0 }, one;
    json_t *out = json_object(), *kinds = json_object();
    uint64_t *to = (uint64_t *)&sum;

    for (unsigned cpu = 0; vm_depriv_stat(vm, cpu, &one) == 0; cpu++)
        for (size_t i = 0; i < sizeof(sum) / sizeof(*to); i++)
            to[i] += ((const uint64_t *)&one)[i];
    add_number(out, "traps", sum.traps);
    add_number(out, "page_faults", sum.page_faults);
    add_number(out, "reflected_page_faults", sum.reflected_faults);
    add_number(out, "reflected_exceptions", sum.reflected);
    add_number(out, "interrupts", sum.interrupts);
    add_number(out, "interpreted", sum.interpreted);
    add_number(out, "flushes", sum.flushes);
    add_number(out, "touches", sum.touches);
    add_number(out, "refused_tables", sum.refused_tables);
    add_number(out, "window_accesses", sum.window_accesses);
    for (unsigned kind = 0; kind < DEPRIV_KINDS; kind++)
        add_number(kinds, depriv_kind_name((enum depriv_kind)kind), sum.emulated[kind]);
    (void)json_object_set_new(out, "emulated", kinds);
    return out;
}

/* NULL with --paging nested. */
static json_t *shadow_json(struct vm *vm)
{
    struct shadow *shadow = vm_shadow(vm);
    struct shadow_stats s;
    json_t *out;

    if (!shadow)
        return NULL;
    shadow_stats(shadow, &s);
    out = depriv_json(vm);
    add_number(out, "fills", s.fills);
    add_number(out, "fills_large", s.fills_large);
    add_number(out, "syncs", s.syncs);
    add_number(out, "compared_tables", s.compared);
    add_number(out, "zaps", s.zaps);
    add_number(out, "write_protect_faults", s.unsyncs);
    add_number(out, "protects", s.protects);
    add_number(out, "roots_made", s.roots_made);
    add_number(out, "roots_hit", s.roots_hit);
    add_number(out, "evictions", s.evictions);
    add_number(out, "tables", s.tables);
    add_number(out, "tables_max", s.tables_max);
    add_number(out, "unsync_tables", s.unsync_tables);
    return out;
}

json_t *control_stat(struct vm *vm)
{
    json_t *stat = control_status(vm);
    uint64_t create_ns = 0, run_ns = 0;

    if (!stat)
        return NULL;
    vm_times(vm, &create_ns, &run_ns);
    (void)json_object_set_new(stat, "vcpus", vcpus_json(vm));
    if (vm_shadow(vm))
        (void)json_object_set_new(stat, "shadow", shadow_json(vm));
    (void)json_object_set_new(stat, "devices", devices_json(vm));
    (void)json_object_set_new(stat, "pci", control_pci_json(vm));
    if (vm_devices_iommu(vm_pci_devices(vm)))
        (void)json_object_set_new(stat, "iommu", control_iommu_json(vm));
    (void)json_object_set_new(stat, "unclaimed_accesses",
                              control_number(bus_unclaimed(vm_bus(vm))));
    (void)json_object_set_new(stat, "memory", memory_json(vm));
    (void)json_object_set_new(json_object_get(stat, "memory"), "pages", control_pages_json(vm));
    (void)json_object_set_new(stat, "processes", control_processes_json(vm));
    (void)json_object_set_new(
        stat, "times",
        json_pack("{s:I, s:I}", "create_ns", (json_int_t)create_ns, "run_ns", (json_int_t)run_ns));
    return stat;
}
