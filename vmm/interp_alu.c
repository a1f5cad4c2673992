/*
 * Integer arithmetic, logic, shifts. The host's own instructions compute results and flags, the
 * undefined ones too: what the manual leaves open is then what this CPU does.
 */
#include "vmm/interp_impl.h"

/* LAHF and SETO leave SF, ZF, AF, PF and CF in AH and OF in AL. No stack is touched, so that the
   red zone is safe, and POPF's slowness is saved. */
static inline uint64_t flags_of(uint64_t ax)
{
    return (ax >> 8 & (CPU_ARITH & 0xff)) | (ax & 1) << 11;
}

#define SEE_FLAGS "\n\tlahf\n\tseto %%al"

/* `b` goes to a register of the constraint; CF is set from *flags before. */
#define RUN(before, suffix, modifier, text, constraint)                         \
    __asm__("btl $0, %k[f]\n\t" before suffix text "%" modifier "[a]" SEE_FLAGS \
            : [a] "+&q"(a), "=&a"(ax)                                           \
            : [b] constraint(b), [f] "r"(*flags)                                \
            : "cc")

#define BY_SIZE(text, b1, b2, b4, b8, constraint) \
    switch (size) {                               \
    case 1:                                       \
        RUN(text, "b ", "b", b1, constraint);     \
        break;                                    \
    case 2:                                       \
        RUN(text, "w ", "w", b2, constraint);     \
        break;                                    \
    case 4:                                       \
        RUN(text, "l ", "k", b4, constraint);     \
        break;                                    \
    default:                                      \
        RUN(text, "q ", "q", b8, constraint);     \
        break;                                    \
    }

#define BINARY(name, text)                                                \
    uint64_t name(uint64_t a, uint64_t b, unsigned size, uint64_t *flags) \
    {                                                                     \
        uint64_t ax;                                                      \
                                                                          \
        BY_SIZE(text, "%b[b], ", "%w[b], ", "%k[b], ", "%q[b], ", "q")    \
        *flags = (*flags & ~CPU_ARITH) | flags_of(ax);                    \
        return a;                                                         \
    }

/* Keeps the flags in `kept`. */
#define UNARY(name, text, kept)                                                         \
    static uint64_t name(uint64_t a, uint64_t b, unsigned size, uint64_t *flags)        \
    {                                                                                   \
        uint64_t ax;                                                                    \
                                                                                        \
        BY_SIZE(text, "", "", "", "", "q")                                              \
        *flags = (*flags & (~CPU_ARITH | (kept))) | (flags_of(ax) & ~(uint64_t)(kept)); \
        return a;                                                                       \
    }

/* A count of 0, after masking, changes no flag: Intel SDM volume 2, SAL/SAR/SHL/SHR and RCL/... */
#define SHIFT(name, text, changed)                                               \
    static uint64_t name(uint64_t a, uint64_t b, unsigned size, uint64_t *flags) \
    {                                                                            \
        uint64_t ax;                                                             \
                                                                                 \
        if ((b & (size == 8 ? 63 : 31)) == 0)                                    \
            return a;                                                            \
        BY_SIZE(text, "%%cl, ", "%%cl, ", "%%cl, ", "%%cl, ", "c")               \
        *flags = (*flags & ~(changed)) | (flags_of(ax) & (changed));             \
        return a;                                                                \
    }

/* clang-format off */
BINARY(interp_alu_add, "add")
BINARY(interp_alu_sub, "sub")
static BINARY(alu_or, "or")
static BINARY(alu_and, "and")
static BINARY(alu_xor, "xor")
static BINARY(alu_adc, "adc")
static BINARY(alu_sbb, "sbb")
UNARY(alu_inc, "inc", CPU_CF)
UNARY(alu_dec, "dec", CPU_CF)
UNARY(alu_neg, "neg", 0)
UNARY(alu_not, "not", CPU_ARITH)
SHIFT(alu_shl, "shl", CPU_ARITH)
SHIFT(alu_shr, "shr", CPU_ARITH)
SHIFT(alu_sar, "sar", CPU_ARITH)
SHIFT(alu_rol, "rol", CPU_CF | CPU_OF)
SHIFT(alu_ror, "ror", CPU_CF | CPU_OF)
SHIFT(alu_rcl, "rcl", CPU_CF | CPU_OF)
SHIFT(alu_rcr, "rcr", CPU_CF | CPU_OF)
    /* clang-format on */

    static int change(struct interp *in, const struct interp_op *op, uint64_t b)
{
    struct interp_target place;
    uint64_t old, value, flags;

    if (interp_open(in, op, 0, &place))
        return -1;
    do {
        flags = in->state->rflags;
        old = interp_target_get(in, &place);
        value = op->alu(old, b, op->arg[0].size, &flags);
    } while (!interp_target_put(in, &place, old, value));
    in->state->rflags = flags;
    return 0;
}

static int h_binary(struct interp *in, const struct interp_op *op)
{
    uint64_t b;

    return interp_get(in, op, 1, &b) ? -1 : change(in, op, b);
}

static int h_unary(struct interp *in, const struct interp_op *op)
{
    return change(in, op, 0);
}

/* CMP and TEST: only flags. */
static int h_compare(struct interp *in, const struct interp_op *op)
{
    uint64_t a, b;

    if (interp_get(in, op, 0, &a) || interp_get(in, op, 1, &b))
        return -1;
    op->alu(a, b, op->arg[0].size, &in->state->rflags);
    return 0;
}

static uint64_t double_shift(bool left, uint64_t a, uint64_t b, uint8_t count, unsigned size,
                             uint64_t *flags)
{
    uint64_t ax;

#define DOUBLE(text, modifier)                                                             \
    __asm__("btl $0, %k[f]\n\t" text " %%cl, %" modifier "[b], %" modifier "[a]" SEE_FLAGS \
            : [a] "+&r"(a), "=&a"(ax)                                                      \
            : [b] "r"(b), "c"(count), [f] "r"(*flags)                                      \
            : "cc")
    if (size == 2 && left)
        DOUBLE("shldw", "w");
    else if (size == 2)
        DOUBLE("shrdw", "w");
    else if (size == 4 && left)
        DOUBLE("shldl", "k");
    else if (size == 4)
        DOUBLE("shrdl", "k");
    else if (left)
        DOUBLE("shldq", "q");
    else
        DOUBLE("shrdq", "q");
#undef DOUBLE
    *flags = (*flags & ~CPU_ARITH) | flags_of(ax);
    return a;
}

static int shift_double(struct interp *in, const struct interp_op *op, bool left)
{
    struct interp_target place;
    uint64_t b, count, flags = in->state->rflags, old;
    unsigned size = op->arg[0].size;

    if (interp_get(in, op, 1, &b) || interp_get(in, op, 2, &count) ||
        interp_open(in, op, 0, &place))
        return -1;
    old = interp_target_get(in, &place);
    count &= size == 8 ? 63 : 31;
    interp_target_put(in, &place, old,
                      count ? double_shift(left, old, b, (uint8_t)count, size, &flags) : old);
    in->state->rflags = flags;
    return 0;
}

static int h_shld(struct interp *in, const struct interp_op *op)
{
    return shift_double(in, op, true);
}

static int h_shrd(struct interp *in, const struct interp_op *op)
{
    return shift_double(in, op, false);
}

const struct interp_verb interp_alu_verbs[] = {
    { ZYDIS_MNEMONIC_ADD, h_binary, interp_alu_add },
    { ZYDIS_MNEMONIC_SUB, h_binary, interp_alu_sub },
    { ZYDIS_MNEMONIC_CMP, h_compare, interp_alu_sub },
    { ZYDIS_MNEMONIC_TEST, h_compare, alu_and },
    { ZYDIS_MNEMONIC_AND, h_binary, alu_and },
    { ZYDIS_MNEMONIC_OR, h_binary, alu_or },
    { ZYDIS_MNEMONIC_XOR, h_binary, alu_xor },
    { ZYDIS_MNEMONIC_ADC, h_binary, alu_adc },
    { ZYDIS_MNEMONIC_SBB, h_binary, alu_sbb },
    { ZYDIS_MNEMONIC_INC, h_unary, alu_inc },
    { ZYDIS_MNEMONIC_DEC, h_unary, alu_dec },
    { ZYDIS_MNEMONIC_NEG, h_unary, alu_neg },
    { ZYDIS_MNEMONIC_NOT, h_unary, alu_not },
    { ZYDIS_MNEMONIC_SHL, h_binary, alu_shl },
    { ZYDIS_MNEMONIC_SHR, h_binary, alu_shr },
    { ZYDIS_MNEMONIC_SAR, h_binary, alu_sar },
    { ZYDIS_MNEMONIC_ROL, h_binary, alu_rol },
    { ZYDIS_MNEMONIC_ROR, h_binary, alu_ror },
    { ZYDIS_MNEMONIC_RCL, h_binary, alu_rcl },
    { ZYDIS_MNEMONIC_RCR, h_binary, alu_rcr },
    { ZYDIS_MNEMONIC_SHLD, h_shld, NULL },
    { ZYDIS_MNEMONIC_SHRD, h_shrd, NULL },
    { ZYDIS_MNEMONIC_INVALID, NULL, NULL },
};
