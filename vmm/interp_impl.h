/*
 * Inside of the interpreter: what its files share. interp.c fetches and dispatches, interp_class.c
 * says which handler an instruction has, interp_memory.c and interp_operand.c reach memory and
 * registers, and the others hold the handlers by subject.
 *
 * A handler returns 0, or -1 after it has filled in->fault; it changes nothing before everything
 * that may fault is done. RIP is set by the dispatcher from in->next.
 */
#ifndef TWOFOLD_VMM_INTERP_IMPL_H
#define TWOFOLD_VMM_INTERP_IMPL_H

#include <string.h>

#include "vmm/interp.h"

#define INTERP_CACHE 1024 /* entries; a power of two */
#define INTERP_ARGS  3
#define CODE_MAX     15 /* bytes of the longest instruction */

#define CPU_ARITH (CPU_CF | CPU_PF | CPU_AF | CPU_ZF | CPU_SF | CPU_OF)

enum interp_arg_kind {
    ARG_NONE,
    ARG_GPR,
    ARG_HIGH, /* AH, CH, DH, BH: `reg` is the register whose second byte it is */
    ARG_SEGMENT,
    ARG_MEMORY,
    ARG_IMMEDIATE,
    ARG_OTHER, /* control registers, vectors, ... */
};

/* Values of base and index besides the 16 registers. */
#define ARG_RIP     16
#define ARG_NOTHING 17

/* A ZydisDecodedOperand, boiled down to what execution needs. */
struct interp_arg {
    uint8_t kind;
    uint8_t size; /* bytes */
    uint8_t reg;  /* register or segment register by number */
    uint8_t base, index, shift, seg;
    uint64_t value; /* immediate or displacement, sign-extended */
};

struct interp_op;
typedef int (*interp_handler)(struct interp *in, const struct interp_op *op);
/* Takes two values of `size` bytes, gives the low bits of the result, and updates *flags. */
typedef uint64_t (*interp_alu)(uint64_t a, uint64_t b, unsigned size, uint64_t *flags);

/* A decoded instruction. */
struct interp_op {
    uint64_t word[2], mask[2]; /* its bytes, and which of 16 are its own */
    interp_handler handler;
    interp_alu alu;
    uint64_t address_mask;
    uint8_t key;       /* the mode that it was decoded for */
    uint8_t length;    /* 0: an empty entry */
    uint8_t result;    /* enum interp_result; INTERP_OK: `handler` carries it out */
    uint8_t size;      /* operand width in bytes */
    uint8_t condition; /* low bits of the opcode: of Jcc, SETcc, CMOVcc the condition */
    bool locked;
    bool repeat;       /* a string instruction with REP */
    bool repeat_while; /* REPE and REPNE: the ZF that goes on */
    struct interp_arg arg[INTERP_ARGS];
};

struct interp_full {
    ZydisDecodedInstruction z;
    ZydisDecodedOperand operand[ZYDIS_MAX_OPERAND_COUNT];
};

struct interp {
    struct cpu_state *state;
    const struct interp_ops *ops;
    void *ctx;
    struct cpu_fault *fault; /* the caller's */
    uint64_t next;           /* RIP behind the instruction; handlers of jumps change it */
    unsigned bits;           /* cpu_code_bits() */
    unsigned rounds;         /* that a REP may still make */
    bool user;
    struct interp_op op[INTERP_CACHE];
    struct interp_full full[INTERP_CACHE];
};

/* What a file knows: `alu` is for handlers that carry out several. Ends with handler NULL. */
struct interp_verb {
    ZydisMnemonic mnemonic;
    interp_handler handler;
    interp_alu alu;
};

extern const struct interp_verb interp_alu_verbs[], interp_bit_verbs[], interp_move_verbs[],
    interp_multiply_verbs[], interp_flow_verbs[], interp_stack_verbs[], interp_string_verbs[],
    interp_decimal_verbs[];

/* Fills everything of *op but word, mask and key. */
void interp_classify(struct interp_op *op, const struct interp_full *full);
void interp_arg_make(struct interp_arg *arg, const ZydisDecodedOperand *o);

/* --- memory ------------------------------------------------------------------------------- */

/* Where the bytes of an access are: in one page or in two. */
struct interp_span {
    unsigned len, first; /* bytes in all, and of the first page */
    void *host[2];       /* NULL: a device, at `at` */
    gpa_t at[2];
};

/* Translates all of it, or faults. */
int interp_map(struct interp *in, uint64_t linear, unsigned len, const struct interp_access *access,
               struct interp_span *span);
void interp_span_read(struct interp *in, const struct interp_span *span, void *buf);
void interp_span_write(struct interp *in, const struct interp_span *span, const void *buf);
/* Up to 8 bytes; an aligned access is one load or store of its size. */
uint64_t interp_span_get(struct interp *in, const struct interp_span *span);
void interp_span_put(struct interp *in, const struct interp_span *span, uint64_t value);
/* Stores `value` if `old` is still there, atomically where it can be; false: try again. */
bool interp_span_swap(struct interp *in, const struct interp_span *span, uint64_t old,
                      uint64_t value);
uint64_t interp_host_load(const void *p, unsigned size);
void interp_host_store(void *p, unsigned size, uint64_t value);

/* --- operands ----------------------------------------------------------------------------- */

/* An operand that is read and written back; translated for writing before it is read. */
struct interp_target {
    const struct interp_arg *arg;
    bool locked;
    struct interp_span span;
};

uint64_t interp_effective(const struct interp *in, const struct interp_op *op,
                          const struct interp_arg *arg);
/* The linear address of `len` bytes at seg:offset. The limit is looked at outside of 64-bit mode.
 */
int interp_segment_linear(struct interp *in, unsigned seg, uint64_t offset, unsigned len,
                          bool write, uint64_t *linear);
/* interp_segment_linear() and interp_map(). */
int interp_reach(struct interp *in, unsigned seg, uint64_t offset, unsigned len, bool write,
                 struct interp_span *span);
/* The memory that `arg` names, of `len` bytes, `extra` behind where it says. */
int interp_reach_arg(struct interp *in, const struct interp_op *op, const struct interp_arg *arg,
                     uint64_t extra, unsigned len, bool write, struct interp_span *span);
/* Zero-extended; an immediate is sign-extended. */
int interp_get(struct interp *in, const struct interp_op *op, unsigned n, uint64_t *value);
int interp_put(struct interp *in, const struct interp_op *op, unsigned n, uint64_t value);
int interp_open(struct interp *in, const struct interp_op *op, unsigned n,
                struct interp_target *place);
uint64_t interp_target_get(struct interp *in, const struct interp_target *place);
/* false: another CPU was faster than this locked instruction, which has to look again. */
bool interp_target_put(struct interp *in, const struct interp_target *place, uint64_t old,
                       uint64_t value);

/* --- the stack ------------------------------------------------------------------------------ */

/* Bytes of the stack pointer in use. */
unsigned interp_stack_size(const struct interp *in);
uint64_t interp_stack_pointer(const struct interp *in);
void interp_set_stack_pointer(struct interp *in, uint64_t value);
/* values[0] first, all or nothing. At most 33. */
int interp_push(struct interp *in, const uint64_t *values, unsigned n, unsigned size);
/* Reads `size` bytes `skip` above the stack pointer, and leaves the pointer as it is. */
int interp_peek(struct interp *in, uint64_t skip, unsigned size, uint64_t *value);

/* --- arithmetic ----------------------------------------------------------------------------- */

uint64_t interp_alu_sub(uint64_t a, uint64_t b, unsigned size, uint64_t *flags);
uint64_t interp_alu_add(uint64_t a, uint64_t b, unsigned size, uint64_t *flags);

static inline uint64_t interp_low(uint64_t value, unsigned size)
{
    return size < 8 ? value & ((UINT64_C(1) << size * 8) - 1) : value;
}

static inline uint64_t interp_sign_extend(uint64_t value, unsigned size)
{
    unsigned shift = 64 - size * 8;

    return (uint64_t)((int64_t)(value << shift) >> shift);
}

static inline uint64_t interp_gpr(const struct interp *in, unsigned reg, unsigned size)
{
    return interp_low(in->state->gpr[reg], size);
}

/* As the CPU does: 32 bits clear what is above them, 8 and 16 leave it. */
static inline void interp_set_gpr(struct interp *in, unsigned reg, unsigned size, uint64_t value)
{
    uint64_t *gpr = &in->state->gpr[reg];

    switch (size) {
    case 1:
        *gpr = (*gpr & ~UINT64_C(0xff)) | (value & 0xff);
        break;
    case 2:
        *gpr = (*gpr & ~UINT64_C(0xffff)) | (value & 0xffff);
        break;
    case 4:
        *gpr = (uint32_t)value;
        break;
    default:
        *gpr = value;
        break;
    }
}

/* In 64-bit mode only FS and GS have a base. */
static inline uint64_t interp_base(const struct interp *in, unsigned seg)
{
    return in->bits != 64 || seg == CPU_FS || seg == CPU_GS ? in->state->seg[seg].base : 0;
}

static inline bool interp_canonical(const struct cpu_state *s, uint64_t linear)
{
    unsigned shift = s->cr4 & X86_CR4_LA57 ? 7 : 16;

    return (uint64_t)((int64_t)(linear << shift) >> shift) == linear;
}

static inline void interp_set_flags(struct interp *in, uint64_t mask, uint64_t value)
{
    in->state->rflags = (in->state->rflags & ~mask) | (value & mask);
}

/* Intel SDM volume 1, "EFLAGS Condition Codes". */
static inline bool interp_condition(uint64_t flags, unsigned condition)
{
    bool sign = flags & CPU_SF, over = flags & CPU_OF, is;

    switch (condition >> 1 & 7) {
    case 0:
        is = over;
        break;
    case 1:
        is = flags & CPU_CF;
        break;
    case 2:
        is = flags & CPU_ZF;
        break;
    case 3:
        is = flags & (CPU_CF | CPU_ZF);
        break;
    case 4:
        is = sign;
        break;
    case 5:
        is = flags & CPU_PF;
        break;
    case 6:
        is = sign != over;
        break;
    default:
        is = (flags & CPU_ZF) || sign != over;
        break;
    }
    return is != (condition & 1);
}

#endif
