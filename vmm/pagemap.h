/*
 * What the host kernel has behind addresses of this process: which pages are there, how
 * large they really are, and on which frame. A look from outside: nothing is changed or touched.
 */
#ifndef TWOFOLD_VMM_PAGEMAP_H
#define TWOFOLD_VMM_PAGEMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ept/addr.h"
#include "vmm/error.h"

enum pagemap_method {
    PAGEMAP_BY_SCAN,     /* ioctl PAGEMAP_SCAN, Linux 6.7: state and size from the page tables */
    PAGEMAP_BY_FRAMES,   /* /proc/self/pagemap and /proc/kpageflags: sizes by the frames */
    PAGEMAP_BY_PRESENCE, /* /proc/self/pagemap without frames: neither sizes nor zero pages */
};

struct host_page {
    bool present; /* mapped into this process */
    bool swapped; /* in the host's swap */
    bool zero;    /* the shared zero page, small or huge */
    bool file_or_shared;
    unsigned shift; /* 12, 21 or 30: of the page as it is mapped */
    uint64_t pfn;   /* frame of this 4 KiB; 0: not permitted, or unknown */
};

struct pagemap;

/*
 * Opens the view. `base_shift` is the smallest page that the mappings asked about can have: 12,
 * or hugetlb's 21 or 30. Close with pagemap_close(); of one thread at a time. Errors: -EACCES,
 * -ENOENT: then /proc/self/smaps has totals, but no pages.
 */
int pagemap_open(struct pagemap **out, unsigned base_shift, struct error *err);
void pagemap_close(struct pagemap *pm);

enum pagemap_method pagemap_method(const struct pagemap *pm);

/* Uses another method that this host has, as when two are compared. 0, or -ENOTSUP. */
int pagemap_use(struct pagemap *pm, enum pagemap_method method);

/* One line for a person: the method and how exact it is. */
const char *pagemap_describe(const struct pagemap *pm);

/* True when states and sizes are those of the page tables; else see pagemap_describe(). */
bool pagemap_exact(const struct pagemap *pm);

/* The `n` pages of 4 KiB from `hva` (aligned), frames included. 0 or -errno. */
int pagemap_pages(struct pagemap *pm, hva_t hva, size_t n, struct host_page *out);

/*
 * Calls cb for each run of pages that are alike and present or swapped in [hva, hva + len),
 * ascending; their pfn is 0. What is between two runs is not there. Cheap where nothing is.
 * 0, -errno, or what cb returned, which ends it.
 */
typedef int (*host_run_cb)(void *ctx, hva_t hva, uint64_t len, const struct host_page *page);
int pagemap_runs(struct pagemap *pm, hva_t hva, uint64_t len, host_run_cb cb, void *ctx);

/*
 * Where the byte at `hva` of this process is at this moment. 0; -ENODATA: no page there now (not
 * touched yet, or swapped out); -EPERM: frames are shown only to CAP_SYS_ADMIN. The host may move
 * the page a moment later.
 */
int pagemap_frame(hva_t hva, hpa_t *out);

#endif
