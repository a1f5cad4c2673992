/*
 * What a person gets when a vCPU can't go on: why, its registers, the code at
 * RIP, the walk of RIP and CR2, and the last exits. Built in memory and written
 * at once, so that nothing comes between its lines.
 */
#include "vmm/vm_impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "ept/format_x86.h"
#include "ept/walk.h"
#include "vmm/operand.h"

#define CODE_BEFORE 8
#define CODE_AFTER  16

struct dump {
    FILE *to;
    struct vcpu *cpu;
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct pt_space space;
};

static int read_entry(void *ctx, uint64_t at, unsigned size, uint64_t *raw)
{
    *raw = 0;
    return memory_read(ctx, gpa(at), raw, size); /* guest and host are little-endian */
}

static enum pt_fault walk(struct dump *d, uint64_t address, struct pt_walk *out)
{
    return pt_walk(&d->space, address, read_entry, d->cpu->vm->mem, out);
}

static bool long_mode(const struct dump *d)
{
    return d->sregs.efer & X86_EFER_LMA;
}

/* RIP as an address: CS has a base outside of 64-bit mode. */
static uint64_t linear_rip(const struct dump *d)
{
    if (long_mode(d) && d->sregs.cs.l)
        return d->regs.rip;
    return (uint32_t)(d->sregs.cs.base + d->regs.rip);
}

static const char *mode_name(const struct dump *d)
{
    if (long_mode(d))
        return d->sregs.cs.l ? "64-bit" : "compatibility";
    if (!(d->sregs.cr0 & 1))
        return "real";
    return d->sregs.cs.db ? "32-bit protected" : "16-bit protected";
}

static void print_general(struct dump *d)
{
    const struct kvm_regs *r = &d->regs;
    const struct {
        const char *name;
        uint64_t value;
    } all[] = {
        { "rax", r->rax }, { "rbx", r->rbx }, { "rcx", r->rcx }, { "rdx", r->rdx },
        { "rsi", r->rsi }, { "rdi", r->rdi }, { "rbp", r->rbp }, { "rsp", r->rsp },
        { "r8 ", r->r8 },  { "r9 ", r->r9 },  { "r10", r->r10 }, { "r11", r->r11 },
        { "r12", r->r12 }, { "r13", r->r13 }, { "r14", r->r14 }, { "r15", r->r15 },
    };

    fprintf(d->to, "  %s mode, ring %u, %s\n", mode_name(d), d->sregs.cs.selector & 3,
            d->space.format->levels ? d->space.format->name : "paging off");
    fprintf(d->to, "  rip %016llx  rflags %08llx\n", r->rip, r->rflags);
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        fprintf(d->to, "  %s %016" PRIx64 "%s", all[i].name, all[i].value, i % 4 == 3 ? "\n" : "");
}

static void print_segment(FILE *to, const char *name, const struct kvm_segment *s)
{
    fprintf(to, "  %s %04x base %016llx limit %08x type %x%s dpl %u%s%s\n", name, s->selector,
            s->base, s->limit, s->type, s->s ? "" : " system", s->dpl,
            s->l ? " 64-bit" : (s->db ? " 32-bit" : " 16-bit"), s->present ? "" : " not present");
}

static void print_system(struct dump *d)
{
    const struct kvm_sregs *s = &d->sregs;

    print_segment(d->to, "cs ", &s->cs);
    print_segment(d->to, "ss ", &s->ss);
    print_segment(d->to, "ds ", &s->ds);
    print_segment(d->to, "es ", &s->es);
    print_segment(d->to, "fs ", &s->fs);
    print_segment(d->to, "gs ", &s->gs);
    print_segment(d->to, "tr ", &s->tr);
    print_segment(d->to, "ldt", &s->ldt);
    fprintf(d->to, "  gdt base %016llx limit %04x  idt base %016llx limit %04x\n", s->gdt.base,
            s->gdt.limit, s->idt.base, s->idt.limit);
    fprintf(d->to, "  cr0 %08llx  cr2 %016llx  cr3 %016llx  cr4 %08llx  cr8 %llx\n", s->cr0, s->cr2,
            s->cr3, s->cr4, s->cr8);
    fprintf(d->to, "  efer %08llx  apic base %016llx\n", s->efer, s->apic_base);
}

/* Bytes around RIP, each through the walker: a page boundary may lie between two. */
static void print_code(struct dump *d)
{
    uint64_t rip = linear_rip(d);
    uint8_t code[CODE_AFTER];
    char text[128];
    int known = 0; /* bytes from rip on that could be read */

    fputs("  code at rip:", d->to);
    for (int i = -CODE_BEFORE; i < CODE_AFTER; i++) {
        struct pt_walk w;
        uint8_t byte;

        if (walk(d, rip + (uint64_t)i, &w) == PT_OK &&
            memory_read(d->cpu->vm->mem, gpa(w.output), &byte, 1) == 0) {
            fprintf(d->to, i == 0 ? " <%02x>" : " %02x", byte);
            if (i == known)
                code[known++] = byte;
        } else
            fputs(i == 0 ? " <-->" : " --", d->to);
    }
    fputc('\n', d->to);
    if (known && instruction_text(code, (size_t)known, &d->regs, &d->sregs, text, sizeof(text)))
        fprintf(d->to, "  instruction at rip: %s\n", text);
    else if (known)
        fputs("  instruction at rip: none that can be decoded\n", d->to);
    if (d->space.format->levels == 0 && !memory_at(d->cpu->vm->mem, gpa(rip), 1))
        fprintf(d->to, "  rip is gpa %" PRIx64 ", which is no RAM\n", rip);
}

static void print_walk(struct dump *d, const char *name, uint64_t address)
{
    const struct pt_format *format = d->space.format;
    struct pt_walk w;

    (void)walk(d, address, &w);
    fprintf(d->to, "  walk of %s %016" PRIx64 " (%s):\n", name, address, format->name);
    for (unsigned i = 0; i < w.count; i++)
        fprintf(d->to, "    %-5s at %010" PRIx64 " = %016" PRIx64 "\n",
                format->level[w.ref[i].level].name, w.ref[i].at, w.ref[i].raw);
    if (w.fault != PT_OK)
        fprintf(d->to, "    %s\n", pt_fault_name(w.fault));
    else
        fprintf(d->to, "    gpa %" PRIx64 "%s\n", w.output,
                memory_at(d->cpu->vm->mem, gpa(w.output), 1) ? "" : ", which is no RAM");
}

/* What KVM adds to an internal error. */
static void print_internal(struct dump *d)
{
    const struct kvm_run *run = d->cpu->run;
    uint32_t count = run->internal.ndata <= 16 ? run->internal.ndata : 16;

    if (run->exit_reason != KVM_EXIT_INTERNAL_ERROR)
        return;
    if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION && count >= 3 &&
        run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) {
        fputs("  instruction:", d->to);
        for (unsigned i = 0; i < run->emulation_failure.insn_size && i < 15; i++)
            fprintf(d->to, " %02x", run->emulation_failure.insn_bytes[i]);
        fputc('\n', d->to);
    }
    fputs("  data from KVM:", d->to);
    for (uint32_t i = 0; i < count; i++)
        fprintf(d->to, " %llx", run->internal.data[i]);
    fputc('\n', d->to);
}

static void print_memory_fault(struct dump *d, int error)
{
    /* struct kvm_run's memory_fault, which our oldest headers lack: flags, gpa, size. */
    uint64_t fault[3];

    if (error == 0 || d->cpu->run->exit_reason != KVM_EXIT_MEMORY_FAULT_NR)
        return;
    memcpy(fault, d->cpu->run->padding, sizeof(fault));
    fprintf(d->to, "  memory fault at gpa %" PRIx64 ", %" PRIu64 " bytes, flags %" PRIx64 "\n",
            fault[1], fault[2], fault[0]);
}

static void print_exits(struct dump *d)
{
    const struct vcpu *cpu = d->cpu;
    uint64_t total = cpu->stat.exits_total, now = vm_tsc();
    uint64_t count = total < EXIT_RING ? total : EXIT_RING;

    fprintf(d->to, "  last %" PRIu64 " of %" PRIu64 " exits:\n", count, total);
    for (uint64_t i = total - count; i < total; i++) {
        const struct exit_record *rec = &cpu->ring[i % EXIT_RING];
        double us = (double)vm_ticks_to_ns(cpu->vm, now - rec->tsc) * 1e-3;

        fprintf(d->to, "    -%.1f us %s", us, exit_name(rec->reason));
        exit_print(d->to, rec);
        fputc('\n', d->to);
    }
}

static void print_all(struct dump *d, const char *what, int error)
{
    struct x86_paging paging = {
        .cr0 = d->sregs.cr0,
        .cr3 = d->sregs.cr3,
        .cr4 = d->sregs.cr4,
        .efer = d->sregs.efer,
        .phys_bits = cpuid_phys_bits(d->cpu->vm->cpuid),
        .gib_pages = cpuid_gib_pages(d->cpu->vm->cpuid),
        .amd = cpuid_amd(d->cpu->vm->cpuid),
    };

    x86_pt_space(&d->space, &paging);
    fprintf(d->to, "twofold: vCPU %u can't go on: %s\n", d->cpu->id, what);
    /* KVM may leave the reason of the exit before in place when it fails. */
    if (error && d->cpu->run->exit_reason != KVM_EXIT_MEMORY_FAULT_NR)
        fprintf(d->to, "  no exit: KVM_RUN failed: %s\n", strerror(error));
    else
        fprintf(d->to, "  last exit: %s (%u)\n", exit_name(d->cpu->run->exit_reason),
                d->cpu->run->exit_reason);
    print_memory_fault(d, error);
    print_internal(d);
    print_general(d);
    print_system(d);
    print_code(d);
    if (d->space.format->levels) {
        print_walk(d, "rip", linear_rip(d));
        print_walk(d, "cr2", d->sregs.cr2);
    }
    print_exits(d);
}

/* True for the one vCPU that may dump: several may crash at the same time. */
static bool dump_claim(struct vm *vm)
{
    bool first;

    (void)pthread_mutex_lock(&vm->lock);
    first = !vm->dumped && vm->state != VM_ENDED;
    vm->dumped = true;
    (void)pthread_mutex_unlock(&vm->lock);
    return first;
}

void dump_crash(struct vcpu *cpu, const char *what, int error)
{
    struct dump d = { .cpu = cpu };
    char *text = NULL, why[200];
    size_t length = 0;

    if (!dump_claim(cpu->vm))
        return;
    d.to = open_memstream(&text, &length);
    if (d.to) {
        if (vcpu_registers(cpu, &d.regs, &d.sregs) < 0)
            fprintf(d.to, "twofold: KVM does not give the registers of vCPU %u\n", cpu->id);
        print_all(&d, what, error);
        if (fclose(d.to) == 0)
            (void)fwrite(text, 1, length, stderr);
        free(text);
    }
    (void)snprintf(why, sizeof(why), "vCPU %u: %s", cpu->id, what);
    vm_end(cpu->vm, VM_END_CRASH, 0, why);
}
