/*
 * Masks of table entries, and what it takes to prove that none of their 64 bits was forgotten.
 * For the files of formats.
 */
#ifndef TWOFOLD_EPT_BITS_H
#define TWOFOLD_EPT_BITS_H

#include <stdint.h>

/* Bits [high:low], both included. */
#define BITS(high, low) ((~UINT64_C(0) >> (63 - (high))) & ~((UINT64_C(1) << (low)) - 1))
#define BIT(n)          (UINT64_C(1) << (n))

#define ADDR_4K BITS(51, 12)
#define ADDR_2M BITS(51, 21)
#define ADDR_1G BITS(51, 30)

/*
 * Do the four, which are what an entry consists of, cover each bit once? Where two overlapped, the
 * sum would be another than their union.
 */
#define COVERS(meaning, address, reserved, ignored)                      \
    (((meaning) | (address) | (reserved) | (ignored)) == ~UINT64_C(0) && \
     (meaning) + (address) + (reserved) + (ignored) == ~UINT64_C(0))

_Static_assert(ADDR_4K == UINT64_C(0x000ffffffffff000), "bits 51 to 12");
_Static_assert(BITS(63, 0) == ~UINT64_C(0) && BITS(0, 0) == 1, "both ends");

#endif
