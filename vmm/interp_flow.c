/* Near jumps, calls and returns, flags that are set by name, invalid opcodes. */
#include "vmm/interp_impl.h"

/* The target as wide as the operand, and checked before anything changes. */
static int check_target(struct interp *in, const struct interp_op *op, uint64_t *target)
{
    *target = interp_low(*target, op->size);
    if (in->bits == 64 ? !interp_canonical(in->state, *target)
                       : *target > in->state->seg[CPU_CS].limit)
        return cpu_raise_gp(in->fault, 0);
    return 0;
}

/* Where operand 0 leads: a displacement, or a register or memory. */
static int target_of(struct interp *in, const struct interp_op *op, uint64_t *target)
{
    if (interp_get(in, op, 0, target))
        return -1;
    if (op->arg[0].kind == ARG_IMMEDIATE)
        *target += in->next;
    return check_target(in, op, target);
}

static int h_jmp(struct interp *in, const struct interp_op *op)
{
    uint64_t target;

    if (target_of(in, op, &target))
        return -1;
    in->next = target;
    return 0;
}

static int h_jcc(struct interp *in, const struct interp_op *op)
{
    return interp_condition(in->state->rflags, op->condition) ? h_jmp(in, op) : 0;
}

static uint64_t counter(const struct interp *in, const struct interp_op *op)
{
    return in->state->gpr[CPU_RCX] & op->address_mask;
}

static unsigned address_size(const struct interp_op *op)
{
    return op->address_mask == UINT64_MAX ? 8 : op->address_mask == UINT32_MAX ? 4 : 2;
}

static int h_jcxz(struct interp *in, const struct interp_op *op)
{
    return counter(in, op) == 0 ? h_jmp(in, op) : 0;
}

/* E0 LOOPNE, E1 LOOPE, E2 LOOP. */
static int h_loop(struct interp *in, const struct interp_op *op)
{
    uint64_t count = counter(in, op) - 1;
    bool zero = in->state->rflags & CPU_ZF;

    if ((count & op->address_mask) && (op->condition == 2 || zero == (op->condition == 1)) &&
        h_jmp(in, op))
        return -1;
    interp_set_gpr(in, CPU_RCX, address_size(op), count);
    return 0;
}

static int h_call(struct interp *in, const struct interp_op *op)
{
    uint64_t target;

    if (target_of(in, op, &target) || interp_push(in, &in->next, 1, op->size))
        return -1;
    in->next = target;
    return 0;
}

static int h_ret(struct interp *in, const struct interp_op *op)
{
    uint64_t target, extra = op->arg[0].kind == ARG_IMMEDIATE ? op->arg[0].value : 0;

    if (interp_peek(in, 0, op->size, &target) || check_target(in, op, &target))
        return -1;
    interp_set_stack_pointer(in, interp_stack_pointer(in) + op->size + (extra & 0xffff));
    in->next = target;
    return 0;
}

static int h_invalid(struct interp *in, const struct interp_op *op)
{
    (void)op;
    return cpu_raise_ud(in->fault);
}

/* Signed bounds at [operand 1], lower then upper. */
static int h_bound(struct interp *in, const struct interp_op *op)
{
    unsigned size = op->arg[0].size;
    struct interp_span low, high;
    int64_t index;

    if (interp_reach_arg(in, op, &op->arg[1], 0, size, false, &low) ||
        interp_reach_arg(in, op, &op->arg[1], size, size, false, &high))
        return -1;
    index = (int64_t)interp_sign_extend(interp_gpr(in, op->arg[0].reg, size), size);
    if (index < (int64_t)interp_sign_extend(interp_span_get(in, &low), size) ||
        index > (int64_t)interp_sign_extend(interp_span_get(in, &high), size))
        return cpu_raise(in->fault, CPU_BR, false, 0);
    return 0;
}

static int h_clc(struct interp *in, const struct interp_op *op)
{
    (void)op;
    in->state->rflags &= ~CPU_CF;
    return 0;
}

static int h_stc(struct interp *in, const struct interp_op *op)
{
    (void)op;
    in->state->rflags |= CPU_CF;
    return 0;
}

static int h_cmc(struct interp *in, const struct interp_op *op)
{
    (void)op;
    in->state->rflags ^= CPU_CF;
    return 0;
}

static int h_cld(struct interp *in, const struct interp_op *op)
{
    (void)op;
    in->state->rflags &= ~CPU_DF;
    return 0;
}

static int h_std(struct interp *in, const struct interp_op *op)
{
    (void)op;
    in->state->rflags |= CPU_DF;
    return 0;
}

static int h_lahf(struct interp *in, const struct interp_op *op)
{
    uint64_t flags = (in->state->rflags & CPU_ARITH & 0xff) | 2;

    (void)op;
    interp_set_gpr(in, CPU_RAX, 2, (in->state->gpr[CPU_RAX] & 0xff) | flags << 8);
    return 0;
}

static int h_sahf(struct interp *in, const struct interp_op *op)
{
    (void)op;
    interp_set_flags(in, CPU_ARITH & 0xff, in->state->gpr[CPU_RAX] >> 8);
    return 0;
}

#define JUMP(cc)                          \
    {                                     \
        ZYDIS_MNEMONIC_J##cc, h_jcc, NULL \
    }

const struct interp_verb interp_flow_verbs[] = {
    JUMP(O),
    JUMP(NO),
    JUMP(B),
    JUMP(NB),
    JUMP(Z),
    JUMP(NZ),
    JUMP(BE),
    JUMP(NBE),
    JUMP(S),
    JUMP(NS),
    JUMP(P),
    JUMP(NP),
    JUMP(L),
    JUMP(NL),
    JUMP(LE),
    JUMP(NLE),
    { ZYDIS_MNEMONIC_JMP, h_jmp, NULL },
    { ZYDIS_MNEMONIC_JCXZ, h_jcxz, NULL },
    { ZYDIS_MNEMONIC_JECXZ, h_jcxz, NULL },
    { ZYDIS_MNEMONIC_JRCXZ, h_jcxz, NULL },
    { ZYDIS_MNEMONIC_LOOP, h_loop, NULL },
    { ZYDIS_MNEMONIC_LOOPE, h_loop, NULL },
    { ZYDIS_MNEMONIC_LOOPNE, h_loop, NULL },
    { ZYDIS_MNEMONIC_CALL, h_call, NULL },
    { ZYDIS_MNEMONIC_RET, h_ret, NULL },
    { ZYDIS_MNEMONIC_UD0, h_invalid, NULL },
    { ZYDIS_MNEMONIC_UD1, h_invalid, NULL },
    { ZYDIS_MNEMONIC_UD2, h_invalid, NULL },
    { ZYDIS_MNEMONIC_BOUND, h_bound, NULL },
    { ZYDIS_MNEMONIC_CLC, h_clc, NULL },
    { ZYDIS_MNEMONIC_STC, h_stc, NULL },
    { ZYDIS_MNEMONIC_CMC, h_cmc, NULL },
    { ZYDIS_MNEMONIC_CLD, h_cld, NULL },
    { ZYDIS_MNEMONIC_STD, h_std, NULL },
    { ZYDIS_MNEMONIC_LAHF, h_lahf, NULL },
    { ZYDIS_MNEMONIC_SAHF, h_sahf, NULL },
    { ZYDIS_MNEMONIC_INVALID, NULL, NULL },
};
