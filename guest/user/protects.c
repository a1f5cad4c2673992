/*
 * protects [--runner] [N]: makes 64 pages read-only and writable again, and writes to each, N
 * times. Says what that costs. While they are read-only a write must fault.
 */
#include "guest/user/lib/lib.h"

#define PAGES 64u
#define LEN   (PAGES * PAGE_SIZE)
#define WORDS (PAGE_SIZE / 8)

static volatile uint64_t *mem;
static uint64_t rounds; /* in all */

static void protect(unsigned prot)
{
    long rc = sys_mprotect((uint64_t)mem, LEN, prot);

    if (rc != 0)
        die(1, "mprotect to %u: error %ld", prot, -rc);
}

static void prepare(void)
{
    mem = map_pages(LEN, PAGE_SIZE);
}

static uint64_t work(uint64_t n)
{
    uint64_t start = rdtsc();

    for (uint64_t round = 0; round < n; round++) {
        protect(SYS_PROT_READ);
        protect(SYS_PROT_READ | SYS_PROT_WRITE);
        for (uint64_t i = 0; i < PAGES; i++)
            mem[i * WORDS] += i;
    }
    rounds += n;
    return rdtsc() - start;
}

static void finish(void)
{
    protect(SYS_PROT_READ);
    for (uint64_t i = 0; i < PAGES; i++)
        if (mem[i * WORDS] != i * rounds)
            die(1, "page %lu has %lu, expected %lu", i, mem[i * WORDS], i * rounds);
    for (uint64_t i = 0; i < PAGES; i += PAGES - 1)
        if (!write_faults((uint64_t)mem + i * PAGE_SIZE))
            die(1, "page %lu is read-only, and a write to it works", i);
}

int main(int argc, char **argv)
{
    return load_main(
        argc, argv,
        &(struct load){ .what = "changes of 64 pages to read-only and back, each written to",
                        .n = 50,
                        .prepare = prepare,
                        .round = work,
                        .finish = finish });
}
