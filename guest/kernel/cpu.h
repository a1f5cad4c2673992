/*
 * A CPU: its identity, what it can do, and the few instructions that C lacks.
 */
#ifndef GUEST_KERNEL_CPU_H
#define GUEST_KERNEL_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/kernel/layout.h"

struct thread;
struct aspace;

/* The 64-bit TSS (Intel SDM vol. 3A, "Task Management in 64-bit Mode"). */
struct tss {
    uint32_t reserved0;
    uint64_t rsp[3];
    uint64_t reserved1;
    uint64_t ist[7];
    uint64_t reserved2;
    uint16_t reserved3;
    uint16_t iomap_base;
} __attribute__((packed));

/* One a CPU; GS points to it in the kernel. Offsets up to `probe_rsp` are known to assembly. */
struct cpu {
    struct cpu *self;          /* gs:0 */
    uint64_t kernel_stack_top; /* gs:8   what SYSCALL enters on */
    uint64_t user_rsp;         /* gs:16  scratch of the SYSCALL entry */
    struct thread *current;    /* gs:24  the scheduler's */
    uint64_t probe_rsp;        /* gs:32  of the test that faults on purpose (probe.h) */
    uint32_t id;               /* 0 .. cpus_online() - 1 */
    uint32_t apic_id;
    struct aspace *aspace;     /* the one in CR3; NULL: kernel tables only */
    uint32_t tlb_pending;      /* a shootdown waits for this CPU */
    bool need_resched;         /* set by VECTOR_RESCHEDULE; the scheduler clears it */
    uint8_t timer_vector;      /* what the APIC's timer is set up for, once (apic.c); 0: nothing */
    uint64_t fs_base, gs_base; /* the programs', as last read or loaded here (sched.c) */
    uint64_t ticks;            /* timer interrupts seen */
    struct tss tss;
    uint64_t gdt[10] __attribute__((aligned(16)));
};

/* What CPUID announced; filled once by cpu_detect() before anything asks. */
struct cpu_features {
    bool smep, smap, umip, pcid, fsgsbase, gbpages, x2apic, invpcid;
    bool tf_console;     /* TF_FEATURE_CONSOLE */
    bool tf_zeroed_ram;  /* TF_FEATURE_ZEROED_RAM */
    bool tf_mailbox;     /* TF_FEATURE_MAILBOX */
    bool kvm, kvm_clock; /* KVM's signature; its clock MSR */
};
extern struct cpu_features cpu_features;

extern struct cpu *cpus[MAX_CPUS];

/* The CPU this runs on: until the thread blocks or yields, as ring 0 is never preempted. */
static inline struct cpu *this_cpu(void)
{
    struct cpu *c;

    __asm__ volatile("movq %%gs:0, %0" : "=r"(c));
    return c;
}

/* Number of CPUs that run; cpus[0 .. n-1] are valid. */
unsigned cpus_online(void);

/* Sets the stack that the next entry from ring 3 on this CPU uses (SYSCALL and TSS alike). */
static inline void cpu_set_kernel_stack(uint64_t top)
{
    struct cpu *c = this_cpu();

    c->kernel_stack_top = top;
    c->tss.rsp[0] = top;
}

/*
 * Saves the callee-saved registers on the stack, stores rsp to *save_rsp and goes
 * on with the stack `load_rsp` (made by context_switch() or context_prepare()).
 */
void context_switch(uint64_t *save_rsp, uint64_t load_rsp);

/*
 * Prepares a stack, so that the first context_switch() to the returned rsp calls
 * entry(arg) with interrupts as they are then. `entry` never returns.
 */
uint64_t context_prepare(uint64_t stack_top, void (*entry)(void *arg), void *arg);

struct cpuid_result {
    uint32_t eax, ebx, ecx, edx;
};

/*
 * INVLPG first, which is harmless: de-privileged on a host where ring 3's CPUID doesn't trap, the
 * monitor answers one that stands right behind a privileged instruction (docs/shadow.md).
 */
static inline struct cpuid_result cpuid(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid_result r;

    __asm__ volatile("invlpg (%%rsp)\n\t"
                     "cpuid"
                     : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
                     : "a"(leaf), "c"(subleaf));
    return r;
}

static inline uint64_t rdmsr(uint32_t msr)
{
    uint32_t lo, hi;

    __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
    return (uint64_t)hi << 32 | lo;
}

static inline void wrmsr(uint32_t msr, uint64_t value)
{
    __asm__ volatile("wrmsr" ::"c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
                     : "memory");
}

static inline uint64_t rdtsc(void)
{
    uint32_t lo, hi;

    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return (uint64_t)hi << 32 | lo;
}

static inline void outb(uint16_t port, uint8_t v)
{
    __asm__ volatile("outb %0, %1" ::"a"(v), "Nd"(port) : "memory");
}

static inline void outl(uint16_t port, uint32_t v)
{
    __asm__ volatile("outl %0, %1" ::"a"(v), "Nd"(port) : "memory");
}

static inline uint8_t inb(uint16_t port)
{
    uint8_t v;

    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port) : "memory");
    return v;
}

static inline void outw(uint16_t port, uint16_t v)
{
    __asm__ volatile("outw %0, %1" ::"a"(v), "Nd"(port) : "memory");
}

static inline uint16_t inw(uint16_t port)
{
    uint16_t v;

    __asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port) : "memory");
    return v;
}

static inline uint32_t inl(uint16_t port)
{
    uint32_t v;

    __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port) : "memory");
    return v;
}

static inline uint64_t read_cr2(void)
{
    uint64_t v;

    __asm__ volatile("movq %%cr2, %0" : "=r"(v));
    return v;
}

static inline uint64_t read_cr3(void)
{
    uint64_t v;

    __asm__ volatile("movq %%cr3, %0" : "=r"(v));
    return v;
}

static inline void write_cr3(uint64_t v)
{
    __asm__ volatile("movq %0, %%cr3" ::"r"(v) : "memory");
}

static inline uint64_t read_cr4(void)
{
    uint64_t v;

    __asm__ volatile("movq %%cr4, %0" : "=r"(v));
    return v;
}

static inline void write_cr4(uint64_t v)
{
    __asm__ volatile("movq %0, %%cr4" ::"r"(v) : "memory");
}

static inline void invlpg(uint64_t gva)
{
    __asm__ volatile("invlpg (%0)" ::"r"(gva) : "memory");
}

static inline void cpu_relax(void)
{
    __builtin_ia32_pause();
}

/*
 * Sleeps until an interrupt, which may be one that is pending already.
 *
 * Nowhere else does the kernel have interrupts on: it is entered through interrupt gates and by
 * SYSCALL, which clear IF, and starts with IF clear. So no code asks for IF, saves it or puts it
 * back: de-privileged in ring 3, PUSHF would show another IF than the guest's, POPF would leave
 * it as it is without a trap, and each CLI and STI would cost an exit.
 */
static inline void cpu_idle(void)
{
    __asm__ volatile("sti; hlt; cli" ::: "memory");
}

/* FXSAVE image: 512 bytes, 16-byte aligned. The kernel itself uses no FPU register. */
struct fpu_state {
    uint8_t bytes[512];
} __attribute__((aligned(16)));

static inline void fpu_save(struct fpu_state *s)
{
    __asm__ volatile("fxsaveq %0" : "=m"(*s));
}

static inline void fpu_restore(const struct fpu_state *s)
{
    __asm__ volatile("fxrstorq %0" ::"m"(*s));
}

/* The state a new thread starts with (FCW 0x37f, MXCSR 0x1f80); the rest is zero. */
static inline void fpu_init_state(struct fpu_state *s) /* *s is zeroed by the caller */
{
    s->bytes[0] = 0x7f;
    s->bytes[1] = 0x03;
    s->bytes[24] = 0x80;
    s->bytes[25] = 0x1f;
}

/* Reads CPUID into cpu_features. */
void cpu_detect(void);

/* Sets the stack of #DF, NMI or #MC (IST 1 to 3). */
void cpu_set_ist(struct cpu *c, unsigned ist, uint64_t stack_top);

/* Loads this CPU's GDT, TSS, IDT, GS and the SYSCALL MSRs. `c->id` is set already. */
void cpu_setup(struct cpu *c);

#endif
