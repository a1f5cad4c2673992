/* Bit tests, scans and counts, and the general-register part of BMI1 and BMI2. */
#include "vmm/interp_impl.h"

static uint64_t alu_bt(uint64_t a, uint64_t b, unsigned size, uint64_t *flags)
{
    *flags = (*flags & ~CPU_CF) | (a >> (b & (size * 8 - 1)) & 1);
    return a;
}

static uint64_t alu_bts(uint64_t a, uint64_t b, unsigned size, uint64_t *flags)
{
    return alu_bt(a, b, size, flags) | UINT64_C(1) << (b & (size * 8 - 1));
}

static uint64_t alu_btr(uint64_t a, uint64_t b, unsigned size, uint64_t *flags)
{
    return alu_bt(a, b, size, flags) & ~(UINT64_C(1) << (b & (size * 8 - 1)));
}

static uint64_t alu_btc(uint64_t a, uint64_t b, unsigned size, uint64_t *flags)
{
    return alu_bt(a, b, size, flags) ^ UINT64_C(1) << (b & (size * 8 - 1));
}

/* A bit number in a register is signed and reaches beyond an operand in memory. */
static int open_bits(struct interp *in, const struct interp_op *op, uint64_t bit, bool write,
                     struct interp_target *place)
{
    unsigned size = op->arg[0].size, width = size == 8 ? 6 : size == 4 ? 5 : 4;
    uint64_t extra = 0;

    place->arg = &op->arg[0];
    place->locked = op->locked;
    if (op->arg[0].kind != ARG_MEMORY)
        return 0;
    if (op->arg[1].kind == ARG_GPR)
        extra = (uint64_t)((int64_t)interp_sign_extend(bit, size) >> width) * size;
    return interp_reach_arg(in, op, &op->arg[0], extra, size, write, &place->span);
}

static int h_bt(struct interp *in, const struct interp_op *op)
{
    struct interp_target place;
    uint64_t bit;

    if (interp_get(in, op, 1, &bit) || open_bits(in, op, bit, false, &place))
        return -1;
    alu_bt(interp_target_get(in, &place), bit, op->arg[0].size, &in->state->rflags);
    return 0;
}

static int h_bit_change(struct interp *in, const struct interp_op *op)
{
    struct interp_target place;
    uint64_t bit, old, value, flags;

    if (interp_get(in, op, 1, &bit) || open_bits(in, op, bit, true, &place))
        return -1;
    do {
        flags = in->state->rflags;
        old = interp_target_get(in, &place);
        value = op->alu(old, bit, op->arg[0].size, &flags);
    } while (!interp_target_put(in, &place, old, value));
    in->state->rflags = flags;
    return 0;
}

/* Of nothing: ZF, and the destination stays; AMD's manual promises it and Intel's CPUs do it. */
static int scan(struct interp *in, const struct interp_op *op, bool forward)
{
    uint64_t value;

    if (interp_get(in, op, 1, &value))
        return -1;
    interp_set_flags(in, CPU_ZF, value ? 0 : CPU_ZF);
    if (value == 0)
        return 0;
    return interp_put(in, op, 0,
                      (uint64_t)(forward ? __builtin_ctzll(value) : 63 - __builtin_clzll(value)));
}

static int h_bsf(struct interp *in, const struct interp_op *op)
{
    return scan(in, op, true);
}

static int h_bsr(struct interp *in, const struct interp_op *op)
{
    return scan(in, op, false);
}

static int h_popcnt(struct interp *in, const struct interp_op *op)
{
    uint64_t value;

    if (interp_get(in, op, 1, &value))
        return -1;
    interp_set_flags(in, CPU_ARITH, value ? 0 : CPU_ZF);
    return interp_put(in, op, 0, (uint64_t)__builtin_popcountll(value));
}

/* LZCNT and TZCNT: CF for a source of 0, ZF for a result of 0. */
static int put_count(struct interp *in, const struct interp_op *op, unsigned count)
{
    interp_set_flags(in, CPU_CF | CPU_ZF,
                     (count == op->arg[0].size * 8 ? CPU_CF : 0) | (count ? 0 : CPU_ZF));
    return interp_put(in, op, 0, count);
}

static int h_lzcnt(struct interp *in, const struct interp_op *op)
{
    unsigned bits = op->arg[0].size * 8;
    uint64_t value;

    if (interp_get(in, op, 1, &value))
        return -1;
    return put_count(in, op, value ? bits - 64 + (unsigned)__builtin_clzll(value) : bits);
}

static int h_tzcnt(struct interp *in, const struct interp_op *op)
{
    uint64_t value;

    if (interp_get(in, op, 1, &value))
        return -1;
    return put_count(in, op, value ? (unsigned)__builtin_ctzll(value) : op->arg[0].size * 8);
}

static void logic_flags(struct interp *in, uint64_t value, unsigned size, bool carry)
{
    uint64_t flags = carry ? CPU_CF : 0;

    value = interp_low(value, size);
    if (value == 0)
        flags |= CPU_ZF;
    if (value >> (size * 8 - 1))
        flags |= CPU_SF;
    interp_set_flags(in, CPU_CF | CPU_ZF | CPU_SF | CPU_OF, flags);
}

static int h_andn(struct interp *in, const struct interp_op *op)
{
    uint64_t a, b;

    if (interp_get(in, op, 1, &a) || interp_get(in, op, 2, &b))
        return -1;
    logic_flags(in, ~a & b, op->arg[0].size, false);
    return interp_put(in, op, 0, ~a & b);
}

static int h_blsi(struct interp *in, const struct interp_op *op)
{
    uint64_t a;

    if (interp_get(in, op, 1, &a))
        return -1;
    logic_flags(in, a & -a, op->arg[0].size, a != 0);
    return interp_put(in, op, 0, a & -a);
}

static int h_blsr(struct interp *in, const struct interp_op *op)
{
    uint64_t a;

    if (interp_get(in, op, 1, &a))
        return -1;
    logic_flags(in, a & (a - 1), op->arg[0].size, a == 0);
    return interp_put(in, op, 0, a & (a - 1));
}

static int h_blsmsk(struct interp *in, const struct interp_op *op)
{
    uint64_t a;

    if (interp_get(in, op, 1, &a))
        return -1;
    logic_flags(in, a ^ (a - 1), op->arg[0].size, a == 0);
    return interp_put(in, op, 0, a ^ (a - 1));
}

static int h_bextr(struct interp *in, const struct interp_op *op)
{
    unsigned start, len;
    uint64_t a, control;

    if (interp_get(in, op, 1, &a) || interp_get(in, op, 2, &control))
        return -1;
    start = control & 0xff;
    len = control >> 8 & 0xff;
    a = start < 64 ? a >> start : 0;
    if (len < 64)
        a &= (UINT64_C(1) << len) - 1;
    logic_flags(in, a, op->arg[0].size, false);
    return interp_put(in, op, 0, a);
}

static int h_bzhi(struct interp *in, const struct interp_op *op)
{
    unsigned size = op->arg[0].size, from;
    uint64_t a, control;

    if (interp_get(in, op, 1, &a) || interp_get(in, op, 2, &control))
        return -1;
    from = control & 0xff;
    if (from < size * 8)
        a &= (UINT64_C(1) << from) - 1;
    logic_flags(in, a, size, from >= size * 8);
    return interp_put(in, op, 0, a);
}

/* RORX, SHLX, SHRX, SARX: no flags. */
static int h_shift_plain(struct interp *in, const struct interp_op *op)
{
    unsigned size = op->arg[0].size;
    uint64_t a, count;

    if (interp_get(in, op, 1, &a) || interp_get(in, op, 2, &count))
        return -1;
    return interp_put(in, op, 0, op->alu(a, count & (size * 8 - 1), size, NULL));
}

static uint64_t alu_shlx(uint64_t a, uint64_t b, unsigned size, uint64_t *flags)
{
    (void)size;
    (void)flags;
    return a << b;
}

static uint64_t alu_shrx(uint64_t a, uint64_t b, unsigned size, uint64_t *flags)
{
    (void)size;
    (void)flags;
    return a >> b;
}

static uint64_t alu_sarx(uint64_t a, uint64_t b, unsigned size, uint64_t *flags)
{
    (void)flags;
    return (uint64_t)((int64_t)interp_sign_extend(a, size) >> b);
}

static uint64_t alu_rorx(uint64_t a, uint64_t b, unsigned size, uint64_t *flags)
{
    (void)flags;
    return b ? a >> b | a << (size * 8 - b) : a;
}

const struct interp_verb interp_bit_verbs[] = {
    { ZYDIS_MNEMONIC_BT, h_bt, NULL },
    { ZYDIS_MNEMONIC_BTS, h_bit_change, alu_bts },
    { ZYDIS_MNEMONIC_BTR, h_bit_change, alu_btr },
    { ZYDIS_MNEMONIC_BTC, h_bit_change, alu_btc },
    { ZYDIS_MNEMONIC_BSF, h_bsf, NULL },
    { ZYDIS_MNEMONIC_BSR, h_bsr, NULL },
    { ZYDIS_MNEMONIC_POPCNT, h_popcnt, NULL },
    { ZYDIS_MNEMONIC_LZCNT, h_lzcnt, NULL },
    { ZYDIS_MNEMONIC_TZCNT, h_tzcnt, NULL },
    { ZYDIS_MNEMONIC_ANDN, h_andn, NULL },
    { ZYDIS_MNEMONIC_BLSI, h_blsi, NULL },
    { ZYDIS_MNEMONIC_BLSR, h_blsr, NULL },
    { ZYDIS_MNEMONIC_BLSMSK, h_blsmsk, NULL },
    { ZYDIS_MNEMONIC_BEXTR, h_bextr, NULL },
    { ZYDIS_MNEMONIC_BZHI, h_bzhi, NULL },
    { ZYDIS_MNEMONIC_SHLX, h_shift_plain, alu_shlx },
    { ZYDIS_MNEMONIC_SHRX, h_shift_plain, alu_shrx },
    { ZYDIS_MNEMONIC_SARX, h_shift_plain, alu_sarx },
    { ZYDIS_MNEMONIC_RORX, h_shift_plain, alu_rorx },
    { ZYDIS_MNEMONIC_INVALID, NULL, NULL },
};
