/*
 * Out of the guest: the virtual registers from the real ones, and what KVM_RUN ended with.
 */
#include "vmm/depriv_impl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#define FRAMES_MAX 4

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
static bool take_frame(struct depriv_cpu *c, unsigned *vector, uint64_t *error)
{
    uint64_t rsp = real_regs(c)->rsp;
    const uint64_t *at;

    for (unsigned depth = 0;; depth++) {
        at = frame_at(c, rsp);
        if (!at || depth == FRAMES_MAX)
            return false;
        *error = rsp % 16 == 0 ? *at++ : 0; /* the stacks' tops are aligned */
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

/* --- after KVM_RUN ------------------------------------------------------------------ */

static void trap(struct depriv_cpu *c, unsigned vector)
{
    uint64_t cr2 = real_sregs(c)->cr2;
    char what[128];
    uint64_t error;

    depriv_count(&c->stat.traps, 1);
    c->halted_real = false; /* it ran */
    if (!take_frame(c, &vector, &error)) {
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
        depriv_exception(c, vector, error, cr2);
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
