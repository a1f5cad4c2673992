/*
 * Which pages were written and which were touched at all, since somebody last cleared that:
 * docs/tracking.md. Dirty: KVM's dirty log and the monitor's own writes. Accessed: pages are
 * taken out of the way, and the fault of the next access says so.
 *
 * All but the fault thread's part runs on the I/O thread, so that no command comes between.
 */
#ifndef TWOFOLD_VMM_TRACK_H
#define TWOFOLD_VMM_TRACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ept/addr.h"
#include "vmm/error.h"
#include "vmm/pages.h"

#define TRACK_ACCESSED (1u << 0)
#define TRACK_DIRTY    (1u << 1)

struct track;

/*
 * Tracks nothing at first, and costs nothing. `vm_fd` is the KVM VM whose slots `pages` describes,
 * -1: none, then dirty is the monitor's own writes alone. -ENOMEM. Both have to outlive it, but
 * for the fault thread of `pages`, which has to have ended when it is destroyed.
 */
int track_create(struct track **out, struct pages *pages, int vm_fd, struct error *err);
void track_destroy(struct track *t);

/*
 * Tracks `what` (TRACK_...) from now on, over all of RAM for dirty, over the pages of [at, at +
 * len) for accessed. Of what is tracked already nothing is lost: see track_clear(). Makes the range
 * managed for accessed. Errors: -ENOTSUP with the reason and what to do, -EBUSY (pinned or locked
 * pages), and those of pages_manage(). What could be started before stays on.
 */
int track_start(struct track *t, unsigned what, gpa_t at, uint64_t len, struct error *err);

/* Stops `what`: every page is where it was, and KVM logs no longer. 0 or -errno. */
int track_stop(struct track *t, unsigned what, struct error *err);

/* Forgets in [at, at + len) what was seen of `what` until now, without a gap for what comes. */
int track_clear(struct track *t, unsigned what, gpa_t at, uint64_t len, struct error *err);

/* Takes over what KVM has seen, so that the map's GP_DIRTY and track_count() are up to date. */
int track_update(struct track *t, struct error *err);

/* Bytes of [at, at + len) that are dirty, in pages of 4 KiB; as of track_update(). */
uint64_t track_dirty_bytes(const struct track *t, gpa_t at, uint64_t len);

struct track_info {
    unsigned on;                 /* TRACK_... */
    uint64_t since_ns;           /* of the last clear or start, CLOCK_MONOTONIC; 0: never */
    const char *dirty_method;    /* a line for a person, or NULL */
    const char *accessed_method; /* ... */
    uint64_t
        kept_bytes;  /* pages that could not be taken out, since the last clear: they seem idle */
    uint64_t faults; /* accesses seen by the fault thread, ever */
};
void track_info(const struct track *t, struct track_info *out);

#endif
