/* Pushes and pops of more than one item, on the current stack or one that is about to be. */
#include <string.h>

#include "vmm/cpu_event_impl.h"

#define ITEMS_MAX 6 /* SS, RSP, RFLAGS, CS, RIP, error code */

struct cpu_stack cpu_stack_now(const struct cpu_state *s)
{
    return (struct cpu_stack){
        .ss = &s->seg[CPU_SS],
        .sp = s->gpr[CPU_RSP],
        .bits = cpu_code_bits(s) == 64 ? 64
                : s->seg[CPU_SS].db    ? 32
                                       : 16,
        .user = s->cpl == 3,
    };
}

static uint64_t pointer_mask(const struct cpu_stack *st)
{
    return st->bits == 64 ? UINT64_MAX : (UINT64_C(1) << st->bits) - 1;
}

/* Where the stack's `len` bytes at `offset` lie. */
static int linear_of(const struct cpu_stack *st, uint64_t offset, unsigned len, uint64_t *linear,
                     struct cpu_fault *f)
{
    const struct kvm_segment *ss = st->ss;
    uint64_t last = offset + len - 1;
    bool down = (ss->type & (TYPE_CODE | TYPE_DOWN)) == TYPE_DOWN, fits;

    if (st->bits == 64) {
        *linear = offset;
        fits = is_canonical(offset) && is_canonical(last) && last >= offset;
    } else {
        *linear = (uint32_t)(ss->base + offset);
        fits =
            down ? offset > ss->limit && last <= (ss->db ? UINT32_MAX : 0xffff) : last <= ss->limit;
    }
    return fits ? 0 : cpu_raise(f, CPU_SS_FAULT, true, st->error);
}

/*
 * One access for all items where they lie in a row, so that a fault leaves nothing behind. They
 * don't where the pointer wraps around.
 */
static int transfer(struct interp *in, const struct cpu_stack *st, uint64_t bottom, void *buf,
                    unsigned n, unsigned size, bool write, struct cpu_fault *f)
{
    uint64_t mask = pointer_mask(st), at[ITEMS_MAX] = { 0 };
    bool in_a_row = true;

    for (unsigned i = 0; i < n; i++) {
        if (linear_of(st, (bottom + (uint64_t)i * size) & mask, size, &at[i], f))
            return -1;
        in_a_row = in_a_row && at[i] == at[0] + (uint64_t)i * size;
    }
    for (unsigned i = 0; i < (in_a_row ? 1 : n); i++) {
        uint8_t *bytes = (uint8_t *)buf + (size_t)i * size;
        unsigned len = in_a_row ? n * size : size;

        if (write ? interp_store(in, at[i], bytes, len, st->user, st->implicit, f)
                  : interp_load(in, at[i], bytes, len, st->user, st->implicit, f))
            return -1;
    }
    return 0;
}

int cpu_stack_push(struct interp *in, struct cpu_stack *st, const uint64_t *item, unsigned n,
                   unsigned size, struct cpu_fault *f)
{
    uint8_t buf[ITEMS_MAX * sizeof(uint64_t)];
    uint64_t bottom = (st->sp - (uint64_t)n * size) & pointer_mask(st);

    for (unsigned i = 0; i < n; i++) /* the first pushed is the highest */
        memcpy(buf + (size_t)(n - 1 - i) * size, &item[i], size);
    if (transfer(in, st, bottom, buf, n, size, true, f))
        return -1;
    st->sp = bottom;
    return 0;
}

int cpu_stack_pop(struct interp *in, struct cpu_stack *st, uint64_t *item, unsigned n,
                  unsigned size, struct cpu_fault *f)
{
    uint8_t buf[ITEMS_MAX * sizeof(uint64_t)];

    if (transfer(in, st, st->sp & pointer_mask(st), buf, n, size, false, f))
        return -1;
    for (unsigned i = 0; i < n; i++) {
        item[i] = 0;
        memcpy(&item[i], buf + (size_t)i * size, size);
    }
    st->sp = (st->sp + (uint64_t)n * size) & pointer_mask(st);
    return 0;
}

void cpu_stack_commit(struct cpu_state *s, const struct cpu_stack *st)
{
    if (st->bits == 16)
        s->gpr[CPU_RSP] = (s->gpr[CPU_RSP] & ~UINT64_C(0xffff)) | (st->sp & 0xffff);
    else
        s->gpr[CPU_RSP] = st->sp & pointer_mask(st);
}
