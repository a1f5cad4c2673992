/*
 * The levels that x86's own tables and AMD's nested ones have in common. Bits at and above
 * MAXPHYADDR are address bits here; a space makes them reserved.
 *
 * Intel SDM vol. 3A, tables 4-15 ff. "Format of ..."; AMD APM vol. 2, 5.3 "Long-Mode Page
 * Translation".
 */
#ifndef TWOFOLD_EPT_LEVELS_X86_H
#define TWOFOLD_EPT_LEVELS_X86_H

#include "ept/bits.h"
#include "ept/pt_format.h"

#define LEVEL_X86_P   BIT(0)
#define LEVEL_X86_RW  BIT(1)
#define LEVEL_X86_US  BIT(2)
#define LEVEL_X86_A   BIT(5)
#define LEVEL_X86_D   BIT(6)
#define LEVEL_X86_PS  BIT(7)
#define LEVEL_X86_KEY BITS(62, 59)
#define LEVEL_X86_XD  BIT(63)

#define LEVEL_X86_RIGHTS                                                     \
    {                                                                        \
        .write = LEVEL_X86_RW, .user = LEVEL_X86_US, .no_exec = LEVEL_X86_XD \
    }

/* Bit 12 of a large leaf is its PAT bit; those between it and the address are reserved. */
#define LEVEL_X86_2M_RESERVED BITS(20, 13)
#define LEVEL_X86_1G_RESERVED BITS(29, 13)

#define LEVEL_X86_PT                                                                         \
    {                                                                                        \
        .name = "PTE", .shift = 12, .bits = 9, .leaf = PT_LEAF_ALWAYS, .leaf_addr = ADDR_4K, \
    }
#define LEVEL_X86_PD                                                                          \
    {                                                                                         \
        .name = "PDE", .shift = 21, .bits = 9, .leaf = PT_LEAF_BIT, .leaf_bit = LEVEL_X86_PS, \
        .leaf_addr = ADDR_2M, .leaf_reserved = LEVEL_X86_2M_RESERVED,                         \
    }
#define LEVEL_X86_PDPT                                                                          \
    {                                                                                           \
        .name = "PDPTE", .shift = 30, .bits = 9, .leaf = PT_LEAF_BIT, .leaf_bit = LEVEL_X86_PS, \
        .leaf_addr = ADDR_1G, .leaf_reserved = LEVEL_X86_1G_RESERVED,                           \
    }
#define LEVEL_X86_PML4(zero)                                                                    \
    {                                                                                           \
        .name = "PML4E", .shift = 39, .bits = 9, .leaf = PT_LEAF_NEVER, .table_reserved = zero, \
    }
#define LEVEL_X86_PML5(zero)                                                                    \
    {                                                                                           \
        .name = "PML5E", .shift = 48, .bits = 9, .leaf = PT_LEAF_NEVER, .table_reserved = zero, \
    }

/* What an entry consists of: meaning, address, reserved, ignored. Leaves have P, R/W, U/S, PWT,
 * PCD, A, D, PS or PAT, G, key and XD; large ones PAT in bit 12. */
#define LEVEL_X86_HIGH (LEVEL_X86_KEY | LEVEL_X86_XD)
_Static_assert(COVERS(BITS(8, 0) | LEVEL_X86_HIGH, ADDR_4K, 0, BITS(11, 9) | BITS(58, 52)), "PTE");
_Static_assert(COVERS(BITS(8, 0) | BIT(12) | LEVEL_X86_HIGH, ADDR_2M, LEVEL_X86_2M_RESERVED,
                      BITS(11, 9) | BITS(58, 52)),
               "2 MiB leaf");
_Static_assert(COVERS(BITS(8, 0) | BIT(12) | LEVEL_X86_HIGH, ADDR_1G, LEVEL_X86_1G_RESERVED,
                      BITS(11, 9) | BITS(58, 52)),
               "1 GiB leaf");
_Static_assert(COVERS(BITS(5, 0) | LEVEL_X86_PS | LEVEL_X86_XD, ADDR_4K, 0,
                      BIT(6) | BITS(11, 8) | BITS(62, 52)),
               "PDE and PDPTE that refer to a table");
_Static_assert(COVERS(BITS(5, 0) | LEVEL_X86_XD, ADDR_4K, LEVEL_X86_PS,
                      BIT(6) | BITS(11, 8) | BITS(62, 52)),
               "PML4E and PML5E");

#endif
