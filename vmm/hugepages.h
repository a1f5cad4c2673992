/*
 * The host's reserved huge pages (hugetlbfs): how many there are, and the
 * sentence for a person when there are too few.
 */
#ifndef TWOFOLD_VMM_HUGEPAGES_H
#define TWOFOLD_VMM_HUGEPAGES_H

#include <stdint.h>

#include "vmm/error.h"

/* One page size's pool, in pages. */
struct hugepages {
    uint64_t total;    /* nr_hugepages */
    uint64_t free;     /* not in use, but possibly promised to somebody */
    uint64_t reserved; /* promised, not yet touched */
};

/*
 * Reads the pool of `page` bytes. Returns 0, or -ENOENT when this host has no
 * pages of that size.
 */
int hugepages_read(uint64_t page, struct hugepages *out);

/* "4 KiB", "2 MiB" or "1 GiB". */
const char *hugepages_size_name(uint64_t page);

/*
 * Explains why `bytes` of huge pages could not be mapped: how many pages are
 * missing and the command that adds them. Returns `code`, which is negative.
 */
int hugepages_missing(int code, uint64_t bytes, uint64_t page, struct error *err);

#endif
