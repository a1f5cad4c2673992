/*
 * Random edits of live page tables, each followed by accesses that a model predicts
 * (selftest=tables; docs/guest.md, "Live page tables").
 *
 * One address space for all CPUs. A window is a PML4 entry of its own and the tables below it:
 *
 *   PML4E -> PDPTE -> PDE of 4 regions -> page of 2 MiB, or PTE of 8 pages, or nothing
 *
 * Each CPU has a window that nobody else touches, and one is shared by all, under a lock. The model
 * is what each entry has to be now, accessed and dirty bits included.
 */
#ifndef GUEST_KERNEL_TABLES_TEST_H
#define GUEST_KERNEL_TABLES_TEST_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/kernel/lock.h"
#include "guest/kernel/mm.h"

/* Options edits= and seed=; prints the differences and a line of counts. True when none differs. */
bool tables_test(void);

#define TABLES_EDITS 2000 /* unless edits= says otherwise */

/* --- between the files of the test ---------------------------------------------------- */

#define REGIONS     4
#define PAGES       8 /* of a region, those that are ever accessed */
#define SHARED_SLOT 2
#define OWN_SLOT    3   /* and the following, one a CPU */
#define STUB_SLOT   100 /* what ring 3 runs */
#define SELF_SLOT   200 /* the PML4 itself */

/* Offsets in each page of the pool: its number, code that gives it, a word for each CPU's writes.
 */
#define PAGE_NUMBER    0
#define PAGE_CODE_RET  16
#define PAGE_CODE_HLT  32
#define PAGE_WORD(cpu) (64 + 8 * (cpu))

struct window {
    struct lock lock; /* of the shared one */
    bool shared;
    unsigned slot;
    uint64_t *pdpt, *pd, *pt[REGIONS];                        /* the tables, in the direct map */
    uint64_t pml4e, pdpte, pde[REGIONS], pte[REGIONS][PAGES]; /* the model */
    uint32_t stale; /* bit region * PAGES + page: a TLB may have less rights than the entries */
};

/* An entry of a window: of level 4 to 1; and an address whose translation uses it. */
struct place {
    struct window *w;
    unsigned level, region, page;
};

/* A CPU at work. */
struct editor {
    uint64_t random;
    unsigned cpu;
    uint64_t todo, n; /* edits; the number of this one */
    uint64_t shown;   /* differences printed */
    const char *what; /* the last edit in words, and how it was made known */
    const char *how;
    struct place at;
};

/* tables_space.c */
bool tables_space_make(unsigned n_cpus); /* false: no memory */
struct window *tables_window(unsigned cpu);
struct window *tables_shared(void);
extern struct aspace *tables_aspace;

uint64_t place_gva(const struct place *p);      /* of the page's first byte */
uint64_t *place_entry(const struct place *p);   /* in the direct map */
uint64_t *place_model(const struct place *p);   /* what it has to be */
uint64_t place_self_gva(const struct place *p); /* of the entry, through SELF_SLOT */

/* Does the entry of level 2 map a large page? */
bool place_is_large(const struct place *p);

/* A number below n. */
unsigned editor_pick(struct editor *e, unsigned n);

/* Some page of a window. */
void place_pick(struct editor *e, struct place *p);

/* Some page or large page of the pool. */
uint64_t tables_some_page(struct editor *e);
uint64_t tables_some_large(struct editor *e);

/* tables_edit.c: one edit of the window, flushed where that is due; leaves its place in e->at. */
void tables_edit(struct editor *e, struct window *w);

/* tables_check.c: compares one access to the page of `p` with the model. */
void tables_access(struct editor *e, const struct place *p);

/* Does the entry have the model's value? Says so if not, and makes the model follow. */
void tables_compare(struct editor *e, const struct place *p);

/* Counts a difference, and begins its report if it is one of the first: whether it is. */
bool tables_differ(struct editor *e);

/* Faults that a TLB entry with less rights explains: allowed, and counted. */
void tables_spurious(void);

#endif
