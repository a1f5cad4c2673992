/*
 * The inside of vmm/depriv*.c.
 */
#ifndef TWOFOLD_VMM_DEPRIV_IMPL_H
#define TWOFOLD_VMM_DEPRIV_IMPL_H

#include "vmm/cpu_event.h"
#include "vmm/depriv.h"
#include "vmm/vm_impl.h"

/* --- the window: one memory slot, mapped for ring 0 only ---------------------------- */

/* Its pages; the pool of shadow tables is behind them. */
enum {
    WINDOW_STUBS,
    WINDOW_IDT,
    WINDOW_PDPT,
    WINDOW_PD,
    WINDOW_DEVICES, /* a page table that maps the interrupt controllers */
    WINDOW_ROOT,    /* a top table with nothing but the window */
    WINDOW_CPUS,    /* a page for each vCPU */
    WINDOW_POOL = WINDOW_CPUS + VM_CPUS_MAX,
};

#define WINDOW_MEM_SLOT 100 /* KVM's number for it; guest memory has the first ones */
#define WINDOW_SLOT     384 /* where it lies: entry of the PML4; kernels leave the middle free */
#define WINDOW_GVA      (UINT64_C(0xffff) << 48 | (uint64_t)WINDOW_SLOT << 39)
#define STUB_BYTES      16
#define STUB_PORT       0xe9
#define STUB_CODE       0x08 /* selector; the GDT has nothing else but the TSS */
#define STUB_TSS        0x10

/* In a vCPU's page. Stacks grow down from where they are said to be. */
enum {
    CPU_PAGE_TSS = 0,
    CPU_PAGE_GDT = 0x100,
    CPU_PAGE_FLUSH = 0x200,  /* code made for each flush */
    CPU_PAGE_PROXY = 0xa00,  /* code that makes one access to a port or device */
    CPU_PAGE_MC = 0xc80,     /* machine check's stack */
    CPU_PAGE_DOUBLE = 0xd00, /* double fault's */
    CPU_PAGE_NMI = 0xe00,
    CPU_PAGE_STACK = 0x1000,
};

/* Where the interrupt controllers appear in the window: at the last 2 MiB of its first GiB. */
#define WINDOW_DEVICES_AT (UINT64_C(511) << PAGE_SHIFT_2M)
enum {
    DEVICE_LAPIC,
    DEVICE_IOAPIC,
};

struct depriv {
    struct vm *vm;
    struct shadow *shadow;
    uint8_t *hidden; /* the slot, as the monitor sees it */
    uint64_t hidden_size;
    gpa_t base;
    size_t pool_pages;
    bool touch; /* this KVM shadows our tables: see shadow_flush */
    bool umip;
    bool warned_popf;
    uint64_t cr4_known; /* bits that the guest may set */
    unsigned phys_bits;
};

/* gva of page `page` of the window. */
static inline uint64_t window_at(unsigned page)
{
    return WINDOW_GVA + ((uint64_t)page << PAGE_SHIFT_4K);
}

/* Makes and registers the slot. */
int window_create(struct depriv *d, struct error *err);
void window_destroy(struct depriv *d);
void window_cpu_init(struct depriv *d, unsigned cpu);

static inline uint8_t *window_page(const struct depriv *d, unsigned page)
{
    return d->hidden + ((size_t)page << PAGE_SHIFT_4K);
}

/* --- a vCPU ------------------------------------------------------------------------- */

#define SOFT_TLB 64

struct soft_tlb {
    uint64_t page; /* linear page number */
    uint32_t kind; /* access; 0: empty */
    void *host;
    gpa_t at;
};

/* A #PF that the guest got: its handler is likely to return to the same access. */
struct retry {
    bool pending;
    uint64_t rip, cr3;
    unsigned cpl;
    uint64_t gpr[CPU_GPRS], fs_base, gs_base;
    uint64_t address;
    struct pt_access access;
};

#define WRITTEN_PAGES 16

#define AHEAD_PLACES 256

struct depriv_cpu {
    struct depriv *d;
    struct vcpu *cpu;
    struct cpu_state s;
    struct interp *in;

    /* What the guest's mode gives: the root of the last entry. */
    struct shadow_mode mode;
    gpa_t root;
    bool root_known;

    /* The real registers belong to a KVM_RUN that is not finished (MMIO, a signal in a stub). */
    bool resume;
    bool waits_for_startup;
    unsigned nap_ns; /* between two looks for it */
    bool astray;     /* see depriv_start.c */
    bool nmi_pending;
    uint64_t accepted[4]; /* interrupts by vector that it took and the guest has still to get */
    bool halted_real;     /* KVM has it halted */
    bool kick_later;      /* a kick came while the window's code ran */
    unsigned null_data;   /* which of DS, ES, FS, GS were null when it was entered */

    struct retry retry;
    uint64_t agreed_rip, agreed_at; /* where the shadow needed nothing, last time */
    struct soft_tlb tlb[SOFT_TLB];
    gpa_t written[WRITTEN_PAGES]; /* by the interpreter; the shadow is not told yet */
    unsigned writes;
    int8_t ahead[AHEAD_PLACES]; /* whether running ahead pays, by where it begins */
    unsigned ahead_skipped;
    unsigned closed;     /* how often interrupts were closed since KVM could deliver one */
    uint64_t exit_ticks; /* of the TSC: the shortest way into the guest and out again, so far */
    struct depriv_stat stat;
    bool failed; /* the VM is ending because of this vCPU */
};

static inline void depriv_count(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

static inline struct kvm_regs *real_regs(struct depriv_cpu *c)
{
    return &c->cpu->run->s.regs.regs;
}

static inline struct kvm_sregs *real_sregs(struct depriv_cpu *c)
{
    return &c->cpu->run->s.regs.sregs;
}

/* The general registers as KVM has them. */
static inline void depriv_general(const struct cpu_state *s, struct kvm_regs *regs)
{
    const uint64_t *g = s->gpr;

    *regs = (struct kvm_regs){
        .rax = g[0],
        .rcx = g[1],
        .rdx = g[2],
        .rbx = g[3],
        .rsp = g[4],
        .rbp = g[5],
        .rsi = g[6],
        .rdi = g[7],
        .r8 = g[8],
        .r9 = g[9],
        .r10 = g[10],
        .r11 = g[11],
        .r12 = g[12],
        .r13 = g[13],
        .r14 = g[14],
        .r15 = g[15],
        .rip = s->rip,
        .rflags = s->rflags,
    };
}

/* 64-bit code with paging: it runs on the real CPU. */
static inline bool runs_natively(const struct cpu_state *s)
{
    return cpu_code_bits(s) == 64 && (s->cr0 & X86_CR0_PG) != 0;
}

/* True when somebody wants this vCPU out of the guest. */
static inline bool kicked(const struct depriv_cpu *c)
{
    return c->kick_later || __atomic_load_n(&c->cpu->run->immediate_exit, __ATOMIC_ACQUIRE) != 0;
}

/* --- depriv_enter.c: into the guest and out of it ----------------------------------- */

/* From cpu_state to the real registers, root and flush included, and KVM_RUN. 0 or -errno; 1: try
 * again later. */
int depriv_enter_guest(struct depriv_cpu *c, uint64_t *tsc);

/* A halted vCPU: KVM waits for its interrupt. As depriv_round(). */
int depriv_wait(struct depriv_cpu *c, uint64_t *tsc);

/*
 * Runs the proxy `code` of window_cpu_init()'s list in ring 0, on the window's own root, with RDI
 * and DX; *value is RAX, in and out. Returns the vector of an interrupt or NMI that ended it before
 * anything was done (an interrupt only where `interrupts` are allowed), else -1; below -1: -errno
 * - 1.
 */
int depriv_run_proxy(struct depriv_cpu *c, unsigned code, uint64_t *value, uint64_t rdi,
                     uint16_t port, bool interrupts);

enum {
    PROXY_READ = 0, /* + log2 of the bytes */
    PROXY_WRITE = 4,
    PROXY_IN = 8,
    PROXY_NOTHING = 11,
    PROXY_OUT = 12,
    PROXY_RDMSR = 16, /* RDI is the number */
    PROXY_WRMSR = 17,
    PROXIES,
};

/* The root for the mode as it is now; c->mode and c->root. 0 or -errno. */
int depriv_ready(struct depriv_cpu *c);

/* The vector of the stub that the vCPU stands in, or -1. */
int depriv_stub(const struct depriv_cpu *c);

/* Other vCPUs leave the guest soon. */
void depriv_kick_others(struct depriv_cpu *c);

/* --- depriv_trap.c ------------------------------------------------------------------ */

/* After KVM_RUN: what came. As depriv_round(). */
int depriv_after_run(struct depriv_cpu *c, int rc);

/* The general registers of c->s from the real ones. */
void depriv_take_general(struct depriv_cpu *c);

/* --- depriv_exception.c ------------------------------------------------------------- */

/* Native code met exception `vector`: its error code, and CR2 of a page fault. */
void depriv_exception(struct depriv_cpu *c, unsigned vector, uint64_t error, uint64_t cr2);

/* `insn` was carried out, and RFLAGS.TF was set before. */
void depriv_stepped(struct depriv_cpu *c, const struct interp_insn *insn);

/* --- depriv_deliver.c --------------------------------------------------------------- */

/* Delivers an interrupt that the window's code or a halted vCPU met. */
void depriv_interrupt(struct depriv_cpu *c, unsigned vector);

/* The vCPU took an interrupt (or NMI) when the guest can't have it yet: it gets it as soon as its
 * IF allows, by depriv_deliver_accepted(). */
void depriv_accept(struct depriv_cpu *c, unsigned vector);
void depriv_deliver_accepted(struct depriv_cpu *c);

/* Delivers an exception to the guest; ends the VM when that is not possible. */
void depriv_raise(struct depriv_cpu *c, const struct cpu_fault *fault);

/* --- depriv_start.c ----------------------------------------------------------------- */

/* Both as depriv_round(). */
int depriv_wait_for_startup(struct depriv_cpu *c, uint64_t *tsc);
int depriv_come_back(struct depriv_cpu *c, uint64_t *tsc);

/* After KVM_RUN, which returned `rc`: KVM reset the vCPU by INIT while it ran, so that its
 * registers are no longer ours. It stays so until depriv_come_back(). */
bool depriv_astray(struct depriv_cpu *c, int rc);

/* --- depriv_system.c, depriv_control.c, depriv_msr.c, depriv_io.c ------------------- */

/* Carries out what interp_step() left to the caller. */
enum interp_result depriv_system(struct depriv_cpu *c, const struct interp_insn *insn,
                                 struct cpu_fault *fault);

/* MOV from or to a control or debug register; INTERP_SYSTEM: it is another MOV. */
enum interp_result depriv_mov_special(struct depriv_cpu *c, const struct interp_insn *insn,
                                      struct cpu_fault *fault);

/* With all that switching paging on or off brings. 0, or -1 with *fault. */
int depriv_set_cr0(struct depriv_cpu *c, uint64_t value, struct cpu_fault *fault);

/* Forgets all translations of the interpreter, and the root when the mode changed. */
void depriv_mode_changed(struct depriv_cpu *c);
void depriv_flush_all(struct depriv_cpu *c);

int depriv_rdmsr(struct depriv_cpu *c, uint32_t msr, uint64_t *value);
int depriv_wrmsr(struct depriv_cpu *c, uint32_t msr, uint64_t value);
/* Those of c->s that KVM has after the guest set them there. */
void depriv_take_msrs(struct depriv_cpu *c);
int depriv_set_lstar(struct depriv_cpu *c);

/* Makes the access by the real CPU: a proxy's `code`, the value in and out. As depriv_run_proxy(),
 * but an NMI is kept for later. */
int depriv_proxy(struct depriv_cpu *c, unsigned code, uint64_t *value, uint64_t rdi, uint16_t port);

enum interp_result depriv_io(struct depriv_cpu *c, const struct interp_insn *insn,
                             struct cpu_fault *fault);

/* --- depriv_memory.c ---------------------------------------------------------------- */

extern const struct interp_ops depriv_memory_ops;
void depriv_tlb_forget(struct depriv_cpu *c);
/* Tells the shadow what was written: before anything that looks at the guest's tables, or runs the
 * guest. */
void depriv_tell_writes(struct depriv_cpu *c);
/* The guest's paging as its registers say it now. */
void depriv_paging(const struct depriv_cpu *c, struct x86_paging *out);
/* A walk that met no RAM at its last reference: a fault, or the VM ends as a guard was met. */
void depriv_unreadable(struct depriv_cpu *c, uint64_t address, const struct pt_access *access,
                       const struct pt_walk *walk, struct cpu_fault *fault);

/* --- depriv_ahead.c ----------------------------------------------------------------- */

/* Interprets on from RIP as long as it pays. */
void depriv_run_ahead(struct depriv_cpu *c);
/* A #PF is about to be delivered to the guest, for this access. */
void depriv_remember(struct depriv_cpu *c, uint64_t address, const struct pt_access *access);
/* Before the guest is entered, with its root: fills what the handler supplied, if the guest is to
 * make that access again. */
void depriv_retry(struct depriv_cpu *c);
/* Interprets code that can't run natively, for a while. */
void depriv_interpret(struct depriv_cpu *c);
/* One instruction that the real CPU can't do though the guest may. */
void depriv_one(struct depriv_cpu *c);

#endif
