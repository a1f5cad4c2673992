/*
 * A VM with --paging shadow: the guest's kernel runs de-privileged in ring 3, under page tables of
 * ours (docs/shadow.md). vm.c and vcpu.c use this beside what every VM has.
 */
#ifndef TWOFOLD_VMM_DEPRIV_H
#define TWOFOLD_VMM_DEPRIV_H

#include <linux/kvm.h>

#include "ept/shadow.h"
#include "vmm/error.h"
#include "vmm/memory.h"

struct vm;
struct vcpu;
struct cpuid;
struct kvm;
struct depriv;
struct depriv_cpu;

/* What the monitor carried out for the guest, by kind. */
enum depriv_kind {
    DEPRIV_CR,      /* MOV from and to control registers, LMSW, SMSW, CLTS */
    DEPRIV_CR3,     /* MOV to CR3 */
    DEPRIV_INVLPG,  /* INVLPG, INVPCID */
    DEPRIV_MSR,     /* RDMSR, WRMSR */
    DEPRIV_IF,      /* CLI, STI */
    DEPRIV_IO,      /* IN, OUT, INS, OUTS */
    DEPRIV_IRET,    /* IRET, far transfers, INT n */
    DEPRIV_SYSCALL, /* SYSCALL, SYSRET, SYSENTER, SYSEXIT */
    DEPRIV_SWAPGS,  /* SWAPGS */
    DEPRIV_SEGMENT, /* segment and descriptor table registers */
    DEPRIV_HLT,     /* HLT */
    DEPRIV_OTHER,   /* debug registers, CPUID, STAC, CLAC, ... */
    DEPRIV_KINDS,
};

/* "cr3" and so on; never NULL. */
const char *depriv_kind_name(enum depriv_kind kind);

struct depriv_stat {
    uint64_t traps;            /* exits by a stub */
    uint64_t page_faults;      /* of them #PF */
    uint64_t reflected_faults; /* #PF delivered to the guest */
    uint64_t reflected;        /* other exceptions delivered */
    uint64_t interrupts;       /* delivered */
    uint64_t emulated[DEPRIV_KINDS];
    uint64_t interpreted;      /* other instructions carried out in the monitor */
    uint64_t flushes, touches; /* of the real CPU's caches; table pages stored to */
    uint64_t refused_tables;   /* walks that left RAM or met reserved bits */
    uint64_t window_accesses;  /* to what the guest has where our window lies: interpreted */
};

/* Whether this KVM has what it takes: 0, or -ENOTSUP with a sentence. */
int depriv_able(const struct kvm *kvm, struct error *err);

/*
 * What this needs of KVM, the memory for tables, and the hidden slot. After the VM's own memory is
 * registered, before the first vCPU. Errors name the capability that is missing.
 */
int depriv_create(struct depriv **out, struct vm *vm, struct error *err);
void depriv_destroy(struct depriv *d);

/* Prepares a vCPU that has its CPUID, MSRs and, if it is the first, the state that the boot
 * protocol asks for; the others wait for INIT and STARTUP. */
int depriv_cpu_create(struct depriv_cpu **out, struct depriv *d, struct vcpu *cpu,
                      struct error *err);
void depriv_cpu_destroy(struct depriv_cpu *c);

/*
 * A round of the vCPU: runs the guest until something happens, and deals with it. 1: go on; 0:
 * KVM_RUN returned with an exit that is everybody's (MMIO, ...), at *tsc; -errno as KVM_RUN's
 * (-EINTR: kicked).
 */
int depriv_round(struct depriv_cpu *c, uint64_t *tsc);

/* The registers as the guest believes them to be. The vCPU has to stand still, or be the caller. */
void depriv_registers(const struct depriv_cpu *c, struct kvm_regs *regs, struct kvm_sregs *sregs);

void depriv_cpu_stat(const struct depriv_cpu *c, struct depriv_stat *out);
struct shadow *depriv_shadow(struct depriv *d);

/* CPUID leaves that differ: what can't be had de-privileged is not offered. */
void depriv_cpuid(struct cpuid *cpuid);

#endif
