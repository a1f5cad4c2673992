/*
 * Threads and who runs when: a run queue a CPU, round robin, one lock over all.
 *
 * The kernel is entered with interrupts off and keeps them off; only cpu_idle()
 * turns them on. So a thread is preempted in ring 3 only, and a lock
 * holder never is. Locks are taken in the order proc_lock, input_lock, sched_lock.
 */
#ifndef GUEST_KERNEL_SCHED_H
#define GUEST_KERNEL_SCHED_H

#include <stdint.h>

#include "guest/kernel/cpu.h"
#include "guest/kernel/lock.h"
#include "guest/kernel/trap.h"

struct proc;

enum thread_state { THREAD_READY, THREAD_RUNNING, THREAD_BLOCKED, THREAD_DEAD };

#define SCHED_ANY_CPU (-1)

struct thread {
    uint64_t rsp;        /* context_switch()'s, while it does not run */
    uint64_t stack_top;  /* of its kernel stack */
    struct proc *proc;   /* NULL: an idle thread */
    struct thread *next; /* in a run queue, or in a list of sleepers */
    enum thread_state state;
    int pinned;    /* CPU it may run on alone, or SCHED_ANY_CPU */
    unsigned cpu;  /* where it runs, ran last or is queued */
    bool sleeping; /* in its CPU's list of sleepers */
    uint64_t wake_ns;
    uint64_t run_since;        /* clock_ns() when it got the CPU */
    uint64_t cpu_ns;           /* time on a CPU before that */
    uint64_t fs_base, gs_base; /* the program's, where it may set them itself */
    struct fpu_state fpu;
};

/*
 * A thread that returns to *thread_frame() when it runs first; NULL when memory is
 * out. Not yet runnable. thread_free() takes one that is dead and off its stack.
 */
struct thread *thread_create(struct proc *proc);
void thread_free(struct thread *t);

/* Gives a new thread the running one's FPU registers, segment bases and pinning. */
void thread_copy_state(struct thread *t);

/* Gives the running thread the FPU registers and segment bases of a new one. */
void thread_clear_state(void);

/* The registers of the last entry from ring 3: always at the same place of its stack. */
static inline struct trap_frame *thread_frame(const struct thread *t)
{
    return (struct trap_frame *)t->stack_top - 1;
}

/* Time on a CPU so far; of the running thread itself, or of a dead one. */
uint64_t thread_cpu_ns(const struct thread *t);

/* Makes a new or blocked thread runnable; of any other state, does nothing. */
void sched_wake(struct thread *t);

/*
 * Blocks the running thread. `held`, which protects the condition it waits for, is
 * released once the thread counts as blocked, so that no wake-up is lost. Returns at
 * once when the process is to be killed.
 */
void sched_block(struct lock *held);

/* The same for at most `ns`; a wake-up ends it early. */
void sched_sleep(uint64_t ns);

/*
 * sched_block() for at most `ns`, and also when the process is to be killed: for what has to be
 * waited for in any case, such as a device that writes to the process's memory.
 */
void sched_wait(struct lock *held, uint64_t ns);

void sched_yield(void);

/* Ends the running thread; releases `held` as sched_block() does. */
void sched_exit(struct lock *held) __attribute__((noreturn));

/* After it, a thread that was seen to have called sched_exit() is off its stack. */
void sched_barrier(void);

/* Allows the running thread one CPU, or all; it has moved when this returns. */
void sched_pin(int cpu);

/* Has the CPU that runs `t` enter the kernel soon. */
void sched_kick(struct thread *t);

struct sched_stats {
    uint64_t switches, idle_ns;
};
void sched_stats(unsigned cpu, struct sched_stats *out);

/* Turns the caller's stack into this CPU's idle thread; sched_idle() is its loop. */
void sched_init_cpu(void);
void sched_idle(void) __attribute__((noreturn));

#endif
