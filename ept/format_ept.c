/*
 * Intel SDM vol. 3C, 29.3.2 "EPT Translation Mechanism", tables 29-1 ff. "Format of an EPT ...
 * Entry". Bits at and above MAXPHYADDR are address bits here and become reserved in
 * ept_pt_space().
 */
#include "ept/format_ept.h"

#include <errno.h>
#include <string.h>

#include "ept/bits.h"
#include "ept/rules.h"

#define RIGHTS (EPT_READ | EPT_WRITE | EPT_EXEC)

#define TABLE_RESERVED BITS(6, 3) /* of a PDE or PDPTE; bit 7 decides that it is one */
#define TOP_RESERVED   BITS(7, 3)
#define RESERVED_2M    BITS(20, 12)
#define RESERVED_1G    BITS(29, 12)

/* Bits 57, 58, 60, 61 and 63 of a leaf belong to controls that change no translation. */
#define LEAF_HIGH    (BITS(58, 57) | BITS(61, 60) | BIT(63))
#define LEAF_IGNORED (BIT(11) | BITS(56, 52) | BIT(59) | BIT(62))
#define LEAF_LOW     (RIGHTS | EPT_TYPE | EPT_IPAT | EPT_ACCESSED | EPT_DIRTY | EPT_USER_EXEC)
#define TABLE_LOW    (RIGHTS | EPT_ACCESSED | EPT_USER_EXEC)

_Static_assert(COVERS(LEAF_LOW | LEAF_HIGH, ADDR_4K, 0, EPT_LARGE | LEAF_IGNORED), "PTE");
_Static_assert(COVERS(LEAF_LOW | EPT_LARGE | LEAF_HIGH, ADDR_2M, RESERVED_2M, LEAF_IGNORED),
               "2 MiB leaf");
_Static_assert(COVERS(LEAF_LOW | EPT_LARGE | LEAF_HIGH, ADDR_1G, RESERVED_1G, LEAF_IGNORED),
               "1 GiB leaf");
_Static_assert(COVERS(TABLE_LOW | EPT_LARGE, ADDR_4K, TABLE_RESERVED,
                      BIT(9) | BIT(11) | BITS(63, 52)),
               "PDE and PDPTE that refer to a table");
_Static_assert(COVERS(TABLE_LOW, ADDR_4K, TOP_RESERVED, BIT(9) | BIT(11) | BITS(63, 52)),
               "PML4E and PML5E");
_Static_assert(12 + 4 * 9 == 48 && 12 + 5 * 9 == 57, "indices and offset fill the input");

#define LEVEL_PT                                                                                 \
    {                                                                                            \
        .name = "EPT PTE", .shift = 12, .bits = 9, .leaf = PT_LEAF_ALWAYS, .leaf_addr = ADDR_4K, \
    }
#define LEVEL_PD                                                                               \
    {                                                                                          \
        .name = "EPT PDE", .shift = 21, .bits = 9, .leaf = PT_LEAF_BIT, .leaf_bit = EPT_LARGE, \
        .leaf_addr = ADDR_2M, .leaf_reserved = RESERVED_2M, .table_reserved = TABLE_RESERVED,  \
    }
#define LEVEL_PDPT                                                                               \
    {                                                                                            \
        .name = "EPT PDPTE", .shift = 30, .bits = 9, .leaf = PT_LEAF_BIT, .leaf_bit = EPT_LARGE, \
        .leaf_addr = ADDR_1G, .leaf_reserved = RESERVED_1G, .table_reserved = TABLE_RESERVED,    \
    }
#define LEVEL_PML4                                                          \
    {                                                                       \
        .name = "EPT PML4E", .shift = 39, .bits = 9, .leaf = PT_LEAF_NEVER, \
        .table_reserved = TOP_RESERVED,                                     \
    }
#define LEVEL_PML5                                                          \
    {                                                                       \
        .name = "EPT PML5E", .shift = 48, .bits = 9, .leaf = PT_LEAF_NEVER, \
        .table_reserved = TOP_RESERVED,                                     \
    }
#define COMMON                                                                        \
    .entry_bytes = 8, .present = RIGHTS, .table_addr = ADDR_4K, .root_addr = ADDR_4K, \
    .rules = PT_RULES_EPT,                                                            \
    .rights = { .read = EPT_READ,                                                     \
                .write = EPT_WRITE,                                                   \
                .exec = EPT_EXEC,                                                     \
                .user_exec = EPT_USER_EXEC },                                         \
    .accessed = EPT_ACCESSED, .dirty = EPT_DIRTY

const struct pt_format pt_ept_4 = {
    .name = "EPT 4-level",
    .levels = 4,
    .input_bits = 48,
    COMMON,
    .level = { [1] = LEVEL_PT, [2] = LEVEL_PD, [3] = LEVEL_PDPT, [4] = LEVEL_PML4 },
};

const struct pt_format pt_ept_5 = {
    .name = "EPT 5-level",
    .levels = 5,
    .input_bits = 57,
    COMMON,
    .level = { [1] = LEVEL_PT,
               [2] = LEVEL_PD,
               [3] = LEVEL_PDPT,
               [4] = LEVEL_PML4,
               [5] = LEVEL_PML5 },
};

static void forbid(struct pt_space *out, uint64_t mask, uint64_t value, bool leaf)
{
    out->forbidden[out->forbidden_count++] = (struct pt_forbidden){ mask, value, leaf };
}

/* 29.3.3.1 "EPT Misconfigurations", but for the reserved bits. */
static void forbid_all(struct pt_space *out, const struct ept_paging *regs)
{
    forbid(out, EPT_READ | EPT_WRITE, EPT_WRITE, false);
    if (!regs->exec_only) {
        forbid(out, EPT_READ | EPT_EXEC, EPT_EXEC, false);
        if (regs->mode_based)
            forbid(out, EPT_READ | EPT_USER_EXEC, EPT_USER_EXEC, false);
    }
    /* Memory types 2, 3 and 7. */
    forbid(out, EPT_TYPE, UINT64_C(2) << 3, true);
    forbid(out, EPT_TYPE, UINT64_C(3) << 3, true);
    forbid(out, EPT_TYPE, UINT64_C(7) << 3, true);
}

_Static_assert(6 <= PT_FORBIDDEN_MAX, "all that forbid_all() may add");

int ept_pt_space(struct pt_space *out, const struct ept_paging *regs)
{
    uint64_t type = regs->eptp & EPTP_TYPE, levels = ((regs->eptp & EPTP_LEVELS) >> 3) + 1;
    uint64_t above;

    memset(out, 0, sizeof(*out));
    if (regs->phys_bits < 32 || regs->phys_bits > 52)
        return -EINVAL;
    above = BITS(63, regs->phys_bits);
    if ((type != EPTP_UNCACHEABLE && type != EPTP_WRITE_BACK) || (levels != 4 && levels != 5) ||
        (regs->eptp & (BITS(11, 8) | above)))
        return -EINVAL;

    out->format = levels == 5 ? &pt_ept_5 : &pt_ept_4;
    out->root = regs->eptp;
    out->present = regs->mode_based ? EPT_USER_EXEC : 0;
    out->policy = (struct pt_policy){ .ad = regs->eptp & EPTP_AD,
                                      .exec_only = regs->exec_only,
                                      .mode_based = regs->mode_based };
    for (unsigned n = 1; n <= levels; n++)
        out->reserved[n] = above & BITS(51, 12);
    if (!regs->large_2m)
        out->leaf_reserved[2] = EPT_LARGE;
    if (!regs->large_1g)
        out->leaf_reserved[3] = EPT_LARGE;
    forbid_all(out, regs);
    return 0;
}

/* 29.3.5 "Accessed and Dirty Flags for EPT": with them on, the guest's tables are written to. */
static bool writes(const struct pt_space *space, const struct pt_access *access)
{
    return access->op == PT_WRITE || (access->for_table && space->policy.ad);
}

static bool fetches(const struct pt_access *access)
{
    return access->op == PT_EXEC && !access->for_table;
}

static bool reads(const struct pt_access *access)
{
    return access->op == PT_READ || access->for_table;
}

/* 29.3.3.2 "EPT Violations". */
static enum pt_fault check(const struct pt_space *space, const struct pt_access *access,
                           const struct pt_walk *walk)
{
    unsigned needs = 0;

    if (reads(access))
        needs |= PT_RIGHT_READ;
    if (writes(space, access))
        needs |= PT_RIGHT_WRITE;
    if (fetches(access))
        needs |= access->user ? PT_RIGHT_USER_EXEC : PT_RIGHT_EXEC;
    return (walk->rights & needs) == needs ? PT_OK : PT_PROTECTION;
}

/* `rights` are 0 unless all entries are present, and then so are bits 6 to 3. */
static uint64_t error(const struct pt_space *space, const struct pt_access *access,
                      const struct pt_walk *walk)
{
    uint64_t code = EPT_EXIT_LINEAR;

    if (walk->fault == PT_MISCONFIG || walk->fault == PT_READ_FAILED)
        return 0;
    if (reads(access))
        code |= EPT_EXIT_READ;
    if (writes(space, access))
        code |= EPT_EXIT_WRITE;
    if (fetches(access))
        code |= EPT_EXIT_FETCH;
    if (walk->rights & PT_RIGHT_READ)
        code |= EPT_EXIT_READABLE;
    if (walk->rights & PT_RIGHT_WRITE)
        code |= EPT_EXIT_WRITABLE;
    if (walk->rights & PT_RIGHT_EXEC)
        code |= EPT_EXIT_EXECUTABLE;
    if (space->policy.mode_based && (walk->rights & PT_RIGHT_USER_EXEC))
        code |= EPT_EXIT_USER_EXEC;
    return access->for_table ? code : code | EPT_EXIT_TRANSLATION;
}

const struct pt_rule_set pt_rule_set_ept = { .check = check, .writes = writes, .error = error };
