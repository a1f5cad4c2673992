#include "guest/user/lib/lib.h"

uint64_t count_argument(int argc, char **argv, uint64_t fallback)
{
    uint64_t n = fallback;

    if (argc > 2 || (argc == 2 && !parse_size(argv[1], &n)) || n == 0 || n > 100000000)
        die(2, "usage: %s [N], N from 1 to 100000000, or %lu", program_name(), fallback);
    return n;
}

void print_cost(uint64_t n, const char *what, uint64_t cycles)
{
    uint64_t ns100 = step_ns100(cycles, n, info_general().tsc_hz);

    printf("%s: %lu %s: %lu.%02lu ns each\n", program_name(), n, what, ns100 / 100, ns100 % 100);
}

void sort_values(uint64_t *v, uint64_t n)
{
    for (uint64_t i = 1; i < n; i++)
        for (uint64_t j = i; j > 0 && v[j - 1] > v[j]; j--) {
            uint64_t swap = v[j];

            v[j] = v[j - 1];
            v[j - 1] = swap;
        }
}

bool write_faults(uint64_t addr)
{
    struct sys_status end;
    long pid = fork_flushed(SYS_QUIET);

    if (pid == 0) {
        *(volatile char *)addr = 1;
        exit(0);
    }
    if (pid < 0)
        die(1, "fork: error %ld", -pid);
    end = wait_for(pid);
    return end.vector == 14 && end.addr == addr;
}
