/*
 * INIT and STARTUP. KVM has the local APICs, so that it starts a vCPU itself: an AP that waits for
 * its first start does so under our eyes; one that runs already is reset by KVM at once, and then
 * runs the guest's code as KVM has it, on the guest's own tables, until we next see it ("astray").
 * All that it is and did by then is taken from KVM, and it goes on de-privileged.
 */
#include "vmm/depriv_impl.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

/* Between two looks for STARTUP, longer each time: sixty APs that look all the time would keep the
 * CPU from which it has to come from running. */
#define NAP_FIRST_NS 50000u
#define NAP_MOST_NS  5000000u

static int read_state(struct depriv_cpu *c, struct kvm_mp_state *mp)
{
    /* This takes INIT and STARTUP in; the registers are those behind them. */
    if (ioctl(c->cpu->fd, KVM_GET_MP_STATE, mp) < 0 ||
        ioctl(c->cpu->fd, KVM_GET_SREGS, real_sregs(c)) < 0 ||
        ioctl(c->cpu->fd, KVM_GET_REGS, real_regs(c)) < 0)
        return -errno;
    return 0;
}

/* --- the first start ------------------------------------------------------------------------- */

/*
 * An AP sits in KVM until INIT has come; KVM_RUN then ends with EAGAIN. From there on KVM would run
 * it in real mode as soon as STARTUP comes, so KVM is not entered any more: asking for the state
 * takes STARTUP in.
 */
int depriv_wait_for_startup(struct depriv_cpu *c, uint64_t *tsc)
{
    struct timespec nap = { 0 };
    struct kvm_mp_state mp;
    int rc;

    if (ioctl(c->cpu->fd, KVM_GET_MP_STATE, &mp) < 0)
        return -errno;
    if (mp.mp_state == KVM_MP_STATE_UNINITIALIZED) {
        rc = vcpu_kvm_run(c->cpu, tsc);
        return rc == -EAGAIN || rc == 0 ? 1 : rc;
    }
    if (kicked(c)) {
        c->kick_later = false;
        return -EINTR;
    }
    if (mp.mp_state != KVM_MP_STATE_RUNNABLE) {
        c->nap_ns = c->nap_ns ? c->nap_ns * 2 : NAP_FIRST_NS;
        if (c->nap_ns > NAP_MOST_NS)
            c->nap_ns = NAP_MOST_NS;
        nap.tv_nsec = c->nap_ns;
        (void)nanosleep(&nap, NULL);
        return 1;
    }
    rc = read_state(c, &mp);
    if (rc < 0)
        return rc;
    cpu_startup(&c->s, (uint8_t)(real_sregs(c)->cs.base >> PAGE_SHIFT_4K));
    c->waits_for_startup = false;
    c->nap_ns = 0;
    depriv_mode_changed(c);
    return 1;
}

/* --- astray ---------------------------------------------------------------------------------- */

/* The window's GDT is what no guest can change but by a reset. */
bool depriv_astray(struct depriv_cpu *c, int rc)
{
    const struct kvm_run *run = c->cpu->run;

    if (c->astray)
        return true;
    if (real_sregs(c)->gdt.base == window_at(WINDOW_CPUS + c->cpu->id) + CPU_PAGE_GDT)
        return false;
    c->astray = true;
    c->halted_real = false;
    c->resume = rc == 0 && (run->exit_reason == KVM_EXIT_IO || run->exit_reason == KVM_EXIT_MMIO);
    return true;
}

static void take_registers(struct depriv_cpu *c)
{
    const struct kvm_sregs *from = real_sregs(c);
    struct cpu_state *s = &c->s;

    depriv_take_general(c);
    s->rip = real_regs(c)->rip;
    s->rflags = real_regs(c)->rflags;
    s->cr0 = from->cr0;
    s->cr2 = from->cr2;
    s->cr3 = from->cr3;
    s->cr4 = from->cr4;
    s->efer = from->efer;
    s->seg[CPU_CS] = from->cs;
    s->seg[CPU_SS] = from->ss;
    s->seg[CPU_DS] = from->ds;
    s->seg[CPU_ES] = from->es;
    s->seg[CPU_FS] = from->fs;
    s->seg[CPU_GS] = from->gs;
    s->tr = from->tr;
    s->ldt = from->ldt;
    s->gdt = from->gdt;
    s->idt = from->idt;
    s->cpl = from->ss.dpl;
    s->nmi_blocked = s->inhibited = false;
}

static void take_debug(struct depriv_cpu *c)
{
    struct kvm_debugregs regs;

    if (ioctl(c->cpu->fd, KVM_GET_DEBUGREGS, &regs) < 0)
        return;
    memcpy(c->s.dr, regs.db, 4 * sizeof(regs.db[0]));
    c->s.dr[6] = regs.dr6;
    c->s.dr[7] = regs.dr7;
}

/* Neither its own writes nor the bits that the CPU set were seen. */
static void distrust_tables(struct depriv_cpu *c)
{
    size_t count;
    const struct mem_slot *slot = memory_slots(c->d->vm->mem, &count);

    shadow_wrote(c->d->shadow, gpa(0), slot[count - 1].base.v + slot[count - 1].size);
    depriv_mode_changed(c);
    depriv_flush_all(c);
}

/* INIT leaves these registers as they are. */
static void reset(struct cpu_state *s)
{
    const struct cpu_state old = *s;

    cpu_reset(s);
    s->star = old.star;
    s->lstar = old.lstar;
    s->cstar = old.cstar;
    s->sfmask = old.sfmask;
    s->kernel_gs_base = old.kernel_gs_base;
    s->sysenter_cs = old.sysenter_cs;
    s->sysenter_esp = old.sysenter_esp;
    s->sysenter_eip = old.sysenter_eip;
    s->xcr0 = old.xcr0;
}

/* An access that KVM has begun is ended first, without running on. As depriv_round(). */
int depriv_come_back(struct depriv_cpu *c, uint64_t *tsc)
{
    struct kvm_mp_state mp;
    int rc = 1;

    if (c->resume) {
        __atomic_store_n(&c->cpu->run->immediate_exit, 1, __ATOMIC_RELEASE);
        rc = vcpu_kvm_run(c->cpu, tsc);
        if (rc != -EINTR)
            return rc;
        c->resume = false;
    }
    shadow_left(c->d->shadow, c->cpu->id, NULL);
    if (read_state(c, &mp) < 0)
        return -EIO;
    reset(&c->s);
    c->astray = c->nmi_pending = false;
    memset(c->accepted, 0, sizeof(c->accepted));
    c->waits_for_startup = mp.mp_state == KVM_MP_STATE_INIT_RECEIVED;
    c->s.halted = c->halted_real = mp.mp_state == KVM_MP_STATE_HALTED;
    if (!c->waits_for_startup) {
        take_registers(c);
        take_debug(c);
        depriv_take_msrs(c);
    }
    distrust_tables(c);
    return rc;
}
