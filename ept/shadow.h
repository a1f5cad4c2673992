/*
 * Shadow page tables: x86-64 tables that map a guest's linear addresses straight to gpa, built from
 * the guest's own tables and kept in step with them (docs/shadow.md). The guest runs in ring 3 on
 * them, whatever ring it believes to be in.
 *
 *   guest's   CR3 -> PML4 -> PDPT -> PD -> PT -> gpa      in guest RAM, written by the guest
 *   shadow    root -> ...  the same path, a table of ours for each of the guest's  -> gpa
 *
 * A shadow is to the guest what a TLB is: it may hold what the guest's tables said since the
 * guest's last invalidation, never anything else. Knows nothing of KVM; several vCPU threads may
 * call at a time.
 */
#ifndef TWOFOLD_EPT_SHADOW_H
#define TWOFOLD_EPT_SHADOW_H

#include <stddef.h>

#include "ept/access.h"
#include "ept/addr.h"
#include "ept/format_x86.h"

struct shadow;

struct shadow_config {
    /* Where our tables lie: pool_pages pages of zeros at `pool`, which the CPU finds at pool_gpa.
     */
    void *pool;
    gpa_t pool_gpa;
    size_t pool_pages; /* at least 64, and 16 more than `cpus` */
    unsigned cpus;     /* at most 64 */
    bool gib_pages;    /* the real CPU has 1 GiB pages */
    bool nested;       /* the KVM below has nested paging: no page needs to be touched, and
                          shadow_flush.count is always 0 */
    /* The gate to guest RAM: NULL when [at, at + len) isn't RAM as a whole, or guarded. Called for
     * entries, for tables, and for large pages as a whole (to know whether they are RAM). */
    void *(*ram)(void *ctx, gpa_t at, uint64_t len);
    /* [at, at + len) of guest RAM was written by us (accessed and dirty bits). May be NULL. */
    void (*wrote)(void *ctx, gpa_t at, uint64_t len);
    void *ctx; /* of both, which are called with the shadow's lock held: they must not call it */
    uint64_t ram_end; /* gpa: all of guest RAM lies below */
    /* No guest mapping may lead to [hidden, hidden + hidden_size): it gets `nowhere` + the offset
     * instead, where nothing is. Both multiples of 4 KiB. */
    gpa_t hidden, nowhere;
    uint64_t hidden_size;
};

/* 0, -EINVAL, -ENOMEM. Its own memory is reserved, and taken as tables are made. */
int shadow_create(struct shadow **out, const struct shadow_config *cfg);
void shadow_destroy(struct shadow *s);

/* What decides how a guest's tables are read and what an access may do. MAXPHYADDR, 1 GiB pages and
 * the vendor are the same for all of a VM, and there are no protection keys. */
struct shadow_mode {
    struct x86_paging paging; /* four levels, paging on; .rflags: AC */
    bool user;                /* ring 3 */
};

/*
 * The monitor's window: entry `slot` of every root is `entry` from now on, whatever the guest has
 * there. slot 0 to 511; accesses of the guest to it miss (shadow_fault() then gives
 * SHADOW_WINDOW). entry 0: there is none.
 */
void shadow_window(struct shadow *s, unsigned slot, uint64_t entry);

/*
 * The root for vCPU `cpu` in this mode: cached by CR3, mode and ring, or made empty. It stays while
 * it is that vCPU's latest. 0; -EAGAIN: as SHADOW_CROWDED; -EINVAL: not four levels. A root for a
 * CR3 that is no RAM is fine: each access then is SHADOW_UNREADABLE.
 */
int shadow_root(struct shadow *s, unsigned cpu, const struct shadow_mode *mode, gpa_t *root);

enum shadow_result {
    SHADOW_FILLED,     /* the shadow allows it now; try again */
    SHADOW_REFUSED,    /* the guest's tables don't: walk->error_code is for its #PF */
    SHADOW_UNREADABLE, /* the walk left RAM or met a guarded page at the last reference */
    SHADOW_AGREES,     /* the shadow allowed it already: somebody else was faster. Or no entry can
                          allow it: ring 0 executes what SMAP keeps it from reading (SMEP off), or
                          the access isn't one of mode->user's ring. To be interpreted then */
    SHADOW_WINDOW,     /* the guest's tables map it, but it lies in the window's slot */
    SHADOW_CROWDED,    /* no table is free until the other vCPUs have flushed: have them leave the
                          guest, and try again */
};

/*
 * vCPU `cpu`, whose root is the latest of shadow_root() for this mode, faulted at `address`. Walks
 * the guest's tables as they are now; where they allow the access, sets their accessed and dirty
 * bits as hardware does and brings the shadow's path up to date. *walk is always filled. A leaf
 * whose dirty bit is clear is read-only in the shadow until the guest writes. Write-protected
 * tables of the guest become writable for it ("unsync") when it writes to them.
 */
enum shadow_result shadow_fault(struct shadow *s, unsigned cpu, const struct shadow_mode *mode,
                                gva_t address, const struct pt_access *access,
                                struct pt_walk *walk);

/*
 * The guest flushes everything of the current address space, or loads CR3 (whatever the new one):
 * all unsync tables are compared with what the shadow was made of; what differs is dropped. Tables
 * that did not change for some rounds are protected again. Global pages are dropped as well, which
 * the manual allows.
 */
void shadow_sync(struct shadow *s, unsigned cpu);

/* INVLPG: the same for the tables on the way to `address`, in all views of this address space. */
void shadow_invlpg(struct shadow *s, unsigned cpu, const struct shadow_mode *mode, gva_t address);

/* We wrote guest RAM ourselves for the guest (an instruction was interpreted): tables in it are
 * unsync from now on. After the write, and before the guest goes on. Cheap when there is none. */
void shadow_wrote(struct shadow *s, gpa_t at, uint64_t len);

/* --- what the real CPU caches ---------------------------------------------------------- */

/*
 * What was taken away or changed in our tables has to leave the CPU's caches, and those of a
 * KVM that shadows our tables in turn: such a KVM sees changes only if the vCPU itself stores to
 * the table's page (adds 0 to two bytes of it) after we changed it. Entries that only appeared, or
 * a leaf that became writable, need nothing.
 */
#define SHADOW_TOUCH_MAX 64

struct shadow_flush {
    uint64_t generation;
    bool more;                        /* than fit: to be done in another round */
    unsigned count;                   /* of `touch` */
    uint32_t touch[SHADOW_TOUCH_MAX]; /* numbers of pages of the pool, each to be stored to */
};

/*
 * Called before vCPU `cpu` enters the guest. True: it has to touch and flush first, as *flush says.
 * From here until shadow_left() it counts as inside the guest, where it may use any table it could
 * find.
 */
bool shadow_enter(struct shadow *s, unsigned cpu, struct shadow_flush *flush);

/* It is out of the guest. `flushed`: it did what shadow_enter() asked for (NULL: nothing was asked,
 * or it was not done). */
void shadow_left(struct shadow *s, unsigned cpu, const struct shadow_flush *flushed);

/* --- to look at ---------------------------------------------------------------------------- */

struct shadow_stats {
    uint64_t fills, fills_large; /* leaves made; those of 2 MiB and 1 GiB among them */
    uint64_t syncs;              /* shadow_sync() calls */
    uint64_t compared;           /* tables compared */
    uint64_t zaps;               /* entries dropped because the guest's differ */
    uint64_t unsyncs;            /* faults by a write to a protected table */
    uint64_t protects;           /* tables protected (again) */
    uint64_t roots_made, roots_hit, evictions;
    uint64_t tables, tables_max; /* in use, and the bound */
    uint64_t unsync_tables;      /* of the guest's, at this moment */
};
void shadow_stats(struct shadow *s, struct shadow_stats *out);

/*
 * The shadow's own walk of `address` in this mode, for people: nothing is filled or changed. Bit n
 * of *stale: the shadow's entry of level n was made from a guest's entry that reads otherwise now
 * (accessed and dirty bits aside). Addresses in walk->ref are gpa in the pool. -ENOENT: there is no
 * such root. The vCPUs should stand still.
 */
int shadow_look(struct shadow *s, const struct shadow_mode *mode, gva_t address,
                struct pt_walk *walk, unsigned *stale);

#endif
