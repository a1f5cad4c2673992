/*
 * The inside of a VM, shared by vm.c, vm_run.c, vm_events.c, vcpu.c,
 * exits.c, trace.c and dump.c.
 * Everybody else uses vmm/vm.h.
 */
#ifndef TWOFOLD_VMM_VM_IMPL_H
#define TWOFOLD_VMM_VM_IMPL_H

#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>

#include "vmm/boot.h"
#include "vmm/bus.h"
#include "vmm/console.h"
#include "vmm/cpuid.h"
#include "vmm/depriv.h"
#include "vmm/devices.h"
#include "vmm/io_loop.h"
#include "vmm/kvm.h"
#include "vmm/thread_faults.h"
#include "vmm/vm.h"
#include "vmm/vm_devices.h"

/* Wakes a vCPU thread out of KVM_RUN; its handler does nothing. */
#define VCPU_KICK_SIGNAL SIGUSR1

/* One exit as the ring and the trace keep it. */
struct exit_record {
    uint64_t tsc;   /* host TSC when KVM_RUN returned */
    uint64_t addr;  /* port or gpa; 0 when the exit has none */
    uint64_t value; /* of the first access */
    uint32_t reason;
    uint32_t count; /* accesses in this exit: a string instruction has several */
    uint8_t size;   /* bytes of one access; 0 when the exit is no access */
    bool write;
    bool claimed; /* a device answered the last access */
};

#define EXIT_RING 16 /* a power of two */

/* A `reason` beside KVM's: a trap of a de-privileged guest; `addr` is its vector, `value` CR2 of a
 * page fault. */
#define EXIT_TRAP 0x1000

/*
 * Written by the vCPU's own thread only; others read the counters with relaxed
 * loads. Aligned so that two vCPUs never share a cache line.
 */
struct vcpu {
    struct vm *vm;
    struct kvm_run *run;
    unsigned id;
    int fd;
    struct vcpu_stat stat; /* run_ns counts TSC ticks here; see vm_vcpu_stat() */
    struct exit_record ring[EXIT_RING];
    struct depriv_cpu *depriv;   /* NULL: with --paging nested */
    struct thread_faults faults; /* before its first KVM_RUN; at its end, those since then */
    uint64_t tsc_enter;          /* when KVM_RUN was entered; 0 outside of it */
    pthread_t thread;
    bool started; /* `thread` is valid */
    bool parked;  /* under vm->lock: stopped by vm_pause() */
} __attribute__((aligned(64)));

struct vm {
    const struct vm_config *cfg;
    struct kvm kvm;
    int fd;
    struct cpuid *cpuid;
    struct memory *mem;
    struct pages *pages;
    struct track *track;
    struct depriv *depriv; /* NULL: with --paging nested */
    struct bus *bus;
    struct io_loop *loop;
    struct console *con;
    struct serial *serial;
    struct platform *platform;
    struct pit *pit;
    struct pv_port *pv;
    struct mailbox *mailbox;
    struct vm_devices *devices;
    struct end_hook end_hook;
    struct boot_entry entry;
    struct vcpu *vcpu;
    unsigned vcpus; /* created so far; cfg->cpus of them when vm_create() is through */

    /* vm_events.c */
    int signal_fd, timer_fd;
    sigset_t old_mask;
    struct sigaction old_pipe, old_kick;
    bool signals_taken;

    pthread_t io_thread;
    bool io_started;

    /* Two clocks read together: they tell the TSC's pace when KVM does not. */
    uint64_t create_ns, create_tsc;
    uint64_t tsc_khz;      /* 0: KVM does not say */
    uint64_t first_run_ns; /* 0 until the first KVM_RUN; atomic */
    uint64_t end_ns;

    /* Guards what follows, and each vCPU's `parked`. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum vm_state state;
    struct vm_result result;
    bool dumped; /* one crash dump is enough */
};

/* TSC ticks of this machine in nanoseconds. */
uint64_t vm_ticks_to_ns(const struct vm *vm, uint64_t ticks);

static inline uint64_t vm_tsc(void)
{
    return __builtin_ia32_rdtsc();
}

/* --- vm_events.c: signals and the time-out, on the I/O loop --- */

/* Blocks the signals that end a VM, so that none is lost from here on. */
int vm_signals_take(struct vm *vm, struct error *err);
void vm_signals_give_back(struct vm *vm);

/* Watches them, and the time-out, on the I/O loop. */
int vm_events_start(struct vm *vm, struct error *err);
void vm_events_stop(struct vm *vm);

/* --- vcpu.c --- */

/* Creates vCPU `id`, with the state that the boot protocol asks for. */
int vcpu_create(struct vm *vm, unsigned id, struct error *err);
void vcpu_destroy(struct vcpu *cpu);
int vcpu_start(struct vcpu *cpu, struct error *err);

/* Makes KVM_RUN return soon, now or on its next entry. Needs vm->lock. */
void vcpu_kick(struct vcpu *cpu);

/* KVM_RUN, its time counted; *tsc is when it returned. 0 or -errno. */
int vcpu_kvm_run(struct vcpu *cpu, uint64_t *tsc);

/* The registers as the guest believes them to be; while the vCPU stands still, or by itself. 0 or
 * -errno. */
int vcpu_registers(const struct vcpu *cpu, struct kvm_regs *regs, struct kvm_sregs *sregs);

/* --- exits.c --- */

/* Notes and handles the exit that KVM_RUN returned with at `tsc`, EINTR included. */
void vcpu_handle_exit(struct vcpu *cpu, uint64_t tsc);

/* Notes an exit that was handled elsewhere: in the ring, the counters and the trace. */
void vcpu_note_exit(struct vcpu *cpu, const struct exit_record *rec);

/* --- trace.c --- */

/* One word for an exit reason, "pio" for KVM_EXIT_IO; never NULL. */
const char *exit_name(uint32_t reason);

/* " out 0x3f8 size=1 count=1 value=0x41", or nothing when the exit is no access. */
void exit_print(FILE *to, const struct exit_record *rec);

/* Prints the line of --trace for `rec`; cfg->trace is not NULL. */
void trace_exit(struct vcpu *cpu, const struct exit_record *rec);

/* --- guard_find.c --- */

/*
 * Why this vCPU, whose KVM_RUN failed with `error` (EFAULT), or which exited with 0 by MMIO at
 * RAM, a triple fault or an internal error, can't go on, when that is a guarded page: the access,
 * the gpa and RIP, into `what`. False when it is something else.
 */
bool guard_explain(struct vcpu *cpu, int error, char *what, size_t size);

/* --- dump.c --- */

/*
 * Prints why this vCPU can't go on and its state to stderr, and ends the VM
 * with VM_END_CRASH. `what` is one line; `error` is the errno of KVM_RUN, 0
 * when it succeeded. Only the first crash of a VM is printed.
 */
void dump_crash(struct vcpu *cpu, const char *what, int error);

#endif
