/*
 * One event through one gate: the frame on the handler's stack, and the state that its first
 * instruction finds. Everything is checked and stored before the state changes. Intel SDM vol. 2,
 * "INT n/INTO/INT3/INT1-Call to Interrupt Procedure".
 */
#include "vmm/cpu_event_impl.h"

#define FRAME_MAX 6

/* Where the handler runs. */
struct handler {
    struct kvm_segment cs;
    unsigned cpl;
};

int cpu_deliver_real(struct interp *in, const struct cpu_event *e, struct cpu_fault *f)
{
    struct cpu_state *s = interp_state(in);
    struct cpu_stack st = cpu_stack_now(s);
    const uint64_t frame[] = { e->rflags, s->seg[CPU_CS].selector, e->rip };
    unsigned offset = e->vector * 4u;
    uint16_t entry[2]; /* IP, CS */

    if (offset + 3 > s->idt.limit)
        return cpu_raise_gp(f, 0);
    if (interp_load(in, (uint32_t)(s->idt.base + offset), entry, sizeof(entry), false, true, f))
        return -1;
    if (entry[0] > s->seg[CPU_CS].limit)
        return cpu_raise_gp(f, 0);
    if (cpu_stack_push(in, &st, frame, 3, 2, f))
        return -1;
    cpu_stack_commit(s, &st);
    cpu_segment_real(&s->seg[CPU_CS], entry[1]);
    s->rip = entry[0];
    s->rflags &= ~(CPU_IF | CPU_TF | CPU_AC | CPU_RF);
    return 0;
}

/* The gate's code segment, and the ring it runs in. */
static int find_handler(struct interp *in, const struct cpu_gate *g, struct handler *h,
                        struct cpu_fault *f)
{
    const struct cpu_state *s = interp_state(in);
    uint32_t error = g->selector & SELECTOR_INDEX;
    struct cpu_descriptor d;

    if (selector_is_null(g->selector))
        return cpu_raise_gp(f, 0);
    if (cpu_descriptor(in, g->selector, CPU_GP, &d, f) || cpu_check_code(s, &d, g->selector, f))
        return -1;
    if (desc_dpl(&d) > s->cpl || (cpu_long_mode(s) && !desc_bits(&d, 53, 1)))
        return cpu_raise_gp(f, error);
    if (!desc_present(&d))
        return cpu_raise(f, CPU_NP, true, error);
    h->cpl = desc_is_conforming(&d) ? s->cpl : desc_dpl(&d);
    return cpu_code_segment(in, &d, g->selector, h->cpl, &h->cs, f);
}

static void enter(struct cpu_state *s, const struct cpu_gate *g, const struct handler *h,
                  uint64_t rip)
{
    bool interrupt_gate = g->type == SYS_INTERRUPT16 || g->type == SYS_INTERRUPT32;

    s->seg[CPU_CS] = h->cs;
    s->cpl = h->cpl;
    s->rip = rip;
    s->rflags &= ~(CPU_TF | CPU_NT | CPU_RF | CPU_VM | (interrupt_gate ? CPU_IF : 0));
}

/* Reads from the TSS; a TSS too small is #TS with its own selector. */
static int read_tss(struct interp *in, unsigned offset, void *buf, unsigned len,
                    struct cpu_fault *f)
{
    const struct cpu_state *s = interp_state(in);
    uint64_t at = s->tr.base + offset;

    if (s->tr.unusable || offset + len - 1 > s->tr.limit)
        return cpu_raise(f, CPU_TS, true, s->tr.selector & SELECTOR_INDEX);
    return interp_load(in, cpu_long_mode(s) ? at : (uint32_t)at, buf, len, false, true, f);
}

/* SS, SP, flags, CS, IP, error code, as far as they are wanted. Returns how many. */
static unsigned build_frame(const struct cpu_state *s, const struct cpu_event *e, bool with_stack,
                            uint64_t frame[FRAME_MAX])
{
    unsigned n = 0;

    if (with_stack) {
        frame[n++] = s->seg[CPU_SS].selector;
        frame[n++] = s->gpr[CPU_RSP];
    }
    frame[n++] = e->rflags;
    frame[n++] = s->seg[CPU_CS].selector;
    frame[n++] = e->rip;
    if (cpu_event_has_error(e))
        frame[n++] = e->error;
    return n;
}

/* Intel SDM vol. 3A, 6.14.2 "64-Bit Mode Stack Frame" and 6.14.5 "Interrupt Stack Table". */
int cpu_deliver_long(struct interp *in, const struct cpu_event *e, const struct cpu_gate *g,
                     struct cpu_fault *f)
{
    struct cpu_state *s = interp_state(in);
    struct cpu_stack st = { .ss = &s->seg[CPU_SS], .sp = s->gpr[CPU_RSP], .bits = 64 };
    uint64_t frame[FRAME_MAX];
    struct handler h;
    bool inner;

    if (find_handler(in, g, &h, f))
        return -1;
    inner = h.cpl < s->cpl;
    if ((g->ist || inner) && read_tss(in, g->ist ? 28 + 8u * g->ist : 4 + 8 * h.cpl, &st.sp, 8, f))
        return -1;
    if (cpu_check_rip(s, &h.cs, g->offset, f))
        return -1;
    st.sp &= ~UINT64_C(15);
    st.user = h.cpl == 3;
    st.implicit = inner;
    if (cpu_stack_push(in, &st, frame, build_frame(s, e, true, frame), 8, f))
        return -1;
    cpu_stack_commit(s, &st);
    if (inner)
        s->seg[CPU_SS] = cpu_segment_null((uint16_t)h.cpl);
    enter(s, g, &h, g->offset);
    return 0;
}

/* The stack that the TSS has for an inner ring. */
static int inner_stack(struct interp *in, unsigned cpl, struct kvm_segment *ss,
                       struct cpu_stack *st, struct cpu_fault *f)
{
    bool wide = interp_state(in)->tr.type & (SYS_TSS32 & ~SYS_TSS16);
    uint8_t buf[6] = { 0 };
    uint16_t selector;

    if (read_tss(in, wide ? 4 + 8 * cpl : 2 + 4 * cpl, buf, wide ? 6 : 4, f))
        return -1;
    st->sp = buf[0] | (unsigned)buf[1] << 8;
    if (wide)
        st->sp |= (uint64_t)buf[2] << 16 | (uint64_t)buf[3] << 24;
    selector = (uint16_t)(wide ? buf[4] | buf[5] << 8 : buf[2] | buf[3] << 8);
    if (selector_is_null(selector))
        return cpu_raise(f, CPU_TS, true, 0);
    if (cpu_stack_segment(in, selector, cpl, CPU_TS, ss, f))
        return -1;
    st->ss = ss;
    st->bits = ss->db ? 32 : 16;
    st->error = selector & SELECTOR_INDEX;
    return 0;
}

int cpu_deliver_legacy(struct interp *in, const struct cpu_event *e, const struct cpu_gate *g,
                       struct cpu_fault *f)
{
    bool wide = g->type == SYS_INTERRUPT32 || g->type == SYS_TRAP32;
    uint64_t frame[FRAME_MAX], eip = wide ? g->offset : g->offset & 0xffff, esp;
    struct cpu_state *s = interp_state(in);
    struct cpu_stack st = cpu_stack_now(s);
    struct kvm_segment ss;
    struct handler h;
    bool inner;

    if (find_handler(in, g, &h, f))
        return -1;
    inner = h.cpl < s->cpl;
    if (inner && inner_stack(in, h.cpl, &ss, &st, f))
        return -1;
    if (cpu_check_rip(s, &h.cs, eip, f))
        return -1;
    esp = st.sp;
    st.user = h.cpl == 3;
    st.implicit = inner;
    if (cpu_stack_push(in, &st, frame, build_frame(s, e, inner, frame), wide ? 4 : 2, f))
        return -1;
    if (inner) { /* a 16-bit stack keeps what the TSS has in the upper half */
        s->gpr[CPU_RSP] = esp;
        s->seg[CPU_SS] = ss;
    }
    cpu_stack_commit(s, &st);
    enter(s, g, &h, eip);
    return 0;
}
