/* Checks of the page allocator and the heap. */
#include "guest/kernel/heap.h"
#include "guest/kernel/mm.h"
#include "guest/kernel/selftest_list.h"

#define SMALL_MEMORY 8192 /* pages; with fewer a block of 2 MiB may not be there */

/* Other CPUs may allocate meanwhile, so no check counts all free pages. */

void selftest_buddy(struct selftest *t)
{
    uint64_t block = pmm_alloc(4, 0), large = pmm_alloc(9, 0);
    struct pmm_stats s;

    pmm_stats(&s);
    CHECK(t, block && (large || s.total < SMALL_MEMORY), "no memory");
    CHECK(t, block % (PAGE_SIZE << 4) == 0, "order 4 at 0x%lx", block);
    CHECK(t, large % LARGE_SIZE == 0, "order 9 at 0x%lx", large);
    CHECK(t, !large || large + LARGE_SIZE <= block || block + (PAGE_SIZE << 4) <= large,
          "0x%lx and 0x%lx overlap", block, large);
    CHECK(t, page_of(block)->order == 4 && page_of(block)->state == PAGE_ALLOCATED,
          "order %u, state %u", page_of(block)->order, page_of(block)->state);
    CHECK(t, pmm_alloc(PMM_MAX_ORDER + 1, 0) == 0, "an order too large was served");
    if (large) {
        pmm_free(large);
        CHECK(t, page_of(large)->state != PAGE_ALLOCATED, "still allocated after pmm_free()");
    }
    if (block)
        pmm_free(block);
    pmm_stats(&s);
    CHECK(t, s.free <= s.total && s.free_zero <= s.free, "%lu free, %lu zero, %lu in all", s.free,
          s.free_zero, s.total);
}

static bool is_zero(uint64_t gpa, unsigned words)
{
    const uint64_t *p = phys_to_virt(gpa);
    uint64_t seen = 0;

    for (unsigned i = 0; i < words; i++)
        seen |= p[i * (PAGE_SIZE / 8 / words)];
    return seen == 0;
}

void selftest_zero(struct selftest *t)
{
    uint64_t dirty = pmm_alloc(0, 0), zero = pmm_alloc(0, PMM_ZERO);

    CHECK(t, dirty && zero && dirty != zero, "0x%lx and 0x%lx", dirty, zero);
    if (!dirty || !zero)
        return;
    CHECK(t, is_zero(zero, 32), "a fresh zero page is not zero");
    for (unsigned i = 0; i < 32; i++)
        ((uint64_t *)phys_to_virt(dirty))[i * 16] = ~UL(0);
    pmm_free(dirty);
    pmm_free_zeroed(zero);
    CHECK(t, page_of(zero)->state != PAGE_FREE_DIRTY || page_of(zero)->order,
          "the zero page is on the dirty list");
    zero = pmm_alloc(0, PMM_ZERO);
    CHECK(t, zero && is_zero(zero, 32), "a zero page after a dirty one was freed is not zero");
    if (zero)
        pmm_free_zeroed(zero);
}

void selftest_references(struct selftest *t)
{
    uint64_t gpa = pmm_alloc(0, 0);

    CHECK(t, gpa, "no memory");
    if (!gpa)
        return;
    CHECK(t, page_of(gpa)->refs == 1, "%u references after pmm_alloc()", page_of(gpa)->refs);
    page_get(gpa);
    page_put(gpa);
    CHECK(t, page_of(gpa)->refs == 1 && page_of(gpa)->state == PAGE_ALLOCATED,
          "%u references, state %u", page_of(gpa)->refs, page_of(gpa)->state);
    page_put(gpa);
}

void selftest_heap(struct selftest *t)
{
    static const size_t sizes[] = { 1, 32, 33, 64, 100, 500, 2048, 2049, 5000 };
    enum { N = sizeof(sizes) / sizeof(*sizes) };
    char *p[N];

    for (unsigned i = 0; i < N; i++) {
        p[i] = kmalloc(sizes[i]);
        CHECK(t, p[i] && (uint64_t)p[i] % 32 == 0, "kmalloc(%lu) gave %p", sizes[i], p[i]);
        if (!p[i])
            return;
        p[i][0] = (char)i;
        p[i][sizes[i] - 1] = (char)i;
    }
    for (unsigned i = 0; i < N; i++)
        CHECK(t, p[i][0] == (char)i && p[i][sizes[i] - 1] == (char)i,
              "%lu bytes at %p were overwritten", sizes[i], p[i]);
    for (unsigned i = 0; i < N; i++)
        kfree(p[i]);
    kfree(NULL);
}

void selftest_heap_returns(struct selftest *t)
{
    void *first = kmalloc(2048), *second = kmalloc(2048), *third = kmalloc(2048), *again;
    uint64_t place = (uint64_t)third;

    CHECK(t, first && second && third, "no memory");
    CHECK(t, first != second && second != third && first != third, "one object given twice");
    kfree(third);
    again = kmalloc(2048);
    CHECK(t, (uint64_t)again == place, "a freed object is not the next one given");
    kfree(again);
    kfree(second);
    kfree(first);
    CHECK(t, kmalloc(PAGE_SIZE << (PMM_MAX_ORDER + 1)) == NULL, "2 GiB were served");
}
