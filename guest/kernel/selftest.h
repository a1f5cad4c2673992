/*
 * The kernel checks itself: buddy, heap, address spaces, W^X, NX, guards.
 */
#ifndef GUEST_KERNEL_SELFTEST_H
#define GUEST_KERNEL_SELFTEST_H

struct selftest_result {
    unsigned passed, failed;
};

/* Prints a line for each failed check. Quick enough for an interpreted ring 0. */
struct selftest_result kernel_selftest(void);

#endif
