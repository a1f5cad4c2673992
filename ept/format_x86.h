/*
 * The guest's own tables: the paging modes of x86, chosen by the control registers.
 */
#ifndef TWOFOLD_EPT_FORMAT_X86_H
#define TWOFOLD_EPT_FORMAT_X86_H

#include "ept/pt_format.h"

extern const struct pt_format pt_x86_none;   /* paging off */
extern const struct pt_format pt_x86_32;     /* two levels, 4 KiB pages only */
extern const struct pt_format pt_x86_32_pse; /* two levels, CR4.PSE: 4 MiB pages too */
extern const struct pt_format pt_x86_pae;    /* three levels, 64-bit entries */
extern const struct pt_format pt_x86_64;     /* four levels */
extern const struct pt_format pt_x86_64_5l;  /* five levels, CR4.LA57 */

#define X86_CR0_WP    (UINT64_C(1) << 16)
#define X86_CR0_PG    (UINT64_C(1) << 31)
#define X86_CR4_PSE   (UINT64_C(1) << 4)
#define X86_CR4_PAE   (UINT64_C(1) << 5)
#define X86_CR4_LA57  (UINT64_C(1) << 12)
#define X86_CR4_SMEP  (UINT64_C(1) << 20)
#define X86_CR4_SMAP  (UINT64_C(1) << 21)
#define X86_CR4_PKE   (UINT64_C(1) << 22)
#define X86_CR4_PKS   (UINT64_C(1) << 24)
#define X86_EFER_LMA  (UINT64_C(1) << 10)
#define X86_EFER_NXE  (UINT64_C(1) << 11)
#define X86_RFLAGS_AC (UINT64_C(1) << 18)
#define X86_PTE_P     (UINT64_C(1) << 0)
#define X86_PTE_RW    (UINT64_C(1) << 1)
#define X86_PTE_US    (UINT64_C(1) << 2)
#define X86_PTE_A     (UINT64_C(1) << 5)
#define X86_PTE_D     (UINT64_C(1) << 6)
#define X86_PTE_PS    (UINT64_C(1) << 7)
#define X86_PTE_NX    (UINT64_C(1) << 63)

/* The error code of #PF: 4.7 "Page-Fault Exceptions". */
#define X86_PF_P    (UINT64_C(1) << 0)
#define X86_PF_W    (UINT64_C(1) << 1)
#define X86_PF_U    (UINT64_C(1) << 2)
#define X86_PF_RSVD (UINT64_C(1) << 3)
#define X86_PF_I    (UINT64_C(1) << 4)
#define X86_PF_PK   (UINT64_C(1) << 5)

/* What decides how a CPU reads its tables, and what it lets an access do. */
struct x86_paging {
    uint64_t cr0, cr3, cr4, efer;
    unsigned phys_bits;  /* MAXPHYADDR: 32 to 52 */
    bool gib_pages;      /* CPUID: 1 GiB pages */
    bool amd;            /* CPUID: bit 8 of a PML4E or PML5E is reserved, which Intel ignores */
    uint64_t rflags;     /* .AC */
    uint32_t pkru, pkrs; /* rights of protection keys; IA32_PKRS */
};

/*
 * The address space that these registers select, and the policy of their accesses. Intel SDM vol.
 * 3A, 4.1.1 "Four paging modes", 4.1.3 "Paging-Mode Modifiers".
 *
 * pt_access() then answers as 4.6 "Access Rights" says. Its error code is that of #PF, and 0 for an
 * address that is not canonical, since that raises #GP or #SS. Shadow-stack accesses (CR4.CET) are
 * not known here.
 */
void x86_pt_space(struct pt_space *out, const struct x86_paging *regs);

#endif
