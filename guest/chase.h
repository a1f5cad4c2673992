/*
 * The loop that measures translation, for the guest's program and for a native process: one source,
 * so that both run the same instructions. Plain C without a library.
 *
 * A cycle through `pages` pieces of 4 KiB: a node on a random cache line of each, in random order,
 * so that each access needs a translation that no prefetcher can guess. The same seed gives the
 * same lines everywhere.
 */
#ifndef TWOFOLD_GUEST_CHASE_H
#define TWOFOLD_GUEST_CHASE_H

#include <stdint.h>

#define CHASE_STRIDE 4096u
#define CHASE_LINE   64u

struct chase_node {
    struct chase_node *next;
    uint64_t visited;
};

static inline uint64_t chase_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* `order`: room for `pages` numbers. Sattolo's shuffle: one cycle. Returns a node of it. */
static inline struct chase_node *chase_build(char *mem, uint32_t *order, uint64_t pages)
{
    uint64_t random = 0x9e3779b97f4a7c15ull;
    struct chase_node *first = 0, *previous = 0;

    for (uint64_t i = 0; i < pages; i++)
        order[i] = (uint32_t)i;
    for (uint64_t i = pages - 1; i > 0; i--) {
        uint64_t j = chase_random(&random) % i;
        uint32_t swap = order[i];

        order[i] = order[j];
        order[j] = swap;
    }
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t line = chase_random(&random) % (CHASE_STRIDE / CHASE_LINE);
        struct chase_node *node =
            (struct chase_node *)(void *)(mem + order[i] * (uint64_t)CHASE_STRIDE +
                                          line * CHASE_LINE);

        if (previous)
            previous->next = node;
        else
            first = node;
        previous = node;
    }
    if (previous)
        previous->next = first;
    return first;
}

/* True when the chain visits `pages` nodes once each and closes. */
static inline int chase_verify(struct chase_node *first, uint64_t pages)
{
    struct chase_node *node = first;

    for (uint64_t i = 0; i < pages; i++) {
        if (node->visited++)
            return 0;
        node = node->next;
    }
    return node == first;
}

/* `steps` dependent accesses. */
static inline struct chase_node *chase_walk(struct chase_node *node, uint64_t steps)
{
    while (steps-- > 0)
        node = node->next;
    __asm__ volatile("" : : "r"(node));
    return node;
}

/*
 * How many accesses come before the timed ones of a round: other runners took lines from the
 * caches, and a last-level cache that guards itself against streams takes several cycles to have
 * them all again.
 */
static inline uint64_t chase_untimed(uint64_t pages)
{
    uint64_t cycles = 8, most = 500000;

    while (cycles > 1 && cycles * pages > most)
        cycles--;
    return cycles * pages;
}

/*
 * A runner's talk, a line each, on its stdin and stdout:
 *   -> ready pages=N page=BYTES gva=0xADDR accesses=N tsc_hz=N
 *                        once its chain is built; page: the leaf it asked for
 *   <- go                one round: chase_untimed() accesses, so that the caches have what the
 *                        chain needs, whoever ran before; then the accesses that are
 *   -> round cycles=N accesses=N
 *   <- quit, or the end of its input (Ctrl-D where that is a terminal's): it exits with 0
 *   -> error TEXT        and exits with 1
 * A load that changes tables has operations in place of a chain: LOAD_READY and LOAD_ROUND.
 * Cycles are the TSC's; tsc_hz is its frequency as the runner's kernel found it.
 */
#define CHASE_READY "ready pages=%lu page=%lu gva=0x%lx accesses=%lu tsc_hz=%lu\n"
#define CHASE_ROUND "round cycles=%lu accesses=%lu\n"
#define LOAD_READY  "ready ops=%lu tsc_hz=%lu\n"
#define LOAD_ROUND  "round cycles=%lu ops=%lu\n"

#endif
