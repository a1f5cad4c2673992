/*
 * forks [--runner] [N]: forks a process with 100 pages of data, which ends at once, and waits for
 * it, N times. Says what that costs. The child finds the data, and what it writes stays its own.
 */
#include "guest/user/lib/lib.h"

#define PAGES 100u
#define WORDS (PAGE_SIZE / 8)

static volatile uint64_t *mem;

static int child(uint64_t i)
{
    uint64_t page = i % PAGES;
    bool same = mem[page * WORDS] == page;

    mem[page * WORDS] = ~page;
    return same ? (int)(i % 50) : 63;
}

static void prepare(void)
{
    mem = map_pages(PAGES * PAGE_SIZE, PAGE_SIZE);
    for (uint64_t i = 0; i < PAGES; i++)
        mem[i * WORDS] = i;
}

static uint64_t work(uint64_t n)
{
    uint64_t start = rdtsc();

    for (uint64_t i = 0; i < n; i++) {
        long pid = sys_fork(0);
        struct sys_status end;

        if (pid == 0)
            exit(child(i));
        if (pid < 0)
            die(1, "fork %lu: error %ld", i, -pid);
        end = wait_for(pid);
        if (end.vector != -1 || end.code != (int)(i % 50))
            die(1, "child %lu ended with %d, expected %lu", i, end.code, i % 50);
    }
    return rdtsc() - start;
}

static void finish(void)
{
    for (uint64_t i = 0; i < PAGES; i++)
        if (mem[i * WORDS] != i)
            die(1, "page %lu has %lx, which a child wrote", i, mem[i * WORDS]);
}

int main(int argc, char **argv)
{
    return load_main(argc, argv,
                     &(struct load){ .what = "forks of 100 pages, exit and wait",
                                     .n = 50,
                                     .prepare = prepare,
                                     .round = work,
                                     .finish = finish });
}
