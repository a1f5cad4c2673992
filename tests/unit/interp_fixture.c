#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/interp_fixture.h"

_Alignas(4096) uint8_t memory[PAGES * PAGE];
enum page page[PAGES];
struct cpu_state cpu;
struct interp *interp;
struct interp_insn insn;
struct cpu_fault fault;
struct bus bus;

static enum interp_place translate(void *ctx, uint64_t linear, unsigned len,
                                   const struct interp_access *access, void **host, gpa_t *at,
                                   struct cpu_fault *f)
{
    enum page kind = linear / PAGE < PAGES ? page[linear / PAGE] : ABSENT;

    (void)ctx;
    assert_true(linear % PAGE + len <= PAGE);
    if (kind == ABSENT || (kind == READ_ONLY && access->op == PT_WRITE)) {
        *f = (struct cpu_fault){ .vector = CPU_PAGE,
                                 .has_error = true,
                                 .error = (kind != ABSENT) | (access->op == PT_WRITE) << 1 |
                                          access->user << 2,
                                 .address = linear };
        return INTERP_REFUSED;
    }
    if (kind == DEVICE) {
        *at = gpa(linear);
        return INTERP_DEVICE;
    }
    *host = memory + linear;
    return INTERP_RAM;
}

static void mmio(void *ctx, gpa_t at, void *buf, unsigned len, bool write)
{
    (void)ctx;
    assert_in_range(bus.n, 0, 7);
    bus.at[bus.n] = at.v;
    bus.len[bus.n] = len;
    bus.write[bus.n] = write;
    if (!write)
        memset(buf, 0x11, len);
    bus.value[bus.n] = 0;
    memcpy(&bus.value[bus.n], buf, len);
    bus.n++;
}

static const struct interp_ops ops = { translate, mmio };

void reset(unsigned bits)
{
    memset(memory, 0, sizeof(memory));
    memset(page, 0, sizeof(page));
    memset(&bus, 0, sizeof(bus));
    memset(&cpu, 0, sizeof(cpu));
    cpu.cr0 = CPU_CR0_PE;
    cpu.rflags = 2;
    cpu.rip = CODE;
    cpu.gpr[CPU_RSP] = 0x8000;
    for (unsigned i = 0; i < CPU_SEGS; i++) {
        cpu.seg[i].limit = UINT32_MAX;
        cpu.seg[i].type = i == CPU_CS ? 11 : 3;
        cpu.seg[i].db = bits == 32;
    }
    if (bits == 64) {
        cpu.efer = X86_EFER_LMA;
        cpu.seg[CPU_CS].l = 1;
    }
}

void real_mode(void)
{
    reset(16);
    cpu.cr0 = 0;
    for (unsigned i = 0; i < CPU_SEGS; i++)
        cpu.seg[i].limit = 0xffff;
}

void put(uint64_t linear, const void *bytes, size_t n)
{
    memcpy(memory + linear, bytes, n);
}

uint64_t at(uint64_t linear, unsigned size)
{
    uint64_t value = 0;

    memcpy(&value, memory + linear, size);
    return value;
}

enum interp_result run_rounds(const char *bytes, size_t n, unsigned rounds)
{
    put(cpu.seg[CPU_CS].base + cpu.rip, bytes, n);
    return interp_step(interp, rounds, &insn, &fault);
}

void check_fault(const char *bytes, size_t n, uint8_t vector, uint32_t error)
{
    static uint8_t copy[sizeof(memory)];
    struct cpu_state before = cpu;

    put(cpu.seg[CPU_CS].base + cpu.rip, bytes, n);
    memcpy(copy, memory, sizeof(memory));
    assert_int_equal(interp_step(interp, 100, &insn, &fault), INTERP_FAULT);
    assert_int_equal(fault.vector, vector);
    assert_int_equal(fault.error, error);
    assert_memory_equal(&before, &cpu, sizeof(cpu));
    assert_memory_equal(copy, memory, sizeof(memory));
}

bool fixture_create(void)
{
    return interp_create(&interp, &cpu, &ops, NULL) == 0;
}
