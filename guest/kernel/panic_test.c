/* panic=MODE: the kernel's ways to die, for those who test the report. */
#include "guest/kernel/panic.h"

#include "guest/kernel/cpu.h"
#include "guest/kernel/printk.h"
#include "guest/kernel/string.h"

/* The compiler must not see that the recursion has no end. */
static uint64_t overflow(volatile uint64_t depth)
{
    volatile uint64_t frame[16];

    frame[0] = depth;
    return depth == 0 ? 0 : overflow(depth + 1) + frame[0];
}

static void write_to(uint64_t gva)
{
    __asm__ volatile("movq %0, (%0)" ::"r"(gva) : "memory");
}

static void double_fault(void)
{
    __asm__ volatile("movq $4096, %%rsp; pushq $0; ud2" ::: "memory");
}

void panic_on_purpose(const char *mode)
{
    printk("kernel: panic=%s\n", mode);
    if (strcmp(mode, "null") == 0)
        write_to(0);
    else if (strcmp(mode, "stack") == 0)
        overflow(1);
    else if (strcmp(mode, "wx") == 0)
        write_to((uint64_t)panic_on_purpose);
    else if (strcmp(mode, "assert") == 0)
        ASSERT(mode[0] == 'b');
    else if (strcmp(mode, "ud") == 0)
        __asm__ volatile("ud2");
    else if (strcmp(mode, "df") == 0)
        double_fault();
    else
        printk("kernel: panic=%s is not one of null, stack, wx, assert, ud, df\n", mode);
}
