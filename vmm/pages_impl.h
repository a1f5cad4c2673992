/*
 * The inside of struct pages, shared by vmm/pages*.c. Everybody else uses vmm/pages.h.
 */
#ifndef TWOFOLD_VMM_PAGES_IMPL_H
#define TWOFOLD_VMM_PAGES_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "vmm/pagemap.h"
#include "vmm/pages.h"
#include "vmm/uffd.h"

/* Pieces that pages_manage() may cut what the command line asked for into. */
#define PAGES_PARTS_MAX 64

/* A part of one slot with one policy. The parts cover all of RAM, in ascending order. */
struct pages_part {
    gpa_t base;
    uint64_t size;
    uint8_t *host;
    enum mem_backing backing;
    int fd;               /* as in struct mem_slot */
    uint64_t fd_offset;   /* of `base` */
    enum populate policy; /* as asked for at the start */
    bool registered;      /* with userfaultfd: no page comes but through the map */
    bool managed;         /* ... and the map is exact; see pages_learn() */
};

/* Written by the fault thread alone, but for `populate_*` and `locked`. */
struct pages_counters {
    _Atomic uint64_t missing, minor, wp, spurious, around_bytes, huge, ns;
    _Atomic uint64_t served; /* messages done with: missing + minor + wp when it is idle */
    _Atomic uint64_t locked_bytes, populate_ns, populate_bytes;
};

/* Who wants to see accesses (vmm/track_watch.c). Both run on the fault thread. */
struct pages_watch {
    void *ctx;
    /* An access to a page with GP_WATCHED: brings it back, wakes who waits, takes the flag away. 1:
     * done; 0: it is watched no longer, go on as usual; -errno: it can't be brought back. */
    int (*fault)(void *ctx, gpa_t at);
    /* The page was missing and has come; NULL: nobody asks. */
    void (*fresh)(void *ctx, gpa_t at);
    /* Where pages of RAM are while they are out, as far from each other as in RAM: `shadow` is the
     * place of `host`. NULL: they are nowhere else. What is no part of core dumps isn't there,
     * either. */
    uint8_t *shadow, *host;
};

struct pages {
    struct memory *mem;
    struct gpmap *map;
    struct pages_config cfg;

    /* Guards `part` and whole commands (manage, guard, learn) against each other. The fault thread
     * takes it for a look only. Order: this one, then the map's. Never held where guest memory is
     * touched. */
    pthread_mutex_t lock;
    struct pages_part part[PAGES_PARTS_MAX];
    size_t parts;

    struct uffd uffd; /* fd -1 while no range is managed */
    pthread_t thread;
    bool thread_started;
    uint8_t *sentinel; /* a page of our own: its fault tells the thread to end */
    _Atomic bool failed;

    uint8_t *zeros;       /* cfg.fault_around bytes that read as zero; pages are copied from it */
    uint8_t *staging;     /* 2 MiB, aligned, where huge pages are made; NULL: not used */
    struct pagemap *look; /* the fault thread's own, for the true size of huge pages; may be NULL */

    void (*on_fail)(void *ctx, const char *why);
    void *ctx;
    struct pages_counters count;
    struct pages_watch watch; /* `fault` is set before the first GP_WATCHED, and stays */
};

/*
 * pages_learn() on a part that is registered (but not yet managed) races with the fault thread:
 * there it may say of a page that it came (untouched to present or zero, zero to present), never
 * that it went. In a managed part only zero to present may be learned: the host kernel replaces a
 * zero page silently on the first write.
 */

/* The part that holds `at`, under p->lock; NULL when it is no RAM. */
struct pages_part *pages_part_at(struct pages *p, gpa_t at);

/* A copy of the registered part that holds this hva; false when there is none. */
bool pages_part_copy(struct pages *p, hva_t hva, struct pages_part *out);

/* The registered modes for a backing, as far as this kernel has them. */
uint64_t pages_uffd_modes(const struct pages *p, enum mem_backing backing);

/* --- pages_install.c: how a page gets there, by backing --- */

/* Serves the fault at `hva` with UFFD_PAGEFAULT_FLAG_...; the fault thread only. 0 or -errno. */
int pages_install(struct pages *p, hva_t hva, unsigned flags);

/* --- pages_learn.c --- */

/* As pages_learn(), of [at, at + len) within one part. */
int pages_learn_part(struct pages *p, const struct pages_part *part, gpa_t at, uint64_t len,
                     struct pagemap *pm);

/* Opens the view of the host's pages that fits this VM's backing; for pagemap_close(). */
int pages_look(struct pages *p, struct pagemap **out, struct error *err);

/* --- pages_fault.c --- */

/* Opens userfaultfd and starts the thread, once. Needs p->lock, or nobody else yet. */
int pages_fault_start(struct pages *p, struct error *err);
void pages_fault_stop(struct pages *p);

/* --- pages_guard.c --- */

/* Pages of RAM, whose first byte is at `host`, may be in `shadow` from here on: what is left out of
 * core dumps is left out there, too. 0 or -errno. */
int pages_guard_shadow(struct pages *p, uint8_t *shadow, uint8_t *host);

/* --- pages_populate.c --- */

/* All parts that are POPULATE_EAGER; with cfg.lock all of RAM, and locks it. */
int pages_populate(struct pages *p, struct error *err);

#endif
