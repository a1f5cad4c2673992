/*
 * A small guest for tests of the interpreter: memory whose pages are present, read-only, absent or
 * a device, with linear addresses that are those of the memory.
 */
#ifndef TWOFOLD_TESTS_UNIT_INTERP_FIXTURE_H
#define TWOFOLD_TESTS_UNIT_INTERP_FIXTURE_H

#include "vmm/interp.h"

#define PAGES 64u
#define PAGE  4096u
#define CODE  0x1000u /* where RIP starts */

enum page {
    NORMAL,
    READ_ONLY,
    ABSENT,
    DEVICE,
};

/* What a device was asked; it answers 11h in each byte. */
struct bus {
    unsigned n;
    uint64_t at[8], value[8];
    unsigned len[8];
    bool write[8];
};

extern uint8_t memory[PAGES * PAGE];
extern enum page page[PAGES];
extern struct cpu_state cpu;
extern struct interp *interp;
extern struct interp_insn insn; /* the last one */
extern struct cpu_fault fault;
extern struct bus bus;

bool fixture_create(void);
/* Flat segments of `bits`, protected (or long) mode, ring 0, everything mapped and 0. */
void reset(unsigned bits);
/* 16 bits, segments of 64 KiB, no protection. */
void real_mode(void);
void put(uint64_t linear, const void *bytes, size_t n);
uint64_t at(uint64_t linear, unsigned size);
/* Puts the instruction to RIP and makes one step. */
enum interp_result run_rounds(const char *bytes, size_t n, unsigned rounds);
/* The instruction faults, and neither registers nor memory change. */
void check_fault(const char *bytes, size_t n, uint8_t vector, uint32_t error);

#define RUN(bytes)                   run_rounds(bytes, sizeof(bytes) - 1, 1000000)
#define DONE(bytes)                  assert_int_equal(RUN(bytes), INTERP_OK)
#define FAULTS(bytes, vector, error) check_fault(bytes, sizeof(bytes) - 1, vector, error)

#endif
