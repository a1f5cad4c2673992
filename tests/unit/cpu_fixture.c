#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/cpu_fixture.h"

static enum interp_place translate(void *ctx, uint64_t linear, unsigned len,
                                   const struct interp_access *access, void **host, gpa_t *at,
                                   struct cpu_fault *fault)
{
    struct cpu *c = ctx;
    uint64_t page = linear >> 12;
    bool present = page < MEM_PAGES && !c->absent[page];
    bool as_user = access->user && !access->implicit;

    assert_true((linear & 0xfff) + len <= 4096);
    c->last = *access;
    if (present && !(as_user && c->supervisor[page])) {
        *host = c->mem + linear;
        *at = gpa(linear);
        return INTERP_RAM;
    }
    *fault = (struct cpu_fault){
        .vector = CPU_PAGE,
        .has_error = true,
        .error = (present ? 1u : 0) | (access->op == PT_WRITE ? 2u : 0) | (as_user ? 4u : 0),
        .address = linear,
    };
    return INTERP_REFUSED;
}

static void no_mmio(void *ctx, gpa_t at, void *buf, unsigned len, bool write)
{
    (void)ctx, (void)at, (void)buf, (void)len, (void)write;
    fail_msg("no device here");
}

static const struct interp_ops ops = { .translate = translate, .mmio = no_mmio };

uint64_t get(const struct cpu *c, uint64_t at, unsigned size)
{
    uint64_t value = 0;

    assert_true(at + size <= MEM_SIZE);
    memcpy(&value, c->mem + at, size);
    return value;
}

void put(struct cpu *c, uint64_t at, uint64_t value, unsigned size)
{
    assert_true(at + size <= MEM_SIZE);
    memcpy(c->mem + at, &value, size);
}

void put_gate(struct cpu *c, unsigned vector, uint16_t selector, unsigned type, unsigned dpl,
              unsigned ist)
{
    uint64_t low = (HANDLER & 0xffff) | (uint64_t)selector << 16 | (uint64_t)ist << 32 |
                   (uint64_t)(0x80 | dpl << 5 | type) << 40 | (uint64_t)(HANDLER >> 16) << 48;

    if (c->s.efer & X86_EFER_LMA) {
        put(c, AT_IDT + vector * 16, low, 8);
        put(c, AT_IDT + vector * 16 + 8, 0, 8);
    } else {
        put(c, AT_IDT + vector * 8, low, 8);
    }
}

void put_descriptor(struct cpu *c, uint16_t selector, uint64_t base, uint32_t limit,
                    unsigned access, unsigned flags)
{
    uint64_t low = (limit & 0xffff) | (base & 0xffffff) << 16 | (uint64_t)access << 40 |
                   (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)flags << 52 |
                   (base >> 24 & 0xff) << 56;

    put(c, AT_GDT + (selector & ~7u), low, 8);
}

static void fill_gdt(struct cpu *c)
{
    put_descriptor(c, KCODE, 0, 0xfffff, 0x9b, 0xa);
    put_descriptor(c, KDATA, 0, 0xfffff, 0x93, 0xc);
    put_descriptor(c, UCODE32, 0, 0xfffff, 0xfb, 0xc);
    put_descriptor(c, UDATA, 0, 0xfffff, 0xf3, 0xc);
    put_descriptor(c, UCODE, 0, 0xfffff, 0xfb, 0xa);
    put_descriptor(c, TSS, AT_TSS, 0x67, 0x89, 0);
    put(c, AT_GDT + TSS + 8, 0, 8);
    put_descriptor(c, KCODE32, 0, 0xfffff, 0x9b, 0xc);
    put_descriptor(c, KCODE16, 0, 0xffff, 0x9b, 0);
    put_descriptor(c, KDATA16, 0, 0xffff, 0x93, 0);
    put_descriptor(c, CONFORMING, 0, 0xfffff, 0x9f, 0xa);
}

static struct kvm_segment flat(uint16_t selector, uint8_t type, bool l)
{
    return (struct kvm_segment){
        .selector = selector,
        .limit = UINT32_MAX,
        .type = type,
        .dpl = selector & 3,
        .present = 1,
        .s = 1,
        .g = 1,
        .l = l,
        .db = !l,
    };
}

static void start_protected(struct cpu *c, enum mode mode, unsigned cpl)
{
    struct cpu_state *s = &c->s;
    bool lm = mode == MODE_64;

    s->cr0 |= CPU_CR0_PE;
    s->efer = lm ? X86_EFER_LMA | CPU_EFER_LME | CPU_EFER_SCE : 0;
    s->cpl = cpl;
    s->seg[CPU_CS] = flat((uint16_t)((cpl  ? (lm ? UCODE : UCODE32)
                                      : lm ? KCODE
                                           : KCODE32) |
                                     cpl),
                          11, lm);
    for (unsigned i = 0; i < CPU_SEGS; i++)
        if (i != CPU_CS)
            s->seg[i] = flat((uint16_t)((cpl ? UDATA : KDATA) | cpl), 3, false);
    s->gdt = (struct kvm_dtable){ .base = AT_GDT, .limit = GDT_LIMIT };
    s->idt = (struct kvm_dtable){ .base = AT_IDT, .limit = lm ? 0xfff : 0x7ff };
    s->tr = (struct kvm_segment){
        .selector = TSS, .base = AT_TSS, .limit = 0x67, .type = 11, .present = 1
    };
    s->gpr[CPU_RSP] = cpl ? USER_TOP : KERNEL_TOP;
    if (lm) {
        put(c, AT_TSS + 4, KERNEL_TOP, 8);
        put(c, AT_TSS + 36, IST_TOP, 8);
    } else {
        put(c, AT_TSS + 4, KERNEL_TOP, 4);
        put(c, AT_TSS + 8, KDATA, 4);
    }
}

struct cpu *cpu_create(enum mode mode, unsigned cpl)
{
    struct cpu *c = calloc(1, sizeof(*c));

    assert_non_null(c);
    cpu_startup(&c->s, 0);
    fill_gdt(c);
    if (mode == MODE_REAL)
        c->s.gpr[CPU_RSP] = KERNEL_TOP;
    else
        start_protected(c, mode, cpl);
    c->s.rip = AT_CODE;
    c->s.rflags = 0x202;
    assert_int_equal(interp_create(&c->in, &c->s, &ops, c), 0);
    return c;
}

void cpu_destroy(struct cpu *c)
{
    interp_destroy(c->in);
    free(c);
}

enum interp_result run(struct cpu *c, const char *code, size_t n, struct cpu_fault *f)
{
    uint64_t at = (cpu_code_bits(&c->s) == 64 ? 0 : c->s.seg[CPU_CS].base) + c->s.rip;
    struct interp_insn insn;

    assert_true(at + n <= MEM_SIZE);
    memcpy(c->mem + at, code, n);
    assert_int_equal(interp_step(c->in, 1, &insn, f), INTERP_SYSTEM);
    return cpu_transfer(c->in, &insn, f);
}

void check_fault(struct cpu *c, const char *code, size_t n, uint8_t vector, uint32_t error)
{
    const struct cpu_state before = c->s;
    struct cpu_fault f = { 0 };

    assert_int_equal(run(c, code, n, &f), INTERP_FAULT);
    assert_int_equal(f.vector, vector);
    assert_int_equal(f.error, error);
    assert_memory_equal(&c->s, &before, sizeof(before));
}

void check_frame(const struct cpu *c, unsigned size, const uint64_t *want, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        uint64_t got = get(c, c->s.gpr[CPU_RSP] + i * size, size);

        if (got != want[i])
            fail_msg("frame item %u is %lx, not %lx", i, (unsigned long)got,
                     (unsigned long)want[i]);
    }
}
