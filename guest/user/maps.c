/*
 * maps [N]: maps 16 pages, writes to each, unmaps them, N times. Says what that costs. The pages
 * are zero each time, and gone after it.
 */
#include "guest/user/lib/lib.h"

#define PAGES 16u
#define LEN   (PAGES * PAGE_SIZE)
#define WORDS (PAGE_SIZE / 8)

static uint64_t round_trip(uint64_t round)
{
    long at = sys_mmap(0, LEN, SYS_PROT_READ | SYS_PROT_WRITE, 0);
    volatile uint64_t *mem;

    if (at <= 0)
        die(1, "mmap %lu: error %ld", round, -at);
    mem = (volatile uint64_t *)at;
    for (uint64_t i = 0; i < PAGES; i++) {
        if (mem[i * WORDS] != 0)
            die(1, "round %lu: page %lu has %lx, but is new", round, i, mem[i * WORDS]);
        mem[i * WORDS] = round * PAGES + i + 1;
    }
    for (uint64_t i = 0; i < PAGES; i++)
        if (mem[i * WORDS] != round * PAGES + i + 1)
            die(1, "round %lu: page %lu has %lx", round, i, mem[i * WORDS]);
    if (sys_munmap((uint64_t)at, LEN) != 0)
        die(1, "munmap %lu failed", round);
    return (uint64_t)at;
}

int main(int argc, char **argv)
{
    uint64_t n = count_argument(argc, argv, 100), start = rdtsc(), at = 0, cycles;

    for (uint64_t i = 0; i < n; i++)
        at = round_trip(i);
    cycles = rdtsc() - start;
    for (uint64_t i = 0; i < PAGES; i += PAGES - 1)
        if (!write_faults(at + i * PAGE_SIZE))
            die(1, "page %lu is still there", i);
    print_cost(n, "mappings of 16 pages, each written to, and unmapped", cycles);
    return 0;
}
