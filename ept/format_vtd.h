/*
 * Intel's IOMMU: second-stage ("second-level") tables, which translate a device's addresses.
 */
#ifndef TWOFOLD_EPT_FORMAT_VTD_H
#define TWOFOLD_EPT_FORMAT_VTD_H

#include "ept/pt_format.h"

extern const struct pt_format pt_vtd_3; /* adjusted guest address width 39 */
extern const struct pt_format pt_vtd_4; /* 48 */
extern const struct pt_format pt_vtd_5; /* 57 */

#define VTD_READ     (UINT64_C(1) << 0)
#define VTD_WRITE    (UINT64_C(1) << 1)
#define VTD_LARGE    (UINT64_C(1) << 7)
#define VTD_ACCESSED (UINT64_C(1) << 8) /* this and the next where they are enabled */
#define VTD_DIRTY    (UINT64_C(1) << 9)
#define VTD_SNOOP    (UINT64_C(1) << 11) /* in leaves, where the unit has snoop control */
#define VTD_TM       (UINT64_C(1) << 62) /* transient mapping, in leaves, with device TLBs */

/* Fault reasons. Those of scalable mode are others. */
enum vtd_reason {
    VTD_REASON_CONTEXT = 3,   /* the root table, which the context entry names, can't be read */
    VTD_REASON_WIDTH = 4,     /* the address is wider than the tables */
    VTD_REASON_WRITE = 5,     /* no right to write */
    VTD_REASON_READ = 6,      /* no right to read */
    VTD_REASON_TABLE = 7,     /* another table can't be read */
    VTD_REASON_RESERVED = 12, /* a reserved bit in an entry with a right */
    VTD_REASON_SM_TABLE = 0x78,
    VTD_REASON_SM_RESERVED = 0x7a,
    VTD_REASON_SM_ROOT = 0x7b,
    VTD_REASON_SM_WIDTH = 0x84,
    VTD_REASON_SM_WRITE = 0x85,
    VTD_REASON_SM_READ = 0x86,
};

struct vtd_paging {
    uint64_t root;           /* of the context or PASID-table entry; only address bits count */
    unsigned levels;         /* 3 to 5: its address width */
    unsigned phys_bits;      /* HAW, the host's address width: 32 to 52 */
    bool large_2m, large_1g; /* CAP.SSLPS */
    bool snoop;              /* ECAP.SC */
    bool device_tlb;         /* ECAP.DT: bit 62 of a leaf is ignored */
    bool scalable;           /* scalable mode: other fault reasons, and ... */
    bool ad;                 /* ... accessed and dirty bits, where the PASID entry enables them */
};

/*
 * The address space that a context entry (or, in scalable mode, a PASID-table entry) gives a
 * device. Returns 0, or -EINVAL for widths that don't exist. Intel VT-d specification, 3.7
 * "Second-Stage Translation", 9.8 "Second-Stage Paging Entries".
 *
 * pt_access(): an entry with neither right is not present; that is reported as the missing right.
 * A fetch counts as a read. Reserved bits anywhere on the way come before rights. The error code is
 * an enum vtd_reason (7.1.3 "Non-Recoverable Address Translation Faults"), also after
 * PT_READ_FAILED. `user` and `for_table` don't matter.
 */
int vtd_pt_space(struct pt_space *out, const struct vtd_paging *regs);

#endif
