/*
 * touch SIZE [ROUNDS [4k|2m|1g]]: writes one word in each page of SIZE bytes (K, M, G), reads all
 * back, and says what a page costs in the first and in the following rounds.
 */
#include "guest/user/lib/lib.h"

static void report(const char *what, uint64_t cycles, uint64_t pages, uint64_t hz)
{
    uint64_t ns100 = step_ns100(cycles, pages, hz);

    printf("touch: %s: %lu.%02lu ns a page\n", what, ns100 / 100, ns100 % 100);
}

/* Each page gets a word that says which page and round it is. */
static void touch(volatile uint64_t *mem, uint64_t pages, uint64_t step, uint64_t round)
{
    for (uint64_t i = 0; i < pages; i++)
        mem[i * step / 8] = i ^ round;
}

int main(int argc, char **argv)
{
    uint64_t size = 0, rounds = 3, step = PAGE_SIZE, pages, start, first, rest;
    uint64_t hz = info_general().tsc_hz;
    volatile uint64_t *mem;

    if (argc < 2 || argc > 4 || !parse_size(argv[1], &size) || size == 0 ||
        (argc > 2 && (!parse_size(argv[2], &rounds) || rounds == 0)) ||
        (argc > 3 && !parse_page_size(argv[3], &step)))
        die(2, "usage: touch SIZE [ROUNDS [4k|2m|1g]]");
    pages = (size + step - 1) / step;
    mem = map_pages(pages * step, step);
    start = rdtsc();
    touch(mem, pages, step, 0);
    first = rdtsc() - start;
    start = rdtsc();
    for (uint64_t r = 1; r < rounds; r++)
        touch(mem, pages, step, r);
    rest = rdtsc() - start;
    for (uint64_t i = 0; i < pages; i++)
        if (mem[i * step / 8] != (i ^ (rounds - 1)))
            die(1, "page %lu of %lu: read %lx, wrote %lx", i, pages, mem[i * step / 8],
                i ^ (rounds - 1));
    printf("touch: %lu pages of %lu KiB, %lu rounds, all read back right\n", pages, step >> 10,
           rounds);
    report("first round", first, pages, hz);
    if (rounds > 1)
        report("later rounds", rest / (rounds - 1), pages, hz);
    return 0;
}
