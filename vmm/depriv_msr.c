/*
 * Model-specific registers: those that belong to the virtual CPU, and those that KVM keeps for it.
 */
#include "vmm/depriv_impl.h"

#include <errno.h>
#include <sys/ioctl.h>

#include "ept/entry.h"

#define MSR_TSC            0x10u
#define MSR_WALL_CLOCK_OLD 0x11u
#define MSR_CLOCK_OLD      0x12u
#define MSR_SYSENTER_CS    0x174u
#define MSR_SYSENTER_ESP   0x175u
#define MSR_SYSENTER_EIP   0x176u
#define MSR_DEBUGCTL       0x1d9u
#define MSR_TSC_DEADLINE   0x6e0u
#define MSR_X2APIC_FIRST   0x800u
#define MSR_X2APIC_TPR     0x808u
#define MSR_X2APIC_LAST    0x8ffu
#define MSR_XSS            0xda0u
#define MSR_PV_FIRST       0x4b564d00u /* of KVM's own: the wall clock */
#define MSR_PV_CLOCK       0x4b564d01u
#define MSR_PV_LAST        0x4b564dffu
#define MSR_EFER           0xc0000080u
#define MSR_STAR           0xc0000081u
#define MSR_LSTAR          0xc0000082u
#define MSR_CSTAR          0xc0000083u
#define MSR_SFMASK         0xc0000084u
#define MSR_FS_BASE        0xc0000100u
#define MSR_GS_BASE        0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u
#define MSR_TSC_AUX        0xc0000103u

#define CLOCK_BYTES 32 /* that KVM writes to where such a register says, at most */

#define EFER_KNOWN (CPU_EFER_SCE | CPU_EFER_LME | X86_EFER_LMA | X86_EFER_NXE)

struct one_msr {
    struct kvm_msrs head;
    struct kvm_msr_entry entry;
};

static int kvm_msr(struct depriv_cpu *c, uint32_t msr, uint64_t *value, bool set)
{
    struct one_msr one = { .head.nmsrs = 1 };

    one.entry.index = msr;
    one.entry.data = *value;
    if (ioctl(c->cpu->fd, set ? KVM_SET_MSRS : KVM_GET_MSRS, &one) != 1)
        return -EINVAL;
    *value = one.entry.data;
    return 0;
}

/*
 * A register that KVM has. The real CPU's own instruction decides, as KVM lets a monitor do more
 * than a guest. For the few that kernels use all the time it makes no difference, and an ioctl
 * costs less.
 */
static int real_msr(struct depriv_cpu *c, uint32_t msr, uint64_t *value, bool set)
{
    if (msr == MSR_TSC_DEADLINE || (!set && (msr == MSR_TSC || msr == MSR_TSC_AUX)) ||
        (msr >= MSR_X2APIC_FIRST && msr <= MSR_X2APIC_LAST))
        return kvm_msr(c, msr, value, set);
    return depriv_proxy(c, set ? PROXY_WRMSR : PROXY_RDMSR, value, msr, 0) == -1 ? 0 : -EINVAL;
}

/* Where SYSCALL works although it is off, it lands on a page that ring 3 can't fetch. */
int depriv_set_lstar(struct depriv_cpu *c)
{
    uint64_t value = window_at(WINDOW_IDT);

    return kvm_msr(c, MSR_LSTAR, &value, true);
}

/* Where the virtual CPU has it; NULL: elsewhere. */
static uint64_t *own(struct cpu_state *s, uint32_t msr)
{
    switch (msr) {
    case MSR_SYSENTER_CS:
        return &s->sysenter_cs;
    case MSR_SYSENTER_ESP:
        return &s->sysenter_esp;
    case MSR_SYSENTER_EIP:
        return &s->sysenter_eip;
    case MSR_STAR:
        return &s->star;
    case MSR_LSTAR:
        return &s->lstar;
    case MSR_CSTAR:
        return &s->cstar;
    case MSR_SFMASK:
        return &s->sfmask;
    case MSR_FS_BASE:
        return (uint64_t *)&s->seg[CPU_FS].base;
    case MSR_GS_BASE:
        return (uint64_t *)&s->seg[CPU_GS].base;
    case MSR_KERNEL_GS_BASE:
        return &s->kernel_gs_base;
    default:
        return NULL;
    }
}

static bool is_clock(uint32_t msr)
{
    return msr == MSR_WALL_CLOCK_OLD || msr == MSR_CLOCK_OLD || msr == MSR_PV_FIRST ||
           msr == MSR_PV_CLOCK;
}

/*
 * By a clock's register a guest has KVM write to any gpa that is backed, and the window is: it has
 * to be the guest's own memory.
 */
static bool clock_fits(const struct depriv_cpu *c, uint64_t value)
{
    gpa_t at = gpa(value & ~UINT64_C(3));

    return at.v < c->d->base.v && c->d->base.v - at.v >= CLOCK_BYTES;
}

/* What would act on the real ring 0, or on what it returns to; and KVM's own but for the clock,
 * which write to memory or wait for a kernel that isn't there. */
static bool withheld(uint32_t msr)
{
    if (msr >= MSR_PV_FIRST && msr <= MSR_PV_LAST)
        return !is_clock(msr);
    return msr == MSR_DEBUGCTL || msr == MSR_XSS || (msr >= 0x6a0 && msr <= 0x6a8) || msr == 0x6e1;
}

int depriv_rdmsr(struct depriv_cpu *c, uint32_t msr, uint64_t *value)
{
    const uint64_t *mine = own(&c->s, msr);

    *value = 0;
    if (mine)
        *value = *mine;
    else if (msr == MSR_EFER)
        *value = c->s.efer;
    else if (msr == MSR_X2APIC_TPR)
        *value = real_sregs(c)->cr8 << 4;
    else if (withheld(msr))
        return msr == MSR_DEBUGCTL ? 0 : -EINVAL;
    else
        return real_msr(c, msr, value, false);
    return 0;
}

static bool is_address(uint32_t msr)
{
    return msr == MSR_LSTAR || msr == MSR_CSTAR || msr == MSR_FS_BASE || msr == MSR_GS_BASE ||
           msr == MSR_KERNEL_GS_BASE || msr == MSR_SYSENTER_ESP || msr == MSR_SYSENTER_EIP;
}

static int set_efer(struct depriv_cpu *c, uint64_t value)
{
    struct cpu_state *s = &c->s;
    uint64_t changed = s->efer ^ value;

    if (value & ~EFER_KNOWN)
        return -EINVAL;
    if (changed & CPU_EFER_LME && s->cr0 & X86_CR0_PG)
        return -EINVAL;
    s->efer = (value & ~X86_EFER_LMA) | (s->efer & X86_EFER_LMA);
    if (changed & X86_EFER_NXE) {
        depriv_mode_changed(c);
        depriv_flush_all(c);
    }
    return 0;
}

/* The TPR is CR8: what is written to one has to be in the other before the next entry. */
static int set_tpr(struct depriv_cpu *c, uint64_t value)
{
    int rc = kvm_msr(c, MSR_X2APIC_TPR, &value, true);

    if (rc == 0)
        real_sregs(c)->cr8 = value >> 4 & 15;
    return rc;
}

int depriv_wrmsr(struct depriv_cpu *c, uint32_t msr, uint64_t value)
{
    uint64_t *mine = own(&c->s, msr);

    if (mine) {
        if (is_address(msr) && !pt_input_fits(&pt_x86_64, value))
            return -EINVAL;
        *mine = value;
        return 0;
    }
    if (msr == MSR_EFER)
        return set_efer(c, value);
    if (msr == MSR_X2APIC_TPR)
        return set_tpr(c, value);
    if (withheld(msr))
        return msr == MSR_DEBUGCTL && value == 0 ? 0 : -EINVAL;
    if (is_clock(msr) && !clock_fits(c, value))
        return -EINVAL;
    return real_msr(c, msr, &value, true);
}

/* KVM's values are 0, but for LSTAR, unless the guest ran as KVM has it and set them. */
void depriv_take_msrs(struct depriv_cpu *c)
{
    static const uint32_t all[] = { MSR_SYSENTER_CS, MSR_SYSENTER_ESP,  MSR_SYSENTER_EIP,
                                    MSR_STAR,        MSR_LSTAR,         MSR_CSTAR,
                                    MSR_SFMASK,      MSR_KERNEL_GS_BASE };

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        uint64_t value = 0, none = 0;

        if (kvm_msr(c, all[i], &value, false) < 0 || value == 0 ||
            (all[i] == MSR_LSTAR && value == window_at(WINDOW_IDT)))
            continue;
        *own(&c->s, all[i]) = value;
        (void)kvm_msr(c, all[i], &none, true);
    }
    (void)depriv_set_lstar(c);
}
