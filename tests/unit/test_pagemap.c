/* What is behind our own addresses, against memory whose state the test has made, by each method.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/pagemap.h"
#include "vmm/uapi.h"

#define PAGE   PAGE_SIZE_4K
#define CHUNK  PAGE_SIZE_2M
#define CHUNKS 6

static struct pagemap *open_by(enum pagemap_method method, unsigned shift)
{
    struct pagemap *pm = NULL;
    struct error err = { "" };

    if (pagemap_open(&pm, shift, &err) < 0)
        fail_msg("%s", err.text);
    if (pagemap_use(pm, method) < 0) {
        print_message("skipped: this host has no such method, or it needs root\n");
        pagemap_close(pm);
        skip();
    }
    assert_int_equal(pagemap_method(pm), method);
    return pm;
}

/* CHUNKS times 2 MiB, aligned, of small pages; leaves a little around it unmapped. */
static uint8_t *area(int flags, int fd)
{
    uint8_t *raw = mmap(NULL, (CHUNKS + 1) * CHUNK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uintptr_t at = ((uintptr_t)raw + CHUNK - 1) & ~(uintptr_t)(CHUNK - 1);
    void *p;

    assert_ptr_not_equal(raw, MAP_FAILED);
    p = mmap((void *)at, CHUNKS * CHUNK, PROT_READ | PROT_WRITE, MAP_FIXED | flags, fd, 0);
    assert_ptr_not_equal(p, MAP_FAILED);
    (void)madvise(p, CHUNKS * CHUNK, MADV_NOHUGEPAGE);
    return p;
}

static void read_page(uint8_t *at)
{
    (void)*(volatile uint8_t *)at;
}

struct sums {
    uint64_t small, zero, huge, huge_zero, swapped, shared, last;
    unsigned calls;
};

static int sum_up(void *ctx, hva_t hva, uint64_t len, const struct host_page *page)
{
    struct sums *s = ctx;

    s->calls++;
    assert_true(hva.v >= s->last && len > 0 && len % PAGE == 0);
    assert_true(page->present != page->swapped);
    s->last = hva.v + len;
    if (page->swapped)
        s->swapped += len;
    else if (page->shift == PAGE_SHIFT_2M)
        *(page->zero ? &s->huge_zero : &s->huge) += len;
    else
        *(page->zero ? &s->zero : &s->small) += len;
    if (page->file_or_shared)
        s->shared += len;
    return 0;
}

static struct sums look(struct pagemap *pm, uint8_t *at, uint64_t len)
{
    struct sums s = { 0 };

    assert_int_equal(pagemap_runs(pm, hva_of(at), len, sum_up, &s), 0);
    return s;
}

static void small_pages(enum pagemap_method method)
{
    uint8_t *at = area(MAP_PRIVATE | MAP_ANONYMOUS, -1);
    struct pagemap *pm = open_by(method, 12);
    bool zeros = method != PAGEMAP_BY_PRESENCE;
    struct host_page page[6];
    struct sums s = look(pm, at, CHUNKS * CHUNK);

    assert_int_equal(s.calls, 0);
    /* Across an aligned 2 MiB: 3 written, 1 never touched, 2 read. */
    at += CHUNK - 2 * PAGE;
    for (int i = 0; i < 3; i++)
        at[(uint64_t)i * PAGE] = 1;
    read_page(at + 4 * PAGE);
    read_page(at + 5 * PAGE);
    s = look(pm, at - PAGE, 8 * PAGE);
    assert_int_equal(s.small, (zeros ? 3 : 5) * PAGE);
    assert_int_equal(s.zero, zeros ? 2 * PAGE : 0);
    assert_int_equal(s.calls, 2);
    assert_int_equal(s.huge + s.huge_zero + s.swapped + s.shared, 0);

    assert_int_equal(pagemap_pages(pm, hva_of(at), 6, page), 0);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(page[i].present, i != 3);
        assert_int_equal(page[i].zero, zeros && i > 3);
        assert_int_equal(page[i].shift, 12);
        assert_int_equal(page[i].pfn != 0, i != 3 && geteuid() == 0);
    }
    assert_int_equal(page[4].pfn, page[5].pfn);
    assert_int_equal(page[3].pfn, 0);
    pagemap_close(pm);
}

static void small_by_scan(void **state)
{
    (void)state;
    small_pages(PAGEMAP_BY_SCAN);
}

static void small_by_frames(void **state)
{
    (void)state;
    small_pages(PAGEMAP_BY_FRAMES);
}

static void small_by_presence(void **state)
{
    (void)state;
    small_pages(PAGEMAP_BY_PRESENCE);
}

static void huge_pages(enum pagemap_method method)
{
    uint8_t *at = area(MAP_PRIVATE | MAP_ANONYMOUS, -1);
    struct pagemap *pm = open_by(method, 12);
    struct host_page page[3];
    struct sums s;

    memset(at, 1, 3 * CHUNK);
    /* Not for all of it: khugepaged would make huge pages of the others at a time of its own. */
    if (madvise(at + 4 * CHUNK, CHUNK, MADV_HUGEPAGE) < 0 ||
        madvise(at + CHUNK, CHUNK, MADV_COLLAPSE) < 0) {
        print_message("skipped: no huge page can be had: %s\n", strerror(errno));
        pagemap_close(pm);
        skip();
    }
    read_page(at + 4 * CHUNK + 5 * PAGE); /* the huge zero page */
    s = look(pm, at, CHUNKS * CHUNK);
    assert_int_equal(s.huge, CHUNK);
    assert_int_equal(s.small, 2 * CHUNK);
    assert_int_equal(s.huge_zero, CHUNK);
    assert_int_equal(s.zero, 0);
    assert_int_equal(s.calls, 4);

    /* Pages of a huge one that starts before them, and the next. */
    assert_int_equal(pagemap_pages(pm, hva((uintptr_t)at + 2 * CHUNK - 2 * PAGE), 3, page), 0);
    assert_int_equal(page[0].shift, 21);
    assert_int_equal(page[1].shift, 21);
    assert_int_equal(page[2].shift, 12);
    if (geteuid() == 0) {
        assert_int_equal(page[0].pfn % 512, 510);
        assert_int_equal(page[1].pfn, page[0].pfn + 1);
    }
    /* One page less: what is left is mapped by small entries. */
    assert_int_equal(madvise(at + CHUNK + 7 * PAGE, PAGE, MADV_DONTNEED), 0);
    s = look(pm, at, 3 * CHUNK);
    assert_int_equal(s.huge, 0);
    assert_int_equal(s.small, 3 * CHUNK - PAGE);
    pagemap_close(pm);
}

static void huge_by_scan(void **state)
{
    (void)state;
    huge_pages(PAGEMAP_BY_SCAN);
}

static void huge_by_frames(void **state)
{
    (void)state;
    huge_pages(PAGEMAP_BY_FRAMES);
}

static void shared_pages(enum pagemap_method method)
{
    int fd = memfd_create("test", MFD_CLOEXEC);
    struct pagemap *pm = open_by(method, 12);
    uint8_t *at;
    struct sums s;

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, CHUNKS * CHUNK), 0);
    at = area(MAP_SHARED, fd);
    at[0] = at[5 * PAGE] = 1;
    read_page(at + 9 * PAGE); /* a page of its own: files have no zero page */
    s = look(pm, at, CHUNKS * CHUNK);
    assert_int_equal(s.small, 3 * PAGE);
    assert_int_equal(s.shared, 3 * PAGE);
    assert_int_equal(s.calls, 3);
    /* Zapped: it is still in the file, but not here. */
    assert_int_equal(madvise(at, PAGE, MADV_DONTNEED), 0);
    assert_int_equal(look(pm, at, CHUNKS * CHUNK).small, 2 * PAGE);
    (void)close(fd);
    pagemap_close(pm);
}

static void shared_by_scan(void **state)
{
    (void)state;
    shared_pages(PAGEMAP_BY_SCAN);
}

static void shared_by_frames(void **state)
{
    (void)state;
    shared_pages(PAGEMAP_BY_FRAMES);
}

static void hugetlb_pages(enum pagemap_method method)
{
    uint8_t *at = mmap(NULL, 2 * CHUNK, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB | 21 << MAP_HUGE_SHIFT, -1, 0);
    struct pagemap *pm;
    struct sums s;

    if (at == MAP_FAILED) {
        print_message("skipped: no reserved 2 MiB pages on this host\n");
        skip();
    }
    pm = open_by(method, 21);
    assert_true(pagemap_exact(pm));
    at[CHUNK + 5] = 1;
    s = look(pm, at, 2 * CHUNK);
    assert_int_equal(s.huge, CHUNK);
    assert_int_equal(s.small, 0);
    pagemap_close(pm);
    (void)munmap(at, 2 * CHUNK);
}

static void hugetlb_by_scan(void **state)
{
    (void)state;
    hugetlb_pages(PAGEMAP_BY_SCAN);
}

static void hugetlb_by_presence(void **state)
{
    (void)state;
    hugetlb_pages(PAGEMAP_BY_PRESENCE);
}

static int stop_at_once(void *ctx, hva_t hva, uint64_t len, const struct host_page *page)
{
    (void)hva;
    (void)len;
    (void)page;
    (*(int *)ctx)++;
    return 7;
}

static void bad_input_and_an_early_end(void **state)
{
    uint8_t *at = area(MAP_PRIVATE | MAP_ANONYMOUS, -1);
    struct pagemap *pm = open_by(PAGEMAP_BY_PRESENCE, 12);
    struct host_page page;
    int calls = 0;

    (void)state;
    at[0] = at[2 * PAGE] = 1;
    assert_int_equal(pagemap_runs(pm, hva((uintptr_t)at + 1), PAGE, stop_at_once, &calls), -EINVAL);
    assert_int_equal(pagemap_runs(pm, hva_of(at), 100, stop_at_once, &calls), -EINVAL);
    assert_int_equal(pagemap_pages(pm, hva((uintptr_t)at + 8), 1, &page), -EINVAL);
    assert_int_equal(calls, 0);
    assert_int_equal(pagemap_runs(pm, hva_of(at), 4 * PAGE, stop_at_once, &calls), 7);
    assert_int_equal(calls, 1);
    assert_true(pagemap_pages(pm, hva(UINT64_C(1) << 62), 1, &page) < 0);
    pagemap_close(pm);
}

static void frames(void **state)
{
    uint8_t *at = area(MAP_PRIVATE | MAP_ANONYMOUS, -1);
    struct pagemap *pm = open_by(PAGEMAP_BY_PRESENCE, 12);
    struct host_page page;
    hpa_t where = hpa(1);

    (void)state;
    assert_int_equal(pagemap_frame(hva_of(at), &where), -ENODATA);
    assert_int_equal(where.v, 1);
    at[0] = 1;
    if (geteuid() != 0) {
        assert_int_equal(pagemap_frame(hva_of(at), &where), -EPERM);
    } else {
        assert_int_equal(pagemap_frame(hva((uintptr_t)at + 0x123), &where), 0);
        assert_int_equal(pagemap_pages(pm, hva_of(at), 1, &page), 0);
        assert_int_equal(where.v, page.pfn << 12 | 0x123);
    }
    pagemap_close(pm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_by_scan),
        cmocka_unit_test(small_by_frames),
        cmocka_unit_test(small_by_presence),
        cmocka_unit_test(huge_by_scan),
        cmocka_unit_test(huge_by_frames),
        cmocka_unit_test(shared_by_scan),
        cmocka_unit_test(shared_by_frames),
        cmocka_unit_test(hugetlb_by_scan),
        cmocka_unit_test(hugetlb_by_presence),
        cmocka_unit_test(bad_input_and_an_early_end),
        cmocka_unit_test(frames),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
