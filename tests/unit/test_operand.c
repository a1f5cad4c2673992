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
    unsigned length;
    size_t n = operand_list((const uint8_t *)e->code, e->length, &regs, sregs, got, &length);

    if (n != 1 || got[0].linear != e->linear || got[0].write != e->write)
        fail_msg("%02x %02x...: %zu operands, first %lx %s; expected %lx %s", (uint8_t)e->code[0],
                 (uint8_t)e->code[1], n, n ? (unsigned long)got[0].linear : 0,
                 n && got[0].write ? "write" : "read", (unsigned long)e->linear,
                 e->write ? "write" : "read");
    assert_int_equal(length, e->length);
}

static struct kvm_sregs mode(bool mode64)
{
    struct kvm_sregs s;

    memset(&s, 0, sizeof(s));
    s.efer = mode64 ? 1u << 10 : 0;
    s.cs.l = mode64;
    s.cs.db = !mode64;
    s.ss.db = !mode64;
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
        { CODE("\x67\x8b\x05\x10\x00\x00\x00"), RIP + 7 + 16, false }, /* mov eax, [eip+16] */
        { CODE("\x67\xab"), 0x8000, true },                            /* stosd to [edi] */
        { CODE("\x64\xac"), 0xf7000, false },                          /* lodsb fs:[rsi] */
        { CODE("\x64\xaa"), 0x8000, true },                            /* stosb: always [rdi] */
        { CODE("\xc9"), 0x6000, false },                               /* leave: [rbp] */
        { CODE("\x66\x53"), 0x7ffee, true },                           /* push bx: 2 bytes */
        { CODE("\x0f\xa0"), 0x7ffe8, true },                           /* push fs */
        { CODE("\xc8\x10\x00\x00"), 0x7ffe8, true },                   /* enter 16 */
        { CODE("\x48\xcf"), 0x7fff0, false },                          /* iretq */
        { CODE("\xd7"), 0x4000, false },                               /* xlatb: AL is 0 */
        { CODE("\x0f\xa3\x0b"), 0x4400, false },                 /* bt [rbx], ecx: bit 2000h */
        { CODE("\x48\x0f\xab\x0b"), 0x4400, true },              /* bts [rbx], rcx */
        { CODE("\x0f\xba\x2b\x05"), 0x4000, true },              /* bts [rbx], 5 */
        { CODE("\xdd\x33"), 0x4000, true },                      /* fnsave [rbx] */
        { CODE("\x0f\xae\x03"), 0x4000, true },                  /* fxsave [rbx] */
        { CODE("\x0f\x01\x03"), 0x4000, true },                  /* sgdt [rbx] */
        { CODE("\x0f\x01\x13"), 0x4000, false },                 /* lgdt [rbx] */
        { CODE("\x62\xf1\x7c\x48\x29\x03"), 0x4000, true },      /* vmovaps [rbx], zmm0 */
        { CODE("\x62\xf1\x7c\x48\x28\x43\x01"), 0x4040, false }, /* ... [rbx+1*64] */
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

/* Segments are 64 KiB, offsets wrap at 16 bits, and the stack has its own size. */
static void in_16_bit_mode(void **state)
{
    static const struct expect all[] = {
        { CODE("\x8b\x07"), 0x24000, false },         /* mov ax, [bx] */
        { CODE("\x89\x03"), 0x3e000, true },          /* mov [bp+di], ax: SS */
        { CODE("\x89\x40\xf0"), 0x2aff0, true },      /* mov [bx+si-16], ax */
        { CODE("\xa3\x00\x90"), 0x29000, true },      /* mov [0x9000], ax: not sign-extended */
        { CODE("\x8b\x86\x00\xb0"), 0x31000, false }, /* mov ax, [bp+0xb000]: wraps */
        { CODE("\x67\x89\x83\x00\x00\x01\x00"), 0x34000, true }, /* mov [ebx+0x10000], ax */
        { CODE("\x53"), 0x3ffee, true },                         /* push bx: SP, 2 bytes */
        { CODE("\x66\x53"), 0x3ffec, true },                     /* push ebx: SP, 4 bytes */
        { CODE("\xe8\x00\x00"), 0x3ffee, true },                 /* call */
        { CODE("\xaa"), 0x48000, true },                         /* stosb */
    };
    struct kvm_sregs s = mode(false);

    (void)state;
    s.cs.db = s.ss.db = 0;
    s.ds.base = 0x20000;
    s.ss.base = 0x30000;
    s.es.base = 0x40000;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        check(&all[i], &s);
    s.cr0 = 1; /* protected: the same */
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        check(&all[i], &s);
}

/* What is read comes first. Sizes are the manual's. */
static void two_operands(void **state)
{
    static const struct {
        const char *code;
        size_t len;
        struct operand expect[2];
    } all[] = {
        { CODE("\xf3\xa4"), { { 0x7000, 1, false }, { 0x8000, 1, true } } },      /* rep movsb */
        { CODE("\x48\xa5"), { { 0x7000, 8, false }, { 0x8000, 8, true } } },      /* movsq */
        { CODE("\xff\x33"), { { 0x4000, 8, false }, { 0x7ffe8, 8, true } } },     /* push [rbx] */
        { CODE("\xff\x13"), { { 0x4000, 8, false }, { 0x7ffe8, 8, true } } },     /* call [rbx] */
        { CODE("\x8f\x03"), { { 0x7fff0, 8, false }, { 0x4000, 8, true } } },     /* pop [rbx] */
        { CODE("\x8f\x04\x24"), { { 0x7fff0, 8, false }, { 0x7fff8, 8, true } } } /* pop [rsp] */
    };
    const struct kvm_sregs s = mode(true);
    struct operand got[OPERANDS_MAX];
    unsigned length;

    (void)state;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        assert_int_equal(
            operand_list((const uint8_t *)all[i].code, all[i].len, &regs, &s, got, &length), 2);
        assert_int_equal(length, all[i].len);
        for (size_t k = 0; k < 2; k++) {
            assert_int_equal(got[k].linear, all[i].expect[k].linear);
            assert_int_equal(got[k].size, all[i].expect[k].size);
            assert_int_equal(got[k].write, all[i].expect[k].write);
        }
    }
}

static size_t count(const char *code, size_t len, const struct kvm_regs *r,
                    const struct kvm_sregs *s, unsigned expect_length)
{
    struct operand got[OPERANDS_MAX];
    unsigned length;
    size_t n = operand_list((const uint8_t *)code, len, r, s, got, &length);

    assert_int_equal(length, expect_length);
    return n;
}

static void nothing(void **state)
{
    const struct kvm_sregs s = mode(true);
    struct kvm_regs no_round = regs;

    (void)state;
    no_round.rcx = UINT64_C(1) << 32;
    assert_int_equal(count(CODE("\x89\xc3"), &regs, &s, 2), 0);         /* mov ebx, eax */
    assert_int_equal(count(CODE("\x8d\x03"), &regs, &s, 2), 0);         /* lea */
    assert_int_equal(count(CODE("\x0f\x1f\x03"), &regs, &s, 3), 0);     /* nop [rbx] */
    assert_int_equal(count(CODE("\x0f\x18\x03"), &regs, &s, 3), 0);     /* prefetchnta */
    assert_int_equal(count(CODE("\x0f\x01\x3b"), &regs, &s, 3), 0);     /* invlpg */
    assert_int_equal(count(CODE("\xf3\xaa"), &no_round, &s, 2), 1);     /* rep stosb */
    assert_int_equal(count(CODE("\x67\xf3\xaa"), &no_round, &s, 3), 0); /* ECX is 0 */
    assert_int_equal(count(CODE("\x67\xaa"), &no_round, &s, 2), 1);
    assert_int_equal(count(CODE("\xc4\xe2\x71\x90\x04\x13"), &regs, &s, 6), 0); /* gather */
    assert_int_equal(count(CODE("\x06"), &regs, &s, 0), 0); /* push es: #UD here */
    for (size_t len = 0; len < 10; len++)                   /* mov dword [rip+16], 1, cut off */
        assert_int_equal(count("\xc7\x05\x10\x00\x00\x00\x01\x00\x00", len, &regs, &s, 0), 0);
}

/* Anything random: no crash, no wild count. */
static void nonsense(void **state)
{
    const struct kvm_sregs s = mode(true), s32 = mode(false);
    struct operand got[OPERANDS_MAX];
    uint64_t seed = 1;
    uint8_t code[INSTRUCTION_MAX];
    char text[128];

    (void)state;
    for (unsigned round = 0; round < 200000; round++) {
        const struct kvm_sregs *sregs = round & 1 ? &s : &s32;
        size_t len = round % (INSTRUCTION_MAX + 1);
        unsigned length;

        for (size_t i = 0; i < sizeof(code); i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            code[i] = (uint8_t)(seed >> 56);
        }
        assert_true(operand_list(code, len, &regs, sregs, got, &length) <= OPERANDS_MAX);
        assert_true(length <= len);
        assert_int_equal(instruction_text(code, len, &regs, sregs, text, sizeof(text)), length);
        assert_int_equal(text[0] != '\0', length != 0);
    }
}

static void as_text(void **state)
{
    const struct kvm_sregs s = mode(true);
    struct kvm_sregs s16 = mode(false);
    char text[64], small[4];

    (void)state;
    s16.cs.db = s16.ss.db = 0;
#define TEXT(bytes, sregs) \
    instruction_text((const uint8_t *)(bytes), sizeof(bytes) - 1, &regs, sregs, text, sizeof(text))
    assert_int_equal(TEXT("\x48\x89\x43\x10\x90", &s), 4);
    assert_string_equal(text, "mov [rbx+0x10], rax");
    assert_int_equal(TEXT("\x48\x89\x43\xf0", &s), 4);
    assert_string_equal(text, "mov [rbx-0x10], rax");
    assert_int_equal(TEXT("\x81\x03\xab\xcd\xef\x00", &s), 6);
    assert_string_equal(text, "add dword ptr [rbx], 0xefcdab");
    assert_int_equal(TEXT("\xeb\xfe", &s), 2); /* to itself */
    assert_string_equal(text, "jmp 0x0000000000400000");
    assert_int_equal(TEXT("\x89\x03", &s16), 2);
    assert_non_null(strstr(text, "bp"));
    assert_int_equal(TEXT("\x06", &s), 0);
    assert_string_equal(text, "");
    assert_int_equal(TEXT("\x48\x89", &s), 0);
    assert_string_equal(text, "");
#undef TEXT
    assert_int_equal(
        instruction_text((const uint8_t *)"\x0f\x0b", 2, &regs, &s, small, sizeof(small)), 2);
    assert_string_equal(small, "ud2");
    assert_int_equal(instruction_text((const uint8_t *)"\x0f\x05", 2, &regs, &s, small, 1), 0);
    assert_string_equal(small, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_64_bit_mode), cmocka_unit_test(in_32_bit_mode),
        cmocka_unit_test(in_16_bit_mode), cmocka_unit_test(two_operands),
        cmocka_unit_test(nothing),        cmocka_unit_test(nonsense),
        cmocka_unit_test(as_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
