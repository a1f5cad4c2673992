/*
 * AMD's second dimension: nested page tables, guest-physical to host-physical, in the format of
 * x86-64's own tables.
 */
#ifndef TWOFOLD_EPT_FORMAT_NPT_H
#define TWOFOLD_EPT_FORMAT_NPT_H

#include "ept/pt_format.h"

extern const struct pt_format pt_npt_4; /* four levels, 48-bit inputs */
extern const struct pt_format pt_npt_5; /* five levels, 57-bit inputs */

/* EXITINFO1 of a nested page fault. */
#define NPT_EXIT_P     (UINT64_C(1) << 0)
#define NPT_EXIT_W     (UINT64_C(1) << 1)
#define NPT_EXIT_U     (UINT64_C(1) << 2) /* always: nested walks are user accesses */
#define NPT_EXIT_RSVD  (UINT64_C(1) << 3)
#define NPT_EXIT_I     (UINT64_C(1) << 4)
#define NPT_EXIT_FINAL (UINT64_C(1) << 32) /* the guest's final physical address */
#define NPT_EXIT_TABLE (UINT64_C(1) << 33) /* an entry of the guest's tables */

/* The host's registers at VMRUN, of a host in long mode. */
struct npt_paging {
    uint64_t ncr3;
    uint64_t cr4;       /* LA57 decides about the levels; SMEP, SMAP and PSE don't matter here */
    uint64_t efer;      /* NXE */
    unsigned phys_bits; /* 32 to 52 */
    bool gib_pages;
};

/*
 * The address space behind nCR3. AMD APM vol. 2, 15.25 "Nested Paging".
 *
 * pt_access(): every access is a user access, whatever `user` says, so CR0.WP, SMEP and SMAP don't
 * come into it. An access to the guest's tables (`for_table`) counts as a write, and makes the leaf
 * dirty, whatever `op` says. The error code is EXITINFO1 (15.25.6 "Nested versus Guest Page
 * Faults, Fault Ordering"). An input beyond the levels is answered as a page that is not present.
 */
void npt_pt_space(struct pt_space *out, const struct npt_paging *regs);

#endif
