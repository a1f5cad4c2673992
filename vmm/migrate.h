/*
 * Execution-time binding: gives a running guest other host frames below the same gpa and hva.
 * docs/binding.md.
 */
#ifndef TWOFOLD_VMM_MIGRATE_H
#define TWOFOLD_VMM_MIGRATE_H

#include <stdbool.h>
#include <stdint.h>

#include "ept/addr.h"
#include "vmm/error.h"
#include "vmm/pages.h"

enum migrate_method {
    MIGRATE_BY_MOVE, /* UFFDIO_MOVE: the vCPUs run on, and wait if they touch what is away */
    MIGRATE_BY_HOLD, /* the vCPUs stand still meanwhile */
};

/* How the vCPUs are stopped, for MIGRATE_BY_HOLD: vm_hold() and vm_let_go(). */
struct migrate_hold {
    int (*hold)(void *ctx, bool *held);
    void (*let_go)(void *ctx, bool held);
    void *ctx;
    bool always; /* don't even try MIGRATE_BY_MOVE */
};

/* What became of the range, in bytes; moved + busy + empty is all of it. */
struct migrate_report {
    enum migrate_method method;
    uint64_t moved;   /* its content is in other pages now */
    uint64_t huge;    /* ... of that, as 2 MiB or 1 GiB */
    uint64_t split;   /* ... of that, what was in huge pages and no longer is */
    uint64_t busy;    /* the host kernel or a tracker uses it at this moment: left alone */
    uint64_t empty;   /* no page to move: untouched, or the shared zero page */
    uint64_t seen;    /* of `moved`: frames seen before and after (needs CAP_SYS_ADMIN) */
    uint64_t same;    /* ... and of these, the same frame came back */
    uint64_t ns;      /* for all of it */
    uint64_t held_ns; /* the vCPUs stood still */
    uint64_t away_ns; /* the longest time for which a page could not be touched */
};

/*
 * Moves the pages of [at, at + len), which is aligned to the backing's page size. The guest loses
 * no write, and its tables don't change. On the I/O thread. Errors: -EINVAL (no RAM, or not
 * aligned), -EBUSY (pinned, guarded, or the vCPUs can't be stopped), -ENOMEM (hugetlb: says how
 * many pages the pool lacks). What was moved before an error stays moved.
 */
int migrate_range(struct pages *p, gpa_t at, uint64_t len, const struct migrate_hold *hold,
                  struct migrate_report *out, struct error *err);

#endif
