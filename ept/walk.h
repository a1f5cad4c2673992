/*
 * The one walker: it follows any struct pt_format through a callback that reads
 * entries, and tells every reference it made.
 */
#ifndef TWOFOLD_EPT_WALK_H
#define TWOFOLD_EPT_WALK_H

#include "ept/pt_format.h"

enum pt_fault {
    PT_OK,
    PT_NOT_PRESENT,   /* the last entry has no present bit */
    PT_RESERVED,      /* the last entry has a reserved bit set */
    PT_NON_CANONICAL, /* the input is wider than the format; nothing was read */
    PT_READ_FAILED,   /* the last entry lies where there is no memory */
    PT_PROTECTION,    /* mapped, but not for this access (pt_access() only) */
    PT_KEY,           /* mapped, but a protection key forbids it (pt_access() only) */
    PT_MISCONFIG,     /* EPT: a reserved bit, or a combination of bits that has no meaning */
};

/* One entry that the walk read. `at` is an address of the space that the tables lie in. */
struct pt_ref {
    unsigned level;
    uint64_t at;
    uint64_t raw; /* 0 after PT_READ_FAILED */
    uint64_t set; /* accessed and dirty bits that hardware would add; pt_access() only */
};

struct pt_walk {
    enum pt_fault fault;
    uint64_t output;     /* the translated address, offset included; PT_OK, PT_PROTECTION, PT_KEY */
    unsigned level;      /* of the leaf, or of the entry that faulted; 0: none was needed */
    unsigned shift;      /* log2 of the bytes that the leaf maps; as `output` */
    unsigned rights;     /* PT_RIGHT_*, of all entries together; pt_access() only, as `output` */
    uint64_t error_code; /* as the format's rules define it, 0 without a fault; pt_access() only */
    unsigned count;      /* of `ref` */
    struct pt_ref ref[PT_LEVELS_MAX];
};

/*
 * Reads the little-endian entry of `size` bytes (4 or 8) at `at`, once. Returns
 * 0, or a negative value when there is no memory.
 */
typedef int (*pt_read)(void *ctx, uint64_t at, unsigned size, uint64_t *raw);

/*
 * Translates `input`. Touches nothing but through `read`; terminates for any
 * content of the tables, loops included, after at most `levels` reads. Fills
 * *out in every case and returns its fault. It checks presence and reserved
 * bits, not rights.
 */
enum pt_fault pt_walk(const struct pt_space *space, uint64_t input, pt_read read, void *ctx,
                      struct pt_walk *out);

/* "not present" and so on; never NULL. */
const char *pt_fault_name(enum pt_fault fault);

#endif
