/*
 * Where the kernel's core hands over to the process part.
 */
#ifndef GUEST_KERNEL_INIT_H
#define GUEST_KERNEL_INIT_H

/* On the boot CPU, all CPUs up, interrupts off: starts the first process. The stack is the idle
 * thread's. */
void init_start(void) __attribute__((noreturn));

/* On every other CPU, at its end of start-up, interrupts off: its idle loop. */
void sched_ap_start(void) __attribute__((noreturn));

#endif
