/* Moves, exchanges, conversions, and what does nothing. */
#include "vmm/interp_impl.h"

static int h_mov(struct interp *in, const struct interp_op *op)
{
    uint64_t value;

    return interp_get(in, op, 1, &value) || interp_put(in, op, 0, value) ? -1 : 0;
}

static int h_movsx(struct interp *in, const struct interp_op *op)
{
    uint64_t value;

    if (interp_get(in, op, 1, &value))
        return -1;
    return interp_put(in, op, 0, interp_sign_extend(value, op->arg[1].size));
}

static uint64_t swapped(uint64_t value, unsigned size)
{
    return __builtin_bswap64(value) >> (64 - size * 8);
}

static int h_movbe(struct interp *in, const struct interp_op *op)
{
    uint64_t value;

    if (interp_get(in, op, 1, &value))
        return -1;
    return interp_put(in, op, 0, swapped(value, op->arg[0].size));
}

/* Of 16 bits it is undefined, and CPUs give 0. */
static int h_bswap(struct interp *in, const struct interp_op *op)
{
    unsigned size = op->arg[0].size;
    uint64_t value;

    if (interp_get(in, op, 0, &value))
        return -1;
    return interp_put(in, op, 0, size == 2 ? 0 : swapped(value, size));
}

static int h_lea(struct interp *in, const struct interp_op *op)
{
    return interp_put(in, op, 0, interp_effective(in, op, &op->arg[1]));
}

static int h_xlat(struct interp *in, const struct interp_op *op)
{
    struct interp_span span;

    if (interp_reach_arg(in, op, &op->arg[0], in->state->gpr[CPU_RAX] & 0xff, 1, false, &span))
        return -1;
    interp_set_gpr(in, CPU_RAX, 1, interp_span_get(in, &span));
    return 0;
}

/* With memory it is locked, prefix or not. */
static int h_xchg(struct interp *in, const struct interp_op *op)
{
    unsigned memory = op->arg[1].kind == ARG_MEMORY;
    struct interp_target place;
    uint64_t old, value;

    if (interp_get(in, op, !memory, &value) || interp_open(in, op, memory, &place))
        return -1;
    place.locked = true;
    do
        old = interp_target_get(in, &place);
    while (!interp_target_put(in, &place, old, value));
    return interp_put(in, op, !memory, old);
}

static int h_xadd(struct interp *in, const struct interp_op *op)
{
    uint64_t old, value, b, flags;
    struct interp_target place;

    if (interp_get(in, op, 1, &b) || interp_open(in, op, 0, &place))
        return -1;
    if (op->arg[0].kind != ARG_MEMORY) { /* the same register twice: the sum stays */
        old = interp_target_get(in, &place);
        value = interp_alu_add(old, b, op->arg[0].size, &in->state->rflags);
        interp_put(in, op, 1, old);
        return interp_put(in, op, 0, value);
    }
    do {
        flags = in->state->rflags;
        old = interp_target_get(in, &place);
        value = interp_alu_add(old, b, op->arg[0].size, &flags);
    } while (!interp_target_put(in, &place, old, value));
    in->state->rflags = flags;
    return interp_put(in, op, 1, old);
}

/* Memory is written in any case, with what it held if it did not match; a register is not, as 32
   bits of it that stay the same don't clear the upper half. */
static int h_cmpxchg(struct interp *in, const struct interp_op *op)
{
    unsigned size = op->arg[0].size;
    uint64_t old, b, flags, accumulator = interp_gpr(in, CPU_RAX, size);
    struct interp_target place;
    bool equal;

    if (interp_get(in, op, 1, &b) || interp_open(in, op, 0, &place))
        return -1;
    do {
        flags = in->state->rflags;
        old = interp_target_get(in, &place);
        interp_alu_sub(accumulator, old, size, &flags);
        equal = old == accumulator;
    } while ((equal || op->arg[0].kind == ARG_MEMORY) &&
             !interp_target_put(in, &place, old, equal ? b : old));
    if (!equal)
        interp_set_gpr(in, CPU_RAX, size, old);
    in->state->rflags = flags;
    return 0;
}

static uint64_t pair(const struct interp *in, unsigned high, unsigned low)
{
    return interp_gpr(in, high, 4) << 32 | interp_gpr(in, low, 4);
}

static int h_cmpxchg8b(struct interp *in, const struct interp_op *op)
{
    uint64_t old, expected = pair(in, CPU_RDX, CPU_RAX), value = pair(in, CPU_RCX, CPU_RBX);
    struct interp_target place;
    bool equal;

    if (interp_open(in, op, 0, &place))
        return -1;
    do {
        old = interp_target_get(in, &place);
        equal = old == expected;
    } while (!interp_target_put(in, &place, old, equal ? value : old));
    interp_set_flags(in, CPU_ZF, equal ? CPU_ZF : 0);
    if (!equal) {
        interp_set_gpr(in, CPU_RAX, 4, old);
        interp_set_gpr(in, CPU_RDX, 4, old >> 32);
    }
    return 0;
}

/* Compares and perhaps stores 16 aligned bytes; false: *old has what was there. */
static bool swap16(struct interp *in, const struct interp_span *span, uint64_t old[2],
                   const uint64_t value[2])
{
    uint64_t now[2];
    bool equal;

    if (span->host[0]) {
        __asm__ volatile("lock cmpxchg16b (%[p])"
                         : "+a"(old[0]), "+d"(old[1]), "=@ccz"(equal)
                         : "b"(value[0]), "c"(value[1]), [p] "r"(span->host[0])
                         : "memory");
        return equal;
    }
    interp_span_read(in, span, now);
    equal = now[0] == old[0] && now[1] == old[1];
    interp_span_write(in, span, equal ? value : now);
    memcpy(old, now, sizeof(now));
    return equal;
}

static int h_cmpxchg16b(struct interp *in, const struct interp_op *op)
{
    uint64_t *gpr = in->state->gpr, old[2] = { gpr[CPU_RAX], gpr[CPU_RDX] };
    const uint64_t value[2] = { gpr[CPU_RBX], gpr[CPU_RCX] };
    const struct interp_access access = { .op = PT_WRITE, .user = in->user };
    const struct interp_arg *arg = &op->arg[0];
    struct interp_span span;
    uint64_t linear;
    bool equal;

    if (interp_segment_linear(in, arg->seg, interp_effective(in, op, arg), 16, true, &linear))
        return -1;
    if (linear & 15)
        return cpu_raise_gp(in->fault, 0);
    if (interp_map(in, linear, 16, &access, &span))
        return -1;
    equal = swap16(in, &span, old, value);
    interp_set_flags(in, CPU_ZF, equal ? CPU_ZF : 0);
    if (!equal) {
        gpr[CPU_RAX] = old[0];
        gpr[CPU_RDX] = old[1];
    }
    return 0;
}

/* 32 bits clear the upper half of the register even when nothing is moved, and memory is read. */
static int h_cmov(struct interp *in, const struct interp_op *op)
{
    uint64_t value, old;

    if (interp_get(in, op, 1, &value) || interp_get(in, op, 0, &old))
        return -1;
    return interp_put(in, op, 0, interp_condition(in->state->rflags, op->condition) ? value : old);
}

static int h_setcc(struct interp *in, const struct interp_op *op)
{
    return interp_put(in, op, 0, interp_condition(in->state->rflags, op->condition));
}

/* CBW, CWDE, CDQE: the accumulator becomes twice as wide. */
static int h_cbw(struct interp *in, const struct interp_op *op)
{
    interp_set_gpr(in, CPU_RAX, op->size,
                   interp_sign_extend(in->state->gpr[CPU_RAX], op->size / 2));
    return 0;
}

/* CWD, CDQ, CQO: its sign goes to rDX. */
static int h_cwd(struct interp *in, const struct interp_op *op)
{
    bool negative = in->state->gpr[CPU_RAX] >> (op->size * 8 - 1) & 1;

    interp_set_gpr(in, CPU_RDX, op->size, negative ? UINT64_MAX : 0);
    return 0;
}

static int h_nothing(struct interp *in, const struct interp_op *op)
{
    (void)in;
    (void)op;
    return 0;
}

/* What the guest orders against other CPUs is done by this thread on their memory. */
static int h_fence(struct interp *in, const struct interp_op *op)
{
    (void)in;
    (void)op;
    __asm__ volatile("mfence" ::: "memory");
    return 0;
}

#define CMOV(cc)                              \
    {                                         \
        ZYDIS_MNEMONIC_CMOV##cc, h_cmov, NULL \
    }
#define SET(cc)                               \
    {                                         \
        ZYDIS_MNEMONIC_SET##cc, h_setcc, NULL \
    }
#define NOTHING(is)                          \
    {                                        \
        ZYDIS_MNEMONIC_##is, h_nothing, NULL \
    }

const struct interp_verb interp_move_verbs[] = {
    { ZYDIS_MNEMONIC_MOV, h_mov, NULL },
    { ZYDIS_MNEMONIC_MOVZX, h_mov, NULL },
    { ZYDIS_MNEMONIC_MOVSX, h_movsx, NULL },
    { ZYDIS_MNEMONIC_MOVSXD, h_movsx, NULL },
    { ZYDIS_MNEMONIC_MOVBE, h_movbe, NULL },
    { ZYDIS_MNEMONIC_MOVNTI, h_mov, NULL },
    { ZYDIS_MNEMONIC_BSWAP, h_bswap, NULL },
    { ZYDIS_MNEMONIC_LEA, h_lea, NULL },
    { ZYDIS_MNEMONIC_XLAT, h_xlat, NULL },
    { ZYDIS_MNEMONIC_XCHG, h_xchg, NULL },
    { ZYDIS_MNEMONIC_XADD, h_xadd, NULL },
    { ZYDIS_MNEMONIC_CMPXCHG, h_cmpxchg, NULL },
    { ZYDIS_MNEMONIC_CMPXCHG8B, h_cmpxchg8b, NULL },
    { ZYDIS_MNEMONIC_CMPXCHG16B, h_cmpxchg16b, NULL },
    CMOV(O),
    CMOV(NO),
    CMOV(B),
    CMOV(NB),
    CMOV(Z),
    CMOV(NZ),
    CMOV(BE),
    CMOV(NBE),
    CMOV(S),
    CMOV(NS),
    CMOV(P),
    CMOV(NP),
    CMOV(L),
    CMOV(NL),
    CMOV(LE),
    CMOV(NLE),
    SET(O),
    SET(NO),
    SET(B),
    SET(NB),
    SET(Z),
    SET(NZ),
    SET(BE),
    SET(NBE),
    SET(S),
    SET(NS),
    SET(P),
    SET(NP),
    SET(L),
    SET(NL),
    SET(LE),
    SET(NLE),
    { ZYDIS_MNEMONIC_CBW, h_cbw, NULL },
    { ZYDIS_MNEMONIC_CWDE, h_cbw, NULL },
    { ZYDIS_MNEMONIC_CDQE, h_cbw, NULL },
    { ZYDIS_MNEMONIC_CWD, h_cwd, NULL },
    { ZYDIS_MNEMONIC_CDQ, h_cwd, NULL },
    { ZYDIS_MNEMONIC_CQO, h_cwd, NULL },
    { ZYDIS_MNEMONIC_MFENCE, h_fence, NULL },
    { ZYDIS_MNEMONIC_LFENCE, h_fence, NULL },
    { ZYDIS_MNEMONIC_SFENCE, h_fence, NULL },
    { ZYDIS_MNEMONIC_SERIALIZE, h_fence, NULL },
    NOTHING(NOP),
    NOTHING(PAUSE),
    NOTHING(ENDBR32),
    NOTHING(ENDBR64),
    NOTHING(RDSSPD),
    NOTHING(RDSSPQ), /* NOPs as long as shadow stacks are off */
    NOTHING(PREFETCH),
    NOTHING(PREFETCHW),
    NOTHING(PREFETCHWT1),
    NOTHING(PREFETCHNTA),
    NOTHING(PREFETCHT0),
    NOTHING(PREFETCHT1),
    NOTHING(PREFETCHT2),
    NOTHING(CLFLUSH),
    NOTHING(CLFLUSHOPT),
    NOTHING(CLWB),
    NOTHING(CLDEMOTE),
    { ZYDIS_MNEMONIC_INVALID, NULL, NULL },
};
