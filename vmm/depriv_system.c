/*
 * The privileged instructions, on the virtual CPU. Each is judged by the guest's own ring: one of
 * its ring 3 gets the fault that hardware has for it.
 */
#include "vmm/depriv_impl.h"

#include <sys/ioctl.h>

#include "ept/entry.h"

static int do_cli(struct depriv_cpu *c, const struct interp_insn *i, struct cpu_fault *f)
{
    (void)i;
    if (!cpu_real_mode(&c->s) && c->s.cpl > (c->s.rflags & CPU_IOPL) >> 12)
        return cpu_raise_gp(f, 0);
    c->s.rflags &= ~CPU_IF;
    return 0;
}

static int do_sti(struct depriv_cpu *c, const struct interp_insn *i, struct cpu_fault *f)
{
    (void)i;
    if (!cpu_real_mode(&c->s) && c->s.cpl > (c->s.rflags & CPU_IOPL) >> 12)
        return cpu_raise_gp(f, 0);
    if (!(c->s.rflags & CPU_IF))
        c->s.inhibited = true;
    c->s.rflags |= CPU_IF;
    return 0;
}

static int do_hlt(struct depriv_cpu *c, const struct interp_insn *i, struct cpu_fault *f)
{
    (void)i, (void)f;
    c->s.halted = true;
    return 0;
}

static int do_clts(struct depriv_cpu *c, const struct interp_insn *i, struct cpu_fault *f)
{
    (void)i, (void)f;
    c->s.cr0 &= ~CPU_CR0_TS;
    return 0;
}

static int do_lmsw(struct depriv_cpu *c, const struct interp_insn *i, struct cpu_fault *f)
{
    uint64_t value;

    if (interp_operand_read(c->in, i, 0, &value, f) < 0)
        return -1;
    value &= 0xf;
    value |= c->s.cr0 & CPU_CR0_PE; /* it can't be cleared this way */
    return depriv_set_cr0(c, (c->s.cr0 & ~UINT64_C(0xf)) | value, f);
}

static int do_smsw(struct depriv_cpu *c, const struct interp_insn *i, struct cpu_fault *f)
{
    if (c->s.cpl == 3 && c->s.cr4 & CPU_CR4_UMIP)
        return cpu_raise_gp(f, 0);
    return interp_operand_write(c->in, i, 0, c->s.cr0, f);
}

static int do_invlpg(struct depriv_cpu *c, const struct interp_insn *i, struct cpu_fault *f)
{
    uint64_t linear;

    /* An address that is not canonical is no fault here, and nothing is mapped there. */
    if (interp_operand_linear(c->in, i, 0, &linear, f) < 0)
        return 0;
    depriv_tlb_forget(c);
    depriv_tell_writes(c);
    if (cpu_long_mode(&c->s) && depriv_ready(c) == 0)
        shadow_invlpg(c->d->shadow, c->cpu->id, &c->mode, gva(linear));
    return 0;
}

static int do_invpcid(struct depriv_cpu *c, const struct interp_insn *i, struct cpu_fault *f)
{
    uint64_t type, linear, descriptor[2];

    if (interp_operand_read(c->in, i, 0, &type, f) < 0 ||
        interp_operand_linear(c->in, i, 1, &linear, f) < 0 ||
        interp_load(c->in, linear, descriptor, sizeof(descriptor), false, false, f) < 0)
        return -1;
    if (type > 3 || (type < 2 && descriptor[0] >> 12))
        return cpu_raise_gp(f, 0);
    depriv_flush_all(c); /* more than it asks for, which is allowed */
    return 0;
}

static int do_nothing(struct depriv_cpu *c, const struct interp_insn *i, struct cpu_fault *f)
{
    (void)c, (void)i, (void)f;
    return 0;
}

static int do_rdmsr(struct depriv_cpu *c, const struct interp_insn *i, struct cpu_fault *f)
{
    uint64_t value;

    (void)i;
    if (depriv_rdmsr(c, (uint32_t)c->s.gpr[CPU_RCX], &value) < 0)
        return cpu_raise_gp(f, 0);
    c->s.gpr[CPU_RAX] = (uint32_t)value;
    c->s.gpr[CPU_RDX] = value >> 32;
    return 0;
}

static int do_wrmsr(struct depriv_cpu *c, const struct interp_insn *i, struct cpu_fault *f)
{
    uint64_t value = (uint32_t)c->s.gpr[CPU_RAX] | c->s.gpr[CPU_RDX] << 32;

    (void)i;
    return depriv_wrmsr(c, (uint32_t)c->s.gpr[CPU_RCX], value) < 0 ? cpu_raise_gp(f, 0) : 0;
}

static int do_swapgs(struct depriv_cpu *c, const struct interp_insn *i, struct cpu_fault *f)
{
    uint64_t base = c->s.seg[CPU_GS].base;

    (void)i;
    if (cpu_code_bits(&c->s) != 64)
        return cpu_raise_ud(f);
    c->s.seg[CPU_GS].base = c->s.kernel_gs_base;
    c->s.kernel_gs_base = base;
    return 0;
}

static int do_xsetbv(struct depriv_cpu *c, const struct interp_insn *i, struct cpu_fault *f)
{
    struct kvm_xcrs xcrs = { .nr_xcrs = 1 };

    (void)i;
    if (!(c->s.cr4 & CPU_CR4_OSXSAVE))
        return cpu_raise_ud(f);
    xcrs.xcrs[0].xcr = (uint32_t)c->s.gpr[CPU_RCX];
    xcrs.xcrs[0].value = (uint32_t)c->s.gpr[CPU_RAX] | c->s.gpr[CPU_RDX] << 32;
    if (xcrs.xcrs[0].xcr != 0 || ioctl(c->cpu->fd, KVM_SET_XCRS, &xcrs) < 0)
        return cpu_raise_gp(f, 0);
    c->s.xcr0 = xcrs.xcrs[0].value;
    return 0;
}

static int do_ac(struct depriv_cpu *c, const struct interp_insn *i, struct cpu_fault *f)
{
    if (!(c->s.cr4 & X86_CR4_SMAP))
        return cpu_raise_ud(f);
    if (i->z->mnemonic == ZYDIS_MNEMONIC_STAC)
        c->s.rflags |= CPU_AC;
    else
        c->s.rflags &= ~CPU_AC;
    return 0;
}

static int do_cpuid(struct depriv_cpu *c, const struct interp_insn *i, struct cpu_fault *f)
{
    uint32_t r[4];

    (void)i, (void)f;
    cpuid_answer(c->d->vm->cpuid, c->cpu->id, (uint32_t)c->s.gpr[CPU_RAX],
                 (uint32_t)c->s.gpr[CPU_RCX], r);
    c->s.gpr[CPU_RAX] = r[0];
    c->s.gpr[CPU_RBX] = r[1];
    c->s.gpr[CPU_RCX] = r[2];
    c->s.gpr[CPU_RDX] = r[3];
    return 0;
}

static int do_rdtsc(struct depriv_cpu *c, const struct interp_insn *i, struct cpu_fault *f)
{
    uint64_t value = 0;

    if (c->s.cpl != 0 && c->s.cr4 & CPU_CR4_TSD)
        return cpu_raise_gp(f, 0);
    (void)depriv_rdmsr(c, 0x10, &value);
    c->s.gpr[CPU_RAX] = (uint32_t)value;
    c->s.gpr[CPU_RDX] = value >> 32;
    if (i->z->mnemonic == ZYDIS_MNEMONIC_RDTSCP) {
        (void)depriv_rdmsr(c, 0xc0000103, &value);
        c->s.gpr[CPU_RCX] = (uint32_t)value;
    }
    return 0;
}

static int do_base(struct depriv_cpu *c, const struct interp_insn *i, struct cpu_fault *f)
{
    bool fs =
        i->z->mnemonic == ZYDIS_MNEMONIC_RDFSBASE || i->z->mnemonic == ZYDIS_MNEMONIC_WRFSBASE;
    __u64 *base = &c->s.seg[fs ? CPU_FS : CPU_GS].base;
    uint64_t value;

    if (cpu_code_bits(&c->s) != 64 || !(c->s.cr4 & CPU_CR4_FSGSBASE))
        return cpu_raise_ud(f);
    if (i->z->mnemonic == ZYDIS_MNEMONIC_RDFSBASE || i->z->mnemonic == ZYDIS_MNEMONIC_RDGSBASE)
        return interp_operand_write(c->in, i, 0, *base, f);
    if (interp_operand_read(c->in, i, 0, &value, f) < 0)
        return -1;
    if (!pt_input_fits(&pt_x86_64, value))
        return cpu_raise_gp(f, 0);
    *base = value;
    return 0;
}

struct handler {
    ZydisMnemonic mnemonic;
    enum depriv_kind kind;
    bool ring0; /* #GP elsewhere */
    int (*run)(struct depriv_cpu *c, const struct interp_insn *insn, struct cpu_fault *fault);
};

static const struct handler handlers[] = {
    { ZYDIS_MNEMONIC_CLI, DEPRIV_IF, false, do_cli },
    { ZYDIS_MNEMONIC_STI, DEPRIV_IF, false, do_sti },
    { ZYDIS_MNEMONIC_SWAPGS, DEPRIV_SWAPGS, true, do_swapgs },
    { ZYDIS_MNEMONIC_RDMSR, DEPRIV_MSR, true, do_rdmsr },
    { ZYDIS_MNEMONIC_WRMSR, DEPRIV_MSR, true, do_wrmsr },
    { ZYDIS_MNEMONIC_INVLPG, DEPRIV_INVLPG, true, do_invlpg },
    { ZYDIS_MNEMONIC_INVPCID, DEPRIV_INVLPG, true, do_invpcid },
    { ZYDIS_MNEMONIC_HLT, DEPRIV_HLT, true, do_hlt },
    { ZYDIS_MNEMONIC_CLTS, DEPRIV_CR, true, do_clts },
    { ZYDIS_MNEMONIC_LMSW, DEPRIV_CR, true, do_lmsw },
    { ZYDIS_MNEMONIC_SMSW, DEPRIV_CR, false, do_smsw },
    { ZYDIS_MNEMONIC_STAC, DEPRIV_OTHER, true, do_ac },
    { ZYDIS_MNEMONIC_CLAC, DEPRIV_OTHER, true, do_ac },
    { ZYDIS_MNEMONIC_XSETBV, DEPRIV_OTHER, true, do_xsetbv },
    { ZYDIS_MNEMONIC_WBINVD, DEPRIV_OTHER, true, do_nothing },
    { ZYDIS_MNEMONIC_INVD, DEPRIV_OTHER, true, do_nothing },
    { ZYDIS_MNEMONIC_CPUID, DEPRIV_OTHER, false, do_cpuid },
    { ZYDIS_MNEMONIC_RDTSC, DEPRIV_OTHER, false, do_rdtsc },
    { ZYDIS_MNEMONIC_RDTSCP, DEPRIV_OTHER, false, do_rdtsc },
    { ZYDIS_MNEMONIC_RDFSBASE, DEPRIV_OTHER, false, do_base },
    { ZYDIS_MNEMONIC_RDGSBASE, DEPRIV_OTHER, false, do_base },
    { ZYDIS_MNEMONIC_WRFSBASE, DEPRIV_OTHER, false, do_base },
    { ZYDIS_MNEMONIC_WRGSBASE, DEPRIV_OTHER, false, do_base },
};

static const struct handler *handler_of(ZydisMnemonic mnemonic)
{
    for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++)
        if (handlers[i].mnemonic == mnemonic)
            return &handlers[i];
    return NULL;
}

static enum interp_result privileged(struct depriv_cpu *c, const struct interp_insn *insn,
                                     struct cpu_fault *fault)
{
    const struct handler *h = handler_of(insn->z->mnemonic);

    if (!h)
        return INTERP_SYSTEM;
    if (h->ring0 && c->s.cpl != 0) {
        bool undefined = h->run == do_ac;

        return (void)(undefined ? cpu_raise_ud(fault) : cpu_raise_gp(fault, 0)), INTERP_FAULT;
    }
    depriv_count(&c->stat.emulated[h->kind], 1);
    if (h->run(c, insn, fault) < 0)
        return INTERP_FAULT;
    interp_skip(c->in, insn);
    return INTERP_OK;
}

/* What cpu_transfer() did, for the counters. */
static enum depriv_kind transfer_kind(ZydisMnemonic mnemonic)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_SYSCALL:
    case ZYDIS_MNEMONIC_SYSRET:
    case ZYDIS_MNEMONIC_SYSENTER:
    case ZYDIS_MNEMONIC_SYSEXIT:
        return DEPRIV_SYSCALL;
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ:
    case ZYDIS_MNEMONIC_INT:
    case ZYDIS_MNEMONIC_INT1:
    case ZYDIS_MNEMONIC_INT3:
    case ZYDIS_MNEMONIC_INTO:
    case ZYDIS_MNEMONIC_CALL:
    case ZYDIS_MNEMONIC_JMP:
    case ZYDIS_MNEMONIC_RET:
        return DEPRIV_IRET;
    default:
        return DEPRIV_SEGMENT;
    }
}

enum interp_result depriv_system(struct depriv_cpu *c, const struct interp_insn *insn,
                                 struct cpu_fault *fault)
{
    unsigned cpl = c->s.cpl;
    enum interp_result result = privileged(c, insn, fault);

    if (result == INTERP_SYSTEM && insn->z->mnemonic == ZYDIS_MNEMONIC_MOV)
        result = depriv_mov_special(c, insn, fault);
    if (result == INTERP_SYSTEM) {
        result = depriv_io(c, insn, fault);
        if (result != INTERP_SYSTEM)
            depriv_count(&c->stat.emulated[DEPRIV_IO], 1);
    }
    if (result == INTERP_SYSTEM) {
        result = cpu_transfer(c->in, insn, fault);
        if (result == INTERP_OK || result == INTERP_FAULT)
            depriv_count(&c->stat.emulated[transfer_kind(insn->z->mnemonic)], 1);
    }
    if (c->s.cpl != cpl)
        depriv_tlb_forget(c);
    return result;
}
