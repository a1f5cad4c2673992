/* syscalls [--runner] [N]: asks for its pid N times. Says what a system call costs. */
#include "guest/user/lib/lib.h"

static uint64_t work(uint64_t n)
{
    long pid = sys_getpid();
    uint64_t start = rdtsc();

    for (uint64_t i = 0; i < n; i++) {
        long answer = sys_getpid();

        if (answer != pid)
            die(1, "call %lu: the pid is %ld, was %ld", i, answer, pid);
    }
    return rdtsc() - start;
}

int main(int argc, char **argv)
{
    return load_main(argc, argv,
                     &(struct load){ .what = "calls of getpid", .n = 1000, .round = work });
}
