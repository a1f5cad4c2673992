/*
 * System calls, for those who get one by another way than SYSCALL's entry.
 */
#ifndef GUEST_KERNEL_SYSCALL_H
#define GUEST_KERNEL_SYSCALL_H

#include <stdbool.h>

struct trap_frame;

/* Where SYSCALL enters the kernel (entry.S). */
extern const char syscall_entry[];

/* Did a SYSCALL ever arrive there? */
bool syscall_seen(void);

/* Carries out the system call in the frame's registers; rax becomes the result. */
void syscall_run(struct trap_frame *f);

#endif
