/*
 * The checks, for the list in selftest.c.
 */
#ifndef GUEST_KERNEL_SELFTEST_LIST_H
#define GUEST_KERNEL_SELFTEST_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "guest/kernel/printk.h"

struct selftest {
    char *detail; /* what was wrong first */
    size_t size;
    bool failed;
};

/* Notes a failure; the first one's text stays. */
#define CHECK(t, condition, ...)                          \
    do {                                                  \
        if (!(condition) && !(t)->failed) {               \
            (t)->failed = true;                           \
            kformat((t)->detail, (t)->size, __VA_ARGS__); \
        }                                                 \
    } while (0)

/* selftest_memory.c */
void selftest_buddy(struct selftest *t);
void selftest_zero(struct selftest *t);
void selftest_references(struct selftest *t);
void selftest_heap(struct selftest *t);
void selftest_heap_returns(struct selftest *t);

/* selftest_aspace.c */
void selftest_aspace(struct selftest *t);
void selftest_aspace_refuses(struct selftest *t);
void selftest_aspace_large(struct selftest *t);
void selftest_aspace_huge(struct selftest *t);
void selftest_aspace_returns(struct selftest *t);
void selftest_shootdown(struct selftest *t);

/* selftest_tables.c */
void selftest_wx(struct selftest *t);
void selftest_rights(struct selftest *t);
void selftest_low_half(struct selftest *t);
void selftest_stacks(struct selftest *t);
void selftest_faults(struct selftest *t);
void selftest_mmio(struct selftest *t);
void selftest_clock(struct selftest *t);
void selftest_format(struct selftest *t);

#endif
