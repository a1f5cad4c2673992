/*
 * The native runner: the same chase in a process of the host, without a VM.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <x86intrin.h>

#include "guest/chase.h"
#include "tools/measure_impl.h"

#define MIN_STEPS 100000u /* as the guest's program has it */

static int fail(const char *what)
{
    (void)dprintf(STDOUT_FILENO, "error %s: %s\n", what, strerror(errno));
    return 1;
}

/* On transparent huge pages: the kernel decides, and measure_verify() looks. */
static char *map_transparent(uint64_t size)
{
    char *mem = mmap(NULL, size + PAGE_SIZE_2M, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    uint64_t lead;

    if (mem == MAP_FAILED)
        return NULL;
    lead = -(uint64_t)mem % PAGE_SIZE_2M;
    (void)munmap(mem, lead); /* what is before and behind would be the same mapping to smaps */
    (void)munmap(mem + lead + size, PAGE_SIZE_2M - lead);
    return madvise(mem + lead, size, MADV_HUGEPAGE) ? NULL : mem + lead;
}

static char *map_memory(uint64_t size, uint64_t page)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    char *mem;

    if (page > PAGE_SIZE_4K)
        flags |= MAP_HUGETLB | __builtin_ctzll(page) << MAP_HUGE_SHIFT;
    mem = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (mem == MAP_FAILED)
        return page == PAGE_SIZE_2M ? map_transparent(size) : NULL;
    if (page == PAGE_SIZE_4K)
        (void)madvise(mem, size, MADV_NOHUGEPAGE);
    return mem;
}

/* True for "go". */
static bool next(void)
{
    char line[16];
    size_t n = 0;

    while (n < sizeof(line) && read(STDIN_FILENO, &line[n], 1) == 1 && line[n] != '\n')
        n++;
    return n == 2 && !memcmp(line, "go", 2);
}

int measure_native(uint64_t size, uint64_t page)
{
    uint64_t pages = size / CHASE_STRIDE, bytes = (size + page - 1) / page * page;
    uint64_t steps = pages > MIN_STEPS ? pages : (MIN_STEPS + pages - 1) / pages * pages;
    uint32_t *order = malloc(pages * sizeof(*order));
    char *mem = map_memory(bytes, page);
    struct chase_node *node;

    if (!mem || !order) {
        free(order);
        return fail("memory for the chain");
    }
    for (uint64_t at = 0; at < bytes; at += PAGE_SIZE_4K)
        mem[at] = 0;
    node = chase_build(mem, order, pages);
    free(order);
    if (!chase_verify(node, pages)) {
        (void)dprintf(STDOUT_FILENO, "error the chain does not visit each page once\n");
        return 1;
    }
    node = chase_walk(node, steps);
    (void)dprintf(STDOUT_FILENO, CHASE_READY, pages, page, (uint64_t)mem, steps, UINT64_C(0));
    while (next()) {
        uint64_t start;

        /* What other runners took from the caches comes back, not timed, as in the guest. */
        node = chase_walk(node, chase_untimed(pages));
        start = __rdtsc();
        node = chase_walk(node, steps);
        (void)dprintf(STDOUT_FILENO, CHASE_ROUND, (uint64_t)__rdtsc() - start, steps);
    }
    return 0;
}
