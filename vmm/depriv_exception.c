/*
 * Exceptions of native code: the shadow's affair, an instruction that is ours to carry out, or the
 * guest's own.
 */
#include "vmm/depriv_impl.h"

#include <sys/ioctl.h>

#define PF_FETCH   16u
#define DR6_STEP   (UINT64_C(1) << 14)
#define DR6_CAUSES (DR6_STEP | UINT64_C(0x200f)) /* it, BD, and breakpoints */

/* --- page faults -------------------------------------------------------------------- */

static void refused(struct depriv_cpu *c, uint64_t address, const struct pt_walk *walk)
{
    struct cpu_fault fault = { .vector = CPU_PAGE,
                               .has_error = true,
                               .error = (uint32_t)walk->error_code,
                               .address = address };

    if (walk->fault == PT_NON_CANONICAL)
        (void)cpu_raise_gp(&fault, 0);
    if (walk->fault == PT_RESERVED)
        depriv_count(&c->stat.refused_tables, 1);
    depriv_raise(c, &fault);
}

/*
 * Nothing was missing. Another vCPU may have been faster; but if it comes again the real CPU can't
 * do it, as some hosts can't reach part of the addresses.
 */
static void agrees(struct depriv_cpu *c, uint64_t address)
{
    if (c->agreed_rip == c->s.rip && c->agreed_at == address)
        depriv_one(c);
    c->agreed_rip = c->s.rip;
    c->agreed_at = address;
}

/* SYSCALL where the CPU stays in ring 3: it fetches LSTAR, which ring 3 can't. */
static bool stranded_syscall(struct depriv_cpu *c, uint64_t address)
{
    struct cpu_state *s = &c->s;
    struct cpu_fault fault;
    struct interp_insn insn;

    if (address != s->rip || address != window_at(WINDOW_IDT))
        return false;
    s->rip = s->gpr[CPU_RCX] - 2;
    s->rflags = (s->gpr[11] & ~(CPU_IF | CPU_IOPL | CPU_RF) & UINT64_C(0x3fffff)) | 2 |
                (s->rflags & (CPU_IF | CPU_IOPL));
    depriv_count(&c->stat.emulated[DEPRIV_SYSCALL], 1);
    if (interp_decode(c->in, &insn, &fault) != INTERP_FAULT &&
        insn.z->mnemonic == ZYDIS_MNEMONIC_SYSCALL) {
        if (cpu_transfer(c->in, &insn, &fault) != INTERP_OK)
            depriv_raise(c, &fault); /* EFER.SCE is clear */
        depriv_run_ahead(c);
        return true;
    }
    /* It jumped there by itself. */
    depriv_raise(c, &(struct cpu_fault){ .vector = CPU_PAGE,
                                         .has_error = true,
                                         .error = PF_FETCH | (s->cpl == 3 ? 4 : 0),
                                         .address = address });
    return true;
}

static void page_fault(struct depriv_cpu *c, uint64_t error, uint64_t address)
{
    struct pt_access access = {
        .op = error & PF_FETCH ? PT_EXEC : (error & X86_PF_W ? PT_WRITE : PT_READ),
        .user = c->s.cpl == 3,
    };
    struct cpu_fault fault;
    struct pt_walk walk;
    int rc;

    depriv_count(&c->stat.page_faults, 1);
    if (stranded_syscall(c, address))
        return;
    rc = depriv_ready(c); /* the flags that the guest set itself may have changed the mode */
    if (rc < 0)
        return; /* -EAGAIN: it faults again, until the others have left */
    switch (shadow_fault(c->d->shadow, c->cpu->id, &c->mode, gva(address), &access, &walk)) {
    case SHADOW_FILLED:
        break;
    case SHADOW_REFUSED:
        depriv_remember(c, address, &access);
        refused(c, address, &walk);
        depriv_run_ahead(c);
        break;
    case SHADOW_UNREADABLE:
        depriv_unreadable(c, address, &access, &walk, &fault);
        depriv_raise(c, &fault);
        break;
    case SHADOW_AGREES:
        agrees(c, address);
        break;
    case SHADOW_WINDOW:
        depriv_count(&c->stat.window_accesses, 1);
        depriv_one(c);
        break;
    case SHADOW_CROWDED:
        depriv_kick_others(c);
        break;
    }
}

/* --- other exceptions --------------------------------------------------------------- */

/* #GP and #UD: the guest's own, or an instruction that is ours to carry out. */
static void instruction(struct depriv_cpu *c, uint8_t vector, uint64_t error)
{
    struct cpu_fault fault,
        real = { .vector = vector, .has_error = vector == CPU_GP, .error = (uint32_t)error };
    bool step = c->s.rflags & CPU_TF;
    struct interp_insn insn;

    switch (interp_decode(c->in, &insn, &fault)) {
    case INTERP_SYSTEM:
        break;
    case INTERP_FAULT:
        depriv_raise(c, &fault);
        return;
    default:
        depriv_raise(c, &real);
        return;
    }
    switch (depriv_system(c, &insn, &fault)) {
    case INTERP_OK:
        if (step)
            depriv_stepped(c, &insn);
        depriv_run_ahead(c);
        break;
    case INTERP_FAULT:
        depriv_raise(c, &fault);
        depriv_run_ahead(c);
        break;
    default:
        depriv_raise(c, &real);
        break;
    }
}

/* INT clears TF and with it the trap; SYSCALL does where its mask says so. */
static bool clears_step(const struct depriv_cpu *c, const struct interp_insn *insn)
{
    switch (insn->z->mnemonic) {
    case ZYDIS_MNEMONIC_INT:
    case ZYDIS_MNEMONIC_INT1:
    case ZYDIS_MNEMONIC_INT3:
    case ZYDIS_MNEMONIC_INTO:
        return true;
    case ZYDIS_MNEMONIC_SYSCALL:
        return !(c->s.rflags & CPU_TF);
    default:
        return false;
    }
}

void depriv_stepped(struct depriv_cpu *c, const struct interp_insn *insn)
{
    if (clears_step(c, insn))
        return;
    c->s.dr[6] |= DR6_STEP;
    depriv_raise(c, &(struct cpu_fault){ .vector = CPU_DB });
}

/* Where a KVM has to look at INT1 itself, some leave RIP at it. */
static bool stands_at_int1(struct depriv_cpu *c)
{
    struct cpu_fault fault;
    uint8_t code;

    return interp_load(c->in, c->s.rip, &code, 1, c->s.cpl == 3, false, &fault) == 0 &&
           code == 0xf1;
}

/* A breakpoint for execution is a fault, all else is a trap. */
static bool at_breakpoint(const struct depriv_cpu *c)
{
    for (unsigned i = 0; i < 4; i++)
        if (c->s.dr[6] >> i & 1 && (c->s.dr[7] >> (16 + 4 * i) & 3) == 0 && c->s.dr[i] == c->s.rip)
            return true;
    return false;
}

static void debug(struct depriv_cpu *c)
{
    struct kvm_debugregs regs;

    if (ioctl(c->cpu->fd, KVM_GET_DEBUGREGS, &regs) == 0)
        c->s.dr[6] = regs.dr6;
    if (!(c->s.dr[6] & DR6_CAUSES) && stands_at_int1(c))
        c->s.rip++;
    if (at_breakpoint(c))
        c->s.rflags |= CPU_RF; /* pushed, so that the handler gets past it */
    depriv_raise(c, &(struct cpu_fault){ .vector = CPU_DB });
}

/* Some CPUs execute INT3 natively: RIP is behind it. */
static void breakpoint(struct depriv_cpu *c)
{
    c->s.rip--;
    instruction(c, CPU_GP, CPU_BP * 8 + 2);
}

static bool pushes_error(unsigned vector)
{
    return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21;
}

void depriv_exception(struct depriv_cpu *c, unsigned vector, uint64_t error, uint64_t cr2)
{
    switch (vector) {
    case CPU_PAGE:
        page_fault(c, error, cr2);
        return;
    case CPU_GP:
    case CPU_UD:
        instruction(c, (uint8_t)vector, error);
        return;
    case CPU_DB:
        debug(c);
        return;
    case CPU_BP:
        breakpoint(c);
        return;
    case CPU_NMI:
        depriv_interrupt(c, CPU_NMI);
        return;
    case CPU_AC_FAULT:
        /* Ring 0 has no alignment checks, nor has a ring 3 that did not ask for them. */
        if (c->s.cpl != 3 || !(c->s.cr0 & CPU_CR0_AM)) {
            depriv_one(c);
            return;
        }
        break;
    default:
        break;
    }
    depriv_raise(c, &(struct cpu_fault){ .vector = (uint8_t)vector,
                                         .has_error = pushes_error(vector),
                                         .error = (uint32_t)error });
    depriv_run_ahead(c);
}
