/* syscalls [N]: asks for its pid N times. Says what a system call costs. */
#include "guest/user/lib/lib.h"

int main(int argc, char **argv)
{
    uint64_t n = count_argument(argc, argv, 1000), start, cycles;
    long pid = sys_getpid();

    start = rdtsc();
    for (uint64_t i = 0; i < n; i++) {
        long answer = sys_getpid();

        if (answer != pid)
            die(1, "call %lu: the pid is %ld, was %ld", i, answer, pid);
    }
    cycles = rdtsc() - start;
    print_cost(n, "calls of getpid", cycles);
    return 0;
}
