/*
 * Exceptions of a program: a page that is missing but allowed is supplied, a system call that
 * got stuck is carried out, everything else ends the program.
 */
#include "guest/abi.h"
#include "guest/kernel/printk.h"
#include "guest/kernel/proc.h"
#include "guest/kernel/syscall.h"
#include "guest/kernel/trap.h"
#include "guest/kernel/vma.h"

static void report(const struct trap_frame *f, int code)
{
    const struct proc *p = proc_current();
    char at[96] = "";

    if (f->vector == TRAP_PF)
        kformat(at, sizeof at, " at 0x%lx (%s, %s)", f->cr2,
                f->error & PF_FETCH   ? "fetch"
                : f->error & PF_WRITE ? "write"
                                      : "read",
                f->error & PF_PRESENT ? "protection" : "not present");
    printk("%s[%d]: %s%s, error code 0x%lx, rip 0x%lx: exit code %d\n", proc_name(p), proc_pid(p),
           trap_name(f->vector), at, f->error, f->rip, code);
}

/* The flags that a program may set itself, and those that are always set in ring 3. */
#define RFLAGS_USER  0x240dd5ul
#define RFLAGS_FIXED 0x202ul

/*
 * Some KVMs that work without hardware virtualization carry SYSCALL out, but stay in
 * ring 3, so that the fetch of the kernel's first instruction faults. All registers are as SYSCALL
 * leaves them; what is missing is to be here. A program that jumps to that address by
 * itself makes a system call in an odd way, no more. Where SYSCALL works, it is killed.
 */
static bool is_stuck_syscall(const struct trap_frame *f)
{
    return f->vector == TRAP_PF && f->rip == (uint64_t)syscall_entry && f->cr2 == f->rip &&
           f->rcx < VM_HIGHEST && !syscall_seen();
}

static void finish_syscall(struct trap_frame *f)
{
    f->vector = TRAP_SYSCALL;
    f->rip = f->rcx;
    f->rflags = (f->r11 & RFLAGS_USER) | RFLAGS_FIXED;
    syscall_run(f);
}

void user_fault(struct trap_frame *f)
{
    struct proc *p = proc_current();
    struct sys_status status = {
        .vector = (int32_t)f->vector,
        .error = (uint32_t)f->error,
        .rip = f->rip,
        .addr = f->vector == TRAP_PF ? f->cr2 : 0,
    };
    int code = TF_EXIT_FAULT_BASE + (int)f->vector;

    if (is_stuck_syscall(f)) {
        finish_syscall(f);
        return;
    }
    if (f->vector == TRAP_PF && vm_fault(proc_vm(p), f->cr2, f->error))
        return;
    if (!proc_quiet(p))
        report(f, code);
    proc_exit(code, &status);
}
