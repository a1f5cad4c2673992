/*
 * Intel VT-d specification, 9.8 "Second-Stage Paging Entries". Bits at and above the host's address
 * width are address bits here and become reserved in vtd_pt_space(), as does what the unit lacks.
 */
#include "ept/format_vtd.h"

#include <errno.h>
#include <string.h>

#include "ept/bits.h"
#include "ept/rules.h"

#define RIGHTS (VTD_READ | VTD_WRITE)

#define TABLE_RESERVED (BIT(11) | BIT(62))
#define TOP_RESERVED   (VTD_LARGE | TABLE_RESERVED)
#define RESERVED_2M    BITS(20, 12)
#define RESERVED_1G    BITS(29, 12)

/* Bit 2 once was execution; bits 6 to 3 of a leaf are a memory type, which the tables of devices
 * ignore; 10 and others belong to software. */
#define IGNORED  (BIT(2) | BITS(6, 3) | BIT(10) | BITS(61, 52) | BIT(63))
#define LEAF_LOW (RIGHTS | VTD_ACCESSED | VTD_DIRTY | VTD_SNOOP | VTD_TM)

_Static_assert(COVERS(LEAF_LOW, ADDR_4K, 0, VTD_LARGE | IGNORED), "PTE");
_Static_assert(COVERS(LEAF_LOW | VTD_LARGE, ADDR_2M, RESERVED_2M, IGNORED), "2 MiB leaf");
_Static_assert(COVERS(LEAF_LOW | VTD_LARGE, ADDR_1G, RESERVED_1G, IGNORED), "1 GiB leaf");
_Static_assert(COVERS(RIGHTS | VTD_ACCESSED | VTD_LARGE, ADDR_4K, TABLE_RESERVED, BIT(9) | IGNORED),
               "PDE and PDPE that refer to a table");
_Static_assert(COVERS(RIGHTS | VTD_ACCESSED, ADDR_4K, TOP_RESERVED, BIT(9) | IGNORED),
               "PML4E and PML5E");
_Static_assert(12 + 3 * 9 == 39 && 12 + 4 * 9 == 48 && 12 + 5 * 9 == 57, "address widths");

#define LEVEL_PT                                                                                \
    {                                                                                           \
        .name = "SS-PTE", .shift = 12, .bits = 9, .leaf = PT_LEAF_ALWAYS, .leaf_addr = ADDR_4K, \
    }
#define LEVEL_PD                                                                              \
    {                                                                                         \
        .name = "SS-PDE", .shift = 21, .bits = 9, .leaf = PT_LEAF_BIT, .leaf_bit = VTD_LARGE, \
        .leaf_addr = ADDR_2M, .leaf_reserved = RESERVED_2M, .table_reserved = TABLE_RESERVED, \
    }
#define LEVEL_PDP                                                                              \
    {                                                                                          \
        .name = "SS-PDPE", .shift = 30, .bits = 9, .leaf = PT_LEAF_BIT, .leaf_bit = VTD_LARGE, \
        .leaf_addr = ADDR_1G, .leaf_reserved = RESERVED_1G, .table_reserved = TABLE_RESERVED,  \
    }
#define LEVEL_PML4                                                         \
    {                                                                      \
        .name = "SS-PML4E", .shift = 39, .bits = 9, .leaf = PT_LEAF_NEVER, \
        .table_reserved = TOP_RESERVED,                                    \
    }
#define LEVEL_PML5                                                         \
    {                                                                      \
        .name = "SS-PML5E", .shift = 48, .bits = 9, .leaf = PT_LEAF_NEVER, \
        .table_reserved = TOP_RESERVED,                                    \
    }
#define COMMON                                                                                   \
    .entry_bytes = 8, .present = RIGHTS, .table_addr = ADDR_4K, .root_addr = ADDR_4K,            \
    .rules = PT_RULES_VTD, .rights = { .read = VTD_READ, .write = VTD_WRITE, .exec = VTD_READ }, \
    .accessed = VTD_ACCESSED, .dirty = VTD_DIRTY

const struct pt_format pt_vtd_3 = {
    .name = "VT-d 3-level",
    .levels = 3,
    .input_bits = 39,
    COMMON,
    .level = { [1] = LEVEL_PT, [2] = LEVEL_PD, [3] = LEVEL_PDP },
};

const struct pt_format pt_vtd_4 = {
    .name = "VT-d 4-level",
    .levels = 4,
    .input_bits = 48,
    COMMON,
    .level = { [1] = LEVEL_PT, [2] = LEVEL_PD, [3] = LEVEL_PDP, [4] = LEVEL_PML4 },
};

const struct pt_format pt_vtd_5 = {
    .name = "VT-d 5-level",
    .levels = 5,
    .input_bits = 57,
    COMMON,
    .level = { [1] = LEVEL_PT,
               [2] = LEVEL_PD,
               [3] = LEVEL_PDP,
               [4] = LEVEL_PML4,
               [5] = LEVEL_PML5 },
};

int vtd_pt_space(struct pt_space *out, const struct vtd_paging *regs)
{
    static const struct pt_format *const formats[] = { &pt_vtd_3, &pt_vtd_4, &pt_vtd_5 };

    memset(out, 0, sizeof(*out));
    if (regs->levels < 3 || regs->levels > 5 || regs->phys_bits < 32 || regs->phys_bits > 52)
        return -EINVAL;
    out->format = formats[regs->levels - 3];
    out->root = regs->root;
    out->policy =
        (struct pt_policy){ .ad = regs->scalable && regs->ad, .scalable = regs->scalable };
    for (unsigned n = 1; n <= regs->levels; n++) {
        out->reserved[n] = regs->phys_bits < 52 ? BITS(51, regs->phys_bits) : 0;
        out->leaf_reserved[n] = (regs->snoop ? 0 : VTD_SNOOP) | (regs->device_tlb ? 0 : VTD_TM);
    }
    if (!regs->large_2m)
        out->leaf_reserved[2] |= VTD_LARGE;
    if (!regs->large_1g)
        out->leaf_reserved[3] |= VTD_LARGE;
    return 0;
}

static bool writes(const struct pt_space *space, const struct pt_access *access)
{
    (void)space;
    return access->op == PT_WRITE;
}

static enum pt_fault check(const struct pt_space *space, const struct pt_access *access,
                           const struct pt_walk *walk)
{
    unsigned needs = writes(space, access) ? PT_RIGHT_WRITE : PT_RIGHT_READ;

    return walk->rights & needs ? PT_OK : PT_PROTECTION;
}

static uint64_t error(const struct pt_space *space, const struct pt_access *access,
                      const struct pt_walk *walk)
{
    bool scalable = space->policy.scalable, write = writes(space, access);

    switch (walk->fault) {
    case PT_NON_CANONICAL:
        return scalable ? VTD_REASON_SM_WIDTH : VTD_REASON_WIDTH;
    case PT_RESERVED:
        return scalable ? VTD_REASON_SM_RESERVED : VTD_REASON_RESERVED;
    case PT_READ_FAILED:
        if (walk->level == space->format->levels)
            return scalable ? VTD_REASON_SM_ROOT : VTD_REASON_CONTEXT;
        return scalable ? VTD_REASON_SM_TABLE : VTD_REASON_TABLE;
    default:
        break;
    }
    if (scalable)
        return write ? VTD_REASON_SM_WRITE : VTD_REASON_SM_READ;
    return write ? VTD_REASON_WRITE : VTD_REASON_READ;
}

const struct pt_rule_set pt_rule_set_vtd = { .check = check, .writes = writes, .error = error };
