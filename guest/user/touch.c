/*
 * touch SIZE [ROUNDS]: writes one word in each page of SIZE bytes (K, M, G), reads
 * all back, and says what a page costs in the first and in the following rounds.
 */
#include "guest/user/lib/lib.h"

static void report(const char *what, uint64_t cycles, uint64_t pages, uint64_t hz)
{
    uint64_t ns100 = step_ns100(cycles, pages, hz);

    printf("touch: %s: %lu.%02lu ns a page\n", what, ns100 / 100, ns100 % 100);
}

static void touch(volatile uint64_t *mem, uint64_t pages, uint64_t round)
{
    for (uint64_t i = 0; i < pages; i++)
        mem[i * PAGE_SIZE / 8] = i ^ round;
}

int main(int argc, char **argv)
{
    uint64_t size = 0, rounds = 3, pages, start, first, rest;
    uint64_t hz = info_general().tsc_hz;
    volatile uint64_t *mem;

    if (argc < 2 || argc > 3 || !parse_size(argv[1], &size) || size == 0 ||
        (argc == 3 && (!parse_size(argv[2], &rounds) || rounds == 0)))
        die(2, "usage: touch SIZE [ROUNDS]");
    pages = (size + PAGE_SIZE - 1) / PAGE_SIZE;
    mem = map_pages(pages * PAGE_SIZE, SYS_PROT_READ | SYS_PROT_WRITE);
    start = rdtsc();
    touch(mem, pages, 0);
    first = rdtsc() - start;
    start = rdtsc();
    for (uint64_t r = 1; r < rounds; r++)
        touch(mem, pages, r);
    rest = rdtsc() - start;
    for (uint64_t i = 0; i < pages; i++)
        if (mem[i * PAGE_SIZE / 8] != (i ^ (rounds - 1)))
            die(1, "page %lu of %lu: read %lx, wrote %lx", i, pages, mem[i * PAGE_SIZE / 8],
                i ^ (rounds - 1));
    printf("touch: %lu pages, %lu rounds, all read back right\n", pages, rounds);
    report("first round", first, pages, hz);
    if (rounds > 1)
        report("later rounds", rest / (rounds - 1), pages, hz);
    return 0;
}
