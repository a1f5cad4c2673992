/*
 * Which event a guest gets, when delivering one raises the next. How a frame comes about is in
 * cpu_delivery.c.
 */
#include <errno.h>

#include "vmm/cpu_event_impl.h"

#define EXT         1u
#define IDT         2u
#define VECTOR_VE   20
#define VECTOR_CP   21
#define VECTOR_MC   18
#define DR7_GD      (UINT64_C(1) << 13)
#define ERROR_CODES 0x60227d00u /* vectors 8, 10-14, 17, 21, 29, 30 */
/* Benign, contributory, page fault: each adds to the next, so this many are more than enough. */
#define NESTED_MAX 6

enum event_class {
    BENIGN,
    CONTRIBUTORY,
    PAGE_FAULT,
    DOUBLE_FAULT,
};

/* Intel SDM vol. 3A, 6.15, table 6-4 "Interrupt and Exception Classes". */
static enum event_class class_of(const struct cpu_event *e)
{
    if (!e->exception)
        return BENIGN;
    switch (e->vector) {
    case CPU_DE:
    case CPU_TS:
    case CPU_NP:
    case CPU_SS_FAULT:
    case CPU_GP:
    case VECTOR_CP:
        return CONTRIBUTORY;
    case CPU_PAGE:
    case VECTOR_VE:
        return PAGE_FAULT;
    case CPU_DOUBLE:
        return DOUBLE_FAULT;
    default:
        return BENIGN;
    }
}

bool cpu_event_has_error(const struct cpu_event *e)
{
    return e->exception && e->vector < 32 && (ERROR_CODES >> e->vector & 1);
}

/* Traps and aborts keep RF as it is: what they come back to is another instruction, or none. */
static bool is_fault_class(uint8_t vector)
{
    return vector != CPU_DB && vector != CPU_NMI && vector != CPU_BP && vector != CPU_OF_TRAP &&
           vector != CPU_DOUBLE && vector != VECTOR_MC;
}

static struct cpu_event exception(const struct cpu_state *s, const struct cpu_fault *f)
{
    return (struct cpu_event){
        .vector = f->vector,
        .exception = true,
        .error = f->has_error ? f->error : 0,
        .address = f->address,
        .rip = s->rip,
        .rflags = s->rflags | (is_fault_class(f->vector) ? CPU_RF : 0),
    };
}

/* What follows when delivering `first` raises `second`; false: a shutdown (table 6-5). */
static bool next_event(const struct cpu_event *first, struct cpu_event *second,
                       const struct cpu_state *s)
{
    const struct cpu_fault twice = { .vector = CPU_DOUBLE, .has_error = true };
    enum event_class a = class_of(first), b = class_of(second);

    if (a == DOUBLE_FAULT)
        return false;
    if ((a == CONTRIBUTORY && b == CONTRIBUTORY) || (a == PAGE_FAULT && b != BENIGN))
        *second = exception(s, &twice);
    return true;
}

/* The gate in a table of protected or long mode, and whether this event may pass it. */
static int read_gate(struct interp *in, const struct cpu_event *e, struct cpu_gate *g,
                     struct cpu_fault *f)
{
    const struct cpu_state *s = interp_state(in);
    unsigned size = cpu_long_mode(s) ? 16 : 8, offset = e->vector * size;
    uint64_t at = s->idt.base + offset;
    struct cpu_descriptor d = { 0 };
    uint64_t raw[2] = { 0 };

    g->error = e->vector * 8u + IDT;
    if (offset + size - 1 > s->idt.limit)
        return cpu_raise_gp(f, g->error);
    if (interp_load(in, size == 16 ? at : (uint32_t)at, raw, size, false, true, f))
        return -1;
    d.low = raw[0];
    g->selector = (uint16_t)(d.low >> 16);
    g->offset = (d.low & 0xffff) | (d.low >> 32 & 0xffff0000) | raw[1] << 32;
    g->ist = (uint8_t)desc_bits(&d, 32, 3);
    g->type = (uint8_t)(desc_is_segment(&d) ? 0 : desc_type(&d));
    g->dpl = (uint8_t)desc_dpl(&d);
    g->present = desc_present(&d);
    return 0;
}

static bool gate_type_known(const struct cpu_state *s, uint8_t type)
{
    if (type == SYS_INTERRUPT32 || type == SYS_TRAP32)
        return true;
    return !cpu_long_mode(s) &&
           (type == SYS_TASK_GATE || type == SYS_INTERRUPT16 || type == SYS_TRAP16);
}

static int through_gate(struct interp *in, const struct cpu_event *e, struct cpu_fault *f)
{
    const struct cpu_state *s = interp_state(in);
    struct cpu_gate g;

    if (read_gate(in, e, &g, f))
        return -1;
    if (!gate_type_known(s, g.type) || (e->software && g.dpl < s->cpl))
        return cpu_raise_gp(f, g.error);
    if (!g.present)
        return cpu_raise(f, CPU_NP, true, g.error);
    if (g.type == SYS_TASK_GATE)
        return CPU_EVENT_UNSUPPORTED;
    return cpu_long_mode(s) ? cpu_deliver_long(in, e, &g, f) : cpu_deliver_legacy(in, e, &g, f);
}

int cpu_event_once(struct interp *in, const struct cpu_event *e, struct cpu_fault *f)
{
    const struct cpu_state *s = interp_state(in);
    int result;

    if (is_virtual_8086(s))
        return CPU_EVENT_UNSUPPORTED;
    result = cpu_real_mode(s) ? cpu_deliver_real(in, e, f) : through_gate(in, e, f);
    if (result < 0 && !e->software && f->vector >= CPU_TS && f->vector <= CPU_GP)
        f->error |= EXT;
    return result;
}

static void delivered(struct cpu_state *s)
{
    s->halted = false;
    s->inhibited = false;
}

static int deliver(struct interp *in, struct cpu_event e)
{
    struct cpu_state *s = interp_state(in);
    const uint64_t cr2 = s->cr2;
    int result = -1;

    for (unsigned i = 0; i < NESTED_MAX; i++) {
        struct cpu_event second;
        struct cpu_fault f;

        /* Also of a page fault that becomes a double fault: its handler looks there. */
        if (e.exception && e.vector == CPU_PAGE)
            s->cr2 = e.address;
        result = cpu_event_once(in, &e, &f);
        if (result == 0) {
            if (e.exception && e.vector == CPU_DB)
                s->dr[7] &= ~DR7_GD;
            delivered(s);
            return 0;
        }
        if (result > 0)
            break;
        if (f.vector == CPU_PAGE)
            s->cr2 = f.address;
        second = exception(s, &f);
        if (!next_event(&e, &second, s))
            break;
        e = second;
    }
    if (result < 0)
        return -1; /* CR2 stays what a CPU that shuts down has in it: a dump's reader looks there */
    s->cr2 = cr2;
    return -ENOTSUP;
}

int cpu_deliver(struct interp *in, const struct cpu_fault *fault)
{
    return deliver(in, exception(interp_state(in), fault));
}

int cpu_deliver_interrupt(struct interp *in, uint8_t vector)
{
    struct cpu_state *s = interp_state(in);
    struct cpu_event e = { .vector = vector, .rip = s->rip, .rflags = s->rflags };
    int result = deliver(in, e);

    if (result == 0 && vector == CPU_NMI)
        s->nmi_blocked = true;
    return result;
}
