#include "vmm/pagemap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kernel-page-flags.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/uapi.h"

/* An entry of pagemap: "Examining Process Page Tables" in the kernel's documentation. */
#define ENTRY_PFN     ((UINT64_C(1) << 55) - 1) /* when present; 0 to those who may not know */
#define ENTRY_SHARED  (UINT64_C(1) << 61)
#define ENTRY_SWAPPED (UINT64_C(1) << 62)
#define ENTRY_PRESENT (UINT64_C(1) << 63)

#define PAGES_2M 512u
#define REGIONS  256u

struct pagemap {
    int fd, flags_fd; /* /proc/self/pagemap, /proc/kpageflags (or -1) */
    enum pagemap_method method;
    unsigned base_shift;
    uint64_t zero_pfn; /* of the small zero page; 0: unknown */
    uint64_t entry[PAGES_2M];
    struct page_region region[REGIONS];
};

static int read_entries(int fd, uint64_t hva, uint64_t *entry, size_t n)
{
    size_t want = n * sizeof(*entry), got = 0;

    while (got < want) {
        ssize_t r = pread(fd, (char *)entry + got, want - got,
                          (off_t)((hva >> PAGE_SHIFT_4K) * sizeof(*entry) + got));

        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return r < 0 ? -errno : -EFAULT; /* above this process's addresses */
        got += (size_t)r;
    }
    return 0;
}

/* The frame of the zero page: what a page that was only read has. */
static uint64_t find_zero_pfn(int fd)
{
    void *page = mmap(NULL, PAGE_SIZE_4K, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t entry = 0;

    if (page == MAP_FAILED)
        return 0;
    (void)*(volatile char *)page;
    if (read_entries(fd, (uintptr_t)page, &entry, 1) < 0 || !(entry & ENTRY_PRESENT))
        entry = 0;
    (void)munmap(page, PAGE_SIZE_4K);
    return entry & ENTRY_PFN;
}

/* Asks about a range of nothing: kernels that don't know the request say ENOTTY. */
static bool has_scan(int fd)
{
    struct pm_scan_arg arg = { .size = sizeof(arg), .category_anyof_mask = PAGE_IS_PRESENT };

    return ioctl(fd, PAGEMAP_SCAN, &arg) >= 0;
}

int pagemap_open(struct pagemap **out, unsigned base_shift, struct error *err)
{
    struct pagemap *pm = calloc(1, sizeof(*pm));

    *out = NULL;
    if (!pm)
        return error_set(err, -ENOMEM, "no memory to look at the host's pages");
    pm->fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (pm->fd < 0) {
        int rc = error_set(err, -errno, "the host's pages can't be seen: /proc/self/pagemap: %s",
                           strerror(errno));

        free(pm);
        return rc;
    }
    pm->base_shift = base_shift;
    pm->flags_fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
    pm->zero_pfn = find_zero_pfn(pm->fd);
    if (has_scan(pm->fd))
        pm->method = PAGEMAP_BY_SCAN;
    else
        pm->method = pm->zero_pfn && pm->flags_fd >= 0 ? PAGEMAP_BY_FRAMES : PAGEMAP_BY_PRESENCE;
    *out = pm;
    return 0;
}

void pagemap_close(struct pagemap *pm)
{
    if (!pm)
        return;
    if (pm->flags_fd >= 0)
        (void)close(pm->flags_fd);
    (void)close(pm->fd);
    free(pm);
}

enum pagemap_method pagemap_method(const struct pagemap *pm)
{
    return pm->method;
}

int pagemap_use(struct pagemap *pm, enum pagemap_method method)
{
    if ((method == PAGEMAP_BY_SCAN && !has_scan(pm->fd)) ||
        (method == PAGEMAP_BY_FRAMES && (!pm->zero_pfn || pm->flags_fd < 0)))
        return -ENOTSUP;
    pm->method = method;
    return 0;
}

bool pagemap_exact(const struct pagemap *pm)
{
    return pm->method == PAGEMAP_BY_SCAN || pm->base_shift > PAGE_SHIFT_4K;
}

const char *pagemap_describe(const struct pagemap *pm)
{
    switch (pm->method) {
    case PAGEMAP_BY_SCAN:
        return "PAGEMAP_SCAN: exact";
    case PAGEMAP_BY_FRAMES:
        return "pagemap and kpageflags: a huge page that is mapped by 4 KiB entries counts as huge";
    case PAGEMAP_BY_PRESENCE:
        break;
    }
    return pm->base_shift > PAGE_SHIFT_4K
               ? "pagemap: exact"
               : "pagemap without frames (not root): all sizes count as 4 KiB, zero pages as "
                 "present";
}

/* The flags of the kernel for one frame; 0 when they can't be had. */
static uint64_t frame_flags(const struct pagemap *pm, uint64_t pfn)
{
    uint64_t flags = 0;

    if (!pfn || pm->flags_fd < 0 ||
        pread(pm->flags_fd, &flags, sizeof(flags), (off_t)(pfn * sizeof(flags))) !=
            (ssize_t)sizeof(flags))
        return 0;
    return flags;
}

/* What one entry says by itself: its size is the mapping's smallest. */
static struct host_page decode(const struct pagemap *pm, uint64_t entry)
{
    struct host_page page = {
        .present = entry & ENTRY_PRESENT,
        .swapped = !(entry & ENTRY_PRESENT) && entry & ENTRY_SWAPPED,
        .file_or_shared = entry & ENTRY_SHARED,
        .shift = pm->base_shift,
        .pfn = entry & ENTRY_PRESENT ? entry & ENTRY_PFN : 0,
    };

    page.zero = pm->method != PAGEMAP_BY_PRESENCE && page.pfn && page.pfn == pm->zero_pfn;
    if (page.swapped)
        page.shift = PAGE_SHIFT_4K;
    return page;
}

/* --- by PAGEMAP_SCAN ------------------------------------------------------------------ */

struct scan {
    host_run_cb cb;
    void *ctx;
};

/*
 * Kernels before 6.18 don't count the huge zero page as zero; its frame tells. Only where frames
 * are shown.
 */
static bool is_huge_zero(struct pagemap *pm, uint64_t hva)
{
    uint64_t entry;

    if (pm->flags_fd < 0 || pm->base_shift > PAGE_SHIFT_4K ||
        read_entries(pm->fd, hva, &entry, 1) < 0)
        return false;
    return frame_flags(pm, entry & ENTRY_PFN) >> KPF_ZERO_PAGE & 1;
}

static int scan_region(struct pagemap *pm, const struct page_region *r, const struct scan *scan)
{
    struct host_page page = {
        .present = r->categories & PAGE_IS_PRESENT,
        .swapped = !(r->categories & PAGE_IS_PRESENT),
        .zero = r->categories & PAGE_IS_PFNZERO,
        .file_or_shared = r->categories & PAGE_IS_FILE,
        .shift = pm->base_shift,
    };
    uint64_t at = r->start;

    if (page.present && r->categories & PAGE_IS_HUGE && pm->base_shift < PAGE_SHIFT_2M)
        page.shift = PAGE_SHIFT_2M;
    if (page.shift != PAGE_SHIFT_2M || page.zero)
        return scan->cb(scan->ctx, hva(at), r->end - at, &page);
    while (at < r->end) {
        bool zero = is_huge_zero(pm, at);
        uint64_t end = at;
        int rc;

        do
            end = (end | (PAGE_SIZE_2M - 1)) + 1;
        while (end < r->end && is_huge_zero(pm, end) == zero);
        if (end > r->end)
            end = r->end;
        page.zero = zero;
        rc = scan->cb(scan->ctx, hva(at), end - at, &page);
        if (rc != 0)
            return rc;
        at = end;
    }
    return 0;
}

static int runs_by_scan(struct pagemap *pm, uint64_t hva, uint64_t len, const struct scan *scan)
{
    struct pm_scan_arg arg = {
        .size = sizeof(arg),
        .start = hva,
        .end = hva + len,
        .vec = (uintptr_t)pm->region,
        .vec_len = REGIONS,
        .category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
        .return_mask =
            PAGE_IS_PRESENT | PAGE_IS_SWAPPED | PAGE_IS_PFNZERO | PAGE_IS_HUGE | PAGE_IS_FILE,
    };

    while (arg.start < arg.end) {
        long n = ioctl(pm->fd, PAGEMAP_SCAN, &arg);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        for (long i = 0; i < n; i++) {
            int rc = scan_region(pm, &pm->region[i], scan);

            if (rc != 0)
                return rc;
        }
        if (arg.walk_end <= arg.start)
            break;
        arg.start = arg.walk_end;
    }
    return 0;
}

/* --- by frames ------------------------------------------------------------------------- */

/*
 * Whether the 2 MiB whose entries these are is one huge page: aligned frames in a row that the
 * kernel holds together. *zero: it is the huge zero page.
 */
static bool is_huge(const struct pagemap *pm, const uint64_t entry[PAGES_2M], bool *zero)
{
    uint64_t first = entry[0] & ENTRY_PFN, flags;

    if (pm->method != PAGEMAP_BY_FRAMES || !(entry[0] & ENTRY_PRESENT) || first == 0 ||
        first % PAGES_2M)
        return false;
    for (unsigned i = 1; i < PAGES_2M; i++)
        if (!(entry[i] & ENTRY_PRESENT) || (entry[i] & ENTRY_PFN) != first + i)
            return false;
    flags = frame_flags(pm, first);
    *zero = flags >> KPF_ZERO_PAGE & 1;
    return flags >> KPF_THP & 1;
}

static bool alike(const struct host_page *a, const struct host_page *b)
{
    return a->present == b->present && a->swapped == b->swapped && a->zero == b->zero &&
           a->file_or_shared == b->file_or_shared && a->shift == b->shift;
}

/* A run that is not closed yet. */
struct open_run {
    const struct scan *scan;
    uint64_t at, len;
    struct host_page page;
};

static int run_close(struct open_run *run)
{
    int rc = 0;

    if (run->len && (run->page.present || run->page.swapped))
        rc = run->scan->cb(run->scan->ctx, hva(run->at), run->len, &run->page);
    run->len = 0;
    return rc;
}

static int run_extend(struct open_run *run, uint64_t at, uint64_t len, struct host_page page)
{
    int rc = 0;

    page.pfn = 0;
    if (run->len && !alike(&run->page, &page))
        rc = run_close(run);
    if (run->len == 0) {
        run->at = at;
        run->page = page;
    }
    run->len += len;
    return rc;
}

/* At most 2 MiB, and not across an aligned one. */
static int runs_of_chunk(struct pagemap *pm, uint64_t hva, uint64_t len, struct open_run *run)
{
    size_t n = len >> PAGE_SHIFT_4K;
    struct host_page page;
    bool zero = false;
    int rc = read_entries(pm->fd, hva, pm->entry, n);

    if (rc < 0)
        return rc;
    if (n == PAGES_2M && pm->base_shift == PAGE_SHIFT_4K && is_huge(pm, pm->entry, &zero)) {
        page = decode(pm, pm->entry[0]);
        page.shift = PAGE_SHIFT_2M;
        page.zero = zero;
        return run_extend(run, hva, len, page);
    }
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = run_extend(run, hva + (i << PAGE_SHIFT_4K), PAGE_SIZE_4K, decode(pm, pm->entry[i]));
    return rc;
}

static int runs_by_entries(struct pagemap *pm, uint64_t hva, uint64_t len, const struct scan *scan)
{
    struct open_run run = { .scan = scan };
    uint64_t end = hva + len;
    int rc = 0;

    while (hva < end && rc == 0) {
        uint64_t next = (hva | (PAGE_SIZE_2M - 1)) + 1;

        if (next > end)
            next = end;
        rc = runs_of_chunk(pm, hva, next - hva, &run);
        hva = next;
    }
    return rc == 0 ? run_close(&run) : rc;
}

int pagemap_runs(struct pagemap *pm, hva_t hva, uint64_t len, host_run_cb cb, void *ctx)
{
    struct scan scan = { .cb = cb, .ctx = ctx };

    if (hva.v % PAGE_SIZE_4K || len % PAGE_SIZE_4K)
        return -EINVAL;
    return pm->method == PAGEMAP_BY_SCAN ? runs_by_scan(pm, hva.v, len, &scan)
                                         : runs_by_entries(pm, hva.v, len, &scan);
}

/* --- pages with their frames ------------------------------------------------------------- */

struct into {
    uint64_t hva;
    struct host_page *out;
};

/* Lays a run over the pages, whose frames are there already. */
static int lay(void *ctx, hva_t hva, uint64_t len, const struct host_page *page)
{
    const struct into *into = ctx;
    size_t first = (hva.v - into->hva) >> PAGE_SHIFT_4K;

    for (size_t i = first; i < first + (len >> PAGE_SHIFT_4K); i++) {
        uint64_t pfn = into->out[i].pfn;

        into->out[i] = *page;
        into->out[i].pfn = page->present ? pfn : 0;
    }
    return 0;
}

int pagemap_pages(struct pagemap *pm, hva_t hva, size_t n, struct host_page *out)
{
    struct into into = { .hva = hva.v & ~(PAGE_SIZE_2M - 1) };
    struct host_page around[PAGES_2M];
    uint64_t entry[64];

    if (hva.v % PAGE_SIZE_4K)
        return -EINVAL;
    for (size_t done = 0; done < n;) {
        size_t some = n - done < 64 ? n - done : 64;
        int rc = read_entries(pm->fd, hva.v + (done << PAGE_SHIFT_4K), entry, some);

        if (rc < 0)
            return rc;
        for (size_t i = 0; i < some; i++)
            out[done + i] = decode(pm, entry[i]);
        done += some;
    }
    /* Sizes are seen in whole 2 MiB only. */
    for (size_t done = 0; done < n; into.hva += PAGE_SIZE_2M) {
        size_t skip = (hva.v + (done << PAGE_SHIFT_4K) - into.hva) >> PAGE_SHIFT_4K;
        size_t some = PAGES_2M - skip < n - done ? PAGES_2M - skip : n - done;
        int rc;

        memset(around, 0, sizeof(around));
        for (size_t i = 0; i < some; i++)
            around[skip + i] = out[done + i];
        into.out = around;
        rc = pagemap_runs(pm, (hva_t){ into.hva }, PAGE_SIZE_2M, lay, &into);
        if (rc < 0)
            return rc;
        memcpy(out + done, around + skip, some * sizeof(*out));
        done += some;
    }
    return 0;
}

int pagemap_frame(hva_t hva, hpa_t *out)
{
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    uint64_t entry = 0;
    int rc = fd >= 0 ? read_entries(fd, hva.v, &entry, 1) : -errno;

    if (fd >= 0)
        (void)close(fd);
    if (rc < 0)
        return rc == -EACCES ? -EPERM : rc;
    if (!(entry & ENTRY_PRESENT))
        return -ENODATA;
    if (!(entry & ENTRY_PFN))
        return -EPERM;
    *out = hpa((entry & ENTRY_PFN) << PAGE_SHIFT_4K | hva.v % PAGE_SIZE_4K);
    return 0;
}
