#include "vmm/vm_impl.h"

#include <stdio.h>
#include <string.h>

static void add(uint64_t *counter)
{
    __atomic_store_n(counter, *counter + 1, __ATOMIC_RELAXED);
}

static uint64_t load(const uint8_t *data, unsigned size)
{
    uint64_t value = 0;

    memcpy(&value, data, size);
    return value;
}

/* The next record of the ring, which forgets the oldest. */
static struct exit_record *record(struct vcpu *cpu, uint64_t tsc)
{
    struct exit_record *rec = &cpu->ring[cpu->stat.exits_total % EXIT_RING];

    *rec = (struct exit_record){ .tsc = tsc, .reason = cpu->run->exit_reason };
    return rec;
}

/* IN and OUT, and their string forms, which move `count` values in one exit. */
static void handle_pio(struct vcpu *cpu, struct exit_record *rec)
{
    struct kvm_run *run = cpu->run;
    struct bus *bus = cpu->vm->bus;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;
    unsigned size = run->io.size;

    add(&cpu->stat.pio);
    rec->addr = run->io.port;
    rec->size = (uint8_t)size;
    rec->count = run->io.count;
    rec->write = run->io.direction == KVM_EXIT_IO_OUT;
    if (rec->write)
        rec->value = load(data, size);
    for (uint32_t i = 0; i < run->io.count; i++, data += size) {
        if (rec->write) {
            rec->claimed = bus_write(bus, BUS_PIO, run->io.port, size, load(data, size));
        } else {
            uint64_t value;

            rec->claimed = bus_read(bus, BUS_PIO, run->io.port, size, &value);
            memcpy(data, &value, size);
            if (i == 0)
                rec->value = value;
        }
    }
}

/* An access by the emulator that no device answered: ends the VM when it was to RAM. */
static void check_ram(struct vcpu *cpu)
{
    uint64_t addr = cpu->run->mmio.phys_addr;
    char what[128] = "the host can't give the memory that the guest touched";

    if (memory_guarded(cpu->vm->mem, gpa(addr), 1))
        (void)guard_explain(cpu, 0, what, sizeof(what));
    else if (!memory_at(cpu->vm->mem, gpa(addr), 1))
        return;
    dump_crash(cpu, what, 0);
}

/*
 * KVM cuts an access at 8 bytes and at page ends, so that any length from 1 to
 * 8 can come; devices see powers of two only.
 */
static void handle_mmio(struct vcpu *cpu, struct exit_record *rec)
{
    struct kvm_run *run = cpu->run;
    struct bus *bus = cpu->vm->bus;
    unsigned len = run->mmio.len <= 8 ? run->mmio.len : 8;

    add(&cpu->stat.mmio);
    rec->addr = run->mmio.phys_addr;
    rec->size = (uint8_t)len;
    rec->count = 1;
    rec->write = run->mmio.is_write;
    for (unsigned at = 0, size; at < len; at += size) {
        uint8_t *data = run->mmio.data + at;
        uint64_t addr = run->mmio.phys_addr + at, value;

        size = 1u << (31 - __builtin_clz(len - at));
        if (rec->write) {
            rec->claimed = bus_write(bus, BUS_MMIO, addr, size, load(data, size));
        } else {
            rec->claimed = bus_read(bus, BUS_MMIO, addr, size, &value);
            memcpy(data, &value, size);
        }
    }
    rec->value = load(run->mmio.data, len);
    /* RAM never exits, unless KVM's emulator found the host's page gone or guarded. */
    if (!rec->claimed)
        check_ram(cpu);
}

static void handle_system_event(struct vcpu *cpu)
{
    char what[96];
    uint32_t type = cpu->run->system_event.type;

    switch (type) {
    case KVM_SYSTEM_EVENT_SHUTDOWN:
        vm_end(cpu->vm, VM_END_POWEROFF, 0, "KVM: the guest powered off");
        return;
    case KVM_SYSTEM_EVENT_RESET:
        vm_end(cpu->vm, VM_END_RESET, 0, "KVM: the guest asked for a reset");
        return;
    case KVM_SYSTEM_EVENT_CRASH:
        dump_crash(cpu, "the guest told KVM that it crashed", 0);
        return;
    default:
        (void)snprintf(what, sizeof(what), "system event %u, which this monitor does not know",
                       type);
        dump_crash(cpu, what, 0);
        return;
    }
}

static void handle_internal_error(struct vcpu *cpu)
{
    static const char *const names[] = {
        [KVM_INTERNAL_ERROR_EMULATION] = "KVM could not emulate an instruction",
        [KVM_INTERNAL_ERROR_SIMUL_EX] = "KVM met two exceptions at once",
        [KVM_INTERNAL_ERROR_DELIVERY_EV] = "KVM exited while it delivered an event",
        [KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON] = "KVM got an exit that it does not know",
    };
    uint32_t sub = cpu->run->internal.suberror;
    char what[96];

    (void)snprintf(what, sizeof(what), "KVM internal error %u: %s", sub,
                   sub < sizeof(names) / sizeof(names[0]) && names[sub] ? names[sub] : "unknown");
    dump_crash(cpu, what, 0);
}

static void handle_fatal(struct vcpu *cpu)
{
    struct kvm_run *run = cpu->run;
    char what[128];

    /* What a guard takes away may be what KVM itself, or an exception, needs. */
    if (guard_explain(cpu, 0, what, sizeof(what))) {
        dump_crash(cpu, what, 0);
        return;
    }
    switch (run->exit_reason) {
    case KVM_EXIT_SHUTDOWN:
        dump_crash(cpu, "triple fault: an exception could not be delivered, nor the double fault",
                   0);
        return;
    case KVM_EXIT_INTERNAL_ERROR:
        handle_internal_error(cpu);
        return;
    case KVM_EXIT_FAIL_ENTRY:
        (void)snprintf(what, sizeof(what),
                       "the CPU refuses to enter the guest: hardware reason 0x%llx",
                       (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
        break;
    case KVM_EXIT_UNKNOWN:
        (void)snprintf(what, sizeof(what), "unknown hardware exit 0x%llx",
                       (unsigned long long)run->hw.hardware_exit_reason);
        break;
    default:
        (void)snprintf(what, sizeof(what), "exit %u (%s), which this monitor did not ask for",
                       run->exit_reason, exit_name(run->exit_reason));
        break;
    }
    dump_crash(cpu, what, 0);
}

/* What is neither port nor memory access; none of it is frequent. */
static void handle_other(struct vcpu *cpu)
{
    struct kvm_run *run = cpu->run;

    switch (run->exit_reason) {
    case KVM_EXIT_INTR:
        add(&cpu->stat.intr);
        return;
    case KVM_EXIT_IRQ_WINDOW_OPEN:
        add(&cpu->stat.other);
        return;
    case KVM_EXIT_X86_RDMSR:
    case KVM_EXIT_X86_WRMSR:
        add(&cpu->stat.other);
        run->msr.error = 1; /* #GP, as on a CPU without this MSR */
        return;
    case KVM_EXIT_SYSTEM_EVENT:
        add(&cpu->stat.other);
        handle_system_event(cpu);
        return;
    case KVM_EXIT_HLT:
        /* HLT waits in the kernel, whose local APIC we asked for: waiting here would hang. */
        add(&cpu->stat.hlt);
        handle_fatal(cpu);
        return;
    default:
        add(&cpu->stat.other);
        handle_fatal(cpu);
        return;
    }
}

void vcpu_note_exit(struct vcpu *cpu, const struct exit_record *rec)
{
    cpu->ring[cpu->stat.exits_total % EXIT_RING] = *rec;
    add(&cpu->stat.exits_total);
    add(rec->reason == KVM_EXIT_IO ? &cpu->stat.pio : &cpu->stat.traps);
    if (cpu->vm->cfg->trace)
        trace_exit(cpu, rec);
}

void vcpu_handle_exit(struct vcpu *cpu, uint64_t tsc)
{
    struct exit_record *rec = record(cpu, tsc);

    add(&cpu->stat.exits_total);
    if (rec->reason == KVM_EXIT_IO)
        handle_pio(cpu, rec);
    else if (rec->reason == KVM_EXIT_MMIO)
        handle_mmio(cpu, rec);
    if (cpu->vm->cfg->trace)
        trace_exit(cpu, rec);
    if (rec->reason != KVM_EXIT_IO && rec->reason != KVM_EXIT_MMIO)
        handle_other(cpu);
}
