/*
 * Segment registers, descriptor-table registers, and questions about selectors. Predicted from the
 * manual's pages of MOV, POP, LDS, LGDT, LLDT, LTR, LAR, LSL, VERR.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/cpu_fixture.h"

static void check_ok(struct cpu *c, const char *code, size_t n)
{
    struct cpu_fault f = { 0 };

    if (run(c, code, n, &f) != INTERP_OK)
        fail_msg("fault %u, error %x", f.vector, f.error);
    assert_int_equal(c->s.rip, AT_CODE + n);
    c->s.rip = AT_CODE;
}
#define OK(c, code) check_ok(c, code, sizeof(code) - 1)

/* --- every descriptor against every ring --- */

struct attempt {
    enum cpu_seg which;
    unsigned type, dpl, rpl, cpl;
    bool s, present;
};

/* The vector that the manual has for it, or 0: it loads. */
static unsigned predict(const struct attempt *a)
{
    bool code = a->type >= 8,
         data_rw = a->type == 2 || a->type == 3 || a->type == 6 || a->type == 7;
    bool conforming = a->type >= 12, readable = !code || a->type % 4 >= 2;

    if (a->which == CPU_SS) {
        if (!a->s || !data_rw || a->rpl != a->cpl || a->dpl != a->cpl)
            return CPU_GP;
        return a->present ? 0 : CPU_SS_FAULT;
    }
    if (!a->s || !readable)
        return CPU_GP;
    if (!(code && conforming) && (a->rpl > a->dpl || a->cpl > a->dpl))
        return CPU_GP;
    return a->present ? 0 : CPU_NP;
}

static void check_attempt(struct cpu *c, const struct attempt *a)
{
    unsigned access = (a->present ? 0x80u : 0) | a->dpl << 5 | (a->s ? 0x10u : 0) | a->type;
    struct cpu_fault f = { 0 };
    unsigned want = predict(a);
    int got;

    put_descriptor(c, SCRATCH, 0x12345678, 0xabcde, access, 0xc);
    c->s.cpl = a->cpl;
    got = cpu_load_segment(c->in, a->which, (uint16_t)(SCRATCH | a->rpl), &f);
    if ((got != 0) != (want != 0) || (want && (f.vector != want || f.error != SCRATCH)))
        fail_msg("register %u type %u s %d dpl %u rpl %u cpl %u present %d: %d, vector %u not %u",
                 a->which, a->type, a->s, a->dpl, a->rpl, a->cpl, a->present, got, f.vector, want);
    assert_int_equal(c->mem[AT_GDT + SCRATCH + 5], want ? access : access | 1);
    if (!want) {
        assert_int_equal(c->s.seg[a->which].base, 0x12345678);
        assert_int_equal(c->s.seg[a->which].limit, 0xabcdefff);
        assert_int_equal(c->s.seg[a->which].selector, SCRATCH | a->rpl);
        assert_int_equal(c->s.seg[a->which].type, a->type | 1);
        assert_int_equal(c->s.seg[a->which].dpl, a->dpl);
    }
}

static void test_all_descriptors(void **state)
{
    struct cpu *c = cpu_create(MODE_32, 0);
    (void)state;

    for (unsigned i = 0; i < 1u << 13; i++) {
        const struct attempt a = {
            .which = i & 1 ? CPU_SS : CPU_FS,
            .type = i >> 1 & 15,
            .s = i >> 5 & 1,
            .present = i >> 6 & 1,
            .dpl = i >> 7 & 3,
            .rpl = i >> 9 & 3,
            .cpl = i >> 11 & 3,
        };

        check_attempt(c, &a);
    }
    cpu_destroy(c);
}

static void test_null(void **state)
{
    struct cpu *c = cpu_create(MODE_64, 0);
    struct cpu_fault f;
    (void)state;

    c->s.seg[CPU_GS].base = 0x1234;
    assert_int_equal(cpu_load_segment(c->in, CPU_GS, 3, &f), 0);
    assert_true(c->s.seg[CPU_GS].unusable);
    assert_int_equal(c->s.seg[CPU_GS].base, 0);
    assert_int_equal(c->s.seg[CPU_GS].selector, 3);
    assert_int_equal(cpu_load_segment(c->in, CPU_SS, 0, &f), 0);
    assert_int_equal(cpu_load_segment(c->in, CPU_SS, 1, &f), -1); /* RPL is not CPL */
    assert_int_equal(f.vector, CPU_GP);
    assert_int_equal(f.error, 0);
    c->s.cpl = 3;
    assert_int_equal(cpu_load_segment(c->in, CPU_SS, 3, &f), -1);
    cpu_destroy(c);

    c = cpu_create(MODE_32, 0);
    assert_int_equal(cpu_load_segment(c->in, CPU_SS, 0, &f), -1);
    assert_int_equal(cpu_load_segment(c->in, CPU_DS, 0x70, &f), -1); /* beyond the GDT */
    assert_int_equal(f.error, 0x70);
    c->s.gdt.limit = KDATA + 6; /* one byte short */
    assert_int_equal(cpu_load_segment(c->in, CPU_DS, KDATA, &f), -1);
    assert_int_equal(f.error, KDATA);
    cpu_destroy(c);
}

static void test_memory(void **state)
{
    struct cpu *c = cpu_create(MODE_64, 3);
    struct cpu_fault f;
    (void)state;

    /* Tables are read as the supervisor whatever the ring. */
    c->supervisor[AT_GDT >> 12] = true;
    assert_int_equal(cpu_load_segment(c->in, CPU_DS, UDATA | 3, &f), 0);
    c->absent[AT_GDT >> 12] = true;
    assert_int_equal(cpu_load_segment(c->in, CPU_DS, UDATA | 3, &f), -1);
    assert_int_equal(f.vector, CPU_PAGE);
    assert_int_equal(f.error, 0);
    assert_int_equal(f.address, AT_GDT + UDATA);
    cpu_destroy(c);
}

/* --- the instructions --- */

static void test_mov_and_pop(void **state)
{
    struct cpu *c = cpu_create(MODE_64, 0);
    (void)state;

    c->s.gpr[CPU_RAX] = 0xffff0000 | UDATA;
    OK(c, "\x8e\xd8"); /* MOV DS, AX */
    assert_int_equal(c->s.seg[CPU_DS].selector, UDATA);
    assert_false(c->s.inhibited);
    c->s.gpr[CPU_RAX] = KDATA;
    OK(c, "\x8e\xd0"); /* MOV SS, AX */
    assert_true(c->s.inhibited);
    put(c, KERNEL_TOP - 8, UDATA, 8);
    c->s.gpr[CPU_RSP] = KERNEL_TOP - 8;
    OK(c, "\x0f\xa9"); /* POP GS */
    assert_int_equal(c->s.gpr[CPU_RSP], KERNEL_TOP);
    assert_int_equal(c->s.seg[CPU_GS].selector, UDATA);
    put(c, KERNEL_TOP - 8, TSS, 8);
    c->s.gpr[CPU_RSP] = KERNEL_TOP - 8;
    FAULTS(c, "\x0f\xa9", CPU_GP, TSS);
    cpu_destroy(c);

    c = cpu_create(MODE_32, 0);
    put(c, KERNEL_TOP - 4, KDATA, 4);
    c->s.gpr[CPU_RSP] = KERNEL_TOP - 4;
    OK(c, "\x17"); /* POP SS */
    assert_true(c->s.inhibited);
    assert_int_equal(c->s.gpr[CPU_RSP], KERNEL_TOP);
    cpu_destroy(c);

    c = cpu_create(MODE_REAL, 0);
    c->s.seg[CPU_DS].limit = UINT32_MAX; /* stays, as on a CPU */
    c->s.gpr[CPU_RAX] = 0x1234;
    OK(c, "\x8e\xd8");
    assert_int_equal(c->s.seg[CPU_DS].base, 0x12340);
    assert_int_equal(c->s.seg[CPU_DS].limit, UINT32_MAX);
    c->s.seg[CPU_DS] = (struct kvm_segment){ .unusable = 1 }; /* null before PE went off */
    OK(c, "\x8e\xd8");
    assert_false(c->s.seg[CPU_DS].unusable);
    assert_int_equal(c->s.seg[CPU_DS].limit, 0xffff);
    cpu_destroy(c);
}

static void test_load_pointer(void **state)
{
    struct cpu *c = cpu_create(MODE_64, 0);
    (void)state;

    put(c, AT_DATA, UINT64_C(0x1122334455667788), 8);
    put(c, AT_DATA + 8, UDATA, 2);
    c->s.gpr[CPU_RAX] = AT_DATA;
    OK(c, "\x48\x0f\xb4\x18"); /* LFS RBX, [RAX] */
    assert_int_equal(c->s.gpr[CPU_RBX], UINT64_C(0x1122334455667788));
    assert_int_equal(c->s.seg[CPU_FS].selector, UDATA);
    put(c, AT_DATA + 8, TSS, 2);
    FAULTS(c, "\x48\x0f\xb4\x18", CPU_GP, TSS);
    c->absent[AT_DATA >> 12] = true;
    FAULTS(c, "\x48\x0f\xb4\x18", CPU_PAGE, 0);
    cpu_destroy(c);

    c = cpu_create(MODE_REAL, 0);
    put(c, AT_DATA, 0x02001234, 4);
    c->s.gpr[CPU_RBX] = AT_DATA;
    OK(c, "\xc4\x07"); /* LES AX, [BX] */
    assert_int_equal(c->s.gpr[CPU_RAX], 0x1234);
    assert_int_equal(c->s.seg[CPU_ES].base, 0x2000);
    cpu_destroy(c);
}

static void test_lgdt(void **state)
{
    struct cpu *c = cpu_create(MODE_64, 0);
    (void)state;

    put(c, AT_DATA, 0x1234, 2);
    put(c, AT_DATA + 2, UINT64_C(0xffff8000deadbeef), 8);
    c->s.gpr[CPU_RAX] = AT_DATA;
    OK(c, "\x0f\x01\x10");
    assert_int_equal(c->s.gdt.limit, 0x1234);
    assert_int_equal(c->s.gdt.base, UINT64_C(0xffff8000deadbeef));
    c->s.gpr[CPU_RAX] = AT_DATA + 16;
    OK(c, "\x0f\x01\x00"); /* SGDT */
    assert_memory_equal(c->mem + AT_DATA, c->mem + AT_DATA + 16, 10);
    put(c, AT_DATA + 16 + 2, UINT64_C(0x800000000000), 8);
    FAULTS(c, "\x0f\x01\x18", CPU_GP, 0);
    c->absent[AT_DATA >> 12] = true;
    FAULTS(c, "\x0f\x01\x18", CPU_PAGE, 0);
    cpu_destroy(c);

    c = cpu_create(MODE_32, 0);
    put(c, AT_DATA, 0x1234, 2);
    put(c, AT_DATA + 2, UINT64_C(0x99999999deadbeef), 8);
    c->s.gpr[CPU_RAX] = AT_DATA;
    OK(c, "\x0f\x01\x18"); /* LIDT */
    assert_int_equal(c->s.idt.base, 0xdeadbeef);
    OK(c, "\x66\x0f\x01\x18");
    assert_int_equal(c->s.idt.base, 0xadbeef);
    cpu_destroy(c);

    c = cpu_create(MODE_64, 3);
    c->s.gpr[CPU_RAX] = AT_DATA;
    FAULTS(c, "\x0f\x01\x10", CPU_GP, 0);
    OK(c, "\x0f\x01\x08"); /* SIDT in ring 3 */
    c->supervisor[AT_DATA >> 12] = true;
    FAULTS(c, "\x0f\x01\x08", CPU_PAGE, 7);
    c->s.cr4 |= CPU_CR4_UMIP;
    FAULTS(c, "\x0f\x01\x08", CPU_GP, 0);
    FAULTS(c, "\x0f\x00\xc0", CPU_GP, 0); /* SLDT */
    FAULTS(c, "\x0f\x00\xc8", CPU_GP, 0); /* STR */
    cpu_destroy(c);
}

static void test_ltr(void **state)
{
    struct cpu *c = cpu_create(MODE_64, 0);
    (void)state;

    put(c, AT_GDT + TSS + 8, 0xffff8000, 4);
    c->s.gpr[CPU_RAX] = TSS;
    OK(c, "\x0f\x00\xd8");
    assert_int_equal(c->s.tr.base, UINT64_C(0xffff800000003000));
    assert_int_equal(c->s.tr.limit, 0x67);
    assert_int_equal(c->s.tr.type, 11);
    assert_int_equal(c->mem[AT_GDT + TSS + 5], 0x8b);
    FAULTS(c, "\x0f\x00\xd8", CPU_GP, TSS); /* is busy now */
    OK(c, "\x48\x0f\x00\xcb");              /* STR RBX */
    assert_int_equal(c->s.gpr[CPU_RBX], TSS);
    c->mem[AT_GDT + TSS + 5] = 0x09;
    FAULTS(c, "\x0f\x00\xd8", CPU_NP, TSS);
    c->mem[AT_GDT + TSS + 5] = 0x89;
    c->mem[AT_GDT + TSS + 5] = 0x99; /* code that looks like a TSS, but for S */
    FAULTS(c, "\x0f\x00\xd8", CPU_GP, TSS);
    c->mem[AT_GDT + TSS + 5] = 0x81; /* one of 16 bits */
    FAULTS(c, "\x0f\x00\xd8", CPU_GP, TSS);
    c->mem[AT_GDT + TSS + 5] = 0x89;
    put(c, AT_GDT + TSS + 8, 0x8000, 4);
    FAULTS(c, "\x0f\x00\xd8", CPU_GP, TSS); /* the base is not canonical */
    put(c, AT_GDT + TSS + 8, UINT64_C(0x100) << 32, 8);
    FAULTS(c, "\x0f\x00\xd8", CPU_GP, TSS); /* a type in the second half */
    assert_int_equal(c->mem[AT_GDT + TSS + 5], 0x89);
    put(c, AT_GDT + TSS + 8, 0, 8);
    c->s.gdt.limit = TSS + 14;
    FAULTS(c, "\x0f\x00\xd8", CPU_GP, TSS);
    c->s.gpr[CPU_RAX] = 0;
    FAULTS(c, "\x0f\x00\xd8", CPU_GP, 0);
    c->s.gpr[CPU_RAX] = 4;
    FAULTS(c, "\x0f\x00\xd8", CPU_GP, 4);
    c->s.cpl = 3;
    FAULTS(c, "\x0f\x00\xd8", CPU_GP, 0);
    cpu_destroy(c);
}

static void test_ltr_16(void **state)
{
    struct cpu *c = cpu_create(MODE_32, 0);
    (void)state;

    c->mem[AT_GDT + TSS + 5] = 0x81;
    c->s.gpr[CPU_RAX] = TSS;
    OK(c, "\x0f\x00\xd8");
    assert_int_equal(c->s.tr.type, 3);
    assert_int_equal(c->mem[AT_GDT + TSS + 5], 0x83);
    cpu_destroy(c);
}

static void test_lldt(void **state)
{
    struct cpu *c = cpu_create(MODE_64, 0);
    struct cpu_fault f;
    (void)state;

    put_descriptor(c, SCRATCH, AT_LDT, 0xf, 0x82, 0);
    c->s.gpr[CPU_RAX] = SCRATCH;
    OK(c, "\x0f\x00\xd0");
    assert_int_equal(c->s.ldt.base, AT_LDT);
    put(c, AT_LDT + 8, UINT64_C(0x00cf93000000ffff), 8);
    assert_int_equal(cpu_load_segment(c->in, CPU_DS, 8 | 4, &f), 0);
    assert_int_equal(cpu_load_segment(c->in, CPU_DS, 16 | 4, &f), -1);
    assert_int_equal(f.error, 16 | 4);
    c->s.ldt.unusable = 1;
    assert_int_equal(cpu_load_segment(c->in, CPU_DS, 8 | 4, &f), -1);
    c->s.ldt.unusable = 0;
    c->s.gpr[CPU_RAX] = TSS;
    FAULTS(c, "\x0f\x00\xd0", CPU_GP, TSS);
    c->s.gpr[CPU_RAX] = 0;
    OK(c, "\x0f\x00\xd0");
    assert_true(c->s.ldt.unusable);
    assert_int_equal(cpu_load_segment(c->in, CPU_DS, 8 | 4, &f), -1);
    cpu_destroy(c);
}

struct question {
    const char *code; /* three bytes, of RAX into RBX */
    enum mode mode;
    unsigned cpl;
    uint16_t selector;
    bool zf;
    uint64_t rbx;
};

#define LAR  "\x0f\x02\xd8"
#define LSL  "\x0f\x03\xd8"
#define VERR "\x0f\x00\xe0"
#define VERW "\x0f\x00\xe8"

static void test_questions(void **state)
{
    static const struct question all[] = {
        { LAR, MODE_64, 0, KCODE, true, 0xa09b00 },
        { LAR, MODE_64, 0, TSS, true, 0x008900 },
        { LAR, MODE_64, 0, SCRATCH, false, 7 }, /* a 16-bit call gate */
        { LAR, MODE_32, 0, SCRATCH, true, 0x008400 },
        { LAR, MODE_64, 3, KCODE, false, 7 },
        { LAR, MODE_64, 3, CONFORMING, true, 0xa09f00 },
        { LAR, MODE_64, 0, UDATA | 3, true, 0xc0f300 },
        { LAR, MODE_64, 0, KDATA | 3, false, 7 },
        { LAR, MODE_64, 0, 0, false, 7 },
        { LAR, MODE_64, 0, 0x70, false, 7 },
        { LSL, MODE_64, 0, KCODE, true, 0xffffffff },
        { LSL, MODE_64, 0, TSS, true, 0x67 },
        { LSL, MODE_32, 0, SCRATCH, false, 7 }, /* a gate has no limit */
        { VERR, MODE_64, 3, UDATA | 3, true, 7 },
        { VERR, MODE_64, 3, KDATA | 3, false, 7 },
        { VERR, MODE_64, 3, UCODE | 3, true, 7 },
        { VERR, MODE_64, 0, TSS, false, 7 },
        { VERW, MODE_64, 3, UDATA | 3, true, 7 },
        { VERW, MODE_64, 3, UCODE | 3, false, 7 },
    };
    (void)state;

    for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        struct cpu *c = cpu_create(all[i].mode, all[i].cpl);

        put_descriptor(c, SCRATCH, 0, 0, 0x84, 0);
        c->s.gpr[CPU_RAX] = all[i].selector;
        c->s.gpr[CPU_RBX] = 7;
        c->s.rflags ^= all[i].zf ? 0 : CPU_ZF;
        check_ok(c, all[i].code, 3);
        if (!!(c->s.rflags & CPU_ZF) != all[i].zf || c->s.gpr[CPU_RBX] != all[i].rbx)
            fail_msg("question %u: rflags %lx rbx %lx", i, (unsigned long)c->s.rflags,
                     (unsigned long)c->s.gpr[CPU_RBX]);
        cpu_destroy(c);
    }
}

static void test_question_fault(void **state)
{
    struct cpu *c = cpu_create(MODE_64, 0);
    (void)state;

    c->absent[AT_GDT >> 12] = true; /* no answer: the table could not be read */
    c->s.gpr[CPU_RAX] = KCODE;
    FAULTS(c, LAR, CPU_PAGE, 0);
    cpu_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_descriptors),
        cmocka_unit_test(test_null),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_mov_and_pop),
        cmocka_unit_test(test_load_pointer),
        cmocka_unit_test(test_lgdt),
        cmocka_unit_test(test_ltr),
        cmocka_unit_test(test_ltr_16),
        cmocka_unit_test(test_lldt),
        cmocka_unit_test(test_questions),
        cmocka_unit_test(test_question_fault),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
