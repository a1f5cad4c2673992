/*
 * The map's entries: what stands where (docs/guest-physical-map.md, "Entries"). For gpmap.c; others
 * use gpmap_decode().
 *
 * Intel SDM vol. 3C, 29.3.2 "EPT Translation Mechanism": bits 11, 52 to 56, 59 and 62 are ignored
 * in present entries whatever the controls are; of an entry with bits 2:0 clear everything else is.
 */
#ifndef TWOFOLD_EPT_GPMAP_ENTRY_H
#define TWOFOLD_EPT_GPMAP_ENTRY_H

#include "ept/bits.h"
#include "ept/format_ept.h"
#include "ept/gpmap.h"

/* In all entries of pages. */
#define GP_ENTRY_LEARNED  BIT(11)
#define GP_ENTRY_ACCESSED EPT_ACCESSED
#define GP_ENTRY_DIRTY    EPT_DIRTY
#define GP_ENTRY_BACKING  52 /* to 54 */
#define GP_ENTRY_NODUMP   BIT(55)
#define GP_ENTRY_LOCKED   BIT(56)
#define GP_ENTRY_WATCHED  BIT(59)
#define GP_ADDR           ADDR_4K /* hva, table, or payload */

/* Present ones. */
#define GP_ENTRY_RWX (EPT_READ | EPT_WRITE | EPT_EXEC)
#define GP_ENTRY_WB  (EPTP_WRITE_BACK << 3)

/* The others. */
#define GP_ENTRY_STATE 3  /* to 5 */
#define GP_ENTRY_SIZE  6  /* to 7: 0 for 4 KiB, 1 for 2 MiB, 2 for 1 GiB */
#define GP_ENTRY_WAS   60 /* to 62: a guarded page's state before */

#define GP_BACKING_MAX 7u
#define GP_PAYLOAD_MAX ((UINT64_C(1) << 40) - 1)
#define GP_FLAGS       (GP_NODUMP | GP_ACCESSED | GP_DIRTY | GP_LOCKED | GP_WATCHED | GP_LEARNED)

_Static_assert(GP_STATES <= 8, "a state has three bits");
_Static_assert(GP_PAYLOAD_MAX << 12 == GP_ADDR, "a payload stands where an address would");
_Static_assert(GP_UNTOUCHED == 0, "an absent entry is an untouched page");

static inline bool gp_is_table(uint64_t raw, unsigned level)
{
    return level > 1 && (raw & GP_ENTRY_RWX) != 0 && (raw & EPT_LARGE) == 0;
}

/* Is a page of that state a present leaf? */
static inline bool gp_is_leaf(enum gp_state state)
{
    return state == GP_PRESENT || state == GP_ZERO;
}

/* Two level 1 entries that differ in nothing but the address; the payload is no address. */
static inline bool gp_alike(uint64_t a, uint64_t b)
{
    return ((a ^ b) & ~((a & GP_ENTRY_RWX) != 0 ? GP_ADDR : 0)) == 0;
}

/* Makes what has no meaning in its state zero. */
void gp_normalize(struct gp_page *page);

/* The bits of a leaf besides address and size; GP_PRESENT and GP_ZERO. */
uint64_t gp_leaf_bits(const struct gp_page *page);

/* The entry of a page in any other state. */
uint64_t gp_reason(const struct gp_page *page);

#endif
