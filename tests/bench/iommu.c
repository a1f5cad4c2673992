/*
 * The IOMMU as a data structure: mapping and unmapping by page size, and what a translation costs
 * when the IOTLB has it and when it hasn't. The baseline is the same addresses by memory_at(), what
 * an emulated device pays without an IOMMU.
 */
#include "bench.h"

#include <stdio.h>

#include "iommu/iommu.h"
#include "vmm/memory.h"

#define ENDPOINT 8
#define DOMAIN   1
#define MAPPINGS 512
#define ACCESSES 200000u
#define RAM      (UINT64_C(64) << 20)
#define RW       (IOMMU_READ | IOMMU_WRITE)

static struct iommu *fresh(void)
{
    struct iommu *m;

    if (iommu_create(&m, 4, false) < 0)
        return NULL;
    if (iommu_add_endpoint(m, ENDPOINT) == 0 && iommu_attach(m, ENDPOINT, DOMAIN, false) == 0)
        return m;
    iommu_destroy(m);
    return NULL;
}

/* Thousands a second of both, or nothing where one failed. */
static void map_rate(unsigned shift, struct samples *maps, struct samples *unmaps)
{
    uint64_t size = UINT64_C(1) << shift, start, mapped, covered;
    struct iommu *m = fresh();
    bool ok = m != NULL;

    start = now_ns();
    for (uint64_t i = 0; ok && i < MAPPINGS; i++)
        ok = iommu_map(m, DOMAIN, (iova_t){ i * size }, size, i * size, RW) == 0;
    mapped = now_ns();
    if (ok)
        sample_add(maps, MAPPINGS * 1e6 / (double)(mapped - start));
    for (uint64_t i = 0; ok && i < MAPPINGS; i++)
        ok = iommu_unmap(m, DOMAIN, (iova_t){ i * size }, size, &covered) == 0 && covered == size;
    if (ok)
        sample_add(unmaps, MAPPINGS * 1e6 / (double)(now_ns() - mapped));
    iommu_destroy(m);
}

enum expected { NOTHING, HITS, MISSES };

/* Nanoseconds an access over `pages` pages in turn. -1: it failed, or the IOTLB did not do as
 * expected. */
static double access_cost(struct iommu *m, const struct memory *mem, uint64_t pages,
                          enum expected expected)
{
    struct iommu_stat before = { 0 }, after = { 0 };
    uint64_t start, ns;

    if (m)
        iommu_stat(m, &before);
    start = now_ns();

    for (unsigned i = 0; i < ACCESSES; i++) {
        uint64_t at = i % pages * PAGE_SIZE_4K;
        struct iommu_translation t = { .output = at };

        if (m && iommu_translate(m, ENDPOINT, (iova_t){ at }, 64, IOMMU_READ, &t) < 0)
            return -1;
        if (!memory_at(mem, gpa(t.output), 64))
            return -1;
    }
    ns = now_ns() - start;
    if (m)
        iommu_stat(m, &after);
    if ((expected == HITS && after.hits - before.hits < ACCESSES / 100 * 99) ||
        (expected == MISSES && after.misses - before.misses < ACCESSES / 100 * 99))
        return -1;
    return (double)ns / ACCESSES;
}

static struct iommu *identity(uint64_t piece)
{
    struct iommu *m = fresh();
    bool ok = m != NULL;

    for (uint64_t at = 0; ok && at < RAM; at += piece)
        ok = iommu_map(m, DOMAIN, (iova_t){ at }, piece, at, RW) == 0;
    if (ok)
        return m;
    iommu_destroy(m);
    return NULL;
}

static void add_if(struct samples *s, double value)
{
    if (value >= 0)
        sample_add(s, value);
}

void bench_iommu(const struct bench_options *o)
{
    static const unsigned shifts[] = { PAGE_SHIFT_4K, PAGE_SHIFT_2M, PAGE_SHIFT_1G };
    static const char *const names[] = { "4K", "2M", "1G" };
    static struct samples maps[3], unmaps[3], plain, hit, miss, large;
    struct iommu *small = identity(PAGE_SIZE_4K), *big = identity(PAGE_SIZE_2M);
    struct memory *mem;
    char name[64];

    puts("the IOMMU: 512 mappings one after the other; then translations of 64 bytes each");
    if (!small || !big || memory_create(&mem, RAM, MEM_ANON, NULL) < 0) {
        puts("  not available: no memory");
        iommu_destroy(small);
        iommu_destroy(big);
        return;
    }
    for (unsigned i = 0; i < o->runs; i++) {
        for (unsigned s = 0; s < 3; s++)
            map_rate(shifts[s], &maps[s], &unmaps[s]);
        /* 128 pages fit the IOTLB; 16384 in turn never do, but as 2 MiB leaves. */
        add_if(&plain, access_cost(NULL, mem, RAM / PAGE_SIZE_4K, NOTHING));
        add_if(&hit, access_cost(small, mem, 128, HITS));
        add_if(&miss, access_cost(small, mem, RAM / PAGE_SIZE_4K, MISSES));
        add_if(&large, access_cost(big, mem, RAM / PAGE_SIZE_4K, HITS));
    }
    for (unsigned s = 0; s < 3; s++) {
        (void)snprintf(name, sizeof(name), "map, %s each", names[s]);
        print_row(name, &maps[s], "k/s");
        (void)snprintf(name, sizeof(name), "unmap, %s each", names[s]);
        print_row(name, &unmaps[s], "k/s");
    }
    print_row("memory_at() alone", &plain, "ns");
    print_row("IOTLB hit, and memory_at()", &hit, "ns");
    print_row("IOTLB miss: a walk of 4 levels", &miss, "ns");
    print_row("the same pages by 2M leaves", &large, "ns");
    print_ratio("IOTLB miss / hit", &miss, &hit, NULL, 0, 0);
    iommu_destroy(small);
    iommu_destroy(big);
    memory_destroy(mem);
}
