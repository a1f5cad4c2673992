/*
 * Deliveries: the frames and states that the manual says follow (Intel SDM vol. 3A, chapter 6), in
 * 64-bit, 32-bit and real mode, and what becomes of a delivery that faults.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/cpu_fixture.h"

#define INTERRUPT 14
#define TRAP      15

static const struct cpu_fault ud = { .vector = CPU_UD };
static const struct cpu_fault de = { .vector = CPU_DE };
static const struct cpu_fault cp = { .vector = 21, .has_error = true };
static const struct cpu_fault gp = { .vector = CPU_GP, .has_error = true, .error = 0x28 };
static const struct cpu_fault pf = {
    .vector = CPU_PAGE, .has_error = true, .error = 6, .address = 0x123456
};

static void test_64_inner(void **state)
{
    struct cpu *c = cpu_create(MODE_64, 3);
    (void)state;

    put_gate(c, CPU_PAGE, KCODE, INTERRUPT, 0, 0);
    c->supervisor[(KERNEL_TOP - 1) >> 12] = true; /* the CPU's own push */
    c->s.rflags |= CPU_TF | CPU_NT | CPU_AC;
    assert_int_equal(cpu_deliver(c->in, &pf), 0);
    assert_true(c->last.op == PT_WRITE && c->last.implicit && !c->last.user);
    FRAME(c, 8, 6, AT_CODE, UCODE | 3, 0x202 | CPU_TF | CPU_NT | CPU_AC | CPU_RF, USER_TOP,
          UDATA | 3);
    assert_int_equal(c->s.gpr[CPU_RSP], KERNEL_TOP - 48);
    assert_int_equal(c->s.rflags, 2 | CPU_AC);
    assert_int_equal(c->s.rip, HANDLER);
    assert_int_equal(c->s.cpl, 0);
    assert_int_equal(c->s.cr2, 0x123456);
    assert_int_equal(c->s.seg[CPU_CS].selector, KCODE);
    assert_int_equal(c->s.seg[CPU_CS].l, 1);
    assert_int_equal(c->s.seg[CPU_SS].selector, 0);
    assert_true(c->s.seg[CPU_SS].unusable);
    cpu_destroy(c);
}

static void test_64_same_ring(void **state)
{
    struct cpu *c = cpu_create(MODE_64, 0);
    (void)state;

    put_gate(c, CPU_UD, KCODE, TRAP, 0, 0);
    c->s.gpr[CPU_RSP] = KERNEL_TOP - 5; /* is aligned down first */
    c->s.inhibited = true;
    assert_int_equal(cpu_deliver(c->in, &ud), 0);
    assert_true(c->last.op == PT_WRITE && !c->last.implicit && !c->last.user);
    assert_false(c->s.inhibited);
    assert_int_equal(c->s.gpr[CPU_RSP], KERNEL_TOP - 16 - 40);
    FRAME(c, 8, AT_CODE, KCODE, 0x202 | CPU_RF, KERNEL_TOP - 5, KDATA);
    assert_int_equal(c->s.rflags, 0x202); /* a trap gate leaves IF */
    assert_int_equal(c->s.seg[CPU_SS].selector, KDATA);
    cpu_destroy(c);
}

/* A trap: RF is pushed as it was; the handler of #DB may touch the debug registers. */
static void test_64_debug(void **state)
{
    static const struct cpu_fault db = { .vector = CPU_DB };
    struct cpu *c = cpu_create(MODE_64, 0);
    (void)state;

    put_gate(c, CPU_DB, KCODE, INTERRUPT, 0, 0);
    c->s.dr[7] = 0x2400;
    assert_int_equal(cpu_deliver(c->in, &db), 0);
    FRAME(c, 8, AT_CODE, KCODE, 0x202);
    assert_int_equal(c->s.dr[7], 0x400);
    cpu_destroy(c);
}

static void test_64_ist(void **state)
{
    struct cpu *c = cpu_create(MODE_64, 0);
    (void)state;

    put_gate(c, CPU_NMI, KCODE, INTERRUPT, 0, 1);
    c->s.halted = true;
    assert_int_equal(cpu_deliver_interrupt(c->in, CPU_NMI), 0);
    FRAME(c, 8, AT_CODE, KCODE, 0x202, KERNEL_TOP, KDATA);
    assert_int_equal(c->s.gpr[CPU_RSP], IST_TOP - 40);
    assert_int_equal(c->s.seg[CPU_SS].selector, KDATA); /* the ring is the same */
    assert_false(c->s.halted);
    assert_true(c->s.nmi_blocked);
    cpu_destroy(c);
}

static void test_64_conforming(void **state)
{
    struct cpu *c = cpu_create(MODE_64, 3);
    (void)state;

    put_gate(c, 0x40, CONFORMING, INTERRUPT, 0, 0);
    assert_int_equal(cpu_deliver_interrupt(c->in, 0x40), 0);
    assert_int_equal(c->s.cpl, 3);
    assert_int_equal(c->s.seg[CPU_CS].selector, CONFORMING | 3);
    assert_int_equal(c->s.gpr[CPU_RSP], USER_TOP - 40);
    cpu_destroy(c);
}

/* An interrupt meets a gate that is no good: the #GP or #NP has EXT, and comes instead. */
static void check_gate(struct cpu *c, uint8_t vector, uint32_t error)
{
    put_gate(c, CPU_GP, KCODE, INTERRUPT, 0, 0);
    put_gate(c, CPU_NP, KCODE, INTERRUPT, 0, 0);
    put_gate(c, CPU_TS, KCODE, INTERRUPT, 0, 1);
    put_gate(c, CPU_SS_FAULT, KCODE, INTERRUPT, 0, 1);
    c->mem[AT_IDT + vector * 16 + 1] ^= 1; /* tells which handler it was */
    assert_int_equal(cpu_deliver_interrupt(c->in, 0x41), 0);
    assert_int_equal(c->s.rip, HANDLER ^ 0x100);
    FRAME(c, 8, error, AT_CODE);
    cpu_destroy(c);
}

static void test_64_bad_gates(void **state)
{
    struct cpu *c = cpu_create(MODE_64, 3);
    (void)state;

    put_gate(c, 0x41, KCODE, 12, 0, 0);
    check_gate(c, CPU_GP, 0x41 * 8 + 3);

    c = cpu_create(MODE_64, 3);
    put_gate(c, 0x41, KCODE, INTERRUPT, 0, 0);
    c->mem[AT_IDT + 0x41 * 16 + 5] &= 0x7f;
    check_gate(c, CPU_NP, 0x41 * 8 + 3);

    c = cpu_create(MODE_64, 3);
    c->s.idt.limit = 0x41 * 16 + 14; /* one byte short */
    put_gate(c, 0x41, KCODE, INTERRUPT, 0, 0);
    check_gate(c, CPU_GP, 0x41 * 8 + 3);

    c = cpu_create(MODE_64, 3);
    put_gate(c, 0x41, 0, INTERRUPT, 0, 0);
    check_gate(c, CPU_GP, 1);

    c = cpu_create(MODE_64, 3);
    put_gate(c, 0x41, KDATA, INTERRUPT, 0, 0);
    check_gate(c, CPU_GP, KDATA | 1);

    c = cpu_create(MODE_64, 3);
    put_gate(c, 0x41, KCODE32, INTERRUPT, 0, 0);
    check_gate(c, CPU_GP, KCODE32 | 1);

    c = cpu_create(MODE_64, 0);
    put_gate(c, 0x41, UCODE, INTERRUPT, 0, 0); /* outwards */
    check_gate(c, CPU_GP, UCODE | 1);

    c = cpu_create(MODE_64, 3);
    put_gate(c, 0x41, 0x78, INTERRUPT, 0, 0); /* beyond the GDT */
    check_gate(c, CPU_GP, 0x79);

    c = cpu_create(MODE_64, 3);
    put_gate(c, 0x41, 0x0c, INTERRUPT, 0, 0); /* an LDT that is not there */
    c->s.ldt = (struct kvm_segment){ .unusable = 1 };
    check_gate(c, CPU_GP, 0x0d);

    c = cpu_create(MODE_64, 3);
    put_descriptor(c, SCRATCH, 0, 0, 0x1b, 0xa);
    put_gate(c, 0x41, SCRATCH, INTERRUPT, 0, 0);
    check_gate(c, CPU_NP, SCRATCH | 1);

    c = cpu_create(MODE_64, 3);
    put_gate(c, 0x41, KCODE, INTERRUPT, 0, 0);
    put(c, AT_IDT + 0x41 * 16 + 8, 0x8000, 4); /* the offset is not canonical */
    check_gate(c, CPU_GP, 1);
}

static void test_64_bad_stacks(void **state)
{
    struct cpu *c = cpu_create(MODE_64, 3);
    (void)state;

    put_gate(c, 0x41, KCODE, INTERRUPT, 0, 2);
    c->s.tr.limit = 0x24 + 8 + 6; /* IST2 is one byte short */
    check_gate(c, CPU_TS, TSS | 1);

    c = cpu_create(MODE_64, 3);
    put_gate(c, 0x41, KCODE, INTERRUPT, 0, 2);
    put(c, AT_TSS + 36 + 8, 0x800000001000, 8);
    check_gate(c, CPU_SS_FAULT, 1);
}

/* The accessed bit of a code segment is set in memory, and only written where it is clear. */
static void test_accessed(void **state)
{
    struct cpu *c = cpu_create(MODE_64, 0);
    (void)state;

    put_descriptor(c, SCRATCH, 0, 0xfffff, 0x9a, 0xa);
    put_gate(c, 0x41, SCRATCH, INTERRUPT, 0, 0);
    assert_int_equal(cpu_deliver_interrupt(c->in, 0x41), 0);
    assert_int_equal(c->mem[AT_GDT + SCRATCH + 5], 0x9b);
    cpu_destroy(c);
}

/* --- the double-fault matrix --- */

/* A gate that raises #PF, #NP or #GP when it is used: an absent handler page does not. */
static void break_gate(struct cpu *c, unsigned vector, uint8_t with)
{
    put_gate(c, vector, with == CPU_NP ? SCRATCH : KCODE, INTERRUPT, 0, with == CPU_PAGE ? 3 : 0);
    put_descriptor(c, SCRATCH, 0, 0, 0x1b, 0xa);
    put(c, AT_TSS + 36 + 16, MEM_SIZE + 0x1000, 8); /* IST3 is mapped nowhere */
}

static void check_matrix(const struct cpu_fault *first, uint8_t second, uint8_t expect)
{
    struct cpu *c = cpu_create(MODE_64, 0);

    for (unsigned v = 0; v < 32; v++) {
        put_gate(c, v, KCODE, INTERRUPT, 0, 0);
        put(c, AT_IDT + v * 16, v, 1); /* the handler's low byte is the vector */
    }
    break_gate(c, first->vector, second);
    assert_int_equal(cpu_deliver(c->in, first), 0);
    assert_int_equal(c->s.rip & 0xff, expect);
    if (expect == CPU_DOUBLE)
        FRAME(c, 8, 0, AT_CODE, KCODE, 0x202);
    if (second == CPU_PAGE) /* RSP - 40 or, with an error code, - 48 */
        assert_true(c->s.cr2 >= MEM_SIZE + 0x1000 - 48 && c->s.cr2 < MEM_SIZE + 0x1000);
    cpu_destroy(c);
}

static void test_matrix(void **state)
{
    (void)state;
    check_matrix(&ud, CPU_NP, CPU_NP);
    check_matrix(&ud, CPU_PAGE, CPU_PAGE);
    check_matrix(&de, CPU_NP, CPU_DOUBLE);
    check_matrix(&de, CPU_PAGE, CPU_PAGE);
    check_matrix(&gp, CPU_NP, CPU_DOUBLE);
    check_matrix(&gp, CPU_PAGE, CPU_PAGE);
    check_matrix(&cp, CPU_NP, CPU_DOUBLE);
    check_matrix(&pf, CPU_NP, CPU_DOUBLE);
    check_matrix(&pf, CPU_PAGE, CPU_DOUBLE);
}

/* A chain: #GP, whose gate raises #PF, whose gate raises #NP: a double fault. */
static void test_chain(void **state)
{
    struct cpu *c = cpu_create(MODE_64, 0);
    (void)state;

    put_gate(c, CPU_DOUBLE, KCODE, INTERRUPT, 0, 1);
    break_gate(c, CPU_GP, CPU_PAGE);
    break_gate(c, CPU_PAGE, CPU_NP);
    assert_int_equal(cpu_deliver(c->in, &gp), 0);
    assert_int_equal(c->s.gpr[CPU_RSP], IST_TOP - 48);
    cpu_destroy(c);
}

static void test_triple(void **state)
{
    static const struct cpu_fault twice = { .vector = CPU_DOUBLE, .has_error = true };
    struct cpu *c = cpu_create(MODE_64, 3);
    struct cpu_state before;
    (void)state;

    c->s.idt.limit = 0;
    c->s.halted = true;
    before = c->s;
    assert_int_equal(cpu_deliver(c->in, &pf), -1);
    before.cr2 = pf.address; /* a CPU has it before it looks for a handler */
    assert_memory_equal(&c->s, &before, sizeof(before));
    assert_int_equal(cpu_deliver_interrupt(c->in, 0x20), -1);
    assert_memory_equal(&c->s, &before, sizeof(before));
    cpu_destroy(c);

    c = cpu_create(MODE_64, 0); /* though the gate of what #DF raises is good */
    break_gate(c, CPU_DOUBLE, CPU_NP);
    put_gate(c, CPU_NP, KCODE, INTERRUPT, 0, 0);
    assert_int_equal(cpu_deliver(c->in, &twice), -1);
    cpu_destroy(c);
}

/* --- 32 bits --- */

static void test_32_inner(void **state)
{
    struct cpu *c = cpu_create(MODE_32, 3);
    (void)state;

    put_gate(c, CPU_GP, KCODE32, INTERRUPT, 0, 0);
    assert_int_equal(cpu_deliver(c->in, &gp), 0);
    assert_int_equal(c->s.gpr[CPU_RSP], KERNEL_TOP - 24);
    FRAME(c, 4, 0x28, AT_CODE, UCODE32 | 3, 0x202 | CPU_RF, USER_TOP, UDATA | 3);
    assert_int_equal(c->s.seg[CPU_SS].selector, KDATA);
    assert_int_equal(c->s.seg[CPU_SS].limit, UINT32_MAX);
    assert_int_equal(c->s.cpl, 0);
    assert_int_equal(c->s.rflags, 2);
    cpu_destroy(c);
}

static void test_32_same_ring(void **state)
{
    struct cpu *c = cpu_create(MODE_32, 0);
    (void)state;

    put_gate(c, 0x41, KCODE32, INTERRUPT, 0, 0);
    c->s.gpr[CPU_RSP] = KERNEL_TOP - 2;
    assert_int_equal(cpu_deliver_interrupt(c->in, 0x41), 0);
    assert_int_equal(c->s.gpr[CPU_RSP], KERNEL_TOP - 14); /* not aligned */
    FRAME(c, 4, AT_CODE, KCODE32, 0x202);
    cpu_destroy(c);

    c = cpu_create(MODE_32, 0);
    put_gate(c, 0x41, KCODE32, 6, 0, 0); /* a 16-bit gate */
    assert_int_equal(cpu_deliver_interrupt(c->in, 0x41), 0);
    FRAME(c, 2, AT_CODE, KCODE32, 0x202);
    assert_int_equal(c->s.rip, HANDLER & 0xffff);
    cpu_destroy(c);

    c = cpu_create(MODE_32, 0);
    put_gate(c, 0x41, TSS, 5, 0, 0); /* a task gate */
    assert_int_equal(cpu_deliver_interrupt(c->in, 0x41), -ENOTSUP);
    assert_int_equal(c->s.rip, AT_CODE);
    cpu_destroy(c);
}

/* A 16-bit TSS, and a 16-bit stack that keeps ESP's upper half. */
static void test_32_tss16(void **state)
{
    struct cpu *c = cpu_create(MODE_32, 3);
    (void)state;

    c->s.tr.type = 3;
    put(c, AT_TSS + 2, KERNEL_TOP, 2);
    put(c, AT_TSS + 4, KDATA16, 2);
    c->s.gpr[CPU_RSP] = 0x55550000 | USER_TOP;
    put_gate(c, 0x41, KCODE32, INTERRUPT, 0, 0);
    assert_int_equal(cpu_deliver_interrupt(c->in, 0x41), 0);
    assert_int_equal(c->s.gpr[CPU_RSP], KERNEL_TOP - 20);
    assert_int_equal(c->s.seg[CPU_SS].selector, KDATA16);
    cpu_destroy(c);

    c = cpu_create(MODE_32, 3); /* a TSS of 32 bits with a stack of 16 */
    put(c, AT_TSS + 4, 0x66660000 | KERNEL_TOP, 4);
    put(c, AT_TSS + 8, KDATA16, 2);
    put_gate(c, 0x41, KCODE32, INTERRUPT, 0, 0);
    assert_int_equal(cpu_deliver_interrupt(c->in, 0x41), 0);
    assert_int_equal(c->s.gpr[CPU_RSP], (0x66660000 | KERNEL_TOP) - 20);
    assert_int_equal(get(c, KERNEL_TOP - 20, 4), AT_CODE);
    cpu_destroy(c);
}

struct bad_stack {
    uint32_t tss_limit, esp, error;
    uint16_t ss;
    uint8_t vector;
};

static void test_32_bad_stacks(void **state)
{
    static const struct bad_stack all[] = {
        { 0x67, KERNEL_TOP, 1, 0, CPU_TS },
        { 0x67, KERNEL_TOP, KDATA | 1, KDATA | 3, CPU_TS },
        { 0x67, KERNEL_TOP, KCODE32 | 1, KCODE32, CPU_TS },
        { 0x67, KERNEL_TOP, UDATA | 1, UDATA, CPU_TS },
        { 0x67, KERNEL_TOP, 0x101, 0x100, CPU_TS },
        { 8, KERNEL_TOP, TSS | 1, KDATA, CPU_TS },
        { 0x67, KERNEL_TOP, SCRATCH | 1, SCRATCH, CPU_SS_FAULT },       /* absent */
        { 0x67, 0x2000, (SCRATCH + 8) | 1, SCRATCH + 8, CPU_SS_FAULT }, /* its limit */
    };
    (void)state;

    for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        struct cpu *c = cpu_create(MODE_32, 3);

        put_descriptor(c, SCRATCH, 0, 0xfffff, 0x13, 0xc);
        put_descriptor(c, SCRATCH + 8, 0, 0xfff, 0x93, 4);
        put(c, AT_TSS + 4, all[i].esp, 4);
        put(c, AT_TSS + 8, all[i].ss, 4);
        c->s.tr.limit = all[i].tss_limit;
        put_gate(c, 0x41, KCODE32, INTERRUPT, 0, 0);
        put_gate(c, all[i].vector, CONFORMING, INTERRUPT, 0, 0); /* stays in ring 3 */
        assert_int_equal(cpu_deliver_interrupt(c->in, 0x41), 0);
        FRAME(c, 4, all[i].error, AT_CODE, UCODE32 | 3);
        cpu_destroy(c);
    }
}

/* A stack that grows down to its limit, and a handler beyond its segment. */
static void test_32_limits(void **state)
{
    struct cpu *c = cpu_create(MODE_32, 0);
    (void)state;

    c->s.seg[CPU_SS].type = 7; /* expand down: valid above the limit */
    c->s.seg[CPU_SS].limit = KERNEL_TOP - 13;
    put_gate(c, 0x41, KCODE32, TRAP, 0, 0);
    assert_int_equal(cpu_deliver_interrupt(c->in, 0x41), 0);
    assert_int_equal(cpu_deliver_interrupt(c->in, 0x41), -1); /* #SS, #DF have no room either */
    cpu_destroy(c);

    c = cpu_create(MODE_32, 0);
    c->s.gpr[CPU_RSP] = 8; /* the pointer wraps, to where nothing is mapped */
    put_gate(c, 0x41, KCODE32, TRAP, 0, 0);
    assert_int_equal(cpu_deliver_interrupt(c->in, 0x41), -1);
    cpu_destroy(c);

    c = cpu_create(MODE_32, 0);
    put_descriptor(c, SCRATCH, 0, HANDLER - 1, 0x9b, 4);
    put_gate(c, 0x41, SCRATCH, TRAP, 0, 0);
    put_gate(c, CPU_GP, KCODE32, TRAP, 0, 0);
    assert_int_equal(cpu_deliver_interrupt(c->in, 0x41), 0);
    FRAME(c, 4, 1, AT_CODE);
    cpu_destroy(c);
}

/* --- real mode --- */

static void test_real(void **state)
{
    struct cpu *c = cpu_create(MODE_REAL, 0);
    (void)state;

    put(c, 0x20 * 4, 0x0e00f123, 4);
    cpu_startup(&c->s, 2);
    c->s.rip = 0x345;
    c->s.gpr[CPU_RSP] = 0xabcd0000; /* wraps */
    c->s.rflags = 0x202 | CPU_TF | CPU_AC;
    assert_int_equal(cpu_deliver_interrupt(c->in, 0x20), 0);
    assert_int_equal(c->s.gpr[CPU_RSP], 0xabcdfffa);
    assert_int_equal(get(c, 0xfffa, 6), 0x030202000345);
    assert_int_equal(c->s.seg[CPU_CS].selector, 0x0e00);
    assert_int_equal(c->s.seg[CPU_CS].base, 0xe000);
    assert_int_equal(c->s.rip, 0xf123);
    assert_int_equal(c->s.rflags, 2);
    cpu_destroy(c);
}

static void test_real_faults(void **state)
{
    struct cpu *c = cpu_create(MODE_REAL, 0);
    (void)state;

    /* No error code; items that wrap lie at both ends. */
    put(c, CPU_GP * 4, 0x00001000, 4);
    c->s.idt.limit = 0x20 * 4 + 2;
    c->s.gpr[CPU_RSP] = 4;
    assert_int_equal(cpu_deliver_interrupt(c->in, 0x20), 0);
    assert_int_equal(c->s.gpr[CPU_RSP], 0xfffe);
    assert_int_equal(get(c, 2, 2), 0x202); /* RF is in the upper half */
    assert_int_equal(get(c, 0xfffe, 2), AT_CODE);
    assert_int_equal(c->s.rip, 0x1000);
    c->s.gpr[CPU_RSP] = 1; /* a word that is across the end */
    assert_int_equal(cpu_deliver_interrupt(c->in, 0x10), -1);
    c->s.gpr[CPU_RSP] = KERNEL_TOP;
    c->s.seg[CPU_CS].limit = 0xfff; /* the handler is beyond it */
    put(c, CPU_DOUBLE * 4, 0x0123, 4);
    assert_int_equal(cpu_deliver_interrupt(c->in, CPU_GP), 0);
    assert_int_equal(c->s.rip, 0x0123);
    c->s.idt.limit = 3;
    assert_int_equal(cpu_deliver(c->in, &ud), -1);
    cpu_destroy(c);
}

static void test_startup(void **state)
{
    struct cpu_state s;
    (void)state;

    cpu_reset(&s);
    assert_int_equal(s.rip, 0xfff0);
    assert_int_equal(s.rflags, 2);
    assert_int_equal(s.cr0, 0x60000010);
    assert_int_equal(s.seg[CPU_CS].base, 0xffff0000);
    assert_int_equal(s.seg[CPU_CS].selector, 0xf000);
    assert_int_equal(s.gpr[CPU_RDX], 0x600);
    assert_int_equal(s.dr[6], 0xffff0ff0);
    assert_int_equal(s.dr[7], 0x400);
    assert_int_equal(s.idt.limit, 0xffff);
    cpu_startup(&s, 0x9a);
    assert_int_equal(s.seg[CPU_CS].selector, 0x9a00);
    assert_int_equal(s.seg[CPU_CS].base, 0x9a000);
    assert_int_equal(s.seg[CPU_CS].limit, 0xffff);
    assert_int_equal(s.rip, 0);
    assert_int_equal(cpu_code_bits(&s), 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_64_inner),     cmocka_unit_test(test_64_same_ring),
        cmocka_unit_test(test_64_ist),       cmocka_unit_test(test_64_conforming),
        cmocka_unit_test(test_64_bad_gates), cmocka_unit_test(test_64_bad_stacks),
        cmocka_unit_test(test_accessed),     cmocka_unit_test(test_matrix),
        cmocka_unit_test(test_chain),        cmocka_unit_test(test_triple),
        cmocka_unit_test(test_32_inner),     cmocka_unit_test(test_32_same_ring),
        cmocka_unit_test(test_32_tss16),     cmocka_unit_test(test_32_bad_stacks),
        cmocka_unit_test(test_real),         cmocka_unit_test(test_real_faults),
        cmocka_unit_test(test_startup),      cmocka_unit_test(test_64_debug),
        cmocka_unit_test(test_32_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
