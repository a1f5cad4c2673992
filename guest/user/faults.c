/*
 * faults [N]: touches N pages for the first time, which the kernel supplies at that moment. Says
 * what one costs. The pages are zero before, and keep what is written.
 */
#include "guest/user/lib/lib.h"

#define WORDS (PAGE_SIZE / 8)

int main(int argc, char **argv)
{
    uint64_t n = count_argument(argc, argv, 2000), start, cycles, others = 0;
    long at = sys_mmap(0, n * PAGE_SIZE, SYS_PROT_READ | SYS_PROT_WRITE, SYS_MAP_LAZY);
    volatile uint64_t *mem;

    if (at <= 0)
        die(1, "mmap of %lu pages: error %ld", n, -at);
    mem = (volatile uint64_t *)at;
    start = rdtsc();
    for (uint64_t i = 0; i < n; i++)
        mem[i * WORDS] = i + 1;
    cycles = rdtsc() - start;
    for (uint64_t i = 0; i < n; i++) {
        others |= mem[i * WORDS + 1 + i % (WORDS - 1)];
        if (mem[i * WORDS] != i + 1)
            die(1, "page %lu has %lx, expected %lx", i, mem[i * WORDS], i + 1);
    }
    if (others != 0)
        die(1, "fresh memory is not zero");
    print_cost(n, "pages touched for the first time", cycles);
    return 0;
}
