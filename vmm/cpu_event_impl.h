/*
 * Inside of cpu_event.h: descriptors, stacks, and the checks that deliveries, transfers and segment
 * loads have in common. Functions that give an int: 0, or -1 with *f.
 */
#ifndef TWOFOLD_VMM_CPU_EVENT_IMPL_H
#define TWOFOLD_VMM_CPU_EVENT_IMPL_H

#include "vmm/cpu_event.h"

/* A selector without its RPL: what error codes name. */
#define SELECTOR_INDEX 0xfffcu
#define SELECTOR_TI    4u
#define SELECTOR_RPL   3u

/* Types of system descriptors; 64-bit mode has those of 32 bits only. */
enum {
    SYS_TSS16 = 1,
    SYS_LDT = 2,
    SYS_CALL16 = 4,
    SYS_TASK_GATE = 5,
    SYS_INTERRUPT16 = 6,
    SYS_TRAP16 = 7,
    SYS_TSS32 = 9,
    SYS_CALL32 = 12,
    SYS_INTERRUPT32 = 14,
    SYS_TRAP32 = 15,
    SYS_BUSY = 2, /* this bit in the type of a TSS */
};

/* Bits in the type of a code or data segment. */
enum {
    TYPE_ACCESSED = 1,
    TYPE_WRITABLE = 2, /* code: readable */
    TYPE_DOWN = 4,     /* code: conforming */
    TYPE_CODE = 8,
};

struct cpu_descriptor {
    uint64_t low, high; /* high: the second half of a system descriptor in long mode */
    uint64_t at;        /* linear address */
};

static inline unsigned desc_bits(const struct cpu_descriptor *d, unsigned first, unsigned count)
{
    return (unsigned)(d->low >> first) & ((1u << count) - 1);
}

static inline unsigned desc_type(const struct cpu_descriptor *d)
{
    return desc_bits(d, 40, 4);
}

static inline bool desc_is_segment(const struct cpu_descriptor *d)
{
    return desc_bits(d, 44, 1);
}

static inline unsigned desc_dpl(const struct cpu_descriptor *d)
{
    return desc_bits(d, 45, 2);
}

static inline bool desc_present(const struct cpu_descriptor *d)
{
    return desc_bits(d, 47, 1);
}

static inline bool desc_is_code(const struct cpu_descriptor *d)
{
    return desc_is_segment(d) && (desc_type(d) & TYPE_CODE);
}

static inline bool desc_is_conforming(const struct cpu_descriptor *d)
{
    return desc_is_code(d) && (desc_type(d) & TYPE_DOWN);
}

static inline bool desc_is_writable_data(const struct cpu_descriptor *d)
{
    return desc_is_segment(d) && (desc_type(d) & (TYPE_CODE | TYPE_WRITABLE)) == TYPE_WRITABLE;
}

static inline bool selector_is_null(uint16_t selector)
{
    return (selector & SELECTOR_INDEX) == 0;
}

static inline bool is_canonical(uint64_t linear)
{
    return (uint64_t)((int64_t)(linear << 16) >> 16) == linear;
}

static inline bool is_virtual_8086(const struct cpu_state *s)
{
    return !cpu_real_mode(s) && (s->rflags & CPU_VM);
}

/* --- cpu_segment.c --- */

/* Reads the descriptor of a selector that is not null. Beyond its table: `vector` with the
 * selector. */
int cpu_descriptor(struct interp *in, uint16_t selector, uint8_t vector, struct cpu_descriptor *d,
                   struct cpu_fault *f);
/* The second half of a system descriptor in long mode; 0 elsewhere. */
int cpu_descriptor_high(struct interp *in, uint16_t selector, struct cpu_descriptor *d,
                        struct cpu_fault *f);
/* Writes the type of a descriptor back to memory, if it is not that already. */
int cpu_descriptor_set_type(struct interp *in, struct cpu_descriptor *d, unsigned type,
                            struct cpu_fault *f);
struct kvm_segment cpu_segment_of(const struct cpu_descriptor *d, uint16_t selector);
struct kvm_segment cpu_segment_null(uint16_t selector);
/* Real mode: the base is the selector's, the rest is what was there. */
void cpu_segment_real(struct kvm_segment *seg, uint16_t selector);
/* A flat segment as SYSCALL and its likes make it, without a look at any table. */
struct kvm_segment cpu_segment_flat(uint16_t selector, bool code, bool l);

/* Sets the accessed bit of a code segment and gives what CS becomes at `cpl`. */
int cpu_code_segment(struct interp *in, struct cpu_descriptor *d, uint16_t selector, unsigned cpl,
                     struct kvm_segment *cs, struct cpu_fault *f);
/* #GP with the selector if it is no code segment, or 64 bits and 32 bits at once. */
int cpu_check_code(const struct cpu_state *s, const struct cpu_descriptor *d, uint16_t selector,
                   struct cpu_fault *f);
/* #GP(0) for an address that code in `cs` can't have. */
int cpu_check_rip(const struct cpu_state *s, const struct kvm_segment *cs, uint64_t rip,
                  struct cpu_fault *f);

/* What an SS at `cpl` has to be. The faults of a wrong one: `vector`; absent: #SS. */
int cpu_stack_segment(struct interp *in, uint16_t selector, unsigned cpl, uint8_t vector,
                      struct kvm_segment *ss, struct cpu_fault *f);

/* --- cpu_stack.c --- */

struct cpu_stack {
    const struct kvm_segment *ss;
    uint64_t sp;
    unsigned bits;  /* 16, 32 or 64: as wide the pointer is */
    bool user;      /* accesses are made by ring 3 */
    bool implicit;  /* by the CPU, to a stack of another ring */
    uint32_t error; /* of the #SS when it does not fit */
};

struct cpu_stack cpu_stack_now(const struct cpu_state *s);
/* Pushes n items of `size` bytes, item[0] first, or none of them. */
int cpu_stack_push(struct interp *in, struct cpu_stack *st, const uint64_t *item, unsigned n,
                   unsigned size, struct cpu_fault *f);
/* Pops n items, item[0] first, zero-extended. */
int cpu_stack_pop(struct interp *in, struct cpu_stack *st, uint64_t *item, unsigned n,
                  unsigned size, struct cpu_fault *f);
/* RSP becomes the stack's pointer: as much of it as the stack is wide. */
void cpu_stack_commit(struct cpu_state *s, const struct cpu_stack *st);

/* --- cpu_event.c --- */

struct cpu_event {
    uint8_t vector;
    bool exception; /* has a class, and an error code if the vector has one */
    bool software;  /* INT n, INT3, INTO: the gate's DPL counts, and error codes lack EXT */
    uint32_t error;
    uint64_t address; /* of a #PF */
    uint64_t rip;     /* where it comes back to */
    uint64_t rflags;  /* as they are pushed */
};

enum {
    CPU_EVENT_UNSUPPORTED = 1,
};

/* Delivers one event. 0; -1 with *f, and the state is unchanged; CPU_EVENT_UNSUPPORTED. */
int cpu_event_once(struct interp *in, const struct cpu_event *e, struct cpu_fault *f);

/* --- cpu_delivery.c --- */

struct cpu_gate {
    uint16_t selector;
    uint8_t ist, type, dpl;
    bool present;
    uint64_t offset;
    uint32_t error; /* that names the gate */
};

int cpu_deliver_real(struct interp *in, const struct cpu_event *e, struct cpu_fault *f);
int cpu_deliver_legacy(struct interp *in, const struct cpu_event *e, const struct cpu_gate *g,
                       struct cpu_fault *f);
int cpu_deliver_long(struct interp *in, const struct cpu_event *e, const struct cpu_gate *g,
                     struct cpu_fault *f);
/* The vector has an error code on the stack. */
bool cpu_event_has_error(const struct cpu_event *e);

/* --- parts of cpu_transfer(); INTERP_OK: RIP is moved on --- */

enum interp_result cpu_far_jump(struct interp *in, const struct interp_insn *insn, bool call,
                                struct cpu_fault *f);
enum interp_result cpu_far_return(struct interp *in, const struct interp_insn *insn,
                                  struct cpu_fault *f);
enum interp_result cpu_iret(struct interp *in, const struct interp_insn *insn, struct cpu_fault *f);
enum interp_result cpu_fast_call(struct interp *in, const struct interp_insn *insn,
                                 struct cpu_fault *f);
enum interp_result cpu_segment_register(struct interp *in, const struct interp_insn *insn,
                                        struct cpu_fault *f);
enum interp_result cpu_system_table(struct interp *in, const struct interp_insn *insn,
                                    struct cpu_fault *f);
enum interp_result cpu_selector_probe(struct interp *in, const struct interp_insn *insn,
                                      struct cpu_fault *f);
/* Reads a far pointer in memory: the offset, and the selector behind it. */
int cpu_far_pointer(struct interp *in, const struct interp_insn *insn, unsigned n, uint64_t *offset,
                    uint16_t *selector, struct cpu_fault *f);

#endif
