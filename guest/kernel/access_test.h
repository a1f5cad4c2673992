/*
 * The oracle's combinations on the MMU that runs this kernel (selftest=access).
 */
#ifndef GUEST_KERNEL_ACCESS_TEST_H
#define GUEST_KERNEL_ACCESS_TEST_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/kernel/access_oracle.h"

/*
 * Runs what the option access= says ("all", or how many; else ACCESS_DEFAULT), prints the first
 * differences and a line with the counts. Returns whether there was none. Called on the
 * boot CPU with interrupts off, before there are processes.
 */
bool access_test(void);

#define ACCESS_DEFAULT 5000

/* --- between the files of the test ------------------------------------------------------ */

/* What the CPU made of a combination. */
struct access_result {
    uint64_t vector;  /* of the exception; PROBE_NO_FAULT when there was none */
    uint64_t error;   /* its error code */
    uint64_t cr2;     /* of a #PF */
    uint8_t accessed; /* bit n: A of the entry of level n, after the access */
    uint8_t dirty;    /* D */
    bool other;       /* some other bit of an entry has changed */
};

/* access_mmu.c: the private tables. Between enter and leave nothing may be printed. */
void access_mmu_machine(struct access_machine *out);
void access_mmu_enter(void);
void access_mmu_leave(void);
void access_mmu_try(const struct access_case *c, struct access_result *out);

/* The address that `c` accesses. */
uint64_t access_mmu_gva(const struct access_case *c);

/* access_known.c: which machine this is, and what is known of it. */
void access_known_detect(void);
bool access_known_tcg(void); /* QEMU's emulation, or a KVM inside of it */

/* The name of a known difference of this machine that this is one of, or NULL. */
const char *access_known(const struct access_case *c, const struct access_outcome *want,
                         const struct access_result *got);

#endif
