/*
 * One virtual machine: memory, buses, devices, vCPU threads and the way it ends.
 */
#ifndef TWOFOLD_VMM_VM_H
#define TWOFOLD_VMM_VM_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "vmm/device_config.h"
#include "vmm/error.h"
#include "vmm/memory.h"
#include "vmm/numa.h"
#include "vmm/pages.h"
#include "vmm/track.h"

#define VM_CPUS_MAX 64

enum paging {
    PAGING_NESTED, /* KVM's: a second dimension in hardware, or KVM's own shadow tables */
    PAGING_SHADOW, /* ours; the guest runs de-privileged (docs/shadow.md) */
};

/* "nested" or "shadow". */
const char *paging_name(enum paging paging);
int paging_parse(const char *name, enum paging *out, struct error *err);

enum console_kind {
    CONSOLE_STDIO,
    CONSOLE_PTY,
    CONSOLE_FILE,
};

/* What `twofold run` asks for. Strings belong to the caller and outlive the VM. */
struct vm_config {
    const char *name;
    const char *kernel;  /* path */
    const char *initrd;  /* path, or NULL */
    const char *cmdline; /* never NULL */
    uint64_t mem_bytes;
    unsigned cpus;
    enum paging paging;
    enum mem_backing backing;
    struct pages_config pages;
    struct numa_config numa;
    struct devices_config devices;
    enum console_kind console;
    const char *console_path; /* for CONSOLE_FILE */
    double timeout_s;         /* 0: none */
    FILE *trace;              /* a line for each exit, or NULL */
};

/* Why a VM ended. */
enum vm_end {
    VM_END_NONE,     /* still running */
    VM_END_EXIT,     /* the guest wrote its exit value (isa-debug-exit) */
    VM_END_POWEROFF, /* ACPI S5 */
    VM_END_RESET,    /* the guest asked for a reset: keyboard controller, 0xcf9, ACPI */
    VM_END_CRASH,    /* triple fault, emulation failure, internal error: a dump was printed */
    VM_END_TIMEOUT,  /* --timeout ran out */
    VM_END_STOPPED,  /* twofold stop, Ctrl-A x, SIGTERM */
    VM_END_ERROR,    /* the monitor itself failed */
};

struct vm_result {
    enum vm_end end;
    uint32_t exit_value; /* as written by the guest, VM_END_EXIT only */
    char why[256];       /* one line for a person, may be empty */
};

enum vm_state {
    VM_CREATED,
    VM_RUNNING,
    VM_PAUSED,
    VM_ENDED,
};

/* Exits by reason, as `stat` shows them. */
struct vcpu_stat {
    uint64_t exits_total;
    uint64_t pio, mmio, hlt, intr, other;
    uint64_t traps;  /* of a de-privileged guest */
    uint64_t run_ns; /* time inside KVM_RUN */
    /* Page faults of its thread since its first instruction, KVM's for the guest among them; major
     * ones waited for a disk. */
    uint64_t host_minor, host_major;
};

struct vm;
struct vm_devices;
struct mailbox;

/*
 * Builds everything up to the first instruction: KVM VM, memory, devices,
 * boot image, vCPUs. Nothing is left behind on failure.
 */
int vm_create(struct vm **out, const struct vm_config *cfg, struct error *err);

/* Starts the vCPU threads and the I/O thread. */
int vm_start(struct vm *vm, struct error *err);

/* Blocks until the VM has ended and all its threads are joined. */
void vm_wait(struct vm *vm, struct vm_result *result);

/* Releases all. NULL is fine. The VM must have ended or never have started. */
void vm_destroy(struct vm *vm);

/*
 * Asks the VM to end, from any thread or device; the first call decides the
 * result, later ones change nothing. Returns at once; spinning vCPUs are kicked.
 * `why` may be NULL.
 */
void vm_end(struct vm *vm, enum vm_end end, uint32_t exit_value, const char *why);

/*
 * Stops all vCPUs outside of KVM_RUN, with no exit half handled, and returns
 * when they are; and the reverse. Pausing a paused VM is fine. -ESRCH once the
 * VM has ended. -EBUSY, and the VM runs on, when a vCPU is held up in a device for
 * two seconds, as by a full pipe on stdout. Emulated devices stand still, too: their
 * transfers are finished first. On the I/O thread only.
 */
int vm_pause(struct vm *vm);
int vm_resume(struct vm *vm);

/*
 * For a look at a VM that stands still: pauses it if it runs, and tells whether vm_let_go() has to
 * resume it. Errors as vm_pause(). On the I/O thread only, so that no command comes between.
 */
int vm_hold(struct vm *vm, bool *held);
void vm_let_go(struct vm *vm, bool held);

enum vm_state vm_state(struct vm *vm);
const struct vm_config *vm_config(const struct vm *vm);
struct memory *vm_memory(struct vm *vm);
struct pages *vm_pages(struct vm *vm);
struct track *vm_track(struct vm *vm);
struct mailbox *vm_mailbox(struct vm *vm);
struct bus *vm_bus(struct vm *vm);
struct console *vm_console(struct vm *vm);
struct vm_devices *vm_pci_devices(struct vm *vm);
struct io_loop *vm_loop(struct vm *vm);

/* The counters of one vCPU; safe while it runs. -EINVAL when there is no such vCPU. */
int vm_vcpu_stat(struct vm *vm, unsigned cpu, struct vcpu_stat *out);

/* With --paging shadow, what a vCPU had to be helped with; -EINVAL when there is no such vCPU,
 * -ENOTSUP with --paging nested. And the shadow tables; NULL with --paging nested. */
struct depriv_stat;
struct shadow;
int vm_depriv_stat(struct vm *vm, unsigned cpu, struct depriv_stat *out);
struct shadow *vm_shadow(struct vm *vm);

/* Nanoseconds from vm_create() to the first KVM_RUN, and from there to now or the end. */
void vm_times(struct vm *vm, uint64_t *create_ns, uint64_t *run_ns);

/* The signals that end the monitor from outside, but for those that it was started with ignored
 * (nohup). */
void vm_end_signals(sigset_t *mask);

#endif
