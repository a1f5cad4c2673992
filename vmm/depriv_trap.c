/*
 * Out of the guest: what a stub's exit means, and what follows.
 */
#include "vmm/depriv_impl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#define PF_FETCH   16u
#define DR6_STEP   (UINT64_C(1) << 14)
#define DR6_CAUSES (DR6_STEP | UINT64_C(0x200f)) /* it, BD, and breakpoints */

#define FRAMES_MAX 4

/* What the CPU pushed for the stub, besides what is taken from it. */
struct frame {
    uint64_t error;
};

/* --- the virtual registers from the real ones --------------------------------------- */

void depriv_take_general(struct depriv_cpu *c)
{
    const struct kvm_regs *r = real_regs(c);
    const uint64_t all[CPU_GPRS] = {
        r->rax, r->rcx, r->rdx, r->rbx, r->rsp, r->rbp, r->rsi, r->rdi,
        r->r8,  r->r9,  r->r10, r->r11, r->r12, r->r13, r->r14, r->r15
    };

    memcpy(c->s.gpr, all, sizeof(all));
}

/* Ring 3 may load a null selector, and write the bases of FS and GS, without a trap. */
static void take_segments(struct depriv_cpu *c)
{
    const struct kvm_sregs *from = real_sregs(c);
    const struct kvm_segment *const real[] = { &from->ds, &from->es, &from->fs, &from->gs };
    static const enum cpu_seg which[] = { CPU_DS, CPU_ES, CPU_FS, CPU_GS };

    for (unsigned i = 0; i < 4; i++)
        if (real[i]->selector < 4 && !(c->null_data & 1u << i))
            c->s.seg[which[i]] = (struct kvm_segment){ .selector = real[i]->selector,
                                                       .base = c->s.seg[which[i]].base,
                                                       .unusable = 1 };
    c->s.seg[CPU_FS].base = from->fs.base;
    c->s.seg[CPU_GS].base = from->gs.base;
}

static void take_flags(struct depriv_cpu *c, uint64_t rflags)
{
    const uint64_t ours = CPU_IF | CPU_IOPL | CPU_VM | CPU_RF;

    c->s.rflags = (rflags & ~ours & UINT64_C(0x3fffff)) | (c->s.rflags & ours & ~CPU_RF) | 2;
}

static void left(struct depriv_cpu *c)
{
    c->resume = false;
    shadow_left(c->d->shadow, c->cpu->id, NULL);
    depriv_tlb_forget(c);
}

/* It stopped in its own code, in ring 3. */
static void take_running(struct depriv_cpu *c)
{
    depriv_take_general(c);
    take_segments(c);
    c->s.rip = real_regs(c)->rip;
    take_flags(c, real_regs(c)->rflags);
}

static unsigned stub_of(uint64_t rip)
{
    return (unsigned)((rip - window_at(WINDOW_STUBS)) / STUB_BYTES);
}

static bool in_stubs(uint64_t rip)
{
    return rip - window_at(WINDOW_STUBS) < PAGE_SIZE_4K;
}

/* The frame that RSP `rsp` points to, in this vCPU's page; NULL: none can be there. */
static const uint64_t *frame_at(const struct depriv_cpu *c, uint64_t rsp)
{
    uint64_t offset = rsp - window_at(WINDOW_CPUS + c->cpu->id);

    if (offset > CPU_PAGE_STACK - 40 || offset % 8)
        return NULL;
    return (const uint64_t *)(window_page(c->d, WINDOW_CPUS + c->cpu->id) + offset);
}

/*
 * It stopped in the stub of *vector: its own state is in the frame. An NMI may have come when the
 * vCPU had just entered another stub, and an interrupt that KVM believes not to be delivered yet
 * once more: then the frame of the first event lies above, and that one is taken; what came on top
 * of it is kept for later. False when no frame is the guest's.
 */
static bool take_frame(struct depriv_cpu *c, unsigned *vector, struct frame *out)
{
    uint64_t rsp = real_regs(c)->rsp;
    const uint64_t *at;

    for (unsigned depth = 0;; depth++) {
        at = frame_at(c, rsp);
        if (!at || depth == FRAMES_MAX)
            return false;
        out->error = rsp % 16 == 0 ? *at++ : 0; /* the stacks' tops are aligned */
        if ((at[1] & 3) == 3)
            break;
        if (!in_stubs(at[0]))
            return false;
        if (*vector != stub_of(at[0]))
            depriv_accept(c, *vector);
        *vector = stub_of(at[0]);
        rsp = at[3];
    }
    depriv_take_general(c);
    take_segments(c);
    c->s.gpr[CPU_RSP] = at[3];
    c->s.rip = at[0];
    take_flags(c, at[2]);
    left(c);
    return true;
}

/* --- delivery ----------------------------------------------------------------------- */

static void undeliverable(struct depriv_cpu *c, int rc)
{
    c->failed = true;
    dump_crash(c->cpu,
               rc == -ENOTSUP
                   ? "an exception through a task gate or in virtual-8086 mode, which shadow "
                     "paging can't deliver: use --paging nested"
                   : "triple fault: an exception could not be delivered, nor the double fault",
               0);
}

void depriv_raise(struct depriv_cpu *c, const struct cpu_fault *fault)
{
    int rc;

    if (c->failed)
        return;
    depriv_count(fault->vector == CPU_PAGE ? &c->stat.reflected_faults : &c->stat.reflected, 1);
    rc = cpu_deliver(c->in, fault);
    if (rc < 0)
        undeliverable(c, rc);
}

static void unmask_nmi(struct depriv_cpu *c)
{
    struct kvm_vcpu_events events;

    /* The stub ends in no IRET, with which a CPU takes NMIs again. */
    if (ioctl(c->cpu->fd, KVM_GET_VCPU_EVENTS, &events) < 0)
        return;
    events.nmi.masked = 0;
    events.flags = 0;
    (void)ioctl(c->cpu->fd, KVM_SET_VCPU_EVENTS, &events);
}

void depriv_interrupt(struct depriv_cpu *c, unsigned vector)
{
    int rc;

    if (vector == CPU_NMI) {
        unmask_nmi(c);
        c->nmi_pending = c->s.nmi_blocked;
        if (c->nmi_pending)
            return;
    }
    depriv_count(&c->stat.interrupts, 1);
    rc = cpu_deliver_interrupt(c->in, (uint8_t)vector);
    if (rc < 0)
        undeliverable(c, rc);
}

void depriv_accept(struct depriv_cpu *c, unsigned vector)
{
    if (vector == CPU_NMI) {
        unmask_nmi(c);
        c->nmi_pending = true;
    } else if (vector >= 32) {
        c->accepted[vector / 64] |= UINT64_C(1) << vector % 64;
    }
}

void depriv_deliver_accepted(struct depriv_cpu *c)
{
    if (c->nmi_pending && !c->s.nmi_blocked)
        depriv_interrupt(c, CPU_NMI);
    for (unsigned word = 4; word-- > 0 && c->s.rflags & CPU_IF && !c->s.inhibited;) {
        uint64_t bits = c->accepted[word];
        unsigned bit;

        if (!bits)
            continue;
        bit = 63 - (unsigned)__builtin_clzll(bits);
        c->accepted[word] &= ~(UINT64_C(1) << bit);
        depriv_interrupt(c, word * 64 + bit);
    }
}

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

static void exception(struct depriv_cpu *c, unsigned vector, const struct frame *f, uint64_t cr2)
{
    switch (vector) {
    case CPU_PAGE:
        page_fault(c, f->error, cr2);
        return;
    case CPU_GP:
    case CPU_UD:
        instruction(c, (uint8_t)vector, f->error);
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
                                         .error = (uint32_t)f->error });
    depriv_run_ahead(c);
}

/* --- after KVM_RUN ------------------------------------------------------------------ */

static void trap(struct depriv_cpu *c, unsigned vector)
{
    uint64_t cr2 = real_sregs(c)->cr2;
    char what[128];
    struct frame f;

    depriv_count(&c->stat.traps, 1);
    c->halted_real = false; /* it ran */
    if (!take_frame(c, &vector, &f)) {
        (void)snprintf(what, sizeof(what),
                       "internal error: exception %u in the monitor's own ring 0 code, rip 0x%llx",
                       vector, (unsigned long long)real_regs(c)->rip);
        c->failed = true;
        dump_crash(c->cpu, what, 0);
        return;
    }
    vcpu_note_exit(c->cpu, &(struct exit_record){ .tsc = vm_tsc(),
                                                  .reason = EXIT_TRAP,
                                                  .addr = vector,
                                                  .value = vector == CPU_PAGE ? cr2 : 0 });
    if (vector < 32) {
        exception(c, vector, &f, cr2);
    } else {
        depriv_interrupt(c, vector);
        depriv_run_ahead(c);
    }
}

/*
 * A signal can come when KVM has an event for the guest already. Code of the window must not get
 * it, so that KVM goes on with what it has, and the event's stub follows.
 */
static bool event_waits(struct depriv_cpu *c)
{
    struct kvm_vcpu_events events;

    return ioctl(c->cpu->fd, KVM_GET_VCPU_EVENTS, &events) == 0 &&
           (events.exception.injected || events.exception.pending || events.interrupt.injected ||
            events.nmi.injected);
}

int depriv_after_run(struct depriv_cpu *c, int rc)
{
    int vector = depriv_stub(c);
    const struct kvm_run *run = c->cpu->run;

    if (depriv_astray(c, rc))
        return rc == -EAGAIN ? 1 : rc;
    if (vector >= 0 && (rc == -EINTR || (rc == 0 && run->exit_reason == KVM_EXIT_IO))) {
        trap(c, (unsigned)vector);
        return rc == -EINTR ? rc : 1;
    }
    if (rc == 0 && run->exit_reason == KVM_EXIT_MMIO) {
        c->resume = true; /* KVM ends the access when it is entered the next time */
        return 0;
    }
    if (real_sregs(c)->cs.dpl == 3) {
        take_running(c);
        c->resume = rc == -EINTR && event_waits(c);
        if (!c->resume)
            left(c);
    }
    return rc == -EAGAIN ? 1 : rc;
}
