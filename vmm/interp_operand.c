/* Operands of the interpreter: registers, effective addresses, segments. */
#include "vmm/interp_impl.h"

static void refer_register(struct interp_arg *arg, ZydisRegister name)
{
    unsigned id = (unsigned)ZydisRegisterGetId(name);

    if (name >= ZYDIS_REGISTER_AH && name <= ZYDIS_REGISTER_BH) {
        arg->kind = ARG_HIGH;
        arg->reg = (uint8_t)(name - ZYDIS_REGISTER_AH);
    } else if (name >= ZYDIS_REGISTER_SPL && name <= ZYDIS_REGISTER_R15B) {
        /* Zydis numbers the byte registers in a row: AH to BH stand in between. */
        arg->kind = ARG_GPR;
        arg->reg = (uint8_t)(name - ZYDIS_REGISTER_SPL + CPU_RSP);
    } else if (name >= ZYDIS_REGISTER_AL && name <= ZYDIS_REGISTER_R15) {
        arg->kind = ARG_GPR;
        arg->reg = (uint8_t)id;
    } else if (name >= ZYDIS_REGISTER_ES && name <= ZYDIS_REGISTER_GS) {
        arg->kind = ARG_SEGMENT;
        arg->reg = (uint8_t)(name - ZYDIS_REGISTER_ES);
    } else {
        arg->kind = ARG_OTHER;
    }
}

static uint8_t part(ZydisRegister name)
{
    if (name == ZYDIS_REGISTER_NONE)
        return ARG_NOTHING;
    if (name == ZYDIS_REGISTER_RIP || name == ZYDIS_REGISTER_EIP)
        return ARG_RIP;
    if (name >= ZYDIS_REGISTER_AX && name <= ZYDIS_REGISTER_R15)
        return (uint8_t)ZydisRegisterGetId(name) & 15;
    return ARG_NOTHING; /* EIZ and RIZ: an index that is none */
}

void interp_arg_make(struct interp_arg *arg, const ZydisDecodedOperand *o)
{
    *arg = (struct interp_arg){ .size = (uint8_t)(o->size / 8 > 255 ? 255 : o->size / 8) };
    switch (o->type) {
    case ZYDIS_OPERAND_TYPE_REGISTER:
        refer_register(arg, o->reg.value);
        break;
    case ZYDIS_OPERAND_TYPE_MEMORY:
        arg->kind = ARG_MEMORY;
        arg->base = part(o->mem.base);
        arg->index = part(o->mem.index);
        arg->shift = o->mem.scale == 8 ? 3 : o->mem.scale == 4 ? 2 : o->mem.scale == 2;
        arg->seg = o->mem.segment >= ZYDIS_REGISTER_ES && o->mem.segment <= ZYDIS_REGISTER_GS
                       ? (uint8_t)(o->mem.segment - ZYDIS_REGISTER_ES)
                       : CPU_DS;
        arg->value = (uint64_t)o->mem.disp.value;
        break;
    case ZYDIS_OPERAND_TYPE_IMMEDIATE:
        arg->kind = ARG_IMMEDIATE;
        arg->value = o->imm.value.u;
        break;
    default:
        arg->kind = ARG_OTHER;
        break;
    }
}

uint64_t interp_effective(const struct interp *in, const struct interp_op *op,
                          const struct interp_arg *arg)
{
    uint64_t at = arg->value;

    if (arg->base < CPU_GPRS)
        at += in->state->gpr[arg->base];
    else if (arg->base == ARG_RIP)
        at += in->next;
    if (arg->index < CPU_GPRS)
        at += in->state->gpr[arg->index] << arg->shift;
    return at & op->address_mask;
}

static int raise_segment(struct interp *in, unsigned seg)
{
    return cpu_raise(in->fault, seg == CPU_SS ? CPU_SS_FAULT : CPU_GP, true, 0);
}

/* Intel SDM volume 3, "Limit Checking" and "Type Checking". */
static bool segment_allows(const struct cpu_state *s, const struct kvm_segment *seg,
                           uint64_t offset, unsigned len, bool write)
{
    uint64_t last = offset + len - 1;

    if (!cpu_real_mode(s) && !(s->rflags & CPU_VM)) {
        bool code = seg->type & 8, second = seg->type & 2; /* writable, or code that is readable */

        if (seg->unusable || (write ? code || !second : code && !second))
            return false;
        if (!code && seg->type & 4) /* expand-down */
            return offset > seg->limit && last <= (seg->db ? UINT32_MAX : UINT16_MAX);
    }
    return last <= seg->limit;
}

int interp_segment_linear(struct interp *in, unsigned seg, uint64_t offset, unsigned len,
                          bool write, uint64_t *linear)
{
    const struct cpu_state *s = in->state;

    if (in->bits == 64) {
        *linear = offset + interp_base(in, seg);
        if (!interp_canonical(s, *linear) || !interp_canonical(s, *linear + len - 1))
            return raise_segment(in, seg);
        return 0;
    }
    if (!segment_allows(s, &s->seg[seg], offset, len, write))
        return raise_segment(in, seg);
    *linear = (uint32_t)(offset + interp_base(in, seg));
    return 0;
}

int interp_reach(struct interp *in, unsigned seg, uint64_t offset, unsigned len, bool write,
                 struct interp_span *span)
{
    const struct interp_access access = { .op = write ? PT_WRITE : PT_READ, .user = in->user };
    uint64_t linear;

    if (interp_segment_linear(in, seg, offset, len, write, &linear))
        return -1;
    return interp_map(in, linear, len, &access, span);
}

int interp_reach_arg(struct interp *in, const struct interp_op *op, const struct interp_arg *arg,
                     uint64_t extra, unsigned len, bool write, struct interp_span *span)
{
    uint64_t offset = (interp_effective(in, op, arg) + extra) & op->address_mask;

    return interp_reach(in, arg->seg, offset, len, write, span);
}

static int read_arg(struct interp *in, const struct interp_op *op, const struct interp_arg *arg,
                    uint64_t *value)
{
    struct interp_span span;

    switch (arg->kind) {
    case ARG_GPR:
        *value = interp_gpr(in, arg->reg, arg->size);
        return 0;
    case ARG_IMMEDIATE:
        *value = arg->value;
        return 0;
    case ARG_MEMORY:
        if (interp_reach_arg(in, op, arg, 0, arg->size, false, &span))
            return -1;
        *value = interp_span_get(in, &span);
        return 0;
    case ARG_HIGH:
        *value = in->state->gpr[arg->reg] >> 8 & 0xff;
        return 0;
    case ARG_SEGMENT:
        *value = in->state->seg[arg->reg].selector;
        return 0;
    default:
        return cpu_raise_ud(in->fault);
    }
}

static void write_register(struct interp *in, const struct interp_arg *arg, uint64_t value)
{
    uint64_t *gpr = &in->state->gpr[arg->reg];

    if (arg->kind == ARG_HIGH)
        *gpr = (*gpr & ~UINT64_C(0xff00)) | (value & 0xff) << 8;
    else
        interp_set_gpr(in, arg->reg, arg->size, value);
}

static int write_arg(struct interp *in, const struct interp_op *op, const struct interp_arg *arg,
                     uint64_t value)
{
    struct interp_span span;

    switch (arg->kind) {
    case ARG_GPR:
    case ARG_HIGH:
        write_register(in, arg, value);
        return 0;
    case ARG_MEMORY:
        if (interp_reach_arg(in, op, arg, 0, arg->size, true, &span))
            return -1;
        interp_span_put(in, &span, value);
        return 0;
    default:
        return cpu_raise_ud(in->fault);
    }
}

int interp_get(struct interp *in, const struct interp_op *op, unsigned n, uint64_t *value)
{
    return read_arg(in, op, &op->arg[n], value);
}

int interp_put(struct interp *in, const struct interp_op *op, unsigned n, uint64_t value)
{
    return write_arg(in, op, &op->arg[n], value);
}

int interp_open(struct interp *in, const struct interp_op *op, unsigned n,
                struct interp_target *place)
{
    place->arg = &op->arg[n];
    place->locked = op->locked;
    if (place->arg->kind == ARG_MEMORY)
        return interp_reach_arg(in, op, place->arg, 0, place->arg->size, true, &place->span);
    return 0;
}

uint64_t interp_target_get(struct interp *in, const struct interp_target *place)
{
    const struct interp_arg *arg = place->arg;

    if (arg->kind == ARG_MEMORY)
        return interp_span_get(in, &place->span);
    if (arg->kind == ARG_HIGH)
        return in->state->gpr[arg->reg] >> 8 & 0xff;
    return interp_gpr(in, arg->reg, arg->size);
}

bool interp_target_put(struct interp *in, const struct interp_target *place, uint64_t old,
                       uint64_t value)
{
    if (place->arg->kind != ARG_MEMORY) {
        write_register(in, place->arg, value);
        return true;
    }
    if (place->locked)
        return interp_span_swap(in, &place->span, old, value);
    interp_span_put(in, &place->span, value);
    return true;
}

/* --- for the caller, who works on the decoder's operands ---------------------------------- */

static void prepare(struct interp *in, const struct interp_insn *insn, unsigned n,
                    struct cpu_fault *fault, struct interp_op *op)
{
    in->fault = fault;
    in->next = insn->next_rip;
    in->bits = cpu_code_bits(in->state);
    in->user = in->state->cpl == 3;
    memset(op, 0, sizeof(*op));
    op->address_mask = interp_low(UINT64_MAX, insn->z->address_width / 8);
    interp_arg_make(&op->arg[0], &insn->operand[n]);
}

int interp_operand_read(struct interp *in, const struct interp_insn *insn, unsigned n,
                        uint64_t *value, struct cpu_fault *fault)
{
    struct interp_op op;

    prepare(in, insn, n, fault, &op);
    if (op.arg[0].size > 8) /* pseudo-descriptors: interp_operand_linear() and interp_load() */
        op.arg[0].size = 8;
    return read_arg(in, &op, &op.arg[0], value);
}

int interp_operand_write(struct interp *in, const struct interp_insn *insn, unsigned n,
                         uint64_t value, struct cpu_fault *fault)
{
    struct interp_op op;

    prepare(in, insn, n, fault, &op);
    if (op.arg[0].size > 8)
        op.arg[0].size = 8;
    return write_arg(in, &op, &op.arg[0], value);
}

int interp_operand_linear(struct interp *in, const struct interp_insn *insn, unsigned n,
                          uint64_t *linear, struct cpu_fault *fault)
{
    const ZydisDecodedOperand *o = &insn->operand[n];
    struct interp_op op;

    prepare(in, insn, n, fault, &op);
    return interp_segment_linear(in, op.arg[0].seg, interp_effective(in, &op, &op.arg[0]),
                                 op.arg[0].size ? op.arg[0].size : 1,
                                 o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE, linear);
}
