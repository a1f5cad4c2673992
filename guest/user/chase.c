/*
 * chase [SIZE [ROUNDS [4k|2m]]]: a dependent pointer chase with one cache line in each page of
 * SIZE bytes, in random order, so that every access needs a translation and none can be
 * predicted. Says what an access costs: the median of all rounds, and the extremes.
 */
#include "guest/user/lib/lib.h"

#define LINE       64u
#define MAX_ROUNDS 99u
#define MIN_STEPS  100000u /* accesses a round, at least */

struct node {
    struct node *next;
    uint64_t visited;
};

/* One cycle through all pages (Sattolo's shuffle), each node on a random line of its page. */
static struct node *build(char *mem, uint32_t *order, uint64_t pages)
{
    uint64_t random = 0x9e3779b97f4a7c15ull;
    struct node *first = NULL, *previous = NULL;

    for (uint64_t i = 0; i < pages; i++)
        order[i] = (uint32_t)i;
    for (uint64_t i = pages - 1; i > 0; i--) {
        uint64_t j = next_random(&random) % i;
        uint32_t swap = order[i];

        order[i] = order[j];
        order[j] = swap;
    }
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t line = next_random(&random) % (PAGE_SIZE / LINE);
        struct node *node = (struct node *)(void *)(mem + order[i] * PAGE_SIZE + line * LINE);

        if (previous != NULL)
            previous->next = node;
        else
            first = node;
        previous = node;
    }
    if (previous != NULL)
        previous->next = first;
    return first;
}

/* The chain has to visit each page once and then be back at its start. */
static void verify(struct node *first, uint64_t pages)
{
    struct node *node = first;

    for (uint64_t i = 0; i < pages; i++) {
        if (node->visited++ != 0)
            die(1, "the chain meets itself after %lu of %lu pages", i, pages);
        node = node->next;
    }
    if (node != first)
        die(1, "the chain does not close after %lu pages", pages);
}

static struct node *walk(struct node *node, uint64_t steps)
{
    while (steps-- > 0)
        node = node->next;
    __asm__ volatile("" : : "r"(node));
    return node;
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

int main(int argc, char **argv)
{
    uint64_t size = 16ul << 20, rounds = 5, page = PAGE_SIZE, pages, steps, order_bytes;
    uint64_t cycles[MAX_ROUNDS];
    struct node *node;
    uint32_t *order;
    char *mem;

    if (argc > 4 || (argc > 1 && !parse_size(argv[1], &size)) || size < 2 * PAGE_SIZE ||
        (argc > 2 && !parse_size(argv[2], &rounds)) || rounds == 0 || rounds > MAX_ROUNDS ||
        (argc > 3 && !parse_page_size(argv[3], &page)))
        die(2, "usage: chase [SIZE [ROUNDS [4k|2m]]], 1 to %u rounds, at least 8K", MAX_ROUNDS);
    pages = size / PAGE_SIZE;
    if (pages > UINT32_MAX)
        die(2, "%lu pages are too many: at most 16T", pages);
    order_bytes = (pages * sizeof *order + PAGE_SIZE - 1) & -PAGE_SIZE;
    mem = map_pages((size + page - 1) & -page, page);
    order = map_pages(order_bytes, PAGE_SIZE);
    node = build(mem, order, pages);
    verify(node, pages);
    sys_munmap((uint64_t)order, order_bytes);
    steps = pages > MIN_STEPS ? pages : (MIN_STEPS + pages - 1) / pages * pages;
    for (uint64_t r = 0; r < rounds; r++) {
        uint64_t start = rdtsc();

        node = walk(node, steps);
        cycles[r] = rdtsc() - start;
    }
    printf("chase: %lu KiB, %lu lines 4 KiB apart, pages of %lu KiB, %lu accesses a round: each "
           "line visited once a cycle\n",
           pages * 4, pages, page >> 10, steps);
    print_result(cycles, rounds, steps, info_general().tsc_hz);
    return 0;
}
