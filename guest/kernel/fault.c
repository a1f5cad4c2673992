/*
 * Exceptions of a program: a page that is missing but allowed is supplied, everything
 * else ends the program.
 */
#include "guest/abi.h"
#include "guest/kernel/printk.h"
#include "guest/kernel/proc.h"
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

    if (f->vector == TRAP_PF && vm_fault(proc_vm(p), f->cr2, f->error))
        return;
    if (!proc_quiet(p))
        report(f, code);
    proc_exit(code, &status);
}
