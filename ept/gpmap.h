/*
 * The guest-physical map: what is behind each page of a VM's RAM, in one EPT-format tree
 * that the monitor owns (docs/guest-physical-map.md). A present leaf gives the hva and the true
 * size of the host's page; an entry that is not present says why.
 *
 * KVM's own tables are a cache of what this map allows. All who keep state about pages keep it here
 * and change it by gpmap_change().
 */
#ifndef TWOFOLD_EPT_GPMAP_H
#define TWOFOLD_EPT_GPMAP_H

#include <stddef.h>

#include "ept/addr.h"
#include "ept/walk.h"

enum gp_state {
    GP_UNTOUCHED, /* nobody has touched it: reads as zero, costs nothing */
    GP_PRESENT,   /* a host page of its own */
    GP_ZERO,    /* reads as zero, by the host's shared zero page: a leaf without the write right */
    GP_GUARDED, /* the guest may not touch it; its content is kept */
    GP_BALLOONED,  /* given back by the guest (room; no one sets it yet) */
    GP_COMPRESSED, /* in the compressed tier (room) */
    GP_SWAPPED,    /* in swap slot `payload` (room) */
    GP_STATES,
};

#define GP_MASK(state) (1u << (state))
#define GP_ANY         ((1u << GP_STATES) - 1)

/* Flags of a page; kept while it changes its state, unless said otherwise. */
#define GP_NODUMP   (1u << 0) /* not in core dumps or other copies for people */
#define GP_ACCESSED (1u << 1) /* by the tracker, since it was last cleared; EPT bit 8 */
#define GP_DIRTY    (1u << 2) /* the same for writes; EPT bit 9 */
#define GP_LOCKED   (1u << 3) /* mlocked */
#define GP_WATCHED  (1u << 4) /* zapped or write-protected so that the next access is seen */
#define GP_LEARNED  (1u << 5) /* the host kernel manages this page: state as of the last look */

struct gp_page {
    enum gp_state state;
    unsigned shift;    /* of the host's page: 12, 21, 30; of the leaf, so aligned */
    unsigned flags;    /* GP_NODUMP... */
    unsigned backing;  /* caller's small number, below 8 (enum mem_backing) */
    hva_t hva;         /* of the first byte of this (small or large) page; GP_PRESENT, GP_ZERO */
    uint64_t payload;  /* 40 bits of the state's own (swap slot); not GP_PRESENT, not GP_ZERO */
    enum gp_state was; /* GP_GUARDED only: its state before, to which `restore` goes back */
};

struct gpmap;

/* Covers nothing at first. Destroy when no thread uses it any more. */
int gpmap_create(struct gpmap **out); /* 0, -ENOMEM */
void gpmap_destroy(struct gpmap *map);

/*
 * Makes [base, base + size) RAM whose bytes stand at `hva`: all of it GP_UNTOUCHED. Reserves the
 * tables that it can ever need. -EEXIST: part of it is RAM already. -EINVAL: not whole pages,
 * beyond 48 bits, or `backing` too large. -ENOMEM.
 */
int gpmap_add(struct gpmap *map, gpa_t base, uint64_t size, hva_t hva, unsigned backing);

/*
 * The state of the page around `at`, at this moment; takes no lock. Fills hva and backing for every
 * state. -ENOENT: no RAM.
 */
int gpmap_get(const struct gpmap *map, gpa_t at, struct gp_page *out);

/*
 * Called for a run of pages that are equal in all that struct gp_page says, as long as there are
 * any: of a large leaf, untouched gigabytes, or one page. Never across two gpmap_add() ranges. With
 * the map's lock held: the host's side of the change, such as the ioctl that installs a page.
 * from->hva and to->hva are those of the run's first byte, in every state; from->shift is that of
 * the leaf, of which the run may be a part. *to may be amended (shift, flags, payload). 0 commits;
 * a negative value leaves this run as it was and ends the change. Must not touch guest memory that
 * may fault, nor call the map but for gpmap_get().
 */
typedef int (*gp_effect)(void *ctx, gpa_t at, uint64_t len, const struct gp_page *from,
                         struct gp_page *to);

struct gp_change {
    unsigned from;        /* GP_MASK()s: pages in other states are passed over */
    unsigned need_flags;  /* passed over unless all of these are set ... */
    unsigned avoid_flags; /* ... and none of these */
    struct gp_page to;    /* state, shift, payload; hva is kept and backing too; GP_GUARDED keeps
                             shift and payload as well */
    unsigned set_flags, clear_flags;
    bool keep_state;  /* change flags only */
    bool restore;     /* to what each page was when it was guarded; `from` is GP_MASK(GP_GUARDED) */
    gp_effect effect; /* may be NULL */
    void *ctx;
};

/*
 * The one way in which pages change. Walks [at, at + len), 4 KiB granular, changes what fits
 * `change`; large leaves that the range cuts are split, also when only a flag of a part changes;
 * neighbours that became the same are one leaf of to.shift where alignment and flags allow
 * (accessed and dirty are or-ed). *changed receives the bytes that fitted and were not refused (may
 * be NULL). 0; -EINVAL (not whole pages, no such state or flag), -ENOENT (not all of it is RAM;
 * nothing changed), or what the effect returned.
 */
int gpmap_change(struct gpmap *map, gpa_t at, uint64_t len, const struct gp_change *change,
                 uint64_t *changed);

/* Holds the map still for a look at several pages, or for an effect over states that don't change.
 * Recursive: no. */
void gpmap_lock(struct gpmap *map);
void gpmap_unlock(struct gpmap *map);

/*
 * Calls cb for each run of pages in [at, at + len) that are equal, as for gp_effect; page->hva is
 * that of the run's first byte. Takes the lock. 0; -EINVAL, -ENOENT (where RAM ends), or what cb
 * returned, if not 0.
 */
typedef int (*gp_run_cb)(void *ctx, gpa_t at, uint64_t len, const struct gp_page *page);
int gpmap_runs(struct gpmap *map, gpa_t at, uint64_t len, gp_run_cb cb, void *ctx);

/*
 * Bytes by state and present bytes by size, and how often pages went from one state to another;
 * kept, not counted: cheap, and readable at any time, though one counter may be ahead of the other.
 */
struct gpmap_stats {
    uint64_t bytes[GP_STATES];
    uint64_t present_4k, present_2m, present_1g;
    uint64_t transitions[GP_STATES][GP_STATES]; /* [from][to], in 4 KiB pages */
    uint64_t tables;                            /* 4 KiB pages that the map itself takes */
};
void gpmap_stats(const struct gpmap *map, struct gpmap_stats *out);

/*
 * The tree for pt_walk(), pt_access() and nested_walk(): EPT format, output = hva. ctx is the map.
 * gpmap_read() reads only what is a table of this map, else -EFAULT. Who wants it all asks
 * gpmap_runs().
 */
void gpmap_space(const struct gpmap *map, struct pt_space *out);
int gpmap_read(void *ctx, uint64_t at, unsigned size, uint64_t *raw);

/* What an entry of this map says, be it a leaf or not present; for whoever shows one. `level` as in
 * struct pt_ref. Untouched pages have no backing in their entry. */
void gpmap_decode(uint64_t raw, unsigned level, struct gp_page *out);

/* "untouched", "present", ...; never NULL. */
const char *gp_state_name(enum gp_state state);

#endif
