/* The interpreter's outer part: fetching, the cache of decoded instructions, dispatch. */
#include "vmm/interp.h"

#include <errno.h>
#include <stdlib.h>

#include "vmm/interp_impl.h"

/* What stands at RIP. */
struct code {
    uint64_t linear;
    unsigned have;    /* bytes in `bytes`, at least 1 */
    unsigned allowed; /* bytes up to the end of the code segment or the longest instruction */
    uint8_t bytes[16];
};

int interp_create(struct interp **out, struct cpu_state *state, const struct interp_ops *ops,
                  void *ctx)
{
    struct interp *in = calloc(1, sizeof(*in));

    if (!in)
        return -ENOMEM;
    in->state = state;
    in->ops = ops;
    in->ctx = ctx;
    *out = in;
    return 0;
}

void interp_destroy(struct interp *in)
{
    free(in);
}

struct cpu_state *interp_state(struct interp *in)
{
    return in->state;
}

void interp_skip(struct interp *in, const struct interp_insn *insn)
{
    in->state->rip = insn->next_rip;
}

/* Everything besides the bytes that the decoder's answer depends on. */
static uint8_t mode_key(const struct interp *in)
{
    const struct cpu_state *s = in->state;
    bool real = cpu_real_mode(s) || s->rflags & CPU_VM;

    if (in->bits == 64)
        return 1;
    return (uint8_t)(2 | (in->bits == 32) << 2 | cpu_long_mode(s) << 3 | real << 4 |
                     (s->seg[CPU_SS].db != 0) << 5);
}

static bool decoder_for(const struct interp *in, ZydisDecoder *decoder)
{
    const struct cpu_state *s = in->state;
    bool compatibility = cpu_long_mode(s);
    ZydisStackWidth stack = s->seg[CPU_SS].db ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_16;
    ZydisMachineMode mode;

    if (in->bits == 64) {
        mode = ZYDIS_MACHINE_MODE_LONG_64;
        stack = ZYDIS_STACK_WIDTH_64;
    } else if (in->bits == 32) {
        mode = compatibility ? ZYDIS_MACHINE_MODE_LONG_COMPAT_32 : ZYDIS_MACHINE_MODE_LEGACY_32;
    } else if (compatibility) {
        mode = ZYDIS_MACHINE_MODE_LONG_COMPAT_16;
    } else {
        mode = cpu_real_mode(s) || s->rflags & CPU_VM ? ZYDIS_MACHINE_MODE_REAL_16
                                                      : ZYDIS_MACHINE_MODE_LEGACY_16;
    }
    /* Without MPX these are NOPs, and no CPU of today has it. */
    return ZYAN_SUCCESS(ZydisDecoderInit(decoder, mode, stack)) &&
           ZYAN_SUCCESS(ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE));
}

/* `n` bytes at `linear`, in one page. */
static enum interp_result fetch_piece(struct interp *in, uint64_t linear, uint8_t *to, unsigned n)
{
    const struct interp_access access = { .op = PT_EXEC, .user = in->user };
    void *host = NULL;
    gpa_t at;

    switch (in->ops->translate(in->ctx, linear, n, &access, &host, &at, in->fault)) {
    case INTERP_RAM:
        if (n == 16)
            memcpy(to, host, 16);
        else
            memcpy(to, host, n);
        return INTERP_OK;
    case INTERP_DEVICE:
        return INTERP_UNKNOWN;
    default:
        return INTERP_FAULT;
    }
}

/* The bytes up to the end of the page; those behind are fetched only when they are needed. */
static enum interp_result fetch(struct interp *in, struct code *code)
{
    const struct cpu_state *s = in->state;
    unsigned left;

    code->linear = s->rip;
    code->allowed = CODE_MAX;
    if (in->bits == 64) {
        if (!interp_canonical(s, s->rip)) {
            cpu_raise_gp(in->fault, 0);
            return INTERP_FAULT;
        }
    } else {
        if (s->rip > s->seg[CPU_CS].limit) {
            cpu_raise_gp(in->fault, 0);
            return INTERP_FAULT;
        }
        if (s->seg[CPU_CS].limit - s->rip < CODE_MAX)
            code->allowed = (unsigned)(s->seg[CPU_CS].limit - s->rip) + 1;
        code->linear = (uint32_t)(s->seg[CPU_CS].base + s->rip);
    }
    left = PAGE_SIZE_4K - (code->linear & (PAGE_SIZE_4K - 1));
    code->have = left < code->allowed ? left : code->allowed;
    return fetch_piece(in, code->linear, code->bytes, left < 16 ? left : 16);
}

static enum interp_result fetch_more(struct interp *in, struct code *code)
{
    uint64_t linear = code->linear + code->have;
    enum interp_result result;

    if (!cpu_long_mode(in->state))
        linear = (uint32_t)linear;
    result = fetch_piece(in, linear, code->bytes + code->have, code->allowed - code->have);
    if (result == INTERP_OK)
        code->have = code->allowed;
    return result;
}

static void remember(struct interp *in, const struct code *code, struct interp_op *op,
                     const struct interp_full *full)
{
    uint64_t *mask = op->mask;
    unsigned length;

    interp_classify(op, full);
    length = op->length;
    mask[0] = interp_low(UINT64_MAX, length < 8 ? length : 8);
    mask[1] = length > 8 ? interp_low(UINT64_MAX, length - 8) : 0;
    memcpy(op->word, code->bytes, sizeof(op->word));
    op->word[0] &= mask[0];
    op->word[1] &= mask[1];
    op->key = mode_key(in);
}

static enum interp_result decode(struct interp *in, struct code *code, struct interp_op *op,
                                 struct interp_full *full)
{
    enum interp_result result;
    ZydisDecoder decoder;
    ZyanStatus status;

    op->length = 0;
    if (!decoder_for(in, &decoder)) {
        cpu_raise_ud(in->fault);
        return INTERP_FAULT;
    }
    for (;;) {
        status = ZydisDecoderDecodeFull(&decoder, code->bytes, code->have, &full->z, full->operand);
        if (status != ZYDIS_STATUS_NO_MORE_DATA || code->have == code->allowed)
            break;
        result = fetch_more(in, code);
        if (result != INTERP_OK)
            return result;
    }
    if (ZYAN_SUCCESS(status)) {
        remember(in, code, op, full);
        return INTERP_OK;
    }
    /* Beyond 15 bytes and beyond the segment's end is the same fault. */
    if (status == ZYDIS_STATUS_NO_MORE_DATA || status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG)
        cpu_raise_gp(in->fault, 0);
    else
        cpu_raise_ud(in->fault);
    return INTERP_FAULT;
}

static bool is_hit(const struct interp_op *op, const struct code *code, uint8_t key)
{
    uint64_t word[2];

    memcpy(word, code->bytes, sizeof(word));
    return op->length && op->length <= code->have && op->key == key &&
           ((word[0] & op->mask[0]) ^ op->word[0]) == 0 &&
           ((word[1] & op->mask[1]) ^ op->word[1]) == 0;
}

/*
 * The instruction at RIP. The bytes are looked at each time, so that the cache can't be stale; an
 * entry does not depend on the address, which only chooses its place.
 */
static enum interp_result locate(struct interp *in, struct interp_insn *insn,
                                 struct cpu_fault *fault, struct interp_op **out)
{
    struct code code = { 0 };
    enum interp_result result;
    unsigned slot;

    in->fault = fault;
    in->bits = cpu_code_bits(in->state);
    in->user = in->state->cpl == 3;
    *insn = (struct interp_insn){ 0 };
    result = fetch(in, &code);
    if (result != INTERP_OK)
        return result;
    slot = (code.linear ^ code.linear >> 10) & (INTERP_CACHE - 1);
    *out = &in->op[slot];
    if (!is_hit(*out, &code, mode_key(in))) {
        result = decode(in, &code, *out, &in->full[slot]);
        if (result != INTERP_OK)
            return result;
    }
    in->next = interp_low(in->state->rip + (*out)->length, in->bits / 8);
    *insn = (struct interp_insn){
        .z = &in->full[slot].z,
        .operand = in->full[slot].operand,
        .length = (*out)->length,
        .next_rip = in->next,
    };
    return INTERP_OK;
}

enum interp_result interp_step(struct interp *in, unsigned rounds, struct interp_insn *insn,
                               struct cpu_fault *fault)
{
    enum interp_result result;
    struct interp_op *op;

    result = locate(in, insn, fault, &op);
    if (result != INTERP_OK)
        return result;
    if (op->result != INTERP_OK)
        return op->result;
    in->rounds = rounds;
    if (op->handler(in, op))
        return INTERP_FAULT;
    in->state->rip = in->next;
    return INTERP_OK;
}

enum interp_result interp_decode(struct interp *in, struct interp_insn *insn,
                                 struct cpu_fault *fault)
{
    struct interp_op *op;
    enum interp_result result = locate(in, insn, fault, &op);

    return result == INTERP_OK ? INTERP_SYSTEM : result;
}
