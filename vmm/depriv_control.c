/*
 * Control and debug registers, on the virtual CPU.
 */
#include "vmm/depriv_impl.h"

#include <sys/ioctl.h>

#define CR0_KNOWN                                                                               \
    (X86_CR0_PG | X86_CR0_WP | CPU_CR0_AM | CPU_CR0_NE | CPU_CR0_ET | CPU_CR0_TS | CPU_CR0_EM | \
     CPU_CR0_MP | CPU_CR0_PE | CR0_NW | CR0_CD)
#define CR0_NW      (UINT64_C(1) << 29)
#define CR0_CD      (UINT64_C(1) << 30)
#define CR4_DE      (UINT64_C(1) << 3)
#define CR4_PGE     (UINT64_C(1) << 7)
#define CR3_NOFLUSH (UINT64_C(1) << 63)
#define TLB_BITS4 \
    (X86_CR4_PSE | X86_CR4_PAE | CR4_PGE | X86_CR4_SMEP | X86_CR4_SMAP | CPU_CR4_PCIDE)
#define DR7_GD    (UINT64_C(1) << 13)
#define DR6_BD    (UINT64_C(1) << 13)
#define DR7_FIXED UINT64_C(0x400)
#define DR6_FIXED UINT64_C(0xffff0ff0)

void depriv_mode_changed(struct depriv_cpu *c)
{
    c->root_known = false;
    depriv_tlb_forget(c);
}

void depriv_flush_all(struct depriv_cpu *c)
{
    depriv_tlb_forget(c);
    depriv_tell_writes(c);
    shadow_sync(c->d->shadow, c->cpu->id);
}

/* --- control registers -------------------------------------------------------------- */

/* Intel SDM vol. 3A, 9.8.5 "Initializing IA-32e Mode". */
int depriv_set_cr0(struct depriv_cpu *c, uint64_t value, struct cpu_fault *fault)
{
    struct cpu_state *s = &c->s;
    uint64_t changed = s->cr0 ^ value;

    value |= CPU_CR0_ET;
    if (value >> 32 || (value & X86_CR0_PG && !(value & CPU_CR0_PE)) ||
        (value & CR0_NW && !(value & CR0_CD)))
        return cpu_raise_gp(fault, 0);
    if (changed & X86_CR0_PG && value & X86_CR0_PG && s->efer & CPU_EFER_LME) {
        if (!(s->cr4 & X86_CR4_PAE) || s->seg[CPU_CS].l)
            return cpu_raise_gp(fault, 0);
        s->efer |= X86_EFER_LMA;
    } else if (changed & X86_CR0_PG && !(value & X86_CR0_PG)) {
        if (cpu_code_bits(s) == 64 || s->cr4 & CPU_CR4_PCIDE)
            return cpu_raise_gp(fault, 0);
        s->efer &= ~X86_EFER_LMA;
    }
    s->cr0 = value & CR0_KNOWN;
    if (changed & (X86_CR0_PG | X86_CR0_WP)) {
        depriv_mode_changed(c);
        depriv_flush_all(c);
    }
    return 0;
}

static int set_cr3(struct depriv_cpu *c, uint64_t value, struct cpu_fault *fault)
{
    struct cpu_state *s = &c->s;

    if (s->cr4 & CPU_CR4_PCIDE)
        value &= ~CR3_NOFLUSH; /* flushing what could be kept is allowed */
    if (cpu_long_mode(s) && value >> c->d->phys_bits)
        return cpu_raise_gp(fault, 0);
    s->cr3 = value;
    depriv_mode_changed(c);
    depriv_flush_all(c);
    return 0;
}

static int set_cr4(struct depriv_cpu *c, uint64_t value, struct cpu_fault *fault)
{
    struct cpu_state *s = &c->s;
    uint64_t changed = s->cr4 ^ value;

    if (value & ~c->d->cr4_known)
        return cpu_raise_gp(fault, 0);
    if (cpu_long_mode(s) && !(value & X86_CR4_PAE))
        return cpu_raise_gp(fault, 0);
    if (changed & value & CPU_CR4_PCIDE && (!cpu_long_mode(s) || s->cr3 & 0xfff))
        return cpu_raise_gp(fault, 0);
    s->cr4 = value;
    if (changed & TLB_BITS4) {
        depriv_mode_changed(c);
        depriv_flush_all(c);
    }
    return 0;
}

static int read_cr(struct depriv_cpu *c, unsigned n, uint64_t *value, struct cpu_fault *fault)
{
    switch (n) {
    case 0:
        *value = c->s.cr0;
        return 0;
    case 2:
        *value = c->s.cr2;
        return 0;
    case 3:
        *value = c->s.cr3;
        return 0;
    case 4:
        *value = c->s.cr4;
        return 0;
    case 8:
        *value = real_sregs(c)->cr8;
        return 0;
    default:
        return cpu_raise_ud(fault);
    }
}

static int write_cr(struct depriv_cpu *c, unsigned n, uint64_t value, struct cpu_fault *fault)
{
    switch (n) {
    case 0:
        return depriv_set_cr0(c, value, fault);
    case 2:
        c->s.cr2 = value;
        return 0;
    case 3:
        return set_cr3(c, value, fault);
    case 4:
        return set_cr4(c, value, fault);
    case 8:
        if (value >> 4)
            return cpu_raise_gp(fault, 0);
        real_sregs(c)->cr8 = value; /* KVM's local APIC takes it at the next entry */
        return 0;
    default:
        return cpu_raise_ud(fault);
    }
}

/* --- debug registers ---------------------------------------------------------------- */

static void debug_to_real(struct depriv_cpu *c)
{
    struct kvm_debugregs regs = { .dr6 = c->s.dr[6], .dr7 = c->s.dr[7] & ~DR7_GD };

    for (unsigned i = 0; i < 4; i++)
        regs.db[i] = c->s.dr[i];
    (void)ioctl(c->cpu->fd, KVM_SET_DEBUGREGS, &regs);
}

/* DR4 and DR5 are other names of DR6 and DR7, or nothing with CR4.DE. 0, or -1 with *fault. */
static int dr_number(const struct depriv_cpu *c, unsigned *n, struct cpu_fault *fault)
{
    if (*n > 7 || ((*n == 4 || *n == 5) && c->s.cr4 & CR4_DE))
        return cpu_raise_ud(fault);
    if (*n == 4 || *n == 5)
        *n += 2;
    return 0;
}

/* Intel SDM vol. 3B, 18.2.4 "Debug Control Register (DR7)": GD makes each access a fault, whose
 * handler has it clear. */
static int guard_dr(struct depriv_cpu *c, struct cpu_fault *fault)
{
    if (!(c->s.dr[7] & DR7_GD))
        return 0;
    c->s.dr[7] &= ~DR7_GD;
    c->s.dr[6] |= DR6_BD;
    debug_to_real(c);
    return cpu_raise(fault, CPU_DB, false, 0);
}

static int write_dr(struct depriv_cpu *c, unsigned n, uint64_t value, struct cpu_fault *fault)
{
    if (dr_number(c, &n, fault) < 0)
        return -1;
    if (n >= 6 && value >> 32)
        return cpu_raise_gp(fault, 0);
    if (n == 6)
        value |= DR6_FIXED;
    if (n == 7)
        value |= DR7_FIXED;
    c->s.dr[n] = value;
    debug_to_real(c);
    return 0;
}

/* --- MOV ---------------------------------------------------------------------------- */

static bool is_control(ZydisRegister r)
{
    return r >= ZYDIS_REGISTER_CR0 && r <= ZYDIS_REGISTER_CR15;
}

static bool is_debug(ZydisRegister r)
{
    return r >= ZYDIS_REGISTER_DR0 && r <= ZYDIS_REGISTER_DR15;
}

static int move(struct depriv_cpu *c, const struct interp_insn *insn, ZydisRegister special,
                bool to, struct cpu_fault *fault)
{
    unsigned n = (unsigned)ZydisRegisterGetId(special);
    uint64_t value = 0;
    int rc;

    if (to) {
        rc = interp_operand_read(c->in, insn, 1, &value, fault);
        if (rc == 0)
            rc = is_control(special) ? write_cr(c, n, value, fault) : write_dr(c, n, value, fault);
        return rc;
    }
    if (is_control(special))
        rc = read_cr(c, n, &value, fault);
    else if (dr_number(c, &n, fault) < 0)
        rc = -1;
    else
        rc = (value = c->s.dr[n], 0);
    return rc == 0 ? interp_operand_write(c->in, insn, 0, value, fault) : rc;
}

enum interp_result depriv_mov_special(struct depriv_cpu *c, const struct interp_insn *insn,
                                      struct cpu_fault *fault)
{
    const ZydisDecodedOperand *o = insn->operand;
    ZydisRegister first = o[0].type == ZYDIS_OPERAND_TYPE_REGISTER ? o[0].reg.value : 0;
    ZydisRegister second = o[1].type == ZYDIS_OPERAND_TYPE_REGISTER ? o[1].reg.value : 0;
    bool to = is_control(first) || is_debug(first);
    ZydisRegister special = to ? first : second;

    if (!is_control(special) && !is_debug(special))
        return INTERP_SYSTEM;
    if (c->s.cpl != 0)
        return (void)cpu_raise_gp(fault, 0), INTERP_FAULT;
    depriv_count(&c->stat.emulated[is_debug(special)                     ? DEPRIV_OTHER
                                   : to && special == ZYDIS_REGISTER_CR3 ? DEPRIV_CR3
                                                                         : DEPRIV_CR],
                 1);
    if ((is_debug(special) && guard_dr(c, fault) < 0) || move(c, insn, special, to, fault) < 0)
        return INTERP_FAULT;
    interp_skip(c->in, insn);
    return INTERP_OK;
}
