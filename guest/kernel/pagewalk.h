/*
 * The walk of one address through given tables, for reports and checks.
 */
#ifndef GUEST_KERNEL_PAGEWALK_H
#define GUEST_KERNEL_PAGEWALK_H

#include <stdbool.h>
#include <stdint.h>

struct pagewalk {
    uint64_t root;
    unsigned n;              /* entries read, 0 to 4 */
    uint64_t entry[4];       /* PML4E first */
    uint16_t index[4];       /* of the entries in their tables */
    bool mapped;             /* the last entry is a present leaf */
    bool writable, user, nx; /* all levels together */
    uint64_t gpa;            /* when mapped */
    uint64_t size;           /* of the page, or of what the absent entry would cover */
};

/* Walks gva from the PML4 at gpa `root`. Reads no table outside the direct map. */
void pagewalk(uint64_t root, uint64_t gva, struct pagewalk *out);

/* Prints it, a line a level. */
void pagewalk_print(const struct pagewalk *w, uint64_t gva);

#endif
