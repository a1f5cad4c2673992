/*
 * The two-dimensional walk: a guest's tables, whose every address is translated by
 * the host's tables first. (g + 1) * (h + 1) - 1 references when both are walked whole.
 *
 *              column 0   column 1   ...  column g
 *   host       h refs     h refs          h refs      translates the gpa of ...
 *   guest      root's     next            -           ... this entry; at last, of the page
 *              entry      entry
 *
 * g and h are the levels really walked, and h may differ from column to column: the guest's tables
 * can lie in small host pages and the page itself in a large one.
 */
#ifndef TWOFOLD_EPT_NESTED_H
#define TWOFOLD_EPT_NESTED_H

#include "ept/access.h"
#include "ept/addr.h"

#define NESTED_COLUMNS  (PT_LEVELS_MAX + 1)
#define NESTED_REFS_MAX ((PT_LEVELS_MAX + 1) * (PT_LEVELS_MAX + 1) - 1)

enum pt_dim {
    PT_DIM_GUEST,
    PT_DIM_HOST,
};

/*
 * Both dimensions. `host` maps a gpa to what `read_guest` takes: the host's address of the same
 * byte. With a host format of 0 levels the walk is one-dimensional, and that address is the gpa.
 */
struct nested_space {
    struct pt_space guest, host;
    pt_read read_guest; /* an entry of the guest's tables, at a translated address */
    pt_read read_host;  /* an entry of the host's tables */
    void *guest_ctx, *host_ctx;
};

/* One reference, in the order that a CPU makes them. */
struct nested_ref {
    enum pt_dim dim;
    unsigned column;   /* 0: on the way to the guest's root table's entry */
    struct pt_ref ref; /* .at: gpa of a guest's entry, host address of a host's */
    uint64_t host_at;  /* of a guest's entry: its translated address; else = ref.at */
};

/*
 * After a fault of the host's dimension in a column before the last one, the guest's walk ends
 * there as PT_READ_FAILED: with that column's entry as its last reference, raw 0, though nobody
 * has read it and `ref` does not hold it. When only the update of its accessed or dirty bit was
 * refused, the entry was read: then it is in `ref`, and guest.ref keeps its value.
 */
struct nested_walk {
    enum pt_fault fault;
    enum pt_dim fault_dim; /* which dimension refused; only after a fault */
    unsigned fault_column; /* where */
    uint64_t error_code;   /* of that dimension's format: struct pt_walk */
    gva_t input;
    gpa_t gpa;            /* of the page + offset; valid when guest.fault is PT_OK */
    uint64_t output;      /* host address; PT_OK only */
    unsigned shift;       /* of what a TLB would hold: the smaller leaf; PT_OK only */
    bool fault_update;    /* the host refused the update of an accessed or dirty bit */
    struct pt_walk guest; /* its refs are the guest's entries */
    struct pt_walk host[NESTED_COLUMNS]; /* [c] translates the gpa of column c */
    uint64_t column_gpa[NESTED_COLUMNS]; /* ... which is this one */
    unsigned columns;                    /* of `host`, so many were begun */
    unsigned count;
    struct nested_ref ref[NESTED_REFS_MAX];
};

/*
 * Walks `input` in both dimensions. The guest's tables are read with the rights that the host's
 * format takes such reads for: NPT always for writes of a user, EPT for writes when it keeps
 * accessed and dirty bits. Where the CPU would set an accessed or dirty bit in a guest's entry, the
 * host has to let it write in any case. The first refusal on the way is the fault: the host's about
 * a table comes before what the guest would find in it, and the guest's own comes before the host's
 * about the page. Each entry is read once. Touches nothing but through the callbacks and fills *out
 * in every case. AMD APM vol. 2, 15.25.5 "Nested Table Walk" and 15.25.6 "Nested versus Guest Page
 * Faults, Fault Ordering"; Intel SDM vol. 3C, 29.3.2 "EPT Translation Mechanism" and 29.3.5
 * "Accessed and Dirty Flags for EPT".
 */
enum pt_fault nested_walk(const struct nested_space *space, gva_t input,
                          const struct pt_access *access, struct nested_walk *out);

/* (g + 1) * (h + 1) - 1. */
unsigned nested_refs(unsigned guest_levels, unsigned host_levels);

#endif
