/* Pushes and pops. */
#include "vmm/interp_impl.h"

#define PUSHES_MAX 33 /* ENTER with 31 levels: rBP, 30 frame pointers, its own */

unsigned interp_stack_size(const struct interp *in)
{
    if (in->bits == 64)
        return 8;
    return in->state->seg[CPU_SS].db ? 4 : 2;
}

uint64_t interp_stack_pointer(const struct interp *in)
{
    return interp_gpr(in, CPU_RSP, interp_stack_size(in));
}

void interp_set_stack_pointer(struct interp *in, uint64_t value)
{
    interp_set_gpr(in, CPU_RSP, interp_stack_size(in), value);
}

static int reach_stack(struct interp *in, uint64_t offset, unsigned size, bool write,
                       struct interp_span *span)
{
    return interp_reach(in, CPU_SS, interp_low(offset, interp_stack_size(in)), size, write, span);
}

int interp_push(struct interp *in, const uint64_t *values, unsigned n, unsigned size)
{
    uint64_t pointer = interp_stack_pointer(in);
    struct interp_span span[PUSHES_MAX];

    for (unsigned i = 0; i < n; i++)
        if (reach_stack(in, pointer - (i + 1) * size, size, true, &span[i]))
            return -1;
    for (unsigned i = 0; i < n; i++)
        interp_span_put(in, &span[i], values[i]);
    interp_set_stack_pointer(in, pointer - n * size);
    return 0;
}

int interp_peek(struct interp *in, uint64_t skip, unsigned size, uint64_t *value)
{
    struct interp_span span;

    if (reach_stack(in, interp_stack_pointer(in) + skip, size, false, &span))
        return -1;
    *value = interp_span_get(in, &span);
    return 0;
}

/* A segment register is pushed as wide as anything else, its selector in the lower half. */
static int h_push(struct interp *in, const struct interp_op *op)
{
    uint64_t value;

    return interp_get(in, op, 0, &value) ? -1 : interp_push(in, &value, 1, op->size);
}

/* [rSP] as a destination is meant as it is after the pop, and so is rSP itself. */
static int h_pop(struct interp *in, const struct interp_op *op)
{
    uint64_t value, before = in->state->gpr[CPU_RSP];

    if (interp_peek(in, 0, op->size, &value))
        return -1;
    interp_set_stack_pointer(in, interp_stack_pointer(in) + op->size);
    if (interp_put(in, op, 0, value)) {
        in->state->gpr[CPU_RSP] = before;
        return -1;
    }
    return 0;
}

static int h_pusha(struct interp *in, const struct interp_op *op)
{
    return interp_push(in, in->state->gpr, 8, op->size);
}

/* What lies in rSP's place is skipped. */
static int h_popa(struct interp *in, const struct interp_op *op)
{
    unsigned size = op->size;
    uint64_t value[8];

    for (unsigned reg = 0; reg < 8; reg++)
        if (interp_peek(in, (7 - reg) * size, size, &value[reg]))
            return -1;
    for (unsigned reg = 0; reg < 8; reg++)
        if (reg != CPU_RSP)
            interp_set_gpr(in, reg, size, value[reg]);
    interp_set_stack_pointer(in, interp_stack_pointer(in) + 8 * size);
    return 0;
}

static unsigned iopl(const struct cpu_state *s)
{
    return (unsigned)((s->rflags & CPU_IOPL) >> 12);
}

/* Intel SDM volume 2, "PUSHF/PUSHFD/PUSHFQ": RF and VM are pushed as 0. */
static int h_pushf(struct interp *in, const struct interp_op *op)
{
    uint64_t value = in->state->rflags & ~(CPU_RF | CPU_VM);

    if (in->state->rflags & CPU_VM && iopl(in->state) < 3)
        return cpu_raise_gp(in->fault, 0);
    return interp_push(in, &value, 1, op->size);
}

/* Intel SDM volume 2, "POPF/POPFD/POPFQ": who may change IOPL and IF; no fault where one may not.
 */
static int h_popf(struct interp *in, const struct interp_op *op)
{
    const uint64_t interrupt_virtual = UINT64_C(3) << 19; /* VIF and VIP are cleared */
    struct cpu_state *s = in->state;
    uint64_t value, mask = CPU_ARITH | CPU_TF | CPU_DF | CPU_NT;

    if (s->rflags & CPU_VM && iopl(s) < 3)
        return cpu_raise_gp(in->fault, 0);
    if (interp_peek(in, 0, op->size, &value))
        return -1;
    if (cpu_real_mode(s) || s->cpl <= iopl(s))
        mask |= CPU_IF;
    if (cpu_real_mode(s) || s->cpl == 0)
        mask |= CPU_IOPL;
    if (op->size != 2) {
        mask |= CPU_AC | CPU_ID | CPU_RF | interrupt_virtual;
        value &= ~(CPU_RF | interrupt_virtual);
    }
    interp_set_stack_pointer(in, interp_stack_pointer(in) + op->size);
    interp_set_flags(in, mask, value);
    return 0;
}

/* Intel SDM volume 2, "ENTER": the frame pointers of the enclosing procedures are copied. */
static int h_enter(struct interp *in, const struct interp_op *op)
{
    unsigned level = op->arg[1].value & 31, n = 0, size = op->size;
    uint64_t pointer = interp_stack_pointer(in), end, frame;
    uint64_t value[PUSHES_MAX], from = in->state->gpr[CPU_RBP];
    struct interp_span span;

    /* rSP behind the first push: what is above the stack's width stays. */
    frame = (in->state->gpr[CPU_RSP] - pointer) | interp_low(pointer - size, interp_stack_size(in));
    value[n++] = from;
    for (unsigned i = 1; i < level; i++) {
        from -= size;
        if (reach_stack(in, from, size, false, &span))
            return -1;
        value[n++] = interp_span_get(in, &span);
    }
    if (level)
        value[n++] = frame;
    end = pointer - n * size - (op->arg[0].value & 0xffff);
    /* What is reserved has to be writable at its end, though nothing is written there. */
    if (reach_stack(in, end, size, true, &span) || interp_push(in, value, n, size))
        return -1;
    interp_set_stack_pointer(in, end);
    interp_set_gpr(in, CPU_RBP, size, frame);
    return 0;
}

static int h_leave(struct interp *in, const struct interp_op *op)
{
    uint64_t value, frame = in->state->gpr[CPU_RBP];
    struct interp_span span;

    if (reach_stack(in, frame, op->size, false, &span))
        return -1;
    value = interp_span_get(in, &span);
    interp_set_stack_pointer(in, frame + op->size);
    interp_set_gpr(in, CPU_RBP, op->size, value);
    return 0;
}

const struct interp_verb interp_stack_verbs[] = {
    { ZYDIS_MNEMONIC_PUSH, h_push, NULL },    { ZYDIS_MNEMONIC_POP, h_pop, NULL },
    { ZYDIS_MNEMONIC_PUSHA, h_pusha, NULL },  { ZYDIS_MNEMONIC_PUSHAD, h_pusha, NULL },
    { ZYDIS_MNEMONIC_POPA, h_popa, NULL },    { ZYDIS_MNEMONIC_POPAD, h_popa, NULL },
    { ZYDIS_MNEMONIC_PUSHF, h_pushf, NULL },  { ZYDIS_MNEMONIC_PUSHFD, h_pushf, NULL },
    { ZYDIS_MNEMONIC_PUSHFQ, h_pushf, NULL }, { ZYDIS_MNEMONIC_POPF, h_popf, NULL },
    { ZYDIS_MNEMONIC_POPFD, h_popf, NULL },   { ZYDIS_MNEMONIC_POPFQ, h_popf, NULL },
    { ZYDIS_MNEMONIC_ENTER, h_enter, NULL },  { ZYDIS_MNEMONIC_LEAVE, h_leave, NULL },
    { ZYDIS_MNEMONIC_INVALID, NULL, NULL },
};
