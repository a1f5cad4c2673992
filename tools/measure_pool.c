/*
 * Huge pages for runners: asked for where the pool has too few, given back afterwards.
 */
#include <errno.h>
#include <inttypes.h>

#include "tools/measure_impl.h"
#include "vmm/hugepages.h"

/* Sizes of a pool before it was changed; only of those that were. */
static struct {
    uint64_t page, before;
    bool changed;
} pools[] = { { .page = PAGE_SIZE_2M }, { .page = PAGE_SIZE_1G } };

#define PATH_SIZE 96
#define POOLS     (sizeof(pools) / sizeof(pools[0]))

static void pool_path(uint64_t page, char path[PATH_SIZE])
{
    (void)snprintf(path, PATH_SIZE, "/sys/kernel/mm/hugepages/hugepages-%" PRIu64 "kB/nr_hugepages",
                   page >> 10);
}

static bool resize(uint64_t page, uint64_t total)
{
    char path[PATH_SIZE];
    FILE *f;
    bool done;

    pool_path(page, path);
    f = fopen(path, "we");
    if (!f)
        return false;
    done = fprintf(f, "%" PRIu64 "\n", total) > 0;
    return fclose(f) == 0 && done;
}

static uint64_t usable(const struct hugepages *pool)
{
    return pool->free > pool->reserved ? pool->free - pool->reserved : 0;
}

bool measure_pool_ask(uint64_t page, uint64_t bytes)
{
    struct hugepages pool;
    uint64_t wanted = (bytes + page - 1) / page;

    if (hugepages_read(page, &pool) < 0)
        return false;
    if (usable(&pool) >= wanted)
        return true;
    for (size_t i = 0; i < POOLS; i++) {
        if (pools[i].page != page)
            continue;
        if (!pools[i].changed)
            pools[i].before = pool.total;
        pools[i].changed = resize(page, pool.total + wanted - usable(&pool)) || pools[i].changed;
    }
    return hugepages_read(page, &pool) == 0 && usable(&pool) >= wanted;
}

void measure_pool_return(void)
{
    for (size_t i = 0; i < POOLS; i++)
        if (pools[i].changed && resize(pools[i].page, pools[i].before))
            pools[i].changed = false;
}

void measure_pool_tell(void)
{
    char path[PATH_SIZE];

    for (size_t i = 0; i < POOLS; i++) {
        if (!pools[i].changed)
            continue;
        pool_path(pools[i].page, path);
        (void)fprintf(stderr,
                      "twofold: measure: huge pages could not be given back; do it, as root, with: "
                      "echo %" PRIu64 " >%s\n",
                      pools[i].before, path);
    }
}
