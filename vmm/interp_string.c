/* MOVS, STOS, LODS, SCAS, CMPS and their repetition. */
#include "vmm/interp_impl.h"

/* One instruction's progress. */
struct run {
    unsigned size;    /* of an element */
    unsigned address; /* bytes of rSI, rDI, rCX in use */
    unsigned seg;     /* of the source */
    bool down;
    uint64_t left; /* elements, as rCX has it */
};

static void begin(struct interp *in, const struct interp_op *op, struct run *r)
{
    r->size = op->size;
    r->address = op->address_mask == UINT64_MAX ? 8 : op->address_mask == UINT32_MAX ? 4 : 2;
    r->seg = op->arg[0].kind == ARG_MEMORY ? op->arg[0].seg : CPU_DS;
    r->down = in->state->rflags & CPU_DF;
    r->left = op->repeat ? interp_gpr(in, CPU_RCX, r->address) : 1;
}

/* Elements that the next step may take at once from the offset in `reg`: what is left of the page,
   or 1 where one crosses its end, and going down. */
static unsigned together(const struct interp *in, const struct run *r, unsigned seg, unsigned reg)
{
    uint64_t base = interp_base(in, seg);
    uint64_t offset = interp_gpr(in, reg, r->address);
    uint64_t bytes = PAGE_SIZE_4K - ((base + offset) & (PAGE_SIZE_4K - 1));
    uint64_t wrap = interp_low(UINT64_MAX, r->address) - offset;

    if (r->down)
        return 1;
    if (wrap < bytes)
        bytes = wrap + 1;
    return bytes < r->size ? 1 : (unsigned)(bytes / r->size);
}

static unsigned least(unsigned a, uint64_t b)
{
    return a < b ? a : (unsigned)b;
}

static void advance(struct interp *in, const struct run *r, unsigned reg, unsigned n)
{
    uint64_t bytes = (uint64_t)n * r->size;

    interp_set_gpr(in, reg, r->address, in->state->gpr[reg] + (r->down ? -bytes : bytes));
}

/* Books `n` elements; false: nothing is left. */
static bool count(struct interp *in, const struct interp_op *op, struct run *r, unsigned n)
{
    r->left -= n;
    if (!op->repeat)
        return false;
    interp_set_gpr(in, CPU_RCX, r->address, r->left);
    in->rounds -= n;
    return r->left != 0;
}

/* Whether a further step is to be made. If only the rounds ran out, RIP stays. */
static bool goes_on(struct interp *in, const struct interp_op *op, const struct run *r)
{
    if (r->left == 0)
        return false;
    if (op->repeat && in->rounds == 0) {
        in->next = in->state->rip;
        return false;
    }
    return true;
}

static int reach(struct interp *in, const struct run *r, unsigned seg, unsigned reg, unsigned n,
                 bool write, struct interp_span *span)
{
    return interp_reach(in, seg, interp_gpr(in, reg, r->address), n * r->size, write, span);
}

/* How many elements fit for both, and where they are. What a segment refuses as a run may be
   allowed in its first part, so it is then tried with one element. */
static int reach_run(struct interp *in, const struct run *r, unsigned seg, unsigned reg,
                     unsigned *n, bool write, struct interp_span *span)
{
    if (*n > 1) {
        if (reach(in, r, seg, reg, *n, write, span) == 0)
            return 0;
        *n = 1;
    }
    return reach(in, r, seg, reg, 1, write, span);
}

static bool is_run(const struct interp_span *span)
{
    return span->host[0] && span->first == span->len;
}

/* Of a run, which lies in one page, the first element. */
static void trim(struct interp_span *span, unsigned size)
{
    if (span->len > size)
        span->len = span->first = size;
}

/* Upwards, element by element where the one reads what the other wrote: a pattern spreads. */
static void copy(const struct interp_span *to, const struct interp_span *from, unsigned size)
{
    uint8_t *d = to->host[0];
    const uint8_t *s = from->host[0];

    if ((uintptr_t)d - (uintptr_t)s >= to->len) { /* d below s counts as far above */
        memmove(d, s, to->len);
        return;
    }
    for (unsigned i = 0; i < to->len; i += size)
        interp_host_store(d + i, size, interp_host_load(s + i, size));
}

static int h_movs(struct interp *in, const struct interp_op *op)
{
    struct interp_span from, to;
    struct run r;
    unsigned n;

    begin(in, op, &r);
    while (goes_on(in, op, &r)) {
        n = least(together(in, &r, r.seg, CPU_RSI), r.left);
        n = least(together(in, &r, CPU_ES, CPU_RDI), n);
        n = op->repeat ? least(n, in->rounds) : 1;
        if (reach_run(in, &r, r.seg, CPU_RSI, &n, false, &from) ||
            reach_run(in, &r, CPU_ES, CPU_RDI, &n, true, &to))
            return -1;
        if (n > 1 && is_run(&from) && is_run(&to)) {
            copy(&to, &from, r.size);
        } else { /* a device, or an element in two pages */
            n = 1;
            trim(&from, r.size);
            trim(&to, r.size);
            interp_span_put(in, &to, interp_span_get(in, &from));
        }
        advance(in, &r, CPU_RSI, n);
        advance(in, &r, CPU_RDI, n);
        count(in, op, &r, n);
    }
    return 0;
}

static void fill(const struct interp_span *to, unsigned size, uint64_t value)
{
    uint8_t *d = to->host[0];

    if (size == 1) {
        memset(d, (int)(value & 0xff), to->len);
        return;
    }
    for (unsigned i = 0; i < to->len; i += size)
        interp_host_store(d + i, size, value);
}

static int h_stos(struct interp *in, const struct interp_op *op)
{
    uint64_t value = interp_gpr(in, CPU_RAX, op->size);
    struct interp_span to;
    struct run r;
    unsigned n;

    begin(in, op, &r);
    while (goes_on(in, op, &r)) {
        n = least(together(in, &r, CPU_ES, CPU_RDI), r.left);
        n = op->repeat ? least(n, in->rounds) : 1;
        if (reach_run(in, &r, CPU_ES, CPU_RDI, &n, true, &to))
            return -1;
        if (is_run(&to)) {
            fill(&to, r.size, value);
        } else {
            n = 1;
            trim(&to, r.size);
            interp_span_put(in, &to, value);
        }
        advance(in, &r, CPU_RDI, n);
        count(in, op, &r, n);
    }
    return 0;
}

static int h_lods(struct interp *in, const struct interp_op *op)
{
    struct interp_span from;
    struct run r;

    begin(in, op, &r);
    while (goes_on(in, op, &r)) {
        if (reach(in, &r, r.seg, CPU_RSI, 1, false, &from))
            return -1;
        interp_set_gpr(in, CPU_RAX, r.size, interp_span_get(in, &from));
        advance(in, &r, CPU_RSI, 1);
        count(in, op, &r, 1);
    }
    return 0;
}

/* REPE and REPNE end as soon as ZF is not what they want. */
static bool compared(struct interp *in, const struct interp_op *op, struct run *r, uint64_t a,
                     uint64_t b)
{
    interp_alu_sub(a, b, r->size, &in->state->rflags);
    return count(in, op, r, 1) && ((in->state->rflags & CPU_ZF) != 0) == op->repeat_while;
}

static int h_scas(struct interp *in, const struct interp_op *op)
{
    struct interp_span at;
    struct run r;

    begin(in, op, &r);
    while (goes_on(in, op, &r)) {
        if (reach(in, &r, CPU_ES, CPU_RDI, 1, false, &at))
            return -1;
        advance(in, &r, CPU_RDI, 1);
        if (!compared(in, op, &r, in->state->gpr[CPU_RAX], interp_span_get(in, &at)))
            break;
    }
    return 0;
}

static int h_cmps(struct interp *in, const struct interp_op *op)
{
    struct interp_span a, b;
    struct run r;

    begin(in, op, &r);
    while (goes_on(in, op, &r)) {
        if (reach(in, &r, r.seg, CPU_RSI, 1, false, &a) ||
            reach(in, &r, CPU_ES, CPU_RDI, 1, false, &b))
            return -1;
        advance(in, &r, CPU_RSI, 1);
        advance(in, &r, CPU_RDI, 1);
        if (!compared(in, op, &r, interp_span_get(in, &a), interp_span_get(in, &b)))
            break;
    }
    return 0;
}

#define ALL_SIZES(name, handler)                                                              \
    { ZYDIS_MNEMONIC_##name##B, handler, NULL }, { ZYDIS_MNEMONIC_##name##W, handler, NULL }, \
        { ZYDIS_MNEMONIC_##name##D, handler, NULL },                                          \
    {                                                                                         \
        ZYDIS_MNEMONIC_##name##Q, handler, NULL                                               \
    }

const struct interp_verb interp_string_verbs[] = {
    ALL_SIZES(MOVS, h_movs), ALL_SIZES(STOS, h_stos), ALL_SIZES(LODS, h_lods),
    ALL_SIZES(SCAS, h_scas), ALL_SIZES(CMPS, h_cmps), { ZYDIS_MNEMONIC_INVALID, NULL, NULL },
};
