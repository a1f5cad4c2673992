/*
 * The inside of struct track: track.c decides, track_dirty.c and track_watch.c know one kind each.
 */
#ifndef TWOFOLD_VMM_TRACK_IMPL_H
#define TWOFOLD_VMM_TRACK_IMPL_H

#include <stdatomic.h>

#include "vmm/memory.h"
#include "vmm/pages_impl.h"
#include "vmm/track.h"

enum watch_method {
    WATCH_NONE,  /* not decided yet */
    WATCH_MINOR, /* shared memory: unmapped here, kept in the file */
    WATCH_MOVE,  /* anonymous memory: moved to `shadow` and back */
};

struct track {
    struct pages *pages;
    struct memory *mem;
    uint8_t *host; /* hva of the first byte of RAM, which is one range there */
    uint64_t bytes;
    int vm_fd;
    unsigned on; /* TRACK_... */
    uint64_t since_ns;

    /* track_dirty.c: a bit for each 4 KiB, in the order of hva */
    bool manual; /* KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: reading and clearing are two steps */
    size_t words;
    uint64_t *dirty; /* seen since the last clear */
    uint64_t *own;   /* the monitor's own writes, not in `dirty` yet; other threads add to it */
    uint64_t *log;   /* room for what KVM says */

    /* track_watch.c; read by the fault thread once pages->watch is set */
    enum watch_method method;
    uint8_t *shadow; /* where pages are while they are watched, as far from each other as in RAM */
    uint8_t *shadow_map;
    size_t shadow_map_bytes;
    gpa_t watch_at; /* what is watched; the fault thread looks at it meanwhile */
    uint64_t watch_len;
    uint64_t kept_bytes; /* under the map's lock */
    _Atomic uint64_t faults;
};

/* --- track_dirty.c --- */

int dirty_start(struct track *t, struct error *err);
int dirty_stop(struct track *t, struct error *err);

/* Moves what KVM and the monitor have noted into `dirty`, and marks the map's leaves. */
int dirty_fetch(struct track *t, struct error *err);
int dirty_clear(struct track *t, gpa_t at, uint64_t len, struct error *err);
const char *dirty_describe(const struct track *t);

/* --- track_watch.c --- */

int watch_start(struct track *t, gpa_t at, uint64_t len, struct error *err);
int watch_stop(struct track *t, struct error *err);
int watch_clear(struct track *t, gpa_t at, uint64_t len, struct error *err);
const char *watch_describe(const struct track *t);
void watch_destroy(struct track *t);

#endif
