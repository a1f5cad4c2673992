/*
 * The inside of struct memory, shared by memory.c and memory_guard.c. Everybody else uses
 * vmm/memory.h.
 */
#ifndef TWOFOLD_VMM_MEMORY_IMPL_H
#define TWOFOLD_VMM_MEMORY_IMPL_H

#include "vmm/memory.h"

#define MEMORY_SLOTS_MAX  2
#define MEMORY_GUARDS_MAX 256

/* [first, end) of gpa */
struct mem_guard {
    uint64_t first, end;
};

/*
 * All RAM is one host mapping inside of a larger reservation: aligned so that
 * gpa and hva agree modulo 2 MiB (1 GiB for large guests), without which the
 * second dimension could not use huge pages, and with unmapped pages on both sides.
 */
struct memory {
    struct mem_slot slot[MEMORY_SLOTS_MAX];
    unsigned pins[MEMORY_SLOTS_MAX];
    size_t count;
    uint64_t bytes;
    void *reserved;
    size_t reserved_bytes;
    int fd;                  /* -1: anonymous */
    _Atomic(uint64_t *) log; /* where the monitor's own writes are noted, or NULL */
    size_t guards;
    struct mem_guard guard[MEMORY_GUARDS_MAX]; /* ascending, apart from each other */
};

#endif
