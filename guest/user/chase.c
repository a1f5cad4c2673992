/*
 * chase [SIZE [ROUNDS [4k|2m|1g]]]: a dependent pointer chase with one cache line in each page of
 * SIZE bytes, in random order, so that every access needs a translation and none can be
 * predicted. Says what an access costs: the median of all rounds, and the extremes.
 *
 * chase --runner SIZE PAGE: the same as a runner, whose talk guest/chase.h describes.
 */
#include "guest/chase.h"

#include "guest/user/lib/lib.h"

#define MAX_ROUNDS 99u
#define MIN_STEPS  100000u /* accesses a round, at least */

/* What is walked. */
struct chain {
    char *mem;
    uint64_t pages, page, steps;
    struct chase_node *node;
};

static void build(struct chain *c, uint64_t size, uint64_t page)
{
    uint64_t order_bytes;
    uint32_t *order;

    if (size < 2 * PAGE_SIZE || size / PAGE_SIZE > UINT32_MAX)
        die(2, "%lu bytes: a chain needs 8K to 16T", size);
    c->page = page;
    c->pages = size / PAGE_SIZE;
    c->steps = c->pages > MIN_STEPS ? c->pages : (MIN_STEPS + c->pages - 1) / c->pages * c->pages;
    order_bytes = (c->pages * sizeof *order + PAGE_SIZE - 1) & -PAGE_SIZE;
    c->mem = map_pages((size + page - 1) & -page, page);
    order = map_pages(order_bytes, PAGE_SIZE);
    c->node = chase_build(c->mem, order, c->pages);
    if (!chase_verify(c->node, c->pages))
        die(1, "the chain of %lu pages does not visit each of them once", c->pages);
    sys_munmap((uint64_t)order, order_bytes);
}

/* What is not timed brings back what others took from the caches since the last round. */
static uint64_t walk(struct chain *c)
{
    uint64_t start;

    c->node = chase_walk(c->node, chase_untimed(c->pages));
    start = rdtsc();
    c->node = chase_walk(c->node, c->steps);
    return rdtsc() - start;
}

static void print_result(uint64_t *cycles, uint64_t rounds, uint64_t steps, uint64_t hz)
{
    uint64_t median, least, most, count;

    sort_values(cycles, rounds);
    median = step_ns100(cycles[rounds / 2], steps, hz);
    least = step_ns100(cycles[0], steps, hz);
    most = step_ns100(cycles[rounds - 1], steps, hz);
    count = cycles[rounds / 2] * 100 / steps;
    printf("chase: median %lu.%02lu ns, %lu.%02lu cycles an access (min %lu.%02lu ns, "
           "max %lu.%02lu ns, n %lu)\n",
           median / 100, median % 100, count / 100, count % 100, least / 100, least % 100,
           most / 100, most % 100, rounds);
}

static int serve(int argc, char **argv)
{
    uint64_t size, page;
    struct chain c;

    if (argc != 3 || !parse_size(argv[1], &size) || !parse_page_size(argv[2], &page))
        die(1, "usage: chase --runner SIZE 4K|2M|1G");
    if (sys_pin((int)sys_getcpu()) != 0)
        die(1, "it can't be pinned to its CPU");
    build(&c, size, page);
    walk(&c); /* supplies what the host has not yet put into its tables */
    printf(CHASE_READY, c.pages, c.page, (uint64_t)c.mem, c.steps, info_general().tsc_hz);
    while (runner_next())
        printf(CHASE_ROUND, walk(&c), c.steps);
    return 0;
}

int main(int argc, char **argv)
{
    uint64_t size = 16ul << 20, rounds = 5, page = PAGE_SIZE;
    uint64_t cycles[MAX_ROUNDS];
    struct chain c;

    if (take_runner(&argc, &argv))
        return serve(argc, argv);
    if (argc > 4 || (argc > 1 && !parse_size(argv[1], &size)) || size < 2 * PAGE_SIZE ||
        (argc > 2 && !parse_size(argv[2], &rounds)) || rounds == 0 || rounds > MAX_ROUNDS ||
        (argc > 3 && !parse_page_size(argv[3], &page)))
        die(2, "usage: chase [SIZE [ROUNDS [4k|2m|1g]]], 1 to %u rounds, at least 8K", MAX_ROUNDS);
    build(&c, size, page);
    for (uint64_t r = 0; r < rounds; r++)
        cycles[r] = walk(&c);
    printf("chase: %lu KiB, %lu lines 4 KiB apart, pages of %lu KiB, %lu accesses a round: each "
           "line visited once a cycle\n",
           c.pages * 4, c.pages, page >> 10, c.steps);
    print_result(cycles, rounds, c.steps, info_general().tsc_hz);
    return 0;
}
