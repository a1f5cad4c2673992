/*
 * Intel's second dimension: extended page tables, guest-physical to host-physical.
 */
#ifndef TWOFOLD_EPT_FORMAT_EPT_H
#define TWOFOLD_EPT_FORMAT_EPT_H

#include "ept/pt_format.h"

extern const struct pt_format pt_ept_4; /* four levels, 48-bit inputs */
extern const struct pt_format pt_ept_5; /* five levels, 57-bit inputs */

#define EPT_READ      (UINT64_C(1) << 0)
#define EPT_WRITE     (UINT64_C(1) << 1)
#define EPT_EXEC      (UINT64_C(1) << 2) /* of supervisor addresses, with mode-based execution */
#define EPT_TYPE      (UINT64_C(7) << 3) /* memory type, in leaves */
#define EPT_IPAT      (UINT64_C(1) << 6) /* ignore the guest's PAT, in leaves */
#define EPT_LARGE     (UINT64_C(1) << 7)
#define EPT_ACCESSED  (UINT64_C(1) << 8)
#define EPT_DIRTY     (UINT64_C(1) << 9)
#define EPT_USER_EXEC (UINT64_C(1) << 10)

/* The pointer in the VMCS: memory type, levels - 1, accessed and dirty bits on. */
#define EPTP_TYPE        (UINT64_C(7) << 0)
#define EPTP_LEVELS      (UINT64_C(7) << 3)
#define EPTP_AD          (UINT64_C(1) << 6)
#define EPTP_UNCACHEABLE UINT64_C(0)
#define EPTP_WRITE_BACK  UINT64_C(6)

/* Exit qualification of an EPT violation. */
#define EPT_EXIT_READ        (UINT64_C(1) << 0)
#define EPT_EXIT_WRITE       (UINT64_C(1) << 1)
#define EPT_EXIT_FETCH       (UINT64_C(1) << 2)
#define EPT_EXIT_READABLE    (UINT64_C(1) << 3)
#define EPT_EXIT_WRITABLE    (UINT64_C(1) << 4)
#define EPT_EXIT_EXECUTABLE  (UINT64_C(1) << 5)
#define EPT_EXIT_USER_EXEC   (UINT64_C(1) << 6)
#define EPT_EXIT_LINEAR      (UINT64_C(1) << 7) /* there is a linear address, and */
#define EPT_EXIT_TRANSLATION (UINT64_C(1) << 8) /* the access was to what it maps, no table */

struct ept_paging {
    uint64_t eptp;
    unsigned phys_bits;      /* MAXPHYADDR of the host */
    bool large_2m, large_1g; /* IA32_VMX_EPT_VPID_CAP: leaves above level 1, */
    bool exec_only;          /* and such that can be executed, but not read */
    bool mode_based;         /* VM-execution control "mode-based execute control for EPT" */
};

/*
 * The address space behind an EPT pointer. Returns 0, or -EINVAL when VM entry would refuse the
 * pointer. Intel SDM vol. 3C, 29.3 "The Extended Page-Table Mechanism (EPT)", 25.6.11
 * "Extended-Page-Table Pointer (EPTP)".
 *
 * pt_access(): an entry that no EPT may hold is PT_MISCONFIG, whose exit has no qualification
 * (error_code 0). All other faults are EPT violations with the error code that table 28-7 "Exit
 * Qualification for EPT Violations" gives; an input beyond 48 bits is one, too. `for_table`: the
 * CPU reads an entry of the guest's tables; or, where `op` is PT_WRITE, sets its accessed or dirty
 * bit; or, where EPT's own accessed and dirty bits are on, counts as writing in any case. `user`
 * matters for mode-based execution only. Not known here: supervisor shadow stacks, sub-page write
 * permissions, guest-paging verification, and #VE instead of the exit.
 */
int ept_pt_space(struct pt_space *out, const struct ept_paging *regs);

#endif
