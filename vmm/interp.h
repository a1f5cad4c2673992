/*
 * Executes single instructions of a guest in the monitor: decoded by Zydis, carried out on
 * struct cpu_state. For code that can't run natively de-privileged (everything outside of 64-bit
 * mode), for the few instructions around a privileged one, which cost less here than a further
 * exit, and for accesses that the real CPU refuses though the guest may make them.
 *
 * What belongs to the system (control registers, descriptor tables, ports, ...) is handed to the
 * caller. Not known: x87, MMX, SSE and what came later.
 */
#ifndef TWOFOLD_VMM_INTERP_H
#define TWOFOLD_VMM_INTERP_H

#include <Zydis/Zydis.h>

#include "ept/access.h"
#include "ept/addr.h"
#include "vmm/cpu_state.h"

/* Who makes an access to memory. */
struct interp_access {
    enum pt_op op;
    bool user;     /* ring 3 */
    bool implicit; /* to a descriptor table or TSS: supervisor's whatever the ring */
};

enum interp_place {
    INTERP_RAM,
    INTERP_DEVICE, /* no RAM: mmio() makes the access */
    INTERP_REFUSED,
};

struct interp_ops {
    /*
     * Translates [linear, linear + len), which lies within one 4 KiB page, as the guest's paging
     * does now, and marks its tables accessed and dirty. INTERP_RAM: *host points to the bytes.
     * INTERP_DEVICE: *at is the gpa. INTERP_REFUSED: *fault says why (#PF).
     */
    enum interp_place (*translate)(void *ctx, uint64_t linear, unsigned len,
                                   const struct interp_access *access, void **host, gpa_t *at,
                                   struct cpu_fault *fault);
    /* One access of 1, 2, 4 or 8 bytes to a device. */
    void (*mmio)(void *ctx, gpa_t at, void *buf, unsigned len, bool write);
};

struct interp;

/* One a vCPU; `state` and `ops` outlive it. 0, -ENOMEM. */
int interp_create(struct interp **out, struct cpu_state *state, const struct interp_ops *ops,
                  void *ctx);
void interp_destroy(struct interp *in);

enum interp_result {
    INTERP_OK,      /* done, RIP is behind it (or at it: a REP that has more rounds to go) */
    INTERP_FAULT,   /* *fault; nothing changed, but for the rounds of a REP that were done */
    INTERP_SYSTEM,  /* the caller's: see interp_insn(); nothing changed */
    INTERP_UNKNOWN, /* not known here; nothing changed */
};

/* The instruction that interp_step() met last. */
struct interp_insn {
    const ZydisDecodedInstruction *z;
    const ZydisDecodedOperand *operand; /* z->operand_count of them, the hidden ones included */
    unsigned length;
    uint64_t next_rip; /* as wide as the code */
};

/*
 * Fetches, decodes and carries out the instruction at RIP. A REP is ended after `rounds` at most.
 * Does not look at TF or pending interrupts, and clears neither `inhibited` nor RF: the caller
 * does. MOV SS and POP SS are the caller's.
 *
 * Left to the caller (INTERP_SYSTEM): whatever is privileged, whatever reads or writes system
 * state or a segment register (MOV from one is done here), far transfers, INT n and its likes,
 * IRET, SYSCALL and its likes, CLI, STI, HLT, CPUID, RDTSC, RDTSCP, IN, OUT, INS, OUTS, RDMSR,
 * XGETBV, SWAPGS, STAC, CLAC, RD/WRFSBASE..., MONITOR, RDRAND. Done here: PUSHF and POPF by the
 * rules of CPL and IOPL.
 */
enum interp_result interp_step(struct interp *in, unsigned rounds, struct interp_insn *insn,
                               struct cpu_fault *fault);

/* Decodes what stands at RIP without carrying anything out: INTERP_SYSTEM or INTERP_FAULT. */
enum interp_result interp_decode(struct interp *in, struct interp_insn *insn,
                                 struct cpu_fault *fault);

/* Operand `n`, a register or memory, zero-extended. 0, or -1 with *fault. */
int interp_operand_read(struct interp *in, const struct interp_insn *insn, unsigned n,
                        uint64_t *value, struct cpu_fault *fault);
int interp_operand_write(struct interp *in, const struct interp_insn *insn, unsigned n,
                         uint64_t value, struct cpu_fault *fault);

/* The linear address that memory operand `n` names. 0, or -1: beyond the segment or not canonical.
 */
int interp_operand_linear(struct interp *in, const struct interp_insn *insn, unsigned n,
                          uint64_t *linear, struct cpu_fault *fault);

/*
 * Reads or writes `len` bytes (at most 256) at a linear address, across pages. A write that faults
 * has written nothing. 0, or -1 with *fault.
 */
int interp_load(struct interp *in, uint64_t linear, void *buf, unsigned len, bool user,
                bool implicit, struct cpu_fault *fault);
int interp_store(struct interp *in, uint64_t linear, const void *buf, unsigned len, bool user,
                 bool implicit, struct cpu_fault *fault);

/* RIP + the instruction's length; call when the caller has carried it out. */
void interp_skip(struct interp *in, const struct interp_insn *insn);

struct cpu_state *interp_state(struct interp *in);

#endif
