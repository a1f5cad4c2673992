/*
 * What the host kernel really mapped behind guest memory, and what the monitor
 * uses besides, from /proc/self/smaps. A look at the outside: nothing of the
 * VM's state depends on it.
 */
#ifndef TWOFOLD_VMM_RESIDENCY_H
#define TWOFOLD_VMM_RESIDENCY_H

#include <stdint.h>

#include "vmm/memory.h"

/* All in bytes. */
struct residency {
    uint64_t mapped_4k, mapped_2m, mapped_1g; /* guest memory, by the size of the host mapping */
    uint64_t swapped;                         /* guest memory in the host's swap */
    uint64_t monitor;                         /* resident, guest memory not counted */
};

/* Never fails: what /proc does not tell is 0. Takes some 100 us; not for a hot path. */
void residency_read(const struct memory *mem, struct residency *out);

#endif
