/*
 * faults [--runner] [N]: touches N pages for the first time, which the kernel supplies at that
 * moment. Says what one costs. The pages are zero before, and keep what is written.
 */
#include "guest/user/lib/lib.h"

#define WORDS (PAGE_SIZE / 8)

/* The pages are zero but for their first words. */
static void verify(volatile uint64_t *mem, uint64_t n)
{
    uint64_t others = 0;

    for (uint64_t i = 0; i < n; i++) {
        others |= mem[i * WORDS + 1 + i % (WORDS - 1)];
        if (mem[i * WORDS] != i + 1)
            die(1, "page %lu has %lx, expected %lx", i, mem[i * WORDS], i + 1);
    }
    if (others != 0)
        die(1, "fresh memory is not zero");
}

static uint64_t work(uint64_t n)
{
    long at = sys_mmap(0, n * PAGE_SIZE, SYS_PROT_READ | SYS_PROT_WRITE, SYS_MAP_LAZY);
    volatile uint64_t *mem = (volatile uint64_t *)at;
    uint64_t start, cycles;

    if (at <= 0)
        die(1, "mmap of %lu pages: error %ld", n, -at);
    start = rdtsc();
    for (uint64_t i = 0; i < n; i++)
        mem[i * WORDS] = i + 1;
    cycles = rdtsc() - start;
    verify(mem, n);
    if (sys_munmap((uint64_t)at, n * PAGE_SIZE) != 0)
        die(1, "munmap of %lu pages failed", n);
    return cycles;
}

int main(int argc, char **argv)
{
    return load_main(
        argc, argv,
        &(struct load){ .what = "pages touched for the first time", .n = 2000, .round = work });
}
