/* cpu_transfer(): sorts the instructions, and carries out software interrupts and segment loads. */
#include <string.h>

#include "vmm/cpu_event_impl.h"

int cpu_far_pointer(struct interp *in, const struct interp_insn *insn, unsigned n, uint64_t *offset,
                    uint16_t *selector, struct cpu_fault *f)
{
    unsigned size = insn->z->operand_width / 8u;
    uint8_t buf[sizeof(*offset) + sizeof(*selector)];
    uint64_t linear;

    if (interp_operand_linear(in, insn, n, &linear, f) ||
        interp_load(in, linear, buf, size + 2, interp_state(in)->cpl == 3, false, f))
        return -1;
    *offset = 0;
    memcpy(offset, buf, size);
    memcpy(selector, buf + size, sizeof(*selector));
    return 0;
}

static bool segment_name(const ZydisDecodedOperand *o, enum cpu_seg *which)
{
    if (o->type != ZYDIS_OPERAND_TYPE_REGISTER ||
        ZydisRegisterGetClass(o->reg.value) != ZYDIS_REGCLASS_SEGMENT)
        return false;
    *which = (enum cpu_seg)ZydisRegisterGetId(o->reg.value);
    return true;
}

static int pop_segment(struct interp *in, const struct interp_insn *insn, enum cpu_seg which,
                       struct cpu_fault *f)
{
    struct cpu_state *s = interp_state(in);
    struct cpu_stack st = cpu_stack_now(s);
    uint64_t value;

    if (cpu_stack_pop(in, &st, &value, 1, insn->z->operand_width / 8u, f))
        return -1;
    if (cpu_load_segment(in, which, (uint16_t)value, f))
        return -1;
    /* POP SS: the new pointer is as wide as the old stack was. */
    cpu_stack_commit(s, &st);
    return 0;
}

/* LDS and its likes: a register and a segment register. */
static int load_pointer(struct interp *in, const struct interp_insn *insn, enum cpu_seg which,
                        struct cpu_fault *f)
{
    uint16_t selector;
    uint64_t offset;

    if (cpu_far_pointer(in, insn, 1, &offset, &selector, f) ||
        cpu_load_segment(in, which, selector, f))
        return -1;
    return interp_operand_write(in, insn, 0, offset, f);
}

static enum cpu_seg pointer_segment(ZydisMnemonic mnemonic)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_LDS:
        return CPU_DS;
    case ZYDIS_MNEMONIC_LES:
        return CPU_ES;
    case ZYDIS_MNEMONIC_LFS:
        return CPU_FS;
    case ZYDIS_MNEMONIC_LGS:
        return CPU_GS;
    default:
        return CPU_SS;
    }
}

static int move_to_segment(struct interp *in, const struct interp_insn *insn, enum cpu_seg which,
                           struct cpu_fault *f)
{
    uint64_t value;

    if (which == CPU_CS)
        return cpu_raise_ud(f);
    if (interp_operand_read(in, insn, 1, &value, f))
        return -1;
    return cpu_load_segment(in, which, (uint16_t)value, f);
}

enum interp_result cpu_segment_register(struct interp *in, const struct interp_insn *insn,
                                        struct cpu_fault *f)
{
    ZydisMnemonic mnemonic = insn->z->mnemonic;
    bool move = mnemonic == ZYDIS_MNEMONIC_MOV, pop = mnemonic == ZYDIS_MNEMONIC_POP;
    enum cpu_seg which;
    int result;

    if (!move && !pop)
        which = pointer_segment(mnemonic);
    else if (!segment_name(&insn->operand[0], &which))
        return INTERP_SYSTEM;
    if (move)
        result = move_to_segment(in, insn, which, f);
    else
        result = pop ? pop_segment(in, insn, which, f) : load_pointer(in, insn, which, f);
    if (result)
        return INTERP_FAULT;
    if (which == CPU_SS && (move || pop)) /* LSS needs no such thing: it loads both */
        interp_state(in)->inhibited = true;
    interp_skip(in, insn);
    return INTERP_OK;
}

static enum interp_result interrupt(struct interp *in, const struct interp_insn *insn,
                                    uint8_t vector, bool software, struct cpu_fault *f)
{
    const struct cpu_state *s = interp_state(in);
    const struct cpu_event e = {
        .vector = vector,
        .software = software,
        .rip = insn->next_rip,
        .rflags = s->rflags & ~CPU_RF, /* the instruction is done */
    };
    int result = cpu_event_once(in, &e, f);

    if (result == CPU_EVENT_UNSUPPORTED)
        return INTERP_UNKNOWN;
    return result ? INTERP_FAULT : INTERP_OK;
}

static enum interp_result into(struct interp *in, const struct interp_insn *insn,
                               struct cpu_fault *f)
{
    const struct cpu_state *s = interp_state(in);

    if (cpu_code_bits(s) == 64) {
        cpu_raise_ud(f);
        return INTERP_FAULT;
    }
    if (s->rflags & CPU_OF)
        return interrupt(in, insn, CPU_OF_TRAP, true, f);
    interp_skip(in, insn);
    return INTERP_OK;
}

static enum interp_result carry_out(struct interp *in, const struct interp_insn *insn,
                                    struct cpu_fault *f)
{
    bool far_branch = insn->z->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;

    switch (insn->z->mnemonic) {
    case ZYDIS_MNEMONIC_INT:
        return interrupt(in, insn, (uint8_t)insn->operand[0].imm.value.u, true, f);
    case ZYDIS_MNEMONIC_INT3:
        return interrupt(in, insn, CPU_BP, true, f);
    case ZYDIS_MNEMONIC_INT1:
        return interrupt(in, insn, CPU_DB, false, f);
    case ZYDIS_MNEMONIC_INTO:
        return into(in, insn, f);
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ:
        return cpu_iret(in, insn, f);
    case ZYDIS_MNEMONIC_JMP:
    case ZYDIS_MNEMONIC_CALL:
        return far_branch ? cpu_far_jump(in, insn, insn->z->mnemonic == ZYDIS_MNEMONIC_CALL, f)
                          : INTERP_SYSTEM;
    case ZYDIS_MNEMONIC_RET:
        return far_branch ? cpu_far_return(in, insn, f) : INTERP_SYSTEM;
    case ZYDIS_MNEMONIC_SYSCALL:
    case ZYDIS_MNEMONIC_SYSRET:
    case ZYDIS_MNEMONIC_SYSENTER:
    case ZYDIS_MNEMONIC_SYSEXIT:
        return cpu_fast_call(in, insn, f);
    case ZYDIS_MNEMONIC_MOV:
    case ZYDIS_MNEMONIC_POP:
    case ZYDIS_MNEMONIC_LDS:
    case ZYDIS_MNEMONIC_LES:
    case ZYDIS_MNEMONIC_LFS:
    case ZYDIS_MNEMONIC_LGS:
    case ZYDIS_MNEMONIC_LSS:
        return cpu_segment_register(in, insn, f);
    case ZYDIS_MNEMONIC_LAR:
    case ZYDIS_MNEMONIC_LSL:
    case ZYDIS_MNEMONIC_VERR:
    case ZYDIS_MNEMONIC_VERW:
        return cpu_selector_probe(in, insn, f);
    default:
        return cpu_system_table(in, insn, f);
    }
}

enum interp_result cpu_transfer(struct interp *in, const struct interp_insn *insn,
                                struct cpu_fault *fault)
{
    /* Each part changes the state behind its last check only: there is nothing to take back. */
    return is_virtual_8086(interp_state(in)) ? INTERP_UNKNOWN : carry_out(in, insn, fault);
}
