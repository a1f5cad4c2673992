/*
 * The pages of a VM: its guest-physical map (ept/gpmap.h) and what keeps the host in step with
 * it: the fault thread (userfaultfd), population, guards. docs/guest-physical-map.md.
 *
 * A range is either kernel-managed (the host kernel populates it; the map learns its state
 * when asked) or managed (userfaultfd: every first touch goes through the map).
 */
#ifndef TWOFOLD_VMM_PAGES_H
#define TWOFOLD_VMM_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ept/gpmap.h"
#include "vmm/error.h"
#include "vmm/memory.h"

enum populate {
    POPULATE_KERNEL, /* kernel-managed: the host kernel's own demand paging */
    POPULATE_LAZY,   /* managed: demand paging by us */
    POPULATE_EAGER,  /* kernel-managed, touched before the first instruction */
};

/* A part of RAM with a policy of its own; gpa, may end beyond a slot's end (then it is an error).
 */
struct populate_range {
    gpa_t base;
    uint64_t size; /* 0: to the end of RAM */
    enum populate policy;
};

#define POPULATE_RANGES_MAX  16
#define FAULT_AROUND_DEFAULT (64u << 10)

struct pages_config {
    enum populate populate; /* where no range says otherwise */
    struct populate_range range[POPULATE_RANGES_MAX];
    size_t ranges;
    uint64_t fault_around; /* bytes brought in by one fault, a power of two from 4096 to 2 MiB */
    bool lock;             /* everything touched and mlocked before the first instruction */
    bool progress;         /* a bar on stderr, when that is a terminal */
};

/* Counters of the fault thread and of all changes; bytes or events. */
struct pages_stat {
    struct gpmap_stats map;
    uint64_t faults_missing, faults_minor, faults_wp; /* messages read from userfaultfd */
    uint64_t faults_spurious; /* the page was there already: woken, nothing done */
    uint64_t around_bytes;    /* brought in besides the page that was touched */
    uint64_t huge_installed;  /* 2 MiB or 1 GiB pages put in by a fault */
    uint64_t fault_ns;        /* time that the fault thread worked */
    uint64_t locked_bytes;
    uint64_t populate_ns, populate_bytes; /* of the eager part */
};

struct pages;

/*
 * Builds the map over all slots of `mem` and prepares its ranges; nothing is touched but what
 * `eager` and `lock` ask for. To be called before anybody touches guest memory. `on_fail` is
 * called, from the fault thread, when guest memory can't be served any more: it ends the VM with a
 * sentence. Errors name what is missing (userfaultfd, its feature, RLIMIT_MEMLOCK with the limit
 * that is needed).
 */
int pages_create(struct pages **out, struct memory *mem, const struct pages_config *cfg,
                 void (*on_fail)(void *ctx, const char *why), void *ctx, struct error *err);

/* After KVM's vCPUs are gone. Ends the fault thread. NULL is fine. */
void pages_destroy(struct pages *p);

struct gpmap *pages_map(struct pages *p);
struct memory *pages_memory(struct pages *p);
void pages_stat(struct pages *p, struct pages_stat *out);

/* Parts of RAM by policy, in ascending order: the n-th, or false when there is none. */
struct pages_range {
    gpa_t base;
    uint64_t size;
    enum populate policy; /* as asked for */
    bool managed;         /* by the fault thread, at this moment */
};
bool pages_range(struct pages *p, size_t n, struct pages_range *out);

/* Brings the kernel-managed part of [at, at + len) up to date (pagemap, PAGEMAP_SCAN); cheap enough
 * for a command, not for a hot path. 0 or -errno. Drops nothing of what managed ranges say. */
int pages_learn(struct pages *p, gpa_t at, uint64_t len);

/* Makes the range managed, for a feature that needs to see its faults: 0, or -errno with the
 * reason. Idempotent. */
int pages_manage(struct pages *p, gpa_t at, uint64_t len, struct error *err);

/* True when the range is managed as a whole. */
bool pages_managed(struct pages *p, gpa_t at, uint64_t len);

enum page_guard {
    PAGE_GUARD_OFF,
    PAGE_GUARD_NODUMP, /* left out of core dumps */
    PAGE_GUARD_ACCESS, /* neither guest nor monitor may touch it; left out of core dumps, too */
};

/*
 * Guards or unguards a range; content is kept. While the vCPUs stand still, and on the I/O thread
 * (see memory_guard()). -EINVAL: not aligned or no RAM; -EBUSY: pinned; -ENOSPC, -ENOMEM: too many
 * separate ranges.
 */
int pages_guard(struct pages *p, gpa_t at, uint64_t len, enum page_guard guard, struct error *err);
int page_guard_parse(const char *name, enum page_guard *out, struct error *err);

const char *populate_name(enum populate p);
int populate_parse(const char *name, enum populate *out, struct error *err);

#endif
