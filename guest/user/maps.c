/*
 * maps [--runner] [N]: maps 16 pages, writes to each, unmaps them, N times. Says what that costs.
 * The pages are zero each time, and gone after it.
 */
#include "guest/user/lib/lib.h"

#define PAGES 16u
#define LEN   (PAGES * PAGE_SIZE)
#define WORDS (PAGE_SIZE / 8)

static uint64_t last; /* mapping, which is gone */

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

static uint64_t work(uint64_t n)
{
    uint64_t start = rdtsc();

    for (uint64_t i = 0; i < n; i++)
        last = round_trip(i);
    return rdtsc() - start;
}

static void finish(void)
{
    for (uint64_t i = 0; i < PAGES; i += PAGES - 1)
        if (!write_faults(last + i * PAGE_SIZE))
            die(1, "page %lu is still there", i);
}

int main(int argc, char **argv)
{
    return load_main(argc, argv,
                     &(struct load){ .what = "mappings of 16 pages, each written to, and unmapped",
                                     .n = 100,
                                     .round = work,
                                     .finish = finish });
}
