/* Checks of address spaces. */
#include "guest/kernel/aspace_internal.h"
#include "guest/kernel/cpu.h"
#include "guest/kernel/errno.h"
#include "guest/kernel/heap.h"
#include "guest/kernel/mm.h"
#include "guest/kernel/move.h"
#include "guest/kernel/pagewalk.h"
#include "guest/kernel/selftest_list.h"

#define GVA          UL(0x40000000)
#define SMALL_MEMORY 8192 /* pages; with fewer a block of 2 MiB may not be there */

static int map_new(struct aspace *as, uint64_t gva, uint64_t flags)
{
    uint64_t gpa = pmm_alloc(0, 0);
    int rc = gpa ? aspace_map(as, gva, gpa, PAGE_SIZE, flags) : -ENOMEM;

    if (rc && gpa)
        pmm_free(gpa);
    return rc;
}

void selftest_aspace(struct selftest *t)
{
    struct aspace *as = aspace_create();
    uint64_t e = 0, size = 0;
    struct pagewalk w;
    int rc;

    CHECK(t, as, "no memory");
    if (!as)
        return;
    rc = map_new(as, GVA, PTE_WRITE | PTE_NX);
    CHECK(t, rc == 0, "aspace_map gave %d", rc);
    CHECK(t, aspace_lookup(as, GVA + 5, &e, &size) && size == PAGE_SIZE, "not found after mapping");
    pagewalk(aspace_root(as), GVA + 5, &w);
    CHECK(t, w.mapped && w.writable && w.user && w.nx && w.gpa == (e & PTE_ADDR) + 5,
          "walk: mapped %d writable %d user %d nx %d gpa 0x%lx", w.mapped, w.writable, w.user, w.nx,
          w.gpa);
    rc = aspace_protect(as, GVA, PAGE_SIZE, 0);
    pagewalk(aspace_root(as), GVA, &w);
    CHECK(t, rc == 0 && w.mapped && !w.writable && !w.nx, "protect gave %d: writable %d, nx %d", rc,
          w.writable, w.nx);
    rc = aspace_unmap(as, GVA - PAGE_SIZE, 3 * PAGE_SIZE);
    CHECK(t, rc == 0 && !aspace_lookup(as, GVA, NULL, NULL), "unmap gave %d", rc);
    aspace_destroy(as);
}

void selftest_aspace_refuses(struct selftest *t)
{
    struct aspace *as = aspace_create();
    int rc;

    CHECK(t, as, "no memory");
    if (!as)
        return;
    rc = map_new(as, GVA, PTE_WRITE);
    CHECK(t, rc == -EACCES, "writable and executable: %d", rc);
    rc = map_new(as, GVA + 1, PTE_NX);
    CHECK(t, rc == -EINVAL, "misaligned: %d", rc);
    rc = map_new(as, USER_TOP, PTE_NX);
    CHECK(t, rc == -EINVAL, "above user space: %d", rc);
    rc = map_new(as, GVA, PTE_NX | PTE_USER);
    CHECK(t, rc == -EINVAL, "a flag that is not the caller's: %d", rc);
    rc = map_new(as, GVA, PTE_NX);
    CHECK(t, rc == 0, "a good one: %d", rc);
    rc = map_new(as, GVA, PTE_NX);
    CHECK(t, rc == -EEXIST, "twice: %d", rc);
    rc = aspace_protect(as, GVA, PAGE_SIZE, PTE_WRITE);
    CHECK(t, rc == -EACCES, "protect to writable and executable: %d", rc);
    rc = aspace_unmap(as, USER_TOP, PAGE_SIZE);
    CHECK(t, rc == -EINVAL, "unmap above user space: %d", rc);
    aspace_destroy(as);
}

void selftest_aspace_large(struct selftest *t)
{
    struct aspace *as = aspace_create();
    uint64_t gpa = pmm_alloc(9, 0), size = 0;
    struct pmm_stats s;
    int rc;

    pmm_stats(&s);
    CHECK(t, as && (gpa || s.total < SMALL_MEMORY), "no memory");
    if (!as || !gpa) {
        if (as)
            aspace_destroy(as);
        return;
    }
    rc = map_new(as, GVA, PTE_NX); /* leaves an empty page table behind */
    CHECK(t, rc == 0 && aspace_unmap(as, GVA, PAGE_SIZE) == 0, "4 KiB page: %d", rc);
    rc = aspace_map(as, GVA, gpa, LARGE_SIZE, PTE_WRITE | PTE_NX);
    CHECK(t, rc == 0, "aspace_map of 2 MiB gave %d", rc);
    CHECK(t, aspace_lookup(as, GVA + LARGE_SIZE - 1, NULL, &size) && size == LARGE_SIZE,
          "found with size %lu", size);
    CHECK(t, map_new(as, GVA + PAGE_SIZE, PTE_NX) == -EEXIST, "4 KiB inside was mapped");
    CHECK(t, aspace_unmap(as, GVA, PAGE_SIZE) == -EINVAL, "a part of it was unmapped");
    CHECK(t, aspace_unmap(as, GVA, LARGE_SIZE) == 0, "it can't be unmapped");
    CHECK(t, !aspace_lookup(as, GVA, NULL, NULL), "still there");
    CHECK(t, page_of(gpa)->state != PAGE_ALLOCATED, "the block was not given back");
    aspace_destroy(as);
}

/* Without such pages or without a free GiB there is only something to refuse. */
void selftest_aspace_huge(struct selftest *t)
{
    unsigned order = (unsigned)__builtin_ctzl(HUGE_SIZE) - PAGE_SHIFT;
    struct aspace *as = aspace_create();
    uint64_t gpa, size = 0, to;
    struct pagewalk w;
    int rc;

    CHECK(t, as, "no memory");
    if (!as)
        return;
    if (!cpu_features.gbpages) {
        rc = aspace_map(as, HUGE_SIZE, HUGE_SIZE, HUGE_SIZE, PTE_NX);
        CHECK(t, rc == -EINVAL, "a page that the CPU doesn't have: %d", rc);
    }
    gpa = cpu_features.gbpages ? pmm_alloc(order, 0) : 0;
    if (!gpa) {
        aspace_destroy(as);
        return;
    }
    CHECK(t, gpa % HUGE_SIZE == 0, "a GiB at 0x%lx", gpa);
    rc = map_new(as, 2 * HUGE_SIZE, PTE_NX); /* leaves empty tables behind */
    CHECK(t, rc == 0, "4 KiB page: %d", rc);
    rc = aspace_map(as, 2 * HUGE_SIZE, gpa, HUGE_SIZE, PTE_WRITE | PTE_NX);
    CHECK(t, rc == -EEXIST, "over a 4 KiB page: %d", rc);
    CHECK(t, aspace_unmap(as, 2 * HUGE_SIZE, PAGE_SIZE) == 0, "4 KiB page");
    rc = aspace_map(as, 2 * HUGE_SIZE, gpa, HUGE_SIZE, PTE_WRITE | PTE_NX);
    CHECK(t, rc == 0, "aspace_map of 1 GiB gave %d", rc);
    pagewalk(aspace_root(as), 2 * HUGE_SIZE + LARGE_SIZE + 5, &w);
    CHECK(t, w.mapped && w.n == 2 && w.size == HUGE_SIZE && w.gpa == gpa + LARGE_SIZE + 5,
          "walk: mapped %d, %u entries, gpa 0x%lx", w.mapped, w.n, w.gpa);
    CHECK(t, aspace_lookup(as, 3 * HUGE_SIZE - 1, NULL, &size) && size == HUGE_SIZE,
          "found with size %lu", size);
    CHECK(t, map_new(as, 2 * HUGE_SIZE + LARGE_SIZE, PTE_NX) == -EEXIST, "4 KiB inside was mapped");
    rc = aspace_unmap(as, 2 * HUGE_SIZE, LARGE_SIZE);
    CHECK(t, rc == -EINVAL, "a part of it was unmapped: %d", rc);
    page_get(gpa); /* somebody uses it by its gpa */
    rc = move_page(gpa + LARGE_SIZE, &to, &size);
    CHECK(t, rc == -EBUSY, "a page in use was moved: %d", rc);
    page_put(gpa);
    CHECK(t, aspace_unmap(as, 2 * HUGE_SIZE, HUGE_SIZE) == 0, "it can't be unmapped");
    CHECK(t, page_of(gpa)->state != PAGE_ALLOCATED, "the block was not given back");
    aspace_destroy(as);
}

void selftest_aspace_returns(struct selftest *t)
{
    static const uint64_t places[] = { 0x400000, GVA, UL(0x7ffffffe0000) };
    uint64_t objects = heap_objects(), shared = pmm_alloc(0, 0);
    struct aspace *as = aspace_create();
    uint64_t root;

    CHECK(t, as && shared, "no memory");
    if (!as || !shared)
        return;
    root = aspace_root(as);
    for (unsigned i = 0; i < sizeof(places) / sizeof(*places); i++) {
        page_get(shared);
        CHECK(t, aspace_map(as, places[i], shared, PAGE_SIZE, PTE_NX) == 0, "map at 0x%lx",
              places[i]);
    }
    CHECK(t, page_of(shared)->refs == 4, "%u references", page_of(shared)->refs);
    aspace_destroy(as);
    CHECK(t, page_of(shared)->refs == 1, "%u references after it", page_of(shared)->refs);
    CHECK(t, page_of(root)->state != PAGE_ALLOCATED, "the top-level table was not given back");
    CHECK(t, heap_objects() <= objects + 16, "%lu objects more", heap_objects() - objects);
    page_put(shared);
}

/*
 * An address space that is current on all CPUs; or rather, that says so. A CPU that doesn't answer
 * makes this hang.
 */
void selftest_shootdown(struct selftest *t)
{
    struct aspace *as = aspace_create();
    unsigned n = cpus_online();

    CHECK(t, as, "no memory");
    if (!as)
        return;
    as->active = as->warm = n == 64 ? ~UL(0) : (UL(1) << n) - 1;
    for (unsigned i = 0; i < 3; i++)
        tlb_flush(as, GVA, GVA + (i + 1) * 20 * PAGE_SIZE);
    for (unsigned i = 0; i < n; i++)
        CHECK(t, cpus[i]->tlb_pending == 0, "CPU %u has not answered", i);
    CHECK(t, as->warm == 0, "CPUs 0x%lx may still hold entries", as->warm);
    as->active = 0;
    aspace_destroy(as);
}
