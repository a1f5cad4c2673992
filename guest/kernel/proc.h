/*
 * Processes: a program or a fork of one, in an address space of its own, run by one thread.
 */
#ifndef GUEST_KERNEL_PROC_H
#define GUEST_KERNEL_PROC_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/kernel/mm.h"
#include "guest/sys.h"

struct proc;
struct vm;

/* The calling process. */
struct proc *proc_current(void);
int proc_pid(const struct proc *p);
struct vm *proc_vm(struct proc *p);
struct aspace *proc_aspace(struct proc *p);
const char *proc_name(const struct proc *p);
bool proc_quiet(const struct proc *p); /* its death is not worth a line */

/*
 * Starts the program that the block of arguments names (each argument closed by a NUL
 * byte, the last byte too) as a child of `parent`; NULL: as process 1. Returns its pid, -ENOENT,
 * -ENOEXEC, -EAGAIN or -ENOMEM; unless `flags` has SYS_QUIET, a line says why.
 */
int64_t proc_spawn(struct proc *parent, const char *args, uint64_t len, uint32_t flags);

/*
 * Makes the calling process that program: memory and registers are new, pid, parent and children
 * stay. Returns 0, and the process begins there with its next return to ring 3; or,
 * with the process as it was, -ENOENT, -ENOEXEC or -ENOMEM and a line as above.
 */
int64_t proc_exec(const char *args, uint64_t len);

/*
 * A copy of the calling process, which returns 0 from its system call; with SYS_SHARE, one in the
 * same address space, which begins where the system call says. Its pid, -EAGAIN, -ENOMEM, -EPERM.
 */
int64_t proc_fork(uint32_t flags);

/*
 * Waits until child `pid` (-1: any) has ended, and forgets it. Returns its pid and how
 * it ended, -ECHILD, or -EINTR when the caller is to be killed.
 */
int64_t proc_wait(int64_t pid, struct sys_status *status);

/* Has process `pid` end. 0, -ESRCH, -EINVAL for process 1. */
int64_t proc_kill(int64_t pid);

/*
 * Ends the calling process; `fault` says how when an exception did it, else NULL. The end of
 * process 1 ends the VM.
 */
void proc_exit(int code, const struct sys_status *fault) __attribute__((noreturn));

/* Ends the calling process if somebody killed it. Called before each return to ring 3. */
void proc_check_killed(void);
bool proc_killed(void);

/*
 * Frees the processes that have ended and that nobody asks about, and the memory from before
 * an exec. It is done when the
 * memory or their number is of interest, so that nobody has to wait for it at their end.
 */
void proc_free_ended(void);

/* How many there are, after that; and how many ever were. */
uint32_t proc_count(void);
uint32_t proc_started(void);

#endif
