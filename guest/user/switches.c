/*
 * switches [N]: two processes on CPU 0 yield to each other, N switches in all. Says what one
 * costs. The kernel has to have counted them.
 */
#include "guest/user/lib/lib.h"

static uint64_t counted(void)
{
    struct sys_cpu cpu = { 0 };

    if (sys_info(SYS_INFO_CPU, 0, &cpu, sizeof cpu) < 0)
        die(1, "there is no CPU 0");
    return cpu.switches;
}

int main(int argc, char **argv)
{
    uint64_t yields = (count_argument(argc, argv, 500) + 1) / 2, before, start, cycles;
    long pid;

    if (sys_pin(0) != 0)
        die(1, "can't be pinned to CPU 0");
    pid = sys_fork(0);
    if (pid == 0)
        for (;;)
            sys_yield();
    if (pid < 0)
        die(1, "fork: error %ld", -pid);
    sys_yield(); /* the child is pinned to CPU 0 as well; now it has run */
    before = counted();
    start = rdtsc();
    for (uint64_t i = 0; i < yields; i++)
        sys_yield();
    cycles = rdtsc() - start;
    if (counted() < before + 2 * yields)
        die(1, "%lu yields made %lu switches, expected twice as many", yields, counted() - before);
    if (sys_kill(pid) != 0 || wait_for(pid).code != SYS_CODE_KILLED)
        die(1, "the other process was not killed");
    print_cost(2 * yields, "switches between two processes", cycles);
    return 0;
}
