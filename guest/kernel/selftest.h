/*
 * The kernel checks itself: buddy, heap, address spaces, W^X, NX, guards.
 */
#ifndef GUEST_KERNEL_SELFTEST_H
#define GUEST_KERNEL_SELFTEST_H

#include <stdbool.h>
#include <stddef.h>

struct selftest_result {
    unsigned passed, failed;
};

/* Runs all checks; prints a line for each that failed. Quick, also where ring 0 is interpreted. */
struct selftest_result kernel_selftest(void);

/*
 * Runs check `index`: gives its name, and in `detail` what was wrong ("" when it passed).
 * Returns false when there is no check of that number.
 */
bool kernel_selftest_one(unsigned index, const char **name, bool *passed, char *detail,
                         size_t size);

#endif
