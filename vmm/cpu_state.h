/*
 * What a guest that runs de-privileged believes of its CPU (docs/shadow.md): the registers as its
 * own ring 0 sees them, whatever the real CPU holds meanwhile.
 */
#ifndef TWOFOLD_VMM_CPU_STATE_H
#define TWOFOLD_VMM_CPU_STATE_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#include "ept/format_x86.h"

/* General registers in the order of their encoding, as Zydis numbers them too. */
enum cpu_gpr {
    CPU_RAX,
    CPU_RCX,
    CPU_RDX,
    CPU_RBX,
    CPU_RSP,
    CPU_RBP,
    CPU_RSI,
    CPU_RDI,
    CPU_GPRS = 16,
};

/* Segment registers in the order of their encoding. */
enum cpu_seg {
    CPU_ES,
    CPU_CS,
    CPU_SS,
    CPU_DS,
    CPU_FS,
    CPU_GS,
    CPU_SEGS,
};

#define CPU_CR0_PE (UINT64_C(1) << 0)
#define CPU_CR0_MP (UINT64_C(1) << 1)
#define CPU_CR0_EM (UINT64_C(1) << 2)
#define CPU_CR0_TS (UINT64_C(1) << 3)
#define CPU_CR0_ET (UINT64_C(1) << 4)
#define CPU_CR0_NE (UINT64_C(1) << 5)
#define CPU_CR0_AM (UINT64_C(1) << 18)

#define CPU_CR4_TSD      (UINT64_C(1) << 2)
#define CPU_CR4_UMIP     (UINT64_C(1) << 11)
#define CPU_CR4_FSGSBASE (UINT64_C(1) << 16)
#define CPU_CR4_PCIDE    (UINT64_C(1) << 17)
#define CPU_CR4_OSXSAVE  (UINT64_C(1) << 18)
#define CPU_EFER_SCE     (UINT64_C(1) << 0)
#define CPU_EFER_LME     (UINT64_C(1) << 8)

#define CPU_CF   (UINT64_C(1) << 0)
#define CPU_PF   (UINT64_C(1) << 2)
#define CPU_AF   (UINT64_C(1) << 4)
#define CPU_ZF   (UINT64_C(1) << 6)
#define CPU_SF   (UINT64_C(1) << 7)
#define CPU_TF   (UINT64_C(1) << 8)
#define CPU_IF   (UINT64_C(1) << 9)
#define CPU_DF   (UINT64_C(1) << 10)
#define CPU_OF   (UINT64_C(1) << 11)
#define CPU_IOPL (UINT64_C(3) << 12)
#define CPU_NT   (UINT64_C(1) << 14)
#define CPU_RF   (UINT64_C(1) << 16)
#define CPU_VM   (UINT64_C(1) << 17)
#define CPU_AC   (UINT64_C(1) << 18)
#define CPU_ID   (UINT64_C(1) << 21)

/* Exceptions by vector. */
enum {
    CPU_DE = 0,
    CPU_DB = 1,
    CPU_NMI = 2,
    CPU_BP = 3,
    CPU_OF_TRAP = 4,
    CPU_BR = 5,
    CPU_UD = 6,
    CPU_NM = 7,
    CPU_DOUBLE = 8,
    CPU_TS = 10,
    CPU_NP = 11,
    CPU_SS_FAULT = 12,
    CPU_GP = 13,
    CPU_PAGE = 14,
    CPU_AC_FAULT = 17,
};

struct cpu_state {
    uint64_t gpr[CPU_GPRS];
    uint64_t rip, rflags;
    uint64_t cr0, cr2, cr3, cr4, efer, xcr0;
    uint64_t dr[8]; /* 4 and 5 unused */
    struct kvm_segment seg[CPU_SEGS];
    struct kvm_segment tr, ldt;
    struct kvm_dtable gdt, idt;
    uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    unsigned cpl;
    bool halted;      /* HLT: waits for an interrupt */
    bool nmi_blocked; /* from the delivery of an NMI to the next IRET */
    bool inhibited;   /* interrupts wait one instruction: after STI, MOV SS, POP SS */
};

/* An exception that an instruction raises; nothing of it is delivered yet. */
struct cpu_fault {
    uint8_t vector;
    bool has_error;
    uint32_t error;
    uint64_t address; /* for CR2; vector 14 only */
};

static inline bool cpu_long_mode(const struct cpu_state *s)
{
    return (s->efer & X86_EFER_LMA) != 0;
}

static inline bool cpu_real_mode(const struct cpu_state *s)
{
    return (s->cr0 & CPU_CR0_PE) == 0;
}

/* 16, 32 or 64: how instructions are decoded at this moment. */
static inline unsigned cpu_code_bits(const struct cpu_state *s)
{
    if (cpu_long_mode(s) && s->seg[CPU_CS].l)
        return 64;
    return s->seg[CPU_CS].db ? 32 : 16;
}

/* For the short `return cpu_raise(...)`; gives -1. */
static inline int cpu_raise(struct cpu_fault *f, uint8_t vector, bool has_error, uint32_t error)
{
    *f = (struct cpu_fault){ .vector = vector, .has_error = has_error, .error = error };
    return -1;
}

static inline int cpu_raise_gp(struct cpu_fault *f, uint32_t error)
{
    return cpu_raise(f, CPU_GP, true, error);
}

static inline int cpu_raise_ud(struct cpu_fault *f)
{
    return cpu_raise(f, CPU_UD, false, 0);
}

#endif
