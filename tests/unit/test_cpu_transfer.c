/*
 * The instructions that transfer control far: software interrupts, IRET, far JMP, CALL and RET,
 * SYSCALL and SYSENTER with their ways back. Predicted from the manual's pages of them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/cpu_fixture.h"

#define INTERRUPT 14
#define TRAP      15

#define IRETQ   "\x48\xcf"
#define IRET    "\xcf"
#define INT_80  "\xcd\x80"
#define RETFQ   "\x48\xcb"
#define JMP_FAR "\x48\xff\x2c\x25\x00\x60\x00\x00" /* m16:64 at AT_DATA */

static void put_items(struct cpu *c, unsigned size, const uint64_t *item, unsigned n)
{
    c->s.gpr[CPU_RSP] -= (uint64_t)n * size;
    for (unsigned i = 0; i < n; i++)
        put(c, c->s.gpr[CPU_RSP] + i * size, item[i], size);
}
#define ITEMS(c, size, ...)                               \
    put_items(c, size, (const uint64_t[]){ __VA_ARGS__ }, \
              sizeof((const uint64_t[]){ __VA_ARGS__ }) / 8)

static void check_ok(struct cpu *c, const char *code, size_t n)
{
    struct cpu_fault f = { 0 };

    if (run(c, code, n, &f) != INTERP_OK)
        fail_msg("fault %u, error %x", f.vector, f.error);
}
#define OK(c, code) check_ok(c, code, sizeof(code) - 1)

/* --- software interrupts --- */

static void test_int_n(void **state)
{
    struct cpu *c = cpu_create(MODE_64, 3);
    (void)state;

    put_gate(c, 0x80, KCODE, TRAP, 0, 0);
    FAULTS(c, INT_80, CPU_GP, 0x80 * 8 + 2);
    put_gate(c, 0x80, KCODE, TRAP, 3, 0);
    c->s.rflags |= CPU_RF;
    OK(c, INT_80);
    FRAME(c, 8, AT_CODE + 2, UCODE | 3, 0x202, USER_TOP, UDATA | 3);
    assert_int_equal(c->s.rip, HANDLER);
    assert_int_equal(c->s.rflags, 0x202);
    cpu_destroy(c);

    /* A #GP's vector by INT has no error code; faults on the way lack EXT. */
    c = cpu_create(MODE_64, 3);
    put_gate(c, CPU_GP, KCODE, INTERRUPT, 3, 0);
    OK(c, "\xcd\x0d");
    FRAME(c, 8, AT_CODE + 2, UCODE | 3);
    cpu_destroy(c);

    c = cpu_create(MODE_64, 3);
    put_gate(c, 0x80, KCODE, INTERRUPT, 3, 0);
    c->s.tr.limit = 10;
    FAULTS(c, INT_80, CPU_TS, TSS);
    put_gate(c, 0x80, KCODE32, INTERRUPT, 3, 0);
    FAULTS(c, INT_80, CPU_GP, KCODE32);
    c->mem[AT_IDT + 0x80 * 16 + 5] &= 0x7f;
    FAULTS(c, INT_80, CPU_NP, 0x80 * 8 + 2);
    cpu_destroy(c);
}

static void test_int_1_3_o(void **state)
{
    struct cpu *c = cpu_create(MODE_64, 3);
    (void)state;

    put_gate(c, CPU_BP, KCODE, INTERRUPT, 0, 0);
    put_gate(c, CPU_DB, KCODE, INTERRUPT, 0, 0);
    FAULTS(c, "\xcc", CPU_GP, CPU_BP * 8 + 2);
    OK(c, "\xf1"); /* looks at no DPL */
    FRAME(c, 8, AT_CODE + 1, UCODE | 3, 0x202);
    cpu_destroy(c);

    c = cpu_create(MODE_64, 3);
    c->s.idt.limit = 0;
    FAULTS(c, "\xf1", CPU_GP, CPU_DB * 8 + 3);
    cpu_destroy(c);

    c = cpu_create(MODE_32, 3);
    put_gate(c, CPU_OF_TRAP, KCODE32, INTERRUPT, 3, 0);
    OK(c, "\xce");
    assert_int_equal(c->s.rip, AT_CODE + 1);
    c->s.rflags |= CPU_OF;
    OK(c, "\xce");
    FRAME(c, 4, AT_CODE + 2, UCODE32 | 3, 0x202 | CPU_OF, USER_TOP, UDATA | 3);
    cpu_destroy(c);
}

/* A task gate is known, but not supported: not a fault. */
static void test_unsupported(void **state)
{
    struct cpu *c = cpu_create(MODE_32, 0);
    struct cpu_fault f;
    (void)state;

    put_gate(c, 0x80, TSS, 5, 3, 0);
    assert_int_equal(RUN(c, INT_80, &f), INTERP_UNKNOWN);
    ITEMS(c, 4, AT_CODE, UCODE32 | 3, CPU_VM | 2);
    assert_int_equal(RUN(c, IRET, &f), INTERP_UNKNOWN);
    c->s.rflags |= CPU_NT;
    assert_int_equal(RUN(c, IRET, &f), INTERP_UNKNOWN);
    put_descriptor(c, SCRATCH, AT_CODE, 0, 0x8c, 0); /* a call gate */
    assert_int_equal(RUN(c, "\xea\x00\x00\x00\x00\x60\x00", &f), INTERP_UNKNOWN);
    assert_int_equal(c->s.rip, AT_CODE);
    assert_int_equal(RUN(c, "\x0f\x20\xc0", &f), INTERP_SYSTEM); /* MOV EAX, CR0 */
    cpu_destroy(c);
}

/* --- IRET --- */

static void test_iret_64_outer(void **state)
{
    struct cpu *c = cpu_create(MODE_64, 0);
    (void)state;

    c->s.nmi_blocked = true;
    c->s.seg[CPU_GS].base = 0x1234;
    c->s.seg[CPU_GS].dpl = 3;
    c->s.seg[CPU_FS] = (struct kvm_segment){ .unusable = 1, .base = 0x5678 };
    c->s.seg[CPU_ES].type = 15; /* conforming code */
    ITEMS(c, 8, 0x401000, UCODE | 3, 0x246 | CPU_IOPL | CPU_RF, 0x7fff0, UDATA | 3);
    OK(c, IRETQ);
    assert_int_equal(c->s.rip, 0x401000);
    assert_int_equal(c->s.gpr[CPU_RSP], 0x7fff0);
    assert_int_equal(c->s.rflags, 0x246 | CPU_IOPL | CPU_RF);
    assert_int_equal(c->s.cpl, 3);
    assert_int_equal(c->s.seg[CPU_SS].selector, UDATA | 3);
    assert_int_equal(c->s.seg[CPU_SS].dpl, 3);
    assert_false(c->s.nmi_blocked);
    assert_true(c->s.seg[CPU_DS].unusable); /* was of ring 0 */
    assert_int_equal(c->s.seg[CPU_DS].selector, 0);
    assert_false(c->s.seg[CPU_ES].unusable);
    assert_int_equal(c->s.seg[CPU_GS].base, 0x1234); /* of ring 3 */
    assert_int_equal(c->s.seg[CPU_FS].base, 0x5678); /* null before */
    cpu_destroy(c);
}

static void test_iret_64_same(void **state)
{
    struct cpu *c = cpu_create(MODE_64, 0);
    (void)state;

    ITEMS(c, 8, HANDLER, KCODE, 2, IST_TOP, 0); /* a null SS is fine in ring 0 */
    OK(c, IRETQ);
    assert_int_equal(c->s.gpr[CPU_RSP], IST_TOP);
    assert_true(c->s.seg[CPU_SS].unusable);
    assert_int_equal(c->s.rip, HANDLER);
    cpu_destroy(c);

    c = cpu_create(MODE_64, 3); /* IF and IOPL are not ring 3's */
    ITEMS(c, 8, HANDLER, UCODE | 3, 2 | CPU_IOPL | CPU_CF, USER_TOP - 8, UDATA | 3);
    OK(c, IRETQ);
    assert_int_equal(c->s.rflags, 0x203);
    assert_int_equal(c->s.gpr[CPU_RSP], USER_TOP - 8);
    cpu_destroy(c);
}

/* To compatibility mode and back down through a 64-bit gate. */
static void test_iret_compat(void **state)
{
    struct cpu *c = cpu_create(MODE_64, 0);
    (void)state;

    ITEMS(c, 8, AT_CODE, UCODE32 | 3, 0x202, USER_TOP, UDATA | 3);
    OK(c, IRETQ);
    assert_int_equal(cpu_code_bits(&c->s), 32);
    put_gate(c, 0x80, KCODE, INTERRUPT, 3, 0);
    OK(c, INT_80);
    FRAME(c, 8, AT_CODE + 2, UCODE32 | 3, 0x202, USER_TOP, UDATA | 3);
    assert_int_equal(cpu_code_bits(&c->s), 64);
    cpu_destroy(c);

    c = cpu_create(MODE_64, 0);
    ITEMS(c, 8, UINT64_C(0x100000000), UCODE32 | 3, 0x202, USER_TOP, UDATA | 3);
    FAULTS(c, IRETQ, CPU_GP, 0); /* beyond its limit */
    cpu_destroy(c);
}

struct refusal {
    uint64_t rip, cs, ss;
    uint8_t vector;
    uint32_t error;
};

static void test_iret_refusals(void **state)
{
    static const struct refusal all[] = {
        { UINT64_C(0x800000000000), UCODE | 3, UDATA | 3, CPU_GP, 0 },
        { AT_CODE, 0, UDATA | 3, CPU_GP, 0 },
        { AT_CODE, 0x1003, UDATA | 3, CPU_GP, 0x1000 },
        { AT_CODE, UDATA | 3, UDATA | 3, CPU_GP, UDATA },
        { AT_CODE, KCODE | 3, UDATA | 3, CPU_GP, KCODE },
        { AT_CODE, UCODE, UDATA | 3, CPU_GP, UCODE },
        { AT_CODE, SCRATCH | 3, UDATA | 3, CPU_NP, SCRATCH },
        { AT_CODE, (SCRATCH + 8) | 3, UDATA | 3, CPU_GP, SCRATCH + 8 }, /* L and D */
        { AT_CODE, UCODE | 3, 3, CPU_GP, 0 },
        { AT_CODE, UCODE | 3, UDATA, CPU_GP, UDATA },
        { AT_CODE, UCODE | 3, UCODE | 3, CPU_GP, UCODE },
        { AT_CODE, UCODE | 3, KDATA | 3, CPU_GP, KDATA },
        { AT_CODE, KCODE, UDATA | 3, CPU_GP, UDATA },
        { AT_CODE, KCODE, 1, CPU_GP, 0 },
    };
    struct cpu *c = cpu_create(MODE_64, 0);
    (void)state;

    put_descriptor(c, SCRATCH, 0, 0xfffff, 0x7b, 0xa);
    put_descriptor(c, SCRATCH + 8, 0, 0xfffff, 0xfb, 0xe);
    for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        c->s.gpr[CPU_RSP] = KERNEL_TOP;
        ITEMS(c, 8, all[i].rip, all[i].cs, 2, USER_TOP, all[i].ss);
        FAULTS(c, IRETQ, all[i].vector, all[i].error);
    }
    put_descriptor(c, SCRATCH, 0, 0xfffff, 0xdf, 0xa); /* conforming, DPL 2: not to ring 1 */
    c->s.gpr[CPU_RSP] = KERNEL_TOP;
    ITEMS(c, 8, AT_CODE, SCRATCH | 1, 2, USER_TOP, UDATA | 1);
    FAULTS(c, IRETQ, CPU_GP, SCRATCH);
    c->s.rflags |= CPU_NT;
    FAULTS(c, IRETQ, CPU_GP, 0);
    c->s.rflags &= ~CPU_NT;
    c->absent[(KERNEL_TOP - 1) >> 12] = true;
    FAULTS(c, IRETQ, CPU_PAGE, 0);
    c->s.gpr[CPU_RSP] = UINT64_C(0x7ffffffffff0);
    FAULTS(c, IRETQ, CPU_SS_FAULT, 0);
    cpu_destroy(c);

    c = cpu_create(MODE_64, 3); /* not inwards */
    ITEMS(c, 8, AT_CODE, KCODE, 2, KERNEL_TOP, KDATA);
    FAULTS(c, IRETQ, CPU_GP, KCODE);
    cpu_destroy(c);
}

static void test_iret_32(void **state)
{
    struct cpu *c = cpu_create(MODE_32, 0);
    (void)state;

    ITEMS(c, 4, HANDLER, KCODE32, 0x246 | CPU_ID | 0x180000); /* VIF and VIP */
    OK(c, IRET);
    assert_int_equal(c->s.gpr[CPU_RSP], KERNEL_TOP); /* no SS:ESP in the same ring */
    assert_int_equal(c->s.rflags, 0x246 | CPU_ID | 0x180000);
    c->s.rip = AT_CODE;
    ITEMS(c, 4, HANDLER, UCODE32 | 3, 0x202, USER_TOP, UDATA | 3);
    OK(c, IRET);
    assert_int_equal(c->s.cpl, 3);
    assert_int_equal(c->s.gpr[CPU_RSP], USER_TOP);
    assert_true(c->s.seg[CPU_ES].unusable);
    cpu_destroy(c);

    c = cpu_create(MODE_32, 0); /* 16 bits wide */
    c->s.rflags |= CPU_AC;
    ITEMS(c, 2, 0x1234, KCODE32, 0x46);
    OK(c, "\x66\xcf");
    assert_int_equal(c->s.rip, 0x1234);
    assert_int_equal(c->s.rflags, 0x46 | CPU_AC);
    cpu_destroy(c);
}

static void test_iret_real(void **state)
{
    struct cpu *c = cpu_create(MODE_REAL, 0);
    (void)state;

    c->s.nmi_blocked = true;
    ITEMS(c, 2, 0x1234, 0x0200, 0x3246);
    OK(c, IRET);
    assert_int_equal(c->s.rip, 0x1234);
    assert_int_equal(c->s.seg[CPU_CS].base, 0x2000);
    assert_int_equal(c->s.rflags, 0x3246);
    assert_false(c->s.nmi_blocked);
    c->s.seg[CPU_CS].base = 0;
    c->s.rip = AT_CODE;
    ITEMS(c, 4, 0x10000, 0, 2);
    FAULTS(c, "\x66\xcf", CPU_GP, 0);
    cpu_destroy(c);
}

/* --- far JMP, CALL, RET --- */

static void jump_to(struct cpu *c, uint64_t rip, uint16_t selector)
{
    put(c, AT_DATA, rip, 8);
    put(c, AT_DATA + 8, selector, 2);
}

static void test_jump_64(void **state)
{
    struct cpu *c = cpu_create(MODE_64, 0);
    (void)state;

    jump_to(c, HANDLER, KCODE32 | 0);
    OK(c, JMP_FAR);
    assert_int_equal(cpu_code_bits(&c->s), 32);
    assert_int_equal(c->s.rip, HANDLER);
    c->s.rip = AT_CODE; /* and back: JMP ptr16:32 */
    OK(c, "\xea\x00\x50\x00\x00\x08\x00");
    assert_int_equal(cpu_code_bits(&c->s), 64);
    jump_to(c, UINT64_C(0x800000000000), KCODE);
    FAULTS(c, JMP_FAR, CPU_GP, 0);
    jump_to(c, HANDLER, UCODE | 3);
    FAULTS(c, JMP_FAR, CPU_GP, UCODE);
    jump_to(c, HANDLER, KCODE | 1); /* RPL > CPL */
    FAULTS(c, JMP_FAR, CPU_GP, KCODE);
    put_descriptor(c, SCRATCH, 0, 0xfffff, 0xff, 0xa); /* conforming, of an outer ring */
    jump_to(c, HANDLER, SCRATCH);
    FAULTS(c, JMP_FAR, CPU_GP, SCRATCH);
    put_descriptor(c, SCRATCH, 0, 0xfffff, 0x1b, 0xa);
    FAULTS(c, JMP_FAR, CPU_NP, SCRATCH);
    jump_to(c, HANDLER, TSS);
    FAULTS(c, JMP_FAR, CPU_GP, TSS);
    jump_to(c, HANDLER, 0);
    FAULTS(c, JMP_FAR, CPU_GP, 0);
    cpu_destroy(c);

    c = cpu_create(MODE_64, 3); /* conforming: the ring stays */
    jump_to(c, HANDLER, CONFORMING);
    OK(c, JMP_FAR);
    assert_int_equal(c->s.cpl, 3);
    assert_int_equal(c->s.seg[CPU_CS].selector, CONFORMING | 3);
    cpu_destroy(c);
}

static void test_call_and_return(void **state)
{
    struct cpu *c = cpu_create(MODE_64, 0);
    (void)state;

    jump_to(c, HANDLER, CONFORMING);
    OK(c, "\x48\xff\x1c\x25\x00\x60\x00\x00");
    FRAME(c, 8, AT_CODE + 8, KCODE);
    OK(c, "\x48\xca\x10\x00"); /* drops 16 bytes besides */
    assert_int_equal(c->s.rip, AT_CODE + 8);
    assert_int_equal(c->s.gpr[CPU_RSP], KERNEL_TOP + 16);
    c->s.gpr[CPU_RSP] = KERNEL_TOP;
    ITEMS(c, 8, AT_CODE, UCODE | 3, 0, 0, USER_TOP, UDATA | 3);
    OK(c, "\x48\xca\x10\x00"); /* to an outer ring: of both stacks */
    assert_int_equal(c->s.gpr[CPU_RSP], USER_TOP + 16);
    assert_int_equal(c->s.cpl, 3);
    assert_true(c->s.seg[CPU_DS].unusable);
    cpu_destroy(c);

    c = cpu_create(MODE_64, 3);
    ITEMS(c, 8, AT_CODE, KCODE);
    FAULTS(c, RETFQ, CPU_GP, KCODE);
    c->absent[(USER_TOP - 1) >> 12] = true;
    jump_to(c, HANDLER, UCODE | 3);
    FAULTS(c, "\x48\xff\x1c\x25\x00\x60\x00\x00", CPU_PAGE, 6);
    cpu_destroy(c);
}

/* The way of a small kernel: real mode, PE, a far jump to 32 bits. */
static void test_real_to_protected(void **state)
{
    struct cpu *c = cpu_create(MODE_REAL, 0);
    (void)state;

    OK(c, "\x9a\x00\x10\x00\x02"); /* CALL 0200:1000 */
    FRAME(c, 2, AT_CODE + 5, 0);
    assert_int_equal(c->s.seg[CPU_CS].base, 0x2000);
    OK(c, "\xcb");
    assert_int_equal(c->s.rip, AT_CODE + 5);
    assert_int_equal(c->s.gpr[CPU_RSP], KERNEL_TOP);
    c->s.gdt = (struct kvm_dtable){ .base = AT_GDT, .limit = GDT_LIMIT };
    c->s.cr0 |= CPU_CR0_PE;
    assert_int_equal(cpu_code_bits(&c->s), 16);
    OK(c, "\x66\xea\x00\xe1\x00\x00\x40\x00"); /* JMP 0040:0000e100 */
    assert_int_equal(c->s.rip, HANDLER);
    assert_int_equal(cpu_code_bits(&c->s), 32);
    cpu_destroy(c);
}

/* --- fast calls --- */

static void test_syscall(void **state)
{
    struct cpu *c = cpu_create(MODE_64, 3);
    (void)state;

    c->s.star = (uint64_t)KCODE << 32 | (uint64_t)(UCODE32 | 3) << 48;
    c->s.lstar = HANDLER;
    c->s.sfmask = CPU_IF | CPU_DF;
    c->s.rflags = 0x202 | CPU_DF | CPU_ZF | CPU_RF;
    OK(c, "\x0f\x05");
    assert_int_equal(c->s.rip, HANDLER);
    assert_int_equal(c->s.gpr[CPU_RCX], AT_CODE + 2);
    assert_int_equal(c->s.gpr[11], 0x202 | CPU_DF | CPU_ZF);
    assert_int_equal(c->s.rflags, 2 | CPU_ZF);
    assert_int_equal(c->s.cpl, 0);
    assert_int_equal(c->s.seg[CPU_CS].selector, KCODE);
    assert_int_equal(c->s.seg[CPU_SS].selector, KDATA);
    assert_int_equal(c->s.gpr[CPU_RSP], USER_TOP);
    c->s.gpr[11] |= CPU_RF | CPU_VM; /* are not taken */
    OK(c, "\x48\x0f\x07");
    assert_int_equal(c->s.rip, AT_CODE + 2);
    assert_int_equal(c->s.rflags, 0x202 | CPU_DF | CPU_ZF);
    assert_int_equal(c->s.cpl, 3);
    assert_int_equal(c->s.seg[CPU_CS].selector, UCODE | 3);
    assert_int_equal(c->s.seg[CPU_SS].selector, UDATA | 3);
    FAULTS(c, "\x48\x0f\x07", CPU_GP, 0); /* in ring 3 */
    c->s.efer &= ~CPU_EFER_SCE;
    FAULTS(c, "\x0f\x05", CPU_UD, 0);
    cpu_destroy(c);

    c = cpu_create(MODE_64, 0);
    c->s.star = (uint64_t)(UCODE32 | 3) << 48;
    c->s.gpr[CPU_RCX] = UINT64_C(0x800000000000);
    FAULTS(c, "\x48\x0f\x07", CPU_GP, 0);
    OK(c, "\x0f\x07"); /* to 32 bits: ECX */
    assert_int_equal(c->s.rip, 0);
    assert_int_equal(cpu_code_bits(&c->s), 32);
    c->s.rip = AT_CODE;
    c->s.cstar = HANDLER + 1;
    OK(c, "\x0f\x05");
    assert_int_equal(c->s.rip, HANDLER + 1);
    assert_int_equal(cpu_code_bits(&c->s), 64);
    cpu_destroy(c);
}

static void test_sysenter(void **state)
{
    struct cpu *c = cpu_create(MODE_32, 3);
    (void)state;

    FAULTS(c, "\x0f\x34", CPU_GP, 0);
    c->s.sysenter_cs = 0x60;
    c->s.sysenter_esp = KERNEL_TOP;
    c->s.sysenter_eip = AT_CODE;
    FAULTS(c, "\x0f\x35", CPU_GP, 0);
    OK(c, "\x0f\x34");
    assert_int_equal(c->s.rip, AT_CODE);
    assert_int_equal(c->s.gpr[CPU_RSP], KERNEL_TOP);
    assert_int_equal(c->s.rflags, 2);
    assert_int_equal(c->s.seg[CPU_CS].selector, 0x60);
    assert_int_equal(c->s.seg[CPU_SS].selector, 0x68);
    assert_int_equal(cpu_code_bits(&c->s), 32);
    c->s.gpr[CPU_RCX] = USER_TOP;
    c->s.gpr[CPU_RDX] = HANDLER;
    OK(c, "\x0f\x35");
    assert_int_equal(c->s.rip, HANDLER);
    assert_int_equal(c->s.gpr[CPU_RSP], USER_TOP);
    assert_int_equal(c->s.seg[CPU_CS].selector, 0x73);
    assert_int_equal(c->s.seg[CPU_SS].selector, 0x7b);
    assert_int_equal(c->s.cpl, 3);
    cpu_destroy(c);

    c = cpu_create(MODE_64, 0);
    c->s.sysenter_cs = 0x60;
    c->s.gpr[CPU_RDX] = UINT64_C(0x800000000000);
    FAULTS(c, "\x48\x0f\x35", CPU_GP, 0);
    c->s.gpr[CPU_RDX] = HANDLER;
    c->s.gpr[CPU_RCX] = UINT64_C(0x800000000000);
    FAULTS(c, "\x48\x0f\x35", CPU_GP, 0);
    c->s.gpr[CPU_RCX] = USER_TOP;
    OK(c, "\x48\x0f\x35");
    assert_int_equal(c->s.seg[CPU_CS].selector, 0x83);
    assert_int_equal(c->s.seg[CPU_SS].selector, 0x8b);
    assert_int_equal(cpu_code_bits(&c->s), 64);
    cpu_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_int_n),           cmocka_unit_test(test_int_1_3_o),
        cmocka_unit_test(test_unsupported),     cmocka_unit_test(test_iret_64_outer),
        cmocka_unit_test(test_iret_64_same),    cmocka_unit_test(test_iret_compat),
        cmocka_unit_test(test_iret_refusals),   cmocka_unit_test(test_iret_32),
        cmocka_unit_test(test_iret_real),       cmocka_unit_test(test_jump_64),
        cmocka_unit_test(test_call_and_return), cmocka_unit_test(test_real_to_protected),
        cmocka_unit_test(test_syscall),         cmocka_unit_test(test_sysenter),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
