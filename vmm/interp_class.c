/* Which instructions are carried out here, which are the system's, and which are not known. */
#include "vmm/interp_impl.h"

static const struct interp_verb *find(const struct interp_verb *verbs, ZydisMnemonic mnemonic)
{
    for (; verbs->handler; verbs++)
        if (verbs->mnemonic == mnemonic)
            return verbs;
    return NULL;
}

static const struct interp_verb *verb_of(ZydisMnemonic mnemonic)
{
    static const struct interp_verb *const all[] = {
        interp_move_verbs, interp_alu_verbs,    interp_flow_verbs,     interp_stack_verbs,
        interp_bit_verbs,  interp_string_verbs, interp_multiply_verbs, interp_decimal_verbs,
    };
    const struct interp_verb *verb = NULL;

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]) && !verb; i++)
        verb = find(all[i], mnemonic);
    return verb;
}

static bool is_system_category(ZydisInstructionCategory category)
{
    switch (category) {
    case ZYDIS_CATEGORY_SYSTEM:
    case ZYDIS_CATEGORY_IO:
    case ZYDIS_CATEGORY_IOSTRINGOP:
    case ZYDIS_CATEGORY_INTERRUPT:
    case ZYDIS_CATEGORY_SYSCALL:
    case ZYDIS_CATEGORY_SYSRET:
    case ZYDIS_CATEGORY_SMAP:
    case ZYDIS_CATEGORY_RDWRFSGS:
    case ZYDIS_CATEGORY_SEGOP:
    case ZYDIS_CATEGORY_VTX:
    case ZYDIS_CATEGORY_RDRAND:
    case ZYDIS_CATEGORY_RDSEED:
    case ZYDIS_CATEGORY_RDPID:
    case ZYDIS_CATEGORY_RDPRU:
    case ZYDIS_CATEGORY_PKU:
    case ZYDIS_CATEGORY_SGX:
    case ZYDIS_CATEGORY_PCONFIG:
    case ZYDIS_CATEGORY_WAITPKG:
    case ZYDIS_CATEGORY_LEGACY:
        return true;
    default:
        return false;
    }
}

static bool is_system_mnemonic(ZydisMnemonic mnemonic)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_CLI:
    case ZYDIS_MNEMONIC_STI:
    case ZYDIS_MNEMONIC_CPUID:
    case ZYDIS_MNEMONIC_MONITOR:
    case ZYDIS_MNEMONIC_MONITORX:
    case ZYDIS_MNEMONIC_MWAIT:
    case ZYDIS_MNEMONIC_MWAITX:
    case ZYDIS_MNEMONIC_INVPCID:
    case ZYDIS_MNEMONIC_MCOMMIT:
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ:
    case ZYDIS_MNEMONIC_XGETBV:
    case ZYDIS_MNEMONIC_XSETBV:
        return true;
    default:
        return false;
    }
}

static bool is_system(const ZydisDecodedInstruction *z)
{
    return is_system_category(z->meta.category) || is_system_mnemonic(z->mnemonic) ||
           z->attributes & ZYDIS_ATTRIB_IS_PRIVILEGED;
}

/* A segment register as a destination, a control or debug register, a jump between segments. */
static bool is_system_form(const struct interp_full *full)
{
    const ZydisDecodedInstruction *z = &full->z;

    if (z->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
        return true;
    for (unsigned i = 0; i < z->operand_count_visible; i++) {
        const ZydisDecodedOperand *o = &full->operand[i];

        if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        switch (ZydisRegisterGetClass(o->reg.value)) {
        case ZYDIS_REGCLASS_CONTROL:
        case ZYDIS_REGCLASS_DEBUG:
        case ZYDIS_REGCLASS_TEST:
            return true;
        case ZYDIS_REGCLASS_SEGMENT:
            if (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
                return true;
            break;
        default:
            break;
        }
    }
    return false;
}

/* Two string instructions share their names with two of SSE2. */
static bool is_vector(const ZydisDecodedInstruction *z)
{
    return (z->mnemonic == ZYDIS_MNEMONIC_MOVSD || z->mnemonic == ZYDIS_MNEMONIC_CMPSD) &&
           z->meta.category != ZYDIS_CATEGORY_STRINGOP;
}

static void repetition(struct interp_op *op, const ZydisDecodedInstruction *z)
{
    const uint64_t any = ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE;

    op->repeat = z->meta.category == ZYDIS_CATEGORY_STRINGOP && z->attributes & any;
    op->repeat_while = !(z->attributes & ZYDIS_ATTRIB_HAS_REPNE);
}

/* LODS, MOVS and CMPS name DS:SI among hidden operands, in an order of their own. */
static void string_source(struct interp_op *op, const struct interp_full *full)
{
    struct interp_arg arg;

    for (unsigned i = 0; i < full->z.operand_count; i++) {
        interp_arg_make(&arg, &full->operand[i]);
        if (arg.kind == ARG_MEMORY && arg.base == CPU_RSI)
            op->arg[0] = arg;
    }
}

void interp_classify(struct interp_op *op, const struct interp_full *full)
{
    const ZydisDecodedInstruction *z = &full->z;
    const struct interp_verb *verb = is_vector(z) ? NULL : verb_of(z->mnemonic);

    memset(op, 0, sizeof(*op));
    op->length = z->length;
    if (verb && !is_system_form(full))
        op->result = INTERP_OK;
    else if (verb || is_system(z))
        op->result = INTERP_SYSTEM;
    else
        op->result = INTERP_UNKNOWN;
    if (op->result != INTERP_OK)
        return;
    op->handler = verb->handler;
    op->alu = verb->alu;
    op->size = z->operand_width / 8;
    op->address_mask = interp_low(UINT64_MAX, z->address_width / 8);
    op->condition = z->opcode & 15;
    op->locked = z->attributes & ZYDIS_ATTRIB_HAS_LOCK;
    repetition(op, z);
    for (unsigned i = 0; i < INTERP_ARGS && i < z->operand_count; i++)
        interp_arg_make(&op->arg[i], &full->operand[i]);
    if (z->meta.category == ZYDIS_CATEGORY_STRINGOP)
        string_source(op, full);
}
