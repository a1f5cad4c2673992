/*
 * switches [--runner] [N]: two processes on CPU 0 yield to each other, N switches in all. Says what
 * one costs. The kernel has to have counted them.
 */
#include "guest/user/lib/lib.h"

static uint64_t counted(void)
{
    struct sys_cpu cpu = { 0 };

    if (sys_info(SYS_INFO_CPU, 0, &cpu, sizeof cpu) < 0)
        die(1, "there is no CPU 0");
    return cpu.switches;
}

static void prepare(void)
{
    if (sys_pin(0) != 0)
        die(1, "can't be pinned to CPU 0");
}

/* The other process lives for one round: between rounds the CPU has to be idle. */
static uint64_t work(uint64_t n)
{
    uint64_t before, start, cycles, switches;
    long pid = sys_fork(0);

    if (pid == 0)
        for (;;)
            sys_yield();
    if (pid < 0)
        die(1, "fork: error %ld", -pid);
    sys_yield(); /* the child is pinned to CPU 0 as well; now it has run */
    before = counted();
    start = rdtsc();
    for (uint64_t i = 0; i < n / 2; i++)
        sys_yield();
    cycles = rdtsc() - start;
    switches = counted() - before;
    if (switches < n)
        die(1, "%lu yields made %lu switches, expected twice as many", n / 2, switches);
    if (sys_kill(pid) != 0 || wait_for(pid).code != SYS_CODE_KILLED)
        die(1, "the other process was not killed");
    return cycles;
}

int main(int argc, char **argv)
{
    return load_main(argc, argv,
                     &(struct load){ .what = "switches between two processes",
                                     .n = 500,
                                     .multiple = 2,
                                     .prepare = prepare,
                                     .round = work });
}
