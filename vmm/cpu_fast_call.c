/* SYSCALL, SYSENTER and their ways back: segments by rule, no table is looked at. */
#include "vmm/cpu_event_impl.h"

/* What SYSRET takes of R11: Intel SDM vol. 2, "SYSRET-Return From Fast System Call". */
#define SYSRET_FLAGS UINT64_C(0x3c7fd7)

static void enter_ring(struct cpu_state *s, unsigned cpl, uint16_t cs, uint16_t ss, bool l)
{
    s->seg[CPU_CS] = cpu_segment_flat((uint16_t)((cs & SELECTOR_INDEX) | cpl), true, l);
    s->seg[CPU_SS] = cpu_segment_flat((uint16_t)((ss & SELECTOR_INDEX) | cpl), false, false);
    s->cpl = cpl;
}

/* From compatibility mode as AMD has it, by CSTAR (AMD APM vol. 2, "SYSCALL and SYSRET"). */
static int do_syscall(struct cpu_state *s, const struct interp_insn *insn, struct cpu_fault *f)
{
    uint16_t selector = (uint16_t)(s->star >> 32);

    if (!cpu_long_mode(s) || !(s->efer & CPU_EFER_SCE))
        return cpu_raise_ud(f);
    s->gpr[CPU_RCX] = insn->next_rip;
    s->gpr[11] = s->rflags & ~CPU_RF;
    s->rip = cpu_code_bits(s) == 64 ? s->lstar : s->cstar;
    s->rflags = (s->rflags & ~s->sfmask & ~CPU_RF) | 2;
    enter_ring(s, 0, selector, (uint16_t)((selector & SELECTOR_INDEX) + 8), true);
    return 0;
}

static int do_sysret(struct cpu_state *s, const struct interp_insn *insn, struct cpu_fault *f)
{
    bool to_64 = insn->z->operand_width == 64;
    uint16_t selector = (uint16_t)(s->star >> 48);
    uint64_t rip = s->gpr[CPU_RCX];

    if (cpu_code_bits(s) != 64 || !(s->efer & CPU_EFER_SCE))
        return cpu_raise_ud(f);
    if (s->cpl != 0 || (to_64 && !is_canonical(rip)))
        return cpu_raise_gp(f, 0);
    s->rip = to_64 ? rip : (uint32_t)rip;
    s->rflags = (s->gpr[11] & SYSRET_FLAGS) | 2;
    enter_ring(s, 3, (uint16_t)(selector + (to_64 ? 16 : 0)), (uint16_t)(selector + 8), to_64);
    return 0;
}

static bool sysenter_ready(const struct cpu_state *s)
{
    return !cpu_real_mode(s) && !selector_is_null((uint16_t)s->sysenter_cs);
}

static int do_sysenter(struct cpu_state *s, struct cpu_fault *f)
{
    uint16_t selector = s->sysenter_cs & SELECTOR_INDEX;
    bool lm = cpu_long_mode(s);

    if (!sysenter_ready(s))
        return cpu_raise_gp(f, 0);
    s->rflags &= ~(CPU_VM | CPU_IF | CPU_RF);
    s->gpr[CPU_RSP] = lm ? s->sysenter_esp : (uint32_t)s->sysenter_esp;
    s->rip = lm ? s->sysenter_eip : (uint32_t)s->sysenter_eip;
    enter_ring(s, 0, selector, (uint16_t)(selector + 8), lm);
    return 0;
}

static int do_sysexit(struct cpu_state *s, const struct interp_insn *insn, struct cpu_fault *f)
{
    bool to_64 = insn->z->operand_width == 64;
    uint16_t selector = (uint16_t)((s->sysenter_cs & SELECTOR_INDEX) + (to_64 ? 32 : 16));
    uint64_t rsp = s->gpr[CPU_RCX], rip = s->gpr[CPU_RDX];

    if (!sysenter_ready(s) || s->cpl != 0)
        return cpu_raise_gp(f, 0);
    if (to_64 && (!is_canonical(rsp) || !is_canonical(rip)))
        return cpu_raise_gp(f, 0);
    s->gpr[CPU_RSP] = to_64 ? rsp : (uint32_t)rsp;
    s->rip = to_64 ? rip : (uint32_t)rip;
    enter_ring(s, 3, selector, (uint16_t)(selector + 8), to_64);
    return 0;
}

enum interp_result cpu_fast_call(struct interp *in, const struct interp_insn *insn,
                                 struct cpu_fault *f)
{
    struct cpu_state *s = interp_state(in);
    int result;

    switch (insn->z->mnemonic) {
    case ZYDIS_MNEMONIC_SYSCALL:
        result = do_syscall(s, insn, f);
        break;
    case ZYDIS_MNEMONIC_SYSRET:
        result = do_sysret(s, insn, f);
        break;
    case ZYDIS_MNEMONIC_SYSENTER:
        result = do_sysenter(s, f);
        break;
    default:
        result = do_sysexit(s, insn, f);
        break;
    }
    return result ? INTERP_FAULT : INTERP_OK;
}
