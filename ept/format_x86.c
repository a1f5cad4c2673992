/*
 * Intel SDM vol. 3A, chapter 4: 4.3 "32-bit paging", 4.4 "PAE paging", 4.5
 * "4-level paging and 5-level paging". Bits at and above MAXPHYADDR are
 * address bits here and become reserved in x86_pt_space().
 */
#include "ept/format_x86.h"

#include <string.h>

#include "ept/levels_x86.h"
#include "ept/rules.h"

#define ADDR_32 BITS(31, 12)
#define ADDR_4M BITS(31, 22)
#define PSE36   BITS(20, 13)

#define COMMON .present = X86_PTE_P, .accessed = LEVEL_X86_A, .dirty = LEVEL_X86_D
#define COMMON_32                                                                            \
    COMMON, .entry_bytes = 4, .input_bits = 32, .table_addr = ADDR_32, .root_addr = ADDR_32, \
            .rights = { .write = LEVEL_X86_RW, .user = LEVEL_X86_US }
#define COMMON_8_BYTES COMMON, .entry_bytes = 8, .table_addr = ADDR_4K, .rights = LEVEL_X86_RIGHTS
#define COMMON_64      COMMON_8_BYTES, .root_addr = ADDR_4K, .sign_extended = true

#define PAE_PDPTE_RESERVED (BITS(63, 52) | BITS(8, 5) | BITS(2, 1))

_Static_assert(LEVEL_X86_P == X86_PTE_P && LEVEL_X86_PS == X86_PTE_PS, "two names, one bit");
_Static_assert(LEVEL_X86_XD == X86_PTE_NX, "the manuals of Intel and AMD call it differently");
/* 32-bit entries; what is above bit 31 is not there, which "ignored" stands for. */
_Static_assert(COVERS(BITS(8, 0), ADDR_32, 0, BITS(11, 9) | BITS(63, 32)), "32-bit PTE");
_Static_assert(COVERS(BITS(5, 0) | X86_PTE_PS, ADDR_32, 0, BIT(6) | BITS(11, 8) | BITS(63, 32)),
               "32-bit PDE");
_Static_assert(COVERS(BITS(8, 0) | BIT(12), ADDR_4M | PSE36, BIT(21), BITS(11, 9) | BITS(63, 32)),
               "4 MiB leaf");
_Static_assert(COVERS(BIT(0) | BITS(4, 3), ADDR_4K, PAE_PDPTE_RESERVED, BITS(11, 9)),
               "PDPTE of PAE paging");

const struct pt_format pt_x86_none = {
    .name = "paging off",
    .input_bits = 32,
};

const struct pt_format pt_x86_32 = {
    .name = "32-bit",
    .levels = 2,
    COMMON_32,
    .level = {
        [1] = { .name = "PTE", .shift = 12, .bits = 10, .leaf = PT_LEAF_ALWAYS,
                .leaf_addr = ADDR_32 },
        [2] = { .name = "PDE", .shift = 22, .bits = 10, .leaf = PT_LEAF_NEVER },
    },
};

/* PSE-36: bits 20 to 13 of a 4 MiB leaf are address bits 39 to 32; bit 21 is reserved. */
const struct pt_format pt_x86_32_pse = {
    .name = "32-bit with 4 MiB pages",
    .levels = 2,
    COMMON_32,
    .level = {
        [1] = { .name = "PTE", .shift = 12, .bits = 10, .leaf = PT_LEAF_ALWAYS,
                .leaf_addr = ADDR_32 },
        [2] = { .name = "PDE", .shift = 22, .bits = 10, .leaf = PT_LEAF_BIT,
                .leaf_bit = X86_PTE_PS, .leaf_addr = ADDR_4M, .leaf_high = PSE36,
                .leaf_high_shift = 32 - 13, .leaf_reserved = BIT(21) },
    },
};

const struct pt_format pt_x86_pae = {
    .name = "PAE",
    .levels = 3,
    .input_bits = 32,
    .root_addr = BITS(31, 5),
    COMMON_8_BYTES,
    .level = {
        [1] = LEVEL_X86_PT,
        [2] = LEVEL_X86_PD,
        [3] = { .name = "PDPTE", .shift = 30, .bits = 2, .leaf = PT_LEAF_NEVER,
                .table_reserved = PAE_PDPTE_RESERVED, .plain = true },
    },
};

const struct pt_format pt_x86_64 = {
    .name = "4-level",
    .levels = 4,
    .input_bits = 48,
    COMMON_64,
    .level = { [1] = LEVEL_X86_PT,
               [2] = LEVEL_X86_PD,
               [3] = LEVEL_X86_PDPT,
               [4] = LEVEL_X86_PML4(X86_PTE_PS) },
};

const struct pt_format pt_x86_64_5l = {
    .name = "5-level",
    .levels = 5,
    .input_bits = 57,
    COMMON_64,
    .level = { [1] = LEVEL_X86_PT,
               [2] = LEVEL_X86_PD,
               [3] = LEVEL_X86_PDPT,
               [4] = LEVEL_X86_PML4(X86_PTE_PS),
               [5] = LEVEL_X86_PML5(X86_PTE_PS) },
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

static struct pt_policy policy_of(const struct pt_format *format, const struct x86_paging *regs)
{
    bool keys = format == &pt_x86_64 || format == &pt_x86_64_5l;

    return (struct pt_policy){
        .ad = true,
        .write_protect = regs->cr0 & X86_CR0_WP,
        .no_exec = format->entry_bytes == 8 && (regs->efer & X86_EFER_NXE),
        .smep = regs->cr4 & X86_CR4_SMEP,
        .smap = regs->cr4 & X86_CR4_SMAP,
        .ac = regs->rflags & X86_RFLAGS_AC,
        .pku = keys && (regs->cr4 & X86_CR4_PKE),
        .pks = keys && (regs->cr4 & X86_CR4_PKS),
        .pkru = regs->pkru,
        .pkrs = regs->pkrs,
    };
}

/* What this CPU in this mode reserves in entries of 8 bytes. */
static void reserve(struct pt_space *out, const struct x86_paging *regs)
{
    uint64_t beyond = regs->phys_bits < 52 ? BITS(51, regs->phys_bits) : 0;

    for (unsigned n = 1; n <= out->format->levels; n++) {
        out->reserved[n] = beyond;
        if (!(regs->efer & X86_EFER_NXE))
            out->reserved[n] |= X86_PTE_NX;
        /* PAE has 32-bit inputs, but no protection keys and no ignored bits 62 to 52. */
        if (out->format == &pt_x86_pae)
            out->reserved[n] |= BITS(62, 52);
        else if (n >= 4 && regs->amd)
            out->reserved[n] |= BIT(8);
    }
    if (out->format != &pt_x86_pae && !regs->gib_pages)
        out->leaf_reserved[3] = X86_PTE_PS;
}

void x86_pt_space(struct pt_space *out, const struct x86_paging *regs)
{
    unsigned phys = regs->phys_bits;

    memset(out, 0, sizeof(*out));
    out->format = format_of(regs);
    out->root = regs->cr3;
    out->policy = policy_of(out->format, regs);
    if (out->format == &pt_x86_32_pse && phys < 40 && phys >= 32)
        /* The PSE-36 bits above MAXPHYADDR; bits 39 to 32 stand in bits 20 to 13. */
        out->leaf_reserved[2] = BITS(39, phys) >> (32 - 13);
    if (out->format->entry_bytes == 8)
        reserve(out, regs);
}

/* 4.6.2 "Protection Keys": of data accesses only, by the leaf's key and the register for its kind
 * of page. */
static bool key_forbids(const struct pt_policy *policy, const struct pt_access *access, bool user,
                        const struct pt_walk *walk)
{
    bool user_page = walk->rights & PT_RIGHT_USER;
    unsigned key = (unsigned)(walk->ref[walk->count - 1].raw >> 59) & 15;
    uint32_t bits = (user_page ? policy->pkru : policy->pkrs) >> (2 * key);

    if (access->op == PT_EXEC || !(user_page ? policy->pku : policy->pks))
        return false;
    if (bits & 1)
        return true;
    return (bits & 2) != 0 && access->op == PT_WRITE && (user || policy->write_protect);
}

static bool is_user(const struct pt_access *access)
{
    return access->user && !access->implicit;
}

/* 4.6.1 "Determination of Access Rights". */
static enum pt_fault check(const struct pt_space *space, const struct pt_access *access,
                           const struct pt_walk *walk)
{
    const struct pt_policy *policy = &space->policy;
    bool user = is_user(access), user_page = walk->rights & PT_RIGHT_USER;

    if (user && !user_page)
        return PT_PROTECTION;
    if (access->op == PT_EXEC) {
        if (!(walk->rights & PT_RIGHT_EXEC) || (!user && user_page && policy->smep))
            return PT_PROTECTION;
        return PT_OK;
    }
    if (access->op == PT_WRITE && !(walk->rights & PT_RIGHT_WRITE) &&
        (user || policy->write_protect))
        return PT_PROTECTION;
    if (!user && user_page && policy->smap && (access->implicit || !policy->ac))
        return PT_PROTECTION;
    return key_forbids(policy, access, user, walk) ? PT_KEY : PT_OK;
}

static bool writes(const struct pt_space *space, const struct pt_access *access)
{
    (void)space;
    return access->op == PT_WRITE;
}

/* 4.7 "Page-Fault Exceptions". The PK flag tells of the key alone: it is set as well where other
 * rights are missing, too. */
static uint64_t error(const struct pt_space *space, const struct pt_access *access,
                      const struct pt_walk *walk)
{
    const struct pt_policy *policy = &space->policy;
    bool user = is_user(access);
    uint64_t code = 0;

    if (walk->fault == PT_NON_CANONICAL || walk->fault == PT_READ_FAILED)
        return 0;
    if (walk->fault != PT_NOT_PRESENT)
        code |= X86_PF_P;
    if (access->op == PT_WRITE)
        code |= X86_PF_W;
    if (user)
        code |= X86_PF_U;
    if (walk->fault == PT_RESERVED)
        code |= X86_PF_RSVD;
    if (access->op == PT_EXEC && (policy->smep || policy->no_exec))
        code |= X86_PF_I;
    if ((walk->fault == PT_PROTECTION || walk->fault == PT_KEY) &&
        key_forbids(policy, access, user, walk))
        code |= X86_PF_PK;
    return code;
}

const struct pt_rule_set pt_rule_set_x86 = { .check = check, .writes = writes, .error = error };
