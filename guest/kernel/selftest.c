/* The checks of the kernel by itself: the list, and how it is run. */
#include "guest/kernel/selftest.h"
struct selftest_result kernel_selftest(void)
{
    return (struct selftest_result){ 0, 0 };
}
bool kernel_selftest_one(unsigned index, const char **name, bool *passed, char *detail, size_t size)
{
    (void)index, (void)name, (void)passed, (void)detail, (void)size;
    return false;
}
