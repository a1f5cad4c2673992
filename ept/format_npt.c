/*
 * AMD APM vol. 2, 15.25 "Nested Paging"; the entries: 5.3 "Long-Mode Page Translation". Unlike
 * Intel, AMD reserves bit 8 of the entries above the PDPTE, too, and has no protection keys here.
 */
#include "ept/format_npt.h"

#include <string.h>

#include "ept/format_x86.h"
#include "ept/levels_x86.h"
#include "ept/rules.h"

#define TOP_RESERVED BITS(8, 7)

_Static_assert(COVERS(BITS(5, 0) | LEVEL_X86_XD, ADDR_4K, TOP_RESERVED,
                      BIT(6) | BITS(11, 9) | BITS(62, 52)),
               "PML4E and PML5E");

#define COMMON                                                                             \
    .entry_bytes = 8, .present = LEVEL_X86_P, .table_addr = ADDR_4K, .root_addr = ADDR_4K, \
    .rules = PT_RULES_NPT, .rights = LEVEL_X86_RIGHTS, .accessed = LEVEL_X86_A,            \
    .dirty = LEVEL_X86_D

/* A guest-physical address is not sign-extended. */
const struct pt_format pt_npt_4 = {
    .name = "NPT 4-level",
    .levels = 4,
    .input_bits = 48,
    COMMON,
    .level = { [1] = LEVEL_X86_PT,
               [2] = LEVEL_X86_PD,
               [3] = LEVEL_X86_PDPT,
               [4] = LEVEL_X86_PML4(TOP_RESERVED) },
};

const struct pt_format pt_npt_5 = {
    .name = "NPT 5-level",
    .levels = 5,
    .input_bits = 57,
    COMMON,
    .level = { [1] = LEVEL_X86_PT,
               [2] = LEVEL_X86_PD,
               [3] = LEVEL_X86_PDPT,
               [4] = LEVEL_X86_PML4(TOP_RESERVED),
               [5] = LEVEL_X86_PML5(TOP_RESERVED) },
};

void npt_pt_space(struct pt_space *out, const struct npt_paging *regs)
{
    bool no_exec = regs->efer & X86_EFER_NXE;

    memset(out, 0, sizeof(*out));
    out->format = regs->cr4 & X86_CR4_LA57 ? &pt_npt_5 : &pt_npt_4;
    out->root = regs->ncr3;
    out->policy = (struct pt_policy){ .ad = true, .no_exec = no_exec };
    for (unsigned n = 1; n <= out->format->levels; n++) {
        out->reserved[n] = regs->phys_bits < 52 ? BITS(51, regs->phys_bits) : 0;
        if (!no_exec)
            out->reserved[n] |= LEVEL_X86_XD;
    }
    if (!regs->gib_pages)
        out->leaf_reserved[3] = LEVEL_X86_PS;
}

static bool writes(const struct pt_space *space, const struct pt_access *access)
{
    (void)space;
    return access->op == PT_WRITE || access->for_table;
}

static bool fetches(const struct pt_access *access)
{
    return access->op == PT_EXEC && !access->for_table;
}

static enum pt_fault check(const struct pt_space *space, const struct pt_access *access,
                           const struct pt_walk *walk)
{
    unsigned needs = PT_RIGHT_USER;

    if (writes(space, access))
        needs |= PT_RIGHT_WRITE;
    if (fetches(access))
        needs |= PT_RIGHT_EXEC;
    return (walk->rights & needs) == needs ? PT_OK : PT_PROTECTION;
}

static uint64_t error(const struct pt_space *space, const struct pt_access *access,
                      const struct pt_walk *walk)
{
    uint64_t code = NPT_EXIT_U;

    if (walk->fault == PT_READ_FAILED)
        return 0;
    if (walk->fault == PT_PROTECTION || walk->fault == PT_RESERVED)
        code |= NPT_EXIT_P;
    if (walk->fault == PT_RESERVED)
        code |= NPT_EXIT_RSVD;
    if (writes(space, access))
        code |= NPT_EXIT_W;
    if (fetches(access) && space->policy.no_exec)
        code |= NPT_EXIT_I;
    return code | (access->for_table ? NPT_EXIT_TABLE : NPT_EXIT_FINAL);
}

const struct pt_rule_set pt_rule_set_npt = { .check = check, .writes = writes, .error = error };
