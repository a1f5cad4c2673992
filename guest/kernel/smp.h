/*
 * The other CPUs: starting and stopping them.
 */
#ifndef GUEST_KERNEL_SMP_H
#define GUEST_KERNEL_SMP_H

/* Prepares and starts all CPUs of the MADT; they come up while the boot CPU goes on. */
void smp_start(void);

/* Waits until all have come up; prints a line for each that did not within a second. */
void smp_wait(void);

/* Lets the CPUs that came up run their idle loops; or `work`, with interrupts off, before. */
void smp_release(void);
void smp_release_to(void (*work)(void));

/* A panic stops the others by NMI. */
void smp_stop_others(void);
void smp_stop_if_asked(void);

#endif
