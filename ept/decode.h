/*
 * An entry in words, for people and JSON. What an entry is and grants is decided in entry.h; here
 * are the names of its bits.
 */
#ifndef TWOFOLD_EPT_DECODE_H
#define TWOFOLD_EPT_DECODE_H

#include <stddef.h>

#include "ept/pt_format.h"

#define PT_DESCRIBE_MAX 64 /* room for any description, its end included */

/*
 * Writes the bits that are set in `raw`, an entry of `level`, in the manual's names, a space
 * between them, always in this order:
 *
 *   x86, NPT  P W U PWT PCD A D PS PAT G PK=n NX
 *   EPT       R W X XU A D, a leaf's memory type (UC WC WT WP WB), IPAT, 2M or 1G
 *   VT-d      R W A D SNP, 2M or 1G
 *
 * and RSVD at the end when bits are set that must not be, or not together. Only what has a meaning
 * there is named: D and G in leaves, NX where EFER.NXE is on, a key that is not 0 where keys are
 * checked. An entry that is not present is "-". Returns the length as snprintf() does; `buf` is
 * terminated unless `size` is 0.
 */
size_t pt_describe(const struct pt_space *space, unsigned level, uint64_t raw, char *buf,
                   size_t size);

#endif
