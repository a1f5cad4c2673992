/* Multiplication and division. */
#include "vmm/interp_impl.h"

/* Both halves of the product of `size` bytes each; true: the upper half says something new. */
static bool multiply(uint64_t a, uint64_t b, unsigned size, bool is_signed, uint64_t *low,
                     uint64_t *high)
{
    if (is_signed) {
        __int128 product =
            (__int128)(int64_t)interp_sign_extend(a, size) * (int64_t)interp_sign_extend(b, size);

        *low = interp_low((uint64_t)product, size);
        *high = interp_low((uint64_t)(product >> size * 8), size);
        return (__int128)(int64_t)interp_sign_extend(*low, size) != product;
    } else {
        unsigned __int128 product = (unsigned __int128)interp_low(a, size) * interp_low(b, size);

        *low = interp_low((uint64_t)product, size);
        *high = interp_low((uint64_t)(product >> size * 8), size);
        return *high != 0;
    }
}

/* Both tell of an overflow; SF, ZF, AF, PF are undefined, and kept here. */
static void overflowed(struct interp *in, bool is)
{
    interp_set_flags(in, CPU_CF | CPU_OF, is ? CPU_CF | CPU_OF : 0);
}

/* DX:AX, or AX for bytes. */
static void set_wide(struct interp *in, unsigned size, uint64_t low, uint64_t high)
{
    if (size == 1) {
        interp_set_gpr(in, CPU_RAX, 2, low | high << 8);
        return;
    }
    interp_set_gpr(in, CPU_RAX, size, low);
    interp_set_gpr(in, CPU_RDX, size, high);
}

static int multiply_wide(struct interp *in, const struct interp_op *op, bool is_signed)
{
    unsigned size = op->arg[0].size;
    uint64_t b, low, high;
    bool over;

    if (interp_get(in, op, 0, &b))
        return -1;
    over = multiply(in->state->gpr[CPU_RAX], b, size, is_signed, &low, &high);
    set_wide(in, size, low, high);
    overflowed(in, over);
    return 0;
}

static int h_mul(struct interp *in, const struct interp_op *op)
{
    return multiply_wide(in, op, false);
}

/* One operand: F6, F7. Two: 0F AF. Three: 69, 6B, which have an immediate. */
static int h_imul(struct interp *in, const struct interp_op *op)
{
    unsigned size = op->arg[0].size, first = op->arg[2].kind == ARG_IMMEDIATE;
    uint64_t a, b, low, high;

    if (op->condition == 6 || op->condition == 7)
        return multiply_wide(in, op, true);
    if (interp_get(in, op, first, &a) || interp_get(in, op, first + 1, &b))
        return -1;
    overflowed(in, multiply(a, b, size, true, &low, &high));
    return interp_put(in, op, 0, low);
}

static int raise_divide(struct interp *in)
{
    return cpu_raise(in->fault, CPU_DE, false, 0);
}

static unsigned __int128 dividend(const struct interp *in, unsigned size)
{
    uint64_t low = interp_gpr(in, CPU_RAX, size == 1 ? 2 : size);

    if (size == 1)
        return low;
    return (unsigned __int128)interp_gpr(in, CPU_RDX, size) << size * 8 | low;
}

static int h_div(struct interp *in, const struct interp_op *op)
{
    unsigned size = op->arg[0].size;
    unsigned __int128 a = dividend(in, size);
    uint64_t b;

    if (interp_get(in, op, 0, &b))
        return -1;
    if (b == 0 || (uint64_t)(a >> size * 8) >= b)
        return raise_divide(in);
    if (a >> 64)
        set_wide(in, size, (uint64_t)(a / b), (uint64_t)(a % b));
    else
        set_wide(in, size, (uint64_t)a / b, (uint64_t)a % b);
    return 0;
}

static int h_idiv(struct interp *in, const struct interp_op *op)
{
    unsigned size = op->arg[0].size, unused = 128 - size * 16;
    unsigned __int128 wide = dividend(in, size) << unused;
    __int128 a = (__int128)wide >> unused, quotient;
    uint64_t value;
    int64_t b;

    if (interp_get(in, op, 0, &value))
        return -1;
    b = (int64_t)interp_sign_extend(value, size);
    /* The least 128-bit number divided by -1 overflows even here. */
    if (b == 0 || (b == -1 && wide == (unsigned __int128)1 << 127))
        return raise_divide(in);
    quotient = a / b;
    if (quotient != (int64_t)interp_sign_extend((uint64_t)quotient, size))
        return raise_divide(in);
    set_wide(in, size, interp_low((uint64_t)quotient, size), interp_low((uint64_t)(a % b), size));
    return 0;
}

/* BMI2: no flags. The upper half goes to the first operand, and stays if both are the same. */
static int h_mulx(struct interp *in, const struct interp_op *op)
{
    unsigned size = op->arg[0].size;
    uint64_t b, low, high;

    if (interp_get(in, op, 2, &b))
        return -1;
    multiply(in->state->gpr[CPU_RDX], b, size, false, &low, &high);
    interp_put(in, op, 1, low);
    return interp_put(in, op, 0, high);
}

const struct interp_verb interp_multiply_verbs[] = {
    { ZYDIS_MNEMONIC_MUL, h_mul, NULL },   { ZYDIS_MNEMONIC_IMUL, h_imul, NULL },
    { ZYDIS_MNEMONIC_DIV, h_div, NULL },   { ZYDIS_MNEMONIC_IDIV, h_idiv, NULL },
    { ZYDIS_MNEMONIC_MULX, h_mulx, NULL }, { ZYDIS_MNEMONIC_INVALID, NULL, NULL },
};
