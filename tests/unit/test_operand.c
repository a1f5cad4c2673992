/*
 * Which memory an instruction touches: encodings written by hand from the manual, with the address
 * and direction that follow from the registers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/operand.h"

#define RIP 0x400000u

static const struct kvm_regs regs = {
    .rax = 0x1000,
    .rcx = 0x2000,
    .rdx = 0x3000,
    .rbx = 0x4000,
    .rsp = 0x7fff0,
    .rbp = 0x6000,
    .rsi = 0x7000,
    .rdi = 0x8000,
    .r8 = 0x9000,
    .r9 = 0x10,
    .r12 = 0xc000,
    .r13 = 0xd000,
    .r15 = 0x100000000000,
    .rip = RIP,
};

struct expect {
    const char *code;
    size_t length;
    uint64_t linear;
    bool write;
};

#define CODE(text) text, sizeof(text) - 1

static void check(const struct expect *e, const struct kvm_sregs *sregs)
{
    struct operand got[OPERANDS_MAX];
    size_t n = operand_list((const uint8_t *)e->code, e->length, &regs, sregs, got);

    if (n != 1 || got[0].linear != e->linear || got[0].write != e->write)
        fail_msg("%02x %02x...: %zu operands, first %lx %s; expected %lx %s", (uint8_t)e->code[0],
                 (uint8_t)e->code[1], n, n ? (unsigned long)got[0].linear : 0,
                 n && got[0].write ? "write" : "read", (unsigned long)e->linear,
                 e->write ? "write" : "read");
}

static struct kvm_sregs mode(bool mode64)
{
    struct kvm_sregs s;

    memset(&s, 0, sizeof(s));
    s.efer = mode64 ? 1u << 10 : 0;
    s.cs.l = mode64;
    s.cs.db = !mode64;
    s.fs.base = 0xf0000;
    s.gs.base = 0x50000;
    return s;
}

static void in_64_bit_mode(void **state)
{
    static const struct expect all[] = {
        { CODE("\x8b\x03"), 0x4000, false },                       /* mov eax, [rbx] */
        { CODE("\x89\x03"), 0x4000, true },                        /* mov [rbx], eax */
        { CODE("\x48\x89\x43\x10"), 0x4010, true },                /* mov [rbx+16], rax */
        { CODE("\x48\x89\x43\xf0"), 0x3ff0, true },                /* mov [rbx-16], rax */
        { CODE("\x8b\x83\x00\x01\x00\x00"), 0x4100, false },       /* mov eax, [rbx+256] */
        { CODE("\x8b\x04\x8b"), 0xc000, false },                   /* mov eax, [rbx+rcx*4] */
        { CODE("\x8b\x44\x24\x08"), 0x7fff8, false },              /* mov eax, [rsp+8] */
        { CODE("\x8b\x04\x25\x00\x02\x00\x00"), 0x200, false },    /* mov eax, [0x200] */
        { CODE("\x8b\x05\x10\x00\x00\x00"), RIP + 6 + 16, false }, /* mov eax, [rip+16] */
        { CODE("\xc7\x05\x10\x00\x00\x00\x01\x00\x00\x00"), RIP + 26, true }, /* mov [rip+16], 1 */
        { CODE("\xc6\x05\x10\x00\x00\x00\x01"), RIP + 23, true },             /* movb [rip+16], 1 */
        { CODE("\x41\x8b\x04\x24"), 0xc000, false },                          /* mov eax, [r12] */
        { CODE("\x41\x8b\x45\x00"), 0xd000, false },                          /* mov eax, [r13] */
        { CODE("\x43\x88\x04\x08"), 0x9010, true },                           /* mov [r8+r9], al */
        { CODE("\x49\x89\x07"), 0x100000000000, true },                       /* mov [r15], rax */
        { CODE("\x64\x8b\x03"), 0xf4000, false },            /* mov eax, fs:[rbx] */
        { CODE("\x65\x89\x03"), 0x54000, true },             /* mov gs:[rbx], eax */
        { CODE("\x67\x41\x8b\x07"), 0, false },              /* mov eax, [r15d] */
        { CODE("\x01\x03"), 0x4000, true },                  /* add [rbx], eax */
        { CODE("\x03\x03"), 0x4000, false },                 /* add eax, [rbx] */
        { CODE("\x39\x03"), 0x4000, false },                 /* cmp [rbx], eax */
        { CODE("\x83\x3b\x01"), 0x4000, false },             /* cmp [rbx], 1 */
        { CODE("\x83\x03\x01"), 0x4000, true },              /* add [rbx], 1 */
        { CODE("\xf0\x48\x0f\xb1\x0b"), 0x4000, true },      /* lock cmpxchg */
        { CODE("\x87\x03"), 0x4000, true },                  /* xchg [rbx], eax */
        { CODE("\xf7\x03\x01\x00\x00\x00"), 0x4000, false }, /* test [rbx], 1 */
        { CODE("\xf7\x1b"), 0x4000, true },                  /* neg [rbx] */
        { CODE("\xff\x03"), 0x4000, true },                  /* inc [rbx] */
        { CODE("\x0f\xb6\x03"), 0x4000, false },             /* movzx eax, [rbx] */
        { CODE("\x0f\x94\x03"), 0x4000, true },              /* sete [rbx] */
        { CODE("\x0f\x29\x03"), 0x4000, true },              /* movaps [rbx], xmm0 */
        { CODE("\x0f\x28\x03"), 0x4000, false },             /* movaps xmm0, [rbx] */
        { CODE("\xf3\x0f\x7e\x03"), 0x4000, false },         /* movq xmm0, [rbx] */
        { CODE("\x66\x0f\x7e\x03"), 0x4000, true },          /* movd [rbx], xmm0 */
        { CODE("\xc5\xf8\x29\x03"), 0x4000, true },          /* vmovaps [rbx], xmm0 */
        { CODE("\xc4\xc1\x78\x28\x04\x24"), 0xc000, false }, /* vmovaps xmm0, [r12] */
        { CODE("\xf3\x48\xab"), 0x8000, true },              /* rep stosq */
        { CODE("\xac"), 0x7000, false },                     /* lodsb */
        { CODE("\xae"), 0x8000, false },                     /* scasb */
        { CODE("\x53"), 0x7ffe8, true },                     /* push rbx */
        { CODE("\x41\x54"), 0x7ffe8, true },                 /* push r12 */
        { CODE("\x5b"), 0x7fff0, false },                    /* pop rbx */
        { CODE("\xe8\x00\x00\x00\x00"), 0x7ffe8, true },     /* call */
        { CODE("\xc3"), 0x7fff0, false },                    /* ret */
        { CODE("\xa1\x88\x77\x66\x55\x44\x33\x22\x11"), 0x1122334455667788, false }, /* moffs */
        { CODE("\xa3\x88\x77\x66\x55\x44\x33\x22\x11"), 0x1122334455667788, true },
    };
    const struct kvm_sregs s = mode(true);

    (void)state;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        check(&all[i], &s);
}

static void in_32_bit_mode(void **state)
{
    static const struct expect all[] = {
        { CODE("\x8b\x05\x10\x00\x00\x00"), 0x20010,
          false },                                   /* mov eax, [0x10]: not RIP-relative */
        { CODE("\x89\x03"), 0x24000, true },         /* DS has a base */
        { CODE("\x89\x45\x04"), 0x36004, true },     /* [ebp+4] is SS's */
        { CODE("\x3e\x89\x45\x04"), 0x26004, true }, /* ... unless DS is asked for */
        { CODE("\x53"), 0xaffec, true },             /* push ebx: 4 bytes */
        { CODE("\xa3\x00\x01\x00\x00"), 0x20100, true },
        { CODE("\xaa"), 0x48000, true }, /* ES */
    };
    struct kvm_sregs s = mode(false);

    (void)state;
    s.ds.base = 0x20000;
    s.ss.base = 0x30000;
    s.es.base = 0x40000;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        check(&all[i], &s);
}

static void two_operands(void **state)
{
    const struct kvm_sregs s = mode(true);
    struct operand got[OPERANDS_MAX];

    (void)state;
    assert_int_equal(operand_list((const uint8_t *)"\xf3\xa4", 2, &regs, &s, got), 2); /* movsb */
    assert_int_equal(got[0].linear, 0x7000);
    assert_false(got[0].write);
    assert_int_equal(got[1].linear, 0x8000);
    assert_true(got[1].write);
    assert_int_equal(operand_list((const uint8_t *)"\xff\x33", 2, &regs, &s, got),
                     2); /* push [rbx] */
    assert_int_equal(got[0].linear, 0x4000);
    assert_false(got[0].write);
    assert_int_equal(got[1].linear, 0x7ffe8);
    assert_true(got[1].write);
}

/* Registers only, 16-bit addressing, and anything cut off or random: no crash, no wild count. */
static void nothing_or_nonsense(void **state)
{
    const struct kvm_sregs s = mode(true), s32 = mode(false);
    struct operand got[OPERANDS_MAX];
    uint64_t seed = 1;
    uint8_t code[15];

    (void)state;
    assert_int_equal(operand_list((const uint8_t *)"\x89\xc3", 2, &regs, &s, got), 0);
    assert_int_equal(operand_list((const uint8_t *)"\x67\x89\x03", 3, &regs, &s32, got), 0);
    for (unsigned round = 0; round < 200000; round++) {
        for (size_t i = 0; i < sizeof(code); i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            code[i] = (uint8_t)(seed >> 56);
        }
        assert_true(operand_list(code, round % 16, &regs, round & 1 ? &s : &s32, got) <=
                    OPERANDS_MAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_64_bit_mode),
        cmocka_unit_test(in_32_bit_mode),
        cmocka_unit_test(two_operands),
        cmocka_unit_test(nothing_or_nonsense),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
