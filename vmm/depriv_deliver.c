/*
 * What reaches the guest: exceptions and interrupts through its own IDT, at once or as soon as its
 * flags allow.
 */
#include "vmm/depriv_impl.h"

#include <errno.h>
#include <sys/ioctl.h>

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
