/* Decimal adjustment, outside of 64-bit mode only. Intel SDM volume 2, AAA to DAS, and SALC. */
#include "vmm/interp_impl.h"

/* SF, ZF and PF of a byte; what else is given. */
static void byte_flags(struct interp *in, uint8_t value, uint64_t more, uint64_t mask)
{
    uint64_t flags = more;

    if (value == 0)
        flags |= CPU_ZF;
    if (value & 0x80)
        flags |= CPU_SF;
    if (!__builtin_parity(value))
        flags |= CPU_PF;
    interp_set_flags(in, CPU_ZF | CPU_SF | CPU_PF | mask, flags);
}

static int adjust_packed(struct interp *in, bool subtract)
{
    uint8_t before = (uint8_t)in->state->gpr[CPU_RAX], al = before;
    uint64_t flags = in->state->rflags, result = 0;

    if ((before & 15) > 9 || flags & CPU_AF) {
        al = (uint8_t)(subtract ? al - 6 : al + 6);
        result |= CPU_AF;
        if (subtract && before < 6)
            result |= CPU_CF;
    }
    if (before > 0x99 || flags & CPU_CF) {
        al = (uint8_t)(subtract ? al - 0x60 : al + 0x60);
        result |= CPU_CF;
    }
    interp_set_gpr(in, CPU_RAX, 1, al);
    byte_flags(in, al, result, CPU_AF | CPU_CF);
    return 0;
}

static int h_daa(struct interp *in, const struct interp_op *op)
{
    (void)op;
    return adjust_packed(in, false);
}

static int h_das(struct interp *in, const struct interp_op *op)
{
    (void)op;
    return adjust_packed(in, true);
}

static int adjust_unpacked(struct interp *in, bool subtract)
{
    uint64_t ax = interp_gpr(in, CPU_RAX, 2), flags = 0;

    if ((ax & 15) > 9 || in->state->rflags & CPU_AF) {
        ax = subtract ? ax - 0x106 : ax + 0x106;
        flags = CPU_AF | CPU_CF;
    }
    interp_set_gpr(in, CPU_RAX, 2, ax & 0xff0f);
    interp_set_flags(in, CPU_AF | CPU_CF, flags);
    return 0;
}

static int h_aaa(struct interp *in, const struct interp_op *op)
{
    (void)op;
    return adjust_unpacked(in, false);
}

static int h_aas(struct interp *in, const struct interp_op *op)
{
    (void)op;
    return adjust_unpacked(in, true);
}

static int h_aam(struct interp *in, const struct interp_op *op)
{
    uint8_t al = (uint8_t)in->state->gpr[CPU_RAX], base = (uint8_t)op->arg[0].value;

    if (base == 0)
        return cpu_raise(in->fault, CPU_DE, false, 0);
    interp_set_gpr(in, CPU_RAX, 2, (uint64_t)(al / base) << 8 | al % base);
    byte_flags(in, al % base, 0, 0);
    return 0;
}

static int h_aad(struct interp *in, const struct interp_op *op)
{
    uint64_t ax = in->state->gpr[CPU_RAX];
    uint8_t al = (uint8_t)(ax + (ax >> 8 & 0xff) * op->arg[0].value);

    interp_set_gpr(in, CPU_RAX, 2, al);
    byte_flags(in, al, 0, 0);
    return 0;
}

static int h_salc(struct interp *in, const struct interp_op *op)
{
    (void)op;
    interp_set_gpr(in, CPU_RAX, 1, in->state->rflags & CPU_CF ? 0xff : 0);
    return 0;
}

const struct interp_verb interp_decimal_verbs[] = {
    { ZYDIS_MNEMONIC_DAA, h_daa, NULL },   { ZYDIS_MNEMONIC_DAS, h_das, NULL },
    { ZYDIS_MNEMONIC_AAA, h_aaa, NULL },   { ZYDIS_MNEMONIC_AAS, h_aas, NULL },
    { ZYDIS_MNEMONIC_AAM, h_aam, NULL },   { ZYDIS_MNEMONIC_AAD, h_aad, NULL },
    { ZYDIS_MNEMONIC_SALC, h_salc, NULL }, { ZYDIS_MNEMONIC_INVALID, NULL, NULL },
};
