/*
 * One exit in words: for --trace, and for the last exits of a crash dump.
 * The format is documented in docs/exits.md; scripts read it.
 */
#include "vmm/vm_impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm/cpu_state.h"

/* A string instruction may move thousands of values in one exit: the first ones tell. */
#define VALUES_MAX 8

const char *exit_name(uint32_t reason)
{
    static const char *const names[] = {
        [KVM_EXIT_UNKNOWN] = "unknown",
        [KVM_EXIT_EXCEPTION] = "exception",
        [KVM_EXIT_IO] = "pio",
        [KVM_EXIT_HYPERCALL] = "hypercall",
        [KVM_EXIT_DEBUG] = "debug",
        [KVM_EXIT_HLT] = "hlt",
        [KVM_EXIT_MMIO] = "mmio",
        [KVM_EXIT_IRQ_WINDOW_OPEN] = "irq-window",
        [KVM_EXIT_SHUTDOWN] = "shutdown",
        [KVM_EXIT_FAIL_ENTRY] = "fail-entry",
        [KVM_EXIT_INTR] = "signal",
        [KVM_EXIT_SET_TPR] = "set-tpr",
        [KVM_EXIT_TPR_ACCESS] = "tpr-access",
        [KVM_EXIT_NMI] = "nmi",
        [KVM_EXIT_INTERNAL_ERROR] = "internal-error",
        [KVM_EXIT_WATCHDOG] = "watchdog",
        [KVM_EXIT_SYSTEM_EVENT] = "system-event",
        [KVM_EXIT_IOAPIC_EOI] = "ioapic-eoi",
        [KVM_EXIT_HYPERV] = "hyperv",
        [KVM_EXIT_X86_RDMSR] = "rdmsr",
        [KVM_EXIT_X86_WRMSR] = "wrmsr",
        [KVM_EXIT_DIRTY_RING_FULL] = "dirty-ring-full",
        [KVM_EXIT_AP_RESET_HOLD] = "ap-reset-hold",
        [KVM_EXIT_X86_BUS_LOCK] = "bus-lock",
        [KVM_EXIT_XEN] = "xen",
        [KVM_EXIT_NOTIFY] = "notify",
        [KVM_EXIT_MEMORY_FAULT_NR] = "memory-fault",
    };

    if (reason == EXIT_TRAP)
        return "trap";
    if (reason < sizeof(names) / sizeof(names[0]) && names[reason])
        return names[reason];
    return "unnamed";
}

static const char *direction(const struct exit_record *rec)
{
    if (rec->reason == KVM_EXIT_IO)
        return rec->write ? "out" : "in";
    return rec->write ? "write" : "read";
}

void exit_print(FILE *to, const struct exit_record *rec)
{
    if (rec->reason == EXIT_TRAP)
        fprintf(to, " vector=%" PRIu64, rec->addr);
    if (rec->reason == EXIT_TRAP && rec->addr == CPU_PAGE)
        fprintf(to, " cr2=0x%" PRIx64, rec->value);
    if (rec->size == 0)
        return;
    fprintf(to, " %s 0x%" PRIx64 " size=%u count=%" PRIu32 " value=0x%" PRIx64, direction(rec),
            rec->addr, rec->size, rec->count, rec->value);
}

/* RIP as KVM leaves it: on the instruction or behind it, which depends on the exit. */
static uint64_t rip_of(struct vcpu *cpu)
{
    struct kvm_sregs sregs;
    struct kvm_regs regs;

    if (cpu->depriv)
        return vcpu_registers(cpu, &regs, &sregs) == 0 ? regs.rip : 0;
    if (cpu->run->kvm_valid_regs & KVM_SYNC_X86_REGS)
        return cpu->run->s.regs.regs.rip;
    return ioctl(cpu->fd, KVM_GET_REGS, &regs) == 0 ? regs.rip : 0;
}

/* The values of a string instruction behind the first one. */
static void print_values(FILE *to, const struct vcpu *cpu, const struct exit_record *rec)
{
    const uint8_t *data = (const uint8_t *)cpu->run + cpu->run->io.data_offset;

    for (uint32_t i = 1; i < rec->count && i < VALUES_MAX; i++) {
        uint64_t value = 0;

        memcpy(&value, data + (size_t)i * rec->size, rec->size);
        fprintf(to, ",0x%" PRIx64, value);
    }
    if (rec->count > VALUES_MAX)
        fputs(",...", to);
}

void trace_exit(struct vcpu *cpu, const struct exit_record *rec)
{
    FILE *to = cpu->vm->cfg->trace;
    double seconds = (double)vm_ticks_to_ns(cpu->vm, rec->tsc - cpu->vm->create_tsc) * 1e-9;
    uint64_t rip = rip_of(cpu);

    flockfile(to); /* lines of several vCPUs stay whole */
    fprintf(to, "%.6f cpu%u %s rip=0x%" PRIx64, seconds, cpu->id, exit_name(rec->reason), rip);
    exit_print(to, rec);
    if (rec->reason == KVM_EXIT_IO)
        print_values(to, cpu, rec);
    if (rec->size && !rec->claimed)
        fputs(" unclaimed", to);
    fputc('\n', to);
    funlockfile(to);
}
