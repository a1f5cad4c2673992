/*
 * What vmm/migrate*.c share.
 */
#ifndef TWOFOLD_VMM_MIGRATE_IMPL_H
#define TWOFOLD_VMM_MIGRATE_IMPL_H

#include "vmm/migrate.h"
#include "vmm/pages_impl.h"

/* Pages are moved in blocks of at most this size, or in one huge page. */
#define MIGRATE_BLOCK PAGE_SIZE_2M

/* One migrate_range() under way, within one part. */
struct migration {
    struct pages *p;
    struct pages_part part; /* a copy */
    struct pagemap *look;   /* NULL: not permitted */
    struct migrate_report *out;
    struct error *err;
    bool hugetlb;

    /* MIGRATE_BY_MOVE: two aligned blocks, made anew for each block of the guest */
    struct uffd own;  /* for parts that nobody has registered */
    struct uffd *use; /* this one, or the fault thread's */
    uint8_t *area;    /* the reservation around both */
    uint8_t *outside; /* where the guest's pages wait */
    uint8_t *fresh;   /* where the new ones are made */

    /* MIGRATE_BY_HOLD */
    uint8_t *copy; /* of a block */
    int pipe[2];   /* holds on to frames, so that they can't come back */
    int sink;      /* /dev/null */
};

/* A block: pages of `shift`, present, within one part; never across an aligned MIGRATE_BLOCK unless
 * it is one page. `*shift` becomes their size afterwards. 0 or -errno. */
int migrate_block_by_move(struct migration *m, uint8_t *host, uint64_t len, unsigned *shift);
int migrate_block_by_hold(struct migration *m, uint8_t *host, uint64_t len, unsigned *shift);

/* Prepare and clean up. -ENOTSUP: MIGRATE_BY_MOVE is not to be had here. */
int migrate_move_start(struct migration *m);
void migrate_move_stop(struct migration *m);
int migrate_hold_start(struct migration *m);
void migrate_hold_stop(struct migration *m);

/* Guest memory is lost, or can't be served any more: ends the VM with this sentence. */
int migrate_lost(struct migration *m, int code, const char *what);

/* The frames behind a block, 0 where unknown; for migrate_compare(). NULL when out of memory. */
uint64_t *migrate_frames(struct migration *m, const uint8_t *host, uint64_t len);

/* Counts frames that did, and that did not, change; frees `before`. */
void migrate_compare(struct migration *m, const uint8_t *host, uint64_t len, uint64_t *before);

/* True when the block is one huge page now. */
bool migrate_huge_at(struct migration *m, const uint8_t *host, uint64_t len);

#endif
