/*
 * Which guarded page a vCPU met. KVM names it in some exits; where it only says EFAULT, the
 * instruction is looked at: its own bytes, its operands, and the guest's tables on the way to them.
 */
#include "vmm/vm_impl.h"

#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>

#include "ept/format_x86.h"
#include "ept/walk.h"
#include "vmm/operand.h"

#define DOUBLE_FAULT 8
#define PAGE_FAULT   14

struct hit {
    gpa_t at;
    const char *access; /* "write", "read"... */
};

struct search {
    struct vcpu *cpu;
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct pt_space space;
    struct hit hit;
};

static int read_entry(void *ctx, uint64_t at, unsigned size, uint64_t *raw)
{
    *raw = 0;
    return memory_read(ctx, gpa(at), raw, size);
}

static bool guarded(const struct search *s, uint64_t at)
{
    return memory_guarded(s->cpu->vm->mem, gpa(at), 1);
}

/* True when an access to this linear address meets a guarded page: its tables or itself. */
static bool meets(struct search *s, uint64_t linear, const char *access, uint64_t *out)
{
    struct pt_walk w;
    enum pt_fault fault = pt_walk(&s->space, linear, read_entry, s->cpu->vm->mem, &w);

    if (w.count && guarded(s, w.ref[w.count - 1].at)) {
        s->hit = (struct hit){ gpa(w.ref[w.count - 1].at), "read of a page table" };
        return true;
    }
    *out = w.output;
    if (fault != PT_OK || !guarded(s, w.output))
        return false;
    s->hit = (struct hit){ gpa(w.output), access };
    return true;
}

/* From the instruction that the vCPU stands at. */
static bool search_instruction(struct search *s)
{
    bool mode64 = s->sregs.efer & X86_EFER_LMA && s->sregs.cs.l;
    uint64_t rip = mode64 ? s->regs.rip : (uint32_t)(s->sregs.cs.base + s->regs.rip);
    struct operand operand[OPERANDS_MAX];
    uint8_t code[INSTRUCTION_MAX];
    size_t n = 0, count;
    unsigned length;
    uint64_t at;

    for (; n < INSTRUCTION_MAX; n++) {
        if (meets(s, rip + n, "execution", &at)) {
            if (n == 0)
                return true;
            break; /* perhaps behind the instruction: its length will say */
        }
        if (memory_read(s->cpu->vm->mem, gpa(at), &code[n], 1) < 0)
            break;
    }
    count = operand_list(code, n, &s->regs, &s->sregs, operand, &length);
    for (size_t i = 0; i < count; i++)
        /* None is larger than a page by more than some bytes: its ends tell. */
        if (meets(s, operand[i].linear, operand[i].write ? "write" : "read", &at) ||
            meets(s, operand[i].linear + operand[i].size - 1, operand[i].write ? "write" : "read",
                  &at))
            return true;
    return length == 0 && n > 0 && n < INSTRUCTION_MAX && meets(s, rip + n, "execution", &at);
}

/* What delivering an exception reads and writes: without it there is a triple fault. */
static bool search_delivery(struct search *s)
{
    unsigned gate = s->sregs.efer & X86_EFER_LMA ? 16 : 8;
    uint64_t at;

    return meets(s, s->sregs.idt.base + PAGE_FAULT * gate, "read of the IDT", &at) ||
           meets(s, s->sregs.idt.base + DOUBLE_FAULT * gate, "read of the IDT", &at) ||
           meets(s, s->sregs.gdt.base + s->sregs.cs.selector, "read of the GDT", &at) ||
           meets(s, s->sregs.tr.base, "read of the TSS", &at) ||
           meets(s, s->regs.rsp - 8, "write of the stack", &at);
}

static bool search(struct search *s, int error)
{
    const struct kvm_run *run = s->cpu->run;
    struct x86_paging paging;
    uint64_t fault[3];

    if (error == 0 && run->exit_reason == KVM_EXIT_MMIO && guarded(s, run->mmio.phys_addr)) {
        s->hit = (struct hit){ gpa(run->mmio.phys_addr), run->mmio.is_write ? "write" : "read" };
        return true;
    }
    memcpy(fault, run->padding, sizeof(fault)); /* flags, gpa, size; see dump.c */
    if (error && run->exit_reason == KVM_EXIT_MEMORY_FAULT_NR && guarded(s, fault[1])) {
        s->hit = (struct hit){ gpa(fault[1]), "access" };
        return true;
    }
    paging = (struct x86_paging){
        .cr0 = s->sregs.cr0,
        .cr3 = s->sregs.cr3,
        .cr4 = s->sregs.cr4,
        .efer = s->sregs.efer,
        .phys_bits = cpuid_phys_bits(s->cpu->vm->cpuid),
        .gib_pages = cpuid_gib_pages(s->cpu->vm->cpuid),
        .amd = cpuid_amd(s->cpu->vm->cpuid),
    };
    x86_pt_space(&s->space, &paging);
    return search_instruction(s) || (run->exit_reason == KVM_EXIT_SHUTDOWN && search_delivery(s));
}

bool guard_explain(struct vcpu *cpu, int error, char *what, size_t size)
{
    struct search s = { .cpu = cpu };
    uint64_t len;
    gpa_t at;

    if (!memory_guard_range(cpu->vm->mem, 0, &at, &len))
        return false;
    if (vcpu_registers(cpu, &s.regs, &s.sregs) < 0)
        return false;
    if (!search(&s, error))
        return false;
    (void)snprintf(what, size, "guarded memory: %s at gpa 0x%" PRIx64 ", rip 0x%llx", s.hit.access,
                   s.hit.at.v, s.regs.rip);
    return true;
}
