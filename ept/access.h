/*
 * What an access may do: the walk of walk.h with rights, and the accessed and dirty
 * bits that the hardware would set on the way. Predicts; changes no table.
 */
#ifndef TWOFOLD_EPT_ACCESS_H
#define TWOFOLD_EPT_ACCESS_H

#include "ept/walk.h"

enum pt_op {
    PT_READ,
    PT_WRITE,
    PT_EXEC,
};

struct pt_access {
    enum pt_op op;
    bool user;      /* made in ring 3; EPT: to an address that the guest gives to ring 3 */
    bool implicit;  /* by the CPU itself to a system structure (GDT, TSS): supervisor whatever the
                       ring, and not excused by AC */
    bool for_table; /* nested formats: the access is to an entry of the guest's own tables, not to
                       the page that they map at last */
};

/*
 * pt_walk() and then the rights of the format, as `space->policy` has them now.
 * Fills *out as pt_walk() does, and `rights`, `error_code` and each reference's `set`
 * besides. After PT_PROTECTION or PT_KEY `output`, `shift`, `level` and `rights` are those of the
 * leaf that refused.
 *
 * After any fault `set` is 0 everywhere. The manuals leave open whether a CPU that faults late has
 * set the accessed bits further up; a dirty bit it never sets.
 *
 * `error_code` is what format_x86.h, format_ept.h, format_npt.h and format_vtd.h say. It is 0 after
 * PT_READ_FAILED (but for VT-d, which has a reason for it): what a CPU reads where there is no
 * memory is not the tables' affair.
 */
enum pt_fault pt_access(const struct pt_space *space, uint64_t input,
                        const struct pt_access *access, pt_read read, void *ctx,
                        struct pt_walk *out);

/*
 * Sets the accessed and dirty bits that pt_access() found missing, each by one compare-and-swap, as
 * hardware does. `place` gives where the entry of `bytes` at `at` lies (NULL: nowhere any more),
 * and `wrote` is told after it was changed; it may be NULL. False: an entry isn't any more what the
 * walk read, and the access is to be tried again.
 */
struct pt_marker {
    void *(*place)(void *ctx, uint64_t at, unsigned bytes);
    void (*wrote)(void *ctx, uint64_t at, unsigned bytes);
    void *ctx;
};
bool pt_mark(const struct pt_walk *walk, unsigned entry_bytes, const struct pt_marker *marker);

/* "read", "write" or "execute"; never NULL. */
const char *pt_op_name(enum pt_op op);

#endif
