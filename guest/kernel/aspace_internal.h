/*
 * What aspace.c and tlb.c share.
 */
#ifndef GUEST_KERNEL_ASPACE_INTERNAL_H
#define GUEST_KERNEL_ASPACE_INTERNAL_H

#include <stdint.h>

#include "guest/kernel/lock.h"
#include "guest/kernel/mm.h"

#define LEVEL_PT   1
#define LEVEL_PD   2
#define LEVEL_PDPT 3
#define LEVEL_PML4 4

struct aspace {
    uint64_t root;        /* gpa of the PML4 */
    uint32_t refs;        /* processes that have it */
    uint32_t pcid;        /* 0: none is free, or the CPU has none; each load flushes then */
    uint64_t last_region; /* 2 MiB region whose page table was looked at last, and that table */
    uint64_t *last_table;
    struct lock lock; /* the tables */
    uint64_t active;  /* CPUs that have it in CR3 */
    uint64_t warm; /* CPUs whose TLB may hold entries of this PCID: the next load may keep them */
    struct aspace *next, **previous; /* in the list of all */
    bool moving;                     /* locked by move.c */
};

/* All that have a table; taken before any of their locks. */
extern struct lock aspace_list_lock;
extern struct aspace *aspace_all;

/* The bitmap of a table: bit n says that entries 8n to 8n + 7 were ever used. */
static inline uint64_t *table_used_map(uint64_t table)
{
    return (uint64_t *)(void *)&page_of(table)->next;
}
_Static_assert(offsetof(struct page, next) == 8 && sizeof(struct page) == 16, "table_used_map");

/* aspace_tables.c: frees a table and those below it, and drops a reference to each page they map.
 */
void table_free(uint64_t table, unsigned level);
/* Is there no page below it, not even one that move.c hides? The tables themselves may be there. */
bool table_maps_nothing(uint64_t table, unsigned level);

/* A PCID from 1 to 4095 that no address space uses, or 0; and its way back. */
uint32_t pcid_alloc(void);
void pcid_free(uint32_t pcid);

#endif
