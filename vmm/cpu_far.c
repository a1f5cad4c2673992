/* Far jumps and calls, and the ways back: RET and IRET. */
#include "vmm/cpu_event_impl.h"

#define CPU_VIF (UINT64_C(1) << 19)
#define CPU_VIP (UINT64_C(1) << 20)

/* A CS and RIP that were checked. */
struct target {
    struct kvm_segment cs;
    uint64_t rip;
};

static unsigned operand_bytes(const struct interp_insn *insn)
{
    return insn->z->operand_width / 8u;
}

static enum interp_result fault_or_ok(int result)
{
    return result ? INTERP_FAULT : INTERP_OK;
}

static int real_target(const struct cpu_state *s, uint64_t rip, uint16_t selector, struct target *t,
                       struct cpu_fault *f)
{
    t->cs = s->seg[CPU_CS];
    t->rip = rip;
    cpu_segment_real(&t->cs, selector);
    return cpu_check_rip(s, &t->cs, rip, f);
}

/* Gates and task state segments, as far as they could be the target of a jump or call. */
static enum interp_result system_target(const struct cpu_state *s, const struct cpu_descriptor *d,
                                        uint16_t selector, struct cpu_fault *f)
{
    switch (desc_type(d)) {
    case SYS_CALL32:
        return INTERP_UNKNOWN;
    case SYS_CALL16:
    case SYS_TASK_GATE:
    case SYS_TSS16:
    case SYS_TSS32:
        if (!cpu_long_mode(s))
            return INTERP_UNKNOWN;
        break;
    default:
        break;
    }
    cpu_raise_gp(f, selector & SELECTOR_INDEX);
    return INTERP_FAULT;
}

/* Intel SDM vol. 2, "JMP-Jump" and "CALL-Call Procedure": direct to a code segment. */
static enum interp_result protected_target(struct interp *in, uint64_t rip, uint16_t selector,
                                           struct target *t, struct cpu_fault *f)
{
    const struct cpu_state *s = interp_state(in);
    uint32_t error = selector & SELECTOR_INDEX;
    struct cpu_descriptor d;
    bool allowed;

    if (selector_is_null(selector))
        return fault_or_ok(cpu_raise_gp(f, 0));
    if (cpu_descriptor(in, selector, CPU_GP, &d, f))
        return INTERP_FAULT;
    if (!desc_is_segment(&d))
        return system_target(s, &d, selector, f);
    if (cpu_check_code(s, &d, selector, f))
        return INTERP_FAULT;
    allowed = desc_is_conforming(&d)
                  ? desc_dpl(&d) <= s->cpl
                  : desc_dpl(&d) == s->cpl && (selector & SELECTOR_RPL) <= s->cpl;
    if (!allowed)
        return fault_or_ok(cpu_raise_gp(f, error));
    if (!desc_present(&d))
        return fault_or_ok(cpu_raise(f, CPU_NP, true, error));
    t->rip = rip;
    if (cpu_code_segment(in, &d, selector, s->cpl, &t->cs, f))
        return INTERP_FAULT;
    return fault_or_ok(cpu_check_rip(s, &t->cs, rip, f));
}

static int read_pointer(struct interp *in, const struct interp_insn *insn, uint64_t *rip,
                        uint16_t *selector, struct cpu_fault *f)
{
    const ZydisDecodedOperand *o = &insn->operand[0];

    if (o->type != ZYDIS_OPERAND_TYPE_POINTER)
        return cpu_far_pointer(in, insn, 0, rip, selector, f);
    *rip = operand_bytes(insn) == 2 ? o->ptr.offset & 0xffff : o->ptr.offset;
    *selector = o->ptr.segment;
    return 0;
}

enum interp_result cpu_far_jump(struct interp *in, const struct interp_insn *insn, bool call,
                                struct cpu_fault *f)
{
    struct cpu_state *s = interp_state(in);
    const uint64_t back[] = { s->seg[CPU_CS].selector, insn->next_rip };
    struct cpu_stack st = cpu_stack_now(s);
    enum interp_result result;
    struct target t;
    uint16_t selector;
    uint64_t rip;

    if (read_pointer(in, insn, &rip, &selector, f))
        return INTERP_FAULT;
    result = cpu_real_mode(s) ? fault_or_ok(real_target(s, rip, selector, &t, f))
                              : protected_target(in, rip, selector, &t, f);
    if (result != INTERP_OK)
        return result;
    if (call) {
        if (cpu_stack_push(in, &st, back, 2, operand_bytes(insn), f))
            return INTERP_FAULT;
        cpu_stack_commit(s, &st);
    }
    s->seg[CPU_CS] = t.cs;
    s->rip = t.rip;
    return INTERP_OK;
}

/* Intel SDM vol. 2, "RET-Return From Procedure" and "IRET/IRETD/IRETQ-Interrupt Return". */
static int return_target(struct interp *in, uint64_t rip, uint16_t selector, struct target *t,
                         struct cpu_fault *f)
{
    const struct cpu_state *s = interp_state(in);
    uint32_t error = selector & SELECTOR_INDEX;
    unsigned rpl = selector & SELECTOR_RPL;
    struct cpu_descriptor d;

    if (selector_is_null(selector))
        return cpu_raise_gp(f, 0);
    if (cpu_descriptor(in, selector, CPU_GP, &d, f) || cpu_check_code(s, &d, selector, f))
        return -1;
    if (rpl < s->cpl || (desc_is_conforming(&d) ? desc_dpl(&d) > rpl : desc_dpl(&d) != rpl))
        return cpu_raise_gp(f, error);
    if (!desc_present(&d))
        return cpu_raise(f, CPU_NP, true, error);
    t->rip = rip;
    if (cpu_code_segment(in, &d, selector, rpl, &t->cs, f))
        return -1;
    return cpu_check_rip(s, &t->cs, rip, f);
}

/* SS and RSP that a return to `t` takes from the stack. */
static int return_stack(struct interp *in, struct cpu_stack *st, unsigned size,
                        const struct target *t, struct kvm_segment *ss, struct cpu_fault *f)
{
    bool to_64 = cpu_long_mode(interp_state(in)) && t->cs.l;
    unsigned cpl = t->cs.selector & SELECTOR_RPL;
    uint64_t item[2]; /* RSP, SS */
    uint16_t selector;

    if (cpu_stack_pop(in, st, item, 2, size, f))
        return -1;
    selector = (uint16_t)item[1];
    if (!selector_is_null(selector)) {
        if (cpu_stack_segment(in, selector, cpl, CPU_GP, ss, f))
            return -1;
    } else {
        if (!to_64 || cpl == 3 || (selector & SELECTOR_RPL) != cpl)
            return cpu_raise_gp(f, 0);
        *ss = cpu_segment_null(selector);
    }
    st->ss = ss;
    st->sp = item[0];
    st->bits = to_64 ? 64 : ss->db ? 32 : 16;
    return 0;
}

/* What an inner ring may use and the outer one not must not stay behind in a segment register. */
static void drop_inner_segments(struct cpu_state *s)
{
    static const enum cpu_seg data[] = { CPU_ES, CPU_DS, CPU_FS, CPU_GS };

    for (unsigned i = 0; i < sizeof(data) / sizeof(data[0]); i++) {
        struct kvm_segment *seg = &s->seg[data[i]];
        bool conforming = (seg->type & (TYPE_CODE | TYPE_DOWN)) == (TYPE_CODE | TYPE_DOWN);

        if (!seg->unusable && !conforming && seg->dpl < s->cpl)
            *seg = cpu_segment_null(0);
    }
}

/*
 * The part that RET and IRET share once CS and RIP are popped. `release`: bytes that RET n drops,
 * of both stacks.
 */
static int finish_return(struct interp *in, const struct cpu_stack *st, unsigned size,
                         uint16_t selector, uint64_t rip, bool always_stack, uint64_t release,
                         struct cpu_fault *f)
{
    struct cpu_state *s = interp_state(in);
    bool outer = (selector & SELECTOR_RPL) > s->cpl;
    struct kvm_segment ss = s->seg[CPU_SS];
    struct cpu_stack top = *st;
    struct target t;

    if (cpu_real_mode(s) ? real_target(s, rip, selector, &t, f)
                         : return_target(in, rip, selector, &t, f))
        return -1;
    top.sp += release;
    if (!cpu_real_mode(s) && (outer || always_stack)) {
        if (return_stack(in, &top, size, &t, &ss, f))
            return -1;
        top.sp += release;
    }
    cpu_stack_commit(s, &top);
    s->seg[CPU_SS] = ss;
    s->seg[CPU_CS] = t.cs;
    s->rip = t.rip;
    if (!cpu_real_mode(s) && outer) {
        s->cpl = selector & SELECTOR_RPL;
        drop_inner_segments(s);
    }
    return 0;
}

enum interp_result cpu_far_return(struct interp *in, const struct interp_insn *insn,
                                  struct cpu_fault *f)
{
    struct cpu_stack st = cpu_stack_now(interp_state(in));
    unsigned size = operand_bytes(insn);
    uint64_t item[2], release = 0; /* RIP, CS */

    if (insn->operand[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
        release = insn->operand[0].imm.value.u & 0xffff;
    if (cpu_stack_pop(in, &st, item, 2, size, f))
        return INTERP_FAULT;
    return fault_or_ok(finish_return(in, &st, size, (uint16_t)item[1], item[0], false, release, f));
}

/* The flags that IRET may change in this ring. */
static uint64_t iret_mask(const struct cpu_state *s, unsigned size)
{
    uint64_t mask = CPU_CF | CPU_PF | CPU_AF | CPU_ZF | CPU_SF | CPU_TF | CPU_DF | CPU_OF | CPU_NT;

    if (s->cpl <= (s->rflags & CPU_IOPL) >> 12)
        mask |= CPU_IF;
    if (s->cpl == 0)
        mask |= CPU_IOPL;
    if (size > 2)
        mask |= CPU_RF | CPU_AC | CPU_ID;
    if (size > 2 && s->cpl == 0 && !cpu_real_mode(s))
        mask |= CPU_VIF | CPU_VIP;
    return mask;
}

enum interp_result cpu_iret(struct interp *in, const struct interp_insn *insn, struct cpu_fault *f)
{
    struct cpu_state *s = interp_state(in);
    struct cpu_stack st = cpu_stack_now(s);
    unsigned size = operand_bytes(insn);
    uint64_t item[3], mask = iret_mask(s, size); /* RIP, CS, RFLAGS */
    bool legacy = !cpu_real_mode(s) && !cpu_long_mode(s);

    if (!cpu_real_mode(s) && (s->rflags & CPU_NT)) /* a return to another task */
        return legacy ? INTERP_UNKNOWN : fault_or_ok(cpu_raise_gp(f, 0));
    if (cpu_stack_pop(in, &st, item, 3, size, f))
        return INTERP_FAULT;
    if (legacy && s->cpl == 0 && size > 2 && (item[2] & CPU_VM))
        return INTERP_UNKNOWN;
    if (finish_return(in, &st, size, (uint16_t)item[1], item[0], cpu_code_bits(s) == 64, 0, f))
        return INTERP_FAULT;
    s->rflags = (s->rflags & ~mask) | (item[2] & mask);
    s->nmi_blocked = false;
    return INTERP_OK;
}
