/*
 * Moves a page of RAM below those who use it: binding at execution time. Addresses that programs
 * see stay as they are.
 */
#ifndef GUEST_KERNEL_MOVE_H
#define GUEST_KERNEL_MOVE_H

#include <stdint.h>

/*
 * Moves the page that holds `gpa`, a small or a large one of programs, to other RAM; all who
 * mapped it map the new one, and use it as if nothing had happened. *to receives where the page
 * begins now and *size how large it is. 0; -ENOENT: no RAM that the page allocator has; -EBUSY:
 * nobody maps it, or the kernel uses it as well; -ENOMEM. Interrupts are off, no lock is held.
 */
int move_page(uint64_t gpa, uint64_t *to, uint64_t *size);

#endif
