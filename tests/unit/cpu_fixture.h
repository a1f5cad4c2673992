/*
 * A virtual CPU in flat memory, for the tests of events, transfers and segment loads: linear
 * addresses are offsets in `mem`, and single pages can be made absent or the supervisor's.
 */
#ifndef TWOFOLD_TESTS_CPU_FIXTURE_H
#define TWOFOLD_TESTS_CPU_FIXTURE_H

#include "vmm/cpu_event.h"

#define MEM_PAGES 32
#define MEM_SIZE  (MEM_PAGES * 4096u)

enum layout {
    AT_GDT = 0x1000,
    AT_IDT = 0x2000,
    AT_TSS = 0x3000,
    AT_LDT = 0x4000,
    AT_CODE = 0x5000,
    AT_DATA = 0x6000,
    KERNEL_TOP = 0x9000, /* a stack's top; it has one page */
    IST_TOP = 0xb000,
    USER_TOP = 0xd000,
    HANDLER = 0xe100,
};

/* The GDT, as SYSCALL and SYSENTER want its beginning. */
enum selector {
    KCODE = 0x08,
    KDATA = 0x10,
    UCODE32 = 0x18,
    UDATA = 0x20,
    UCODE = 0x28,
    TSS = 0x30,
    KCODE32 = 0x40,
    KCODE16 = 0x48,
    KDATA16 = 0x50,
    CONFORMING = 0x58,
    SCRATCH = 0x60, /* two entries for what a test puts there */
    GDT_LIMIT = 0x6f,
};

enum mode {
    MODE_64,
    MODE_32,
    MODE_REAL,
};

struct cpu {
    struct cpu_state s;
    struct interp *in;
    uint8_t mem[MEM_SIZE];
    bool absent[MEM_PAGES], supervisor[MEM_PAGES];
    struct interp_access last; /* access to memory */
};

/* `cpl` is 0 or 3; real mode has 0 only. */
struct cpu *cpu_create(enum mode mode, unsigned cpl);
void cpu_destroy(struct cpu *c);

uint64_t get(const struct cpu *c, uint64_t at, unsigned size);
void put(struct cpu *c, uint64_t at, uint64_t value, unsigned size);
void put_gate(struct cpu *c, unsigned vector, uint16_t selector, unsigned type, unsigned dpl,
              unsigned ist);
/* A descriptor of the GDT; type with S, DPL and P as in its fifth byte. */
void put_descriptor(struct cpu *c, uint16_t selector, uint64_t base, uint32_t limit,
                    unsigned access, unsigned flags);
/* Runs the instruction of `n` bytes at RIP. */
enum interp_result run(struct cpu *c, const char *code, size_t n, struct cpu_fault *f);
#define RUN(c, code, f) run(c, code, sizeof(code) - 1, f)

/* The instruction faults so, and nothing of the state changes. */
void check_fault(struct cpu *c, const char *code, size_t n, uint8_t vector, uint32_t error);
#define FAULTS(c, code, vector, error) check_fault(c, code, sizeof(code) - 1, vector, error)
/* The items at RSP, lowest address first, are these. */
void check_frame(const struct cpu *c, unsigned size, const uint64_t *want, unsigned n);
#define FRAME(c, size, ...)                                 \
    check_frame(c, size, (const uint64_t[]){ __VA_ARGS__ }, \
                sizeof((const uint64_t[]){ __VA_ARGS__ }) / 8)

#endif
