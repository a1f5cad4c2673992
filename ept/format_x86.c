/*
 * Intel SDM vol. 3A, chapter 4: 4.3 "32-bit paging", 4.4 "PAE paging", 4.5
 * "4-level paging and 5-level paging". Bits at and above MAXPHYADDR are
 * address bits here and become reserved in x86_pt_space().
 */
#include "ept/format_x86.h"

#include <string.h>

/* Bits [high:low], both included. */
#define BITS(high, low) ((~UINT64_C(0) >> (63 - (high))) & ~((UINT64_C(1) << (low)) - 1))

#define ADDR_4K BITS(51, 12)
#define ADDR_2M BITS(51, 21)
#define ADDR_1G BITS(51, 30)

_Static_assert(ADDR_4K == UINT64_C(0x000ffffffffff000), "bits 51 to 12");
_Static_assert(BITS(63, 0) == ~UINT64_C(0) && BITS(0, 0) == 1, "both ends");

#define LEVEL_PT                                                                             \
    {                                                                                        \
        .name = "PTE", .shift = 12, .bits = 9, .leaf = PT_LEAF_ALWAYS, .leaf_addr = ADDR_4K, \
    }
/* Bit 12 of a large leaf is its PAT bit; those between it and the address are reserved. */
#define LEVEL_PD                                                                            \
    {                                                                                       \
        .name = "PDE", .shift = 21, .bits = 9, .leaf = PT_LEAF_BIT, .leaf_bit = X86_PTE_PS, \
        .leaf_addr = ADDR_2M, .leaf_reserved = BITS(20, 13),                                \
    }
#define LEVEL_PDPT                                                                            \
    {                                                                                         \
        .name = "PDPTE", .shift = 30, .bits = 9, .leaf = PT_LEAF_BIT, .leaf_bit = X86_PTE_PS, \
        .leaf_addr = ADDR_1G, .leaf_reserved = BITS(29, 13),                                  \
    }
#define LEVEL_PML4                                                      \
    {                                                                   \
        .name = "PML4E", .shift = 39, .bits = 9, .leaf = PT_LEAF_NEVER, \
        .table_reserved = X86_PTE_PS,                                   \
    }
#define LEVEL_PML5                                                      \
    {                                                                   \
        .name = "PML5E", .shift = 48, .bits = 9, .leaf = PT_LEAF_NEVER, \
        .table_reserved = X86_PTE_PS,                                   \
    }

const struct pt_format pt_x86_none = {
    .name = "paging off",
    .input_bits = 32,
};

const struct pt_format pt_x86_32 = {
    .name = "32-bit",
    .levels = 2,
    .entry_bytes = 4,
    .input_bits = 32,
    .present = X86_PTE_P,
    .table_addr = BITS(31, 12),
    .root_addr = BITS(31, 12),
    .level = {
        [1] = { .name = "PTE", .shift = 12, .bits = 10, .leaf = PT_LEAF_ALWAYS,
                .leaf_addr = BITS(31, 12) },
        [2] = { .name = "PDE", .shift = 22, .bits = 10, .leaf = PT_LEAF_NEVER },
    },
};

/* PSE-36: bits 20 to 13 of a 4 MiB leaf are address bits 39 to 32; bit 21 is reserved. */
const struct pt_format pt_x86_32_pse = {
    .name = "32-bit with 4 MiB pages",
    .levels = 2,
    .entry_bytes = 4,
    .input_bits = 32,
    .present = X86_PTE_P,
    .table_addr = BITS(31, 12),
    .root_addr = BITS(31, 12),
    .level = {
        [1] = { .name = "PTE", .shift = 12, .bits = 10, .leaf = PT_LEAF_ALWAYS,
                .leaf_addr = BITS(31, 12) },
        [2] = { .name = "PDE", .shift = 22, .bits = 10, .leaf = PT_LEAF_BIT,
                .leaf_bit = X86_PTE_PS, .leaf_addr = BITS(31, 22), .leaf_high = BITS(20, 13),
                .leaf_high_shift = 32 - 13, .leaf_reserved = BITS(21, 21) },
    },
};

const struct pt_format pt_x86_pae = {
    .name = "PAE",
    .levels = 3,
    .entry_bytes = 8,
    .input_bits = 32,
    .present = X86_PTE_P,
    .table_addr = ADDR_4K,
    .root_addr = BITS(31, 5),
    .level = {
        [1] = LEVEL_PT,
        [2] = LEVEL_PD,
        [3] = { .name = "PDPTE", .shift = 30, .bits = 2, .leaf = PT_LEAF_NEVER,
                .table_reserved = BITS(63, 52) | BITS(8, 5) | BITS(2, 1) },
    },
};

const struct pt_format pt_x86_64 = {
    .name = "4-level",
    .levels = 4,
    .entry_bytes = 8,
    .input_bits = 48,
    .sign_extended = true,
    .present = X86_PTE_P,
    .table_addr = ADDR_4K,
    .root_addr = ADDR_4K,
    .level = { [1] = LEVEL_PT, [2] = LEVEL_PD, [3] = LEVEL_PDPT, [4] = LEVEL_PML4 },
};

const struct pt_format pt_x86_64_5l = {
    .name = "5-level",
    .levels = 5,
    .entry_bytes = 8,
    .input_bits = 57,
    .sign_extended = true,
    .present = X86_PTE_P,
    .table_addr = ADDR_4K,
    .root_addr = ADDR_4K,
    .level = { [1] = LEVEL_PT,
               [2] = LEVEL_PD,
               [3] = LEVEL_PDPT,
               [4] = LEVEL_PML4,
               [5] = LEVEL_PML5 },
};

_Static_assert(12 + 4 * 9 == 48 && 12 + 5 * 9 == 57, "indices and offset fill the input");
_Static_assert(12 + 2 * 10 == 32 && 12 + 2 * 9 + 2 == 32, "the same for 32-bit inputs");

static const struct pt_format *format_of(const struct x86_paging *regs)
{
    if (!(regs->cr0 & X86_CR0_PG))
        return &pt_x86_none;
    if (!(regs->cr4 & X86_CR4_PAE))
        return regs->cr4 & X86_CR4_PSE ? &pt_x86_32_pse : &pt_x86_32;
    if (!(regs->efer & X86_EFER_LMA))
        return &pt_x86_pae;
    return regs->cr4 & X86_CR4_LA57 ? &pt_x86_64_5l : &pt_x86_64;
}

void x86_pt_space(struct pt_space *out, const struct x86_paging *regs)
{
    unsigned phys = regs->phys_bits;
    uint64_t beyond;

    memset(out, 0, sizeof(*out));
    out->format = format_of(regs);
    out->root = regs->cr3;
    if (out->format == &pt_x86_32_pse && phys < 40 && phys >= 32)
        /* The PSE-36 bits above MAXPHYADDR; bits 39 to 32 stand in bits 20 to 13. */
        out->leaf_reserved[2] = BITS(39, phys) >> (32 - 13);
    if (out->format->entry_bytes != 8)
        return;

    beyond = phys < 52 ? BITS(51, phys) : 0;
    for (unsigned n = 1; n <= out->format->levels; n++) {
        out->reserved[n] = beyond;
        if (!(regs->efer & X86_EFER_NXE))
            out->reserved[n] |= X86_PTE_NX;
        /* PAE has 32-bit inputs, but no protection keys and no ignored bits 62 to 52. */
        if (out->format == &pt_x86_pae)
            out->reserved[n] |= BITS(62, 52);
    }
    if (out->format != &pt_x86_pae && !regs->gib_pages)
        out->leaf_reserved[3] = X86_PTE_PS;
}
