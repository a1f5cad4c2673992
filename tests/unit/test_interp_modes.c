/*
 * The interpreter where this process can't be the oracle: 16 and 32 bits, segments, pages that
 * refuse, stacks, repetition, privilege. Expectations are the manual's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/interp_fixture.h"

static void real_mode_addresses(void **state)
{
    (void)state;
    real_mode();
    cpu.seg[CPU_DS].base = 0x10000;
    cpu.seg[CPU_SS].base = 0x20000;
    cpu.gpr[CPU_RBX] = 0xfff0;
    cpu.gpr[CPU_RSI] = 0x20;
    cpu.gpr[CPU_RAX] = 0x1234;
    DONE("\x89\x00"); /* mov [bx+si], ax: wraps to 0x10 */
    assert_int_equal(at(0x10010, 2), 0x1234);
    DONE("\x89\x46\x04"); /* mov [bp+4], ax: SS */
    assert_int_equal(at(0x20004, 2), 0x1234);
    assert_int_equal(cpu.rip, CODE + 5);
    cpu.gpr[CPU_RBX] = 0xffff;
    FAULTS("\x89\x07", CPU_GP, 0); /* a word at 0xffff */
    cpu.gpr[CPU_RBP] = 0xffff;
    FAULTS("\x89\x46\x00", CPU_SS_FAULT, 0);
    cpu.gpr[CPU_RBX] = 0x10000;
    FAULTS("\x67\x89\x03", CPU_GP, 0); /* mov [ebx], ax: beyond the limit */
    DONE("\x88\x07");                  /* mov [bx], al: only BX counts */
    assert_int_equal(at(0x10000, 1), 0x34);
}

static void real_mode_stack(void **state)
{
    (void)state;
    real_mode();
    cpu.seg[CPU_SS].base = 0x20000;
    cpu.gpr[CPU_RSP] = 0xabcd0000;
    cpu.gpr[CPU_RAX] = 0x11112222;
    DONE("\x50"); /* push ax: SP wraps, the upper half of ESP stays */
    assert_int_equal(cpu.gpr[CPU_RSP], 0xabcdfffe);
    assert_int_equal(at(0x2fffe, 2), 0x2222);
    FAULTS("\x66\x5b", CPU_SS_FAULT, 0); /* pop ebx: beyond 0xffff */
    DONE("\x5b");
    assert_int_equal(cpu.gpr[CPU_RSP], 0xabcd0000);
    assert_int_equal(cpu.gpr[CPU_RBX], 0x2222);
    cpu.gpr[CPU_RSP] = 1;
    FAULTS("\x50", CPU_SS_FAULT, 0);
    cpu.gpr[CPU_RSP] = 0x100;
    DONE("\x60"); /* pusha */
    assert_int_equal(cpu.gpr[CPU_RSP], 0xf0);
    assert_int_equal(at(0x200f6, 2), 0x100); /* the SP of before */
    cpu.gpr[CPU_RAX] = cpu.gpr[CPU_RBX] = 0;
    DONE("\x61");
    assert_int_equal(cpu.gpr[CPU_RAX], 0x2222);
    assert_int_equal(cpu.gpr[CPU_RSP], 0x100);
    cpu.gpr[CPU_RSP] = 7;
    FAULTS("\x60", CPU_SS_FAULT, 0);
}

static void wrapping_ip(void **state)
{
    (void)state;
    real_mode();
    cpu.rip = 0xfffe;
    DONE("\xeb\x10"); /* jmp +16 */
    assert_int_equal(cpu.rip, 0x10);
    cpu.rip = 0xffff;
    DONE("\x90");
    assert_int_equal(cpu.rip, 0);
    cpu.rip = 0xffff;
    FAULTS("\x89\xc3", CPU_GP, 0); /* its second byte is beyond the limit */
    cpu.rip = 0x100;
    FAULTS("\x66\xe9\x00\x00\x01\x00", CPU_GP, 0); /* jmp with 32 bits beyond it */
    cpu.rip = 0x10000;
    assert_int_equal(interp_step(interp, 1, &insn, &fault), INTERP_FAULT);
    assert_int_equal(fault.vector, CPU_GP);
    reset(32);
    cpu.rip = 0x2000;
    DONE("\x66\xe9\x00\xf0"); /* 16 bits: EIP is cut */
    assert_int_equal(cpu.rip, 0x1004);
    DONE("\xe8\xfb\xff\xff\xff"); /* call */
    assert_int_equal(cpu.rip, 0x1004);
    assert_int_equal(at(0x7ffc, 4), 0x1009);
    DONE("\xc2\x08\x00"); /* ret 8 */
    assert_int_equal(cpu.rip, 0x1009);
    assert_int_equal(cpu.gpr[CPU_RSP], 0x8008);
}

static void segments(void **state)
{
    (void)state;
    reset(32);
    cpu.seg[CPU_DS].base = 0x10000;
    cpu.seg[CPU_DS].limit = 0xfff;
    cpu.gpr[CPU_RBX] = 0xffc;
    DONE("\x89\x03"); /* mov [ebx], eax: the last bytes */
    cpu.gpr[CPU_RBX] = 0xffd;
    FAULTS("\x89\x03", CPU_GP, 0);
    DONE("\x36\x89\x03");     /* SS is flat */
    cpu.seg[CPU_DS].type = 7; /* expand-down: the offsets above the limit */
    FAULTS("\x89\x03", CPU_GP, 0);
    cpu.gpr[CPU_RBX] = 0x1000;
    DONE("\x89\x03");
    cpu.seg[CPU_DS].type = 1;
    FAULTS("\x89\x03", CPU_GP, 0); /* read-only: the limit too */
    cpu.seg[CPU_DS].limit = UINT32_MAX;
    FAULTS("\x89\x03", CPU_GP, 0);
    FAULTS("\x2e\x89\x03", CPU_GP, 0); /* code */
    DONE("\x2e\x8b\x03");
    cpu.seg[CPU_CS].type = 9;
    FAULTS("\x2e\x8b\x03", CPU_GP, 0); /* execute only */
    cpu.seg[CPU_ES].unusable = 1;
    FAULTS("\x26\x8b\x03", CPU_GP, 0);
    cpu.seg[CPU_DS].unusable = 1;
    DONE("\x8d\x03"); /* lea looks at no segment */
    reset(32);
    cpu.seg[CPU_SS].limit = 0x7fff;
    cpu.gpr[CPU_RSP] = 0x8004;
    FAULTS("\x50", CPU_SS_FAULT, 0);
    cpu.seg[CPU_FS].selector = 0x1234;
    cpu.gpr[CPU_RSP] = 0x8000;
    DONE("\x0f\xa0"); /* push fs */
    assert_int_equal(at(0x7ffc, 4), 0x1234);
    cpu.gpr[CPU_RAX] = UINT32_MAX;
    DONE("\x8c\xe0"); /* mov eax, fs */
    assert_int_equal(cpu.gpr[CPU_RAX], 0x1234);
}

static void canonical(void **state)
{
    (void)state;
    reset(64);
    cpu.gpr[CPU_RBX] = UINT64_C(1) << 47;
    FAULTS("\x89\x03", CPU_GP, 0);
    FAULTS("\xff\xe3", CPU_GP, 0); /* jmp rbx */
    cpu.gpr[CPU_RBP] = UINT64_C(1) << 47;
    FAULTS("\x89\x45\x00", CPU_SS_FAULT, 0);
    cpu.gpr[CPU_RSP] = UINT64_C(1) << 63;
    FAULTS("\x50", CPU_SS_FAULT, 0);
    cpu.gpr[CPU_RBX] = (UINT64_C(1) << 47) - 2;
    FAULTS("\x8b\x03", CPU_GP, 0); /* its last byte is not */
    cpu.cr4 = X86_CR4_LA57;
    FAULTS("\x8b\x03", CPU_PAGE, 0); /* canonical now, and not mapped */
    cpu.cr4 = 0;
    cpu.seg[CPU_GS].base = 0x3000;
    cpu.seg[CPU_DS].base = 0x5000; /* not looked at */
    cpu.gpr[CPU_RBX] = 0x10;
    cpu.gpr[CPU_RAX] = 0x77;
    DONE("\x65\x89\x03");
    assert_int_equal(at(0x3010, 4), 0x77);
    DONE("\x67\x65\x89\x43\xf0"); /* gs:[ebx-16] */
    assert_int_equal(at(0x3000, 4), 0x77);
    DONE("\x89\x03");
    assert_int_equal(at(0x10, 4), 0x77);
    cpu.gpr[CPU_RSP] = 0x8000;
    put(0x8000, "\0\0\0\0\0\0\x80", 8);
    FAULTS("\xc3", CPU_GP, 0); /* ret: RSP stays */
    cpu.rip = UINT64_C(1) << 47;
    assert_int_equal(interp_step(interp, 1, &insn, &fault), INTERP_FAULT);
    assert_int_equal(fault.vector, CPU_GP);
}

static void across_pages(void **state)
{
    (void)state;
    reset(64);
    cpu.gpr[CPU_RBX] = 0x3ffd;
    cpu.gpr[CPU_RAX] = 0x1122334455667788;
    DONE("\x48\x89\x03");
    assert_true(at(0x3ffd, 8) == 0x1122334455667788);
    DONE("\xf0\x48\x01\x03"); /* lock add */
    assert_true(at(0x3ffd, 8) == 0x22446688aaccef10);
    page[4] = READ_ONLY;
    DONE("\x48\x8b\x0b");
    assert_true(cpu.gpr[CPU_RCX] == 0x22446688aaccef10);
    FAULTS("\x48\x89\x03", CPU_PAGE, 3);
    assert_int_equal(fault.address, 0x4000);
    FAULTS("\x48\x01\x03", CPU_PAGE, 3);
    FAULTS("\xf0\x48\x0f\xb1\x0b", CPU_PAGE, 3);
    cpu.gpr[CPU_RBX] = 0x4000; /* ADC, SHL, XCHG, ...: written before they are read */
    FAULTS("\x11\x03", CPU_PAGE, 3);
    FAULTS("\x87\x03", CPU_PAGE, 3);
    FAULTS("\xff\x03", CPU_PAGE, 3);
    cpu.gpr[CPU_RAX] = 5;
    FAULTS("\x0f\xab\x03", CPU_PAGE, 3);
    cpu.cpl = 3;
    FAULTS("\x0f\x94\x03", CPU_PAGE, 7); /* setz */
    page[4] = ABSENT;
    FAULTS("\x0f\x44\x03", CPU_PAGE, 4); /* cmovz reads in any case */
    cpu.gpr[CPU_RSP] = 0x5004;
    FAULTS("\xff\x13", CPU_PAGE, 4); /* call [rbx] */
    FAULTS("\x50", CPU_PAGE, 6);
    FAULTS("\x8f\x03", CPU_PAGE, 6); /* pop [rbx]: RSP stays */
    cpu.gpr[CPU_RBX] = 0x3000;
    cpu.gpr[CPU_RBP] = 0x4ff8;
    FAULTS("\xc9", CPU_PAGE, 4);
    FAULTS("\xc8\x10\x00\x00", CPU_PAGE, 6); /* enter */
}

static void repeated(void **state)
{
    (void)state;
    reset(64);
    for (unsigned i = 0; i < 6 * PAGE; i++)
        memory[0x10000 + i] = (uint8_t)(i * 7);
    cpu.gpr[CPU_RSI] = 0x10003;
    cpu.gpr[CPU_RDI] = 0x20005;
    cpu.gpr[CPU_RCX] = 2000;
    assert_int_equal(run_rounds("\xf3\x48\xa5", 3, 700), INTERP_OK); /* rep movsq */
    assert_int_equal(cpu.rip, CODE);
    assert_int_equal(cpu.gpr[CPU_RCX], 1300);
    assert_int_equal(cpu.gpr[CPU_RSI], 0x10003 + 5600);
    assert_int_equal(cpu.gpr[CPU_RDI], 0x20005 + 5600);
    page[0x22] = ABSENT; /* the element that crosses into it is not begun */
    assert_int_equal(run_rounds("\xf3\x48\xa5", 3, 10000), INTERP_FAULT);
    assert_int_equal(fault.address, 0x22000);
    assert_int_equal(cpu.rip, CODE);
    assert_int_equal(cpu.gpr[CPU_RDI], 0x21ffd);
    assert_int_equal(cpu.gpr[CPU_RCX], 2000 - (0x21ffd - 0x20005) / 8);
    page[0x22] = NORMAL;
    assert_int_equal(run_rounds("\xf3\x48\xa5", 3, 10000), INTERP_OK);
    assert_int_equal(cpu.rip, CODE + 3);
    assert_int_equal(cpu.gpr[CPU_RCX], 0);
    assert_memory_equal(memory + 0x20005, memory + 0x10003, 16000);
    cpu.gpr[CPU_RCX] = 100; /* a pattern spreads */
    cpu.gpr[CPU_RSI] = 0x30000;
    cpu.gpr[CPU_RDI] = 0x30003;
    put(0x30000, "abc", 3);
    DONE("\xf3\xa4");
    assert_memory_equal(memory + 0x30000, "abcabcabcabcabc", 15);
    assert_memory_equal(memory + 0x30000 + 100, "bca", 3);
    cpu.gpr[CPU_RCX] = 0;
    page[0x33] = ABSENT;
    cpu.gpr[CPU_RDI] = 0x33000;
    DONE("\xf3\xab"); /* no round, no access */
    cpu.gpr[CPU_RCX] = UINT64_C(1) << 32;
    DONE("\x67\xf3\xab");
    assert_true(cpu.gpr[CPU_RCX] == UINT64_C(1) << 32);
}

static void repeated_compare(void **state)
{
    (void)state;
    reset(64);
    put(0x5000, "xxxxxyx", 7);
    cpu.gpr[CPU_RAX] = 'y';
    cpu.gpr[CPU_RDI] = 0x5000;
    cpu.gpr[CPU_RCX] = 100;
    assert_int_equal(run_rounds("\xf2\xae", 2, 3), INTERP_OK); /* repne scasb */
    assert_int_equal(cpu.rip, CODE);
    assert_int_equal(run_rounds("\xf2\xae", 2, 3), INTERP_OK); /* found in the last round */
    assert_int_equal(cpu.rip, CODE + 2);
    assert_int_equal(cpu.gpr[CPU_RDI], 0x5006);
    assert_int_equal(cpu.gpr[CPU_RCX], 94);
    assert_true(cpu.rflags & CPU_ZF);
}

static void repeated_in_16_bits(void **state)
{
    (void)state;
    real_mode();
    cpu.seg[CPU_ES].base = 0x10000;
    cpu.gpr[CPU_RAX] = 0xaa;
    cpu.gpr[CPU_RDI] = 0x5555fff0;
    cpu.gpr[CPU_RCX] = 0x66660020;
    DONE("\xf3\xaa"); /* rep stosb: DI wraps */
    assert_int_equal(cpu.gpr[CPU_RDI], 0x55550010);
    assert_int_equal(cpu.gpr[CPU_RCX], 0x66660000);
    assert_int_equal(memory[0x1ffff], 0xaa);
    assert_int_equal(memory[0x1000f], 0xaa);
    assert_int_equal(memory[0x10010], 0);
    cpu.seg[CPU_ES].limit = UINT32_MAX; /* "unreal": the offset wraps before the limit */
    cpu.seg[CPU_ES].base = 0x10800;     /* and in the middle of a page */
    cpu.gpr[CPU_RAX] = 0xbb;
    cpu.gpr[CPU_RDI] = 0xfff8;
    cpu.gpr[CPU_RCX] = 0x10;
    DONE("\xf3\xaa");
    assert_int_equal(memory[0x207ff], 0xbb);
    assert_int_equal(memory[0x20800], 0);
    assert_int_equal(memory[0x10807], 0xbb);
    cpu.seg[CPU_ES].limit = 0x7f; /* the rounds before the limit are done */
    cpu.gpr[CPU_RDI] = 0x78;
    cpu.gpr[CPU_RCX] = 0x20;
    assert_int_equal(RUN("\xf3\xaa"), INTERP_FAULT);
    assert_int_equal(fault.vector, CPU_GP);
    assert_int_equal(cpu.gpr[CPU_RDI], 0x80);
    assert_int_equal(cpu.gpr[CPU_RCX], 0x18);
}

static void compare_exchange_16(void **state)
{
    (void)state;
    reset(64);
    cpu.gpr[CPU_RSI] = 0x5010;
    cpu.gpr[CPU_RAX] = 1;
    cpu.gpr[CPU_RDX] = 2;
    cpu.gpr[CPU_RBX] = 3;
    cpu.gpr[CPU_RCX] = 4;
    DONE("\xf0\x48\x0f\xc7\x0e"); /* not equal */
    assert_int_equal(cpu.rflags & CPU_ZF, 0);
    assert_int_equal(cpu.gpr[CPU_RAX] | cpu.gpr[CPU_RDX], 0);
    DONE("\xf0\x48\x0f\xc7\x0e");
    assert_true(cpu.rflags & CPU_ZF);
    assert_int_equal(at(0x5010, 8), 3);
    assert_int_equal(at(0x5018, 8), 4);
    cpu.gpr[CPU_RSI] = 0x5018;
    FAULTS("\xf0\x48\x0f\xc7\x0e", CPU_GP, 0);
    cpu.gpr[CPU_RSI] = 0x5010;
    page[5] = READ_ONLY;
    FAULTS("\xf0\x48\x0f\xc7\x0e", CPU_PAGE, 3);
}

static void flags_by_privilege(void **state)
{
    const uint64_t all = CPU_IF | CPU_IOPL | CPU_CF | CPU_NT | CPU_AC | CPU_ID | CPU_DF;

    (void)state;
    reset(64);
    put(0x8000, &all, 8);
    DONE("\x9d"); /* popfq in ring 0 */
    assert_int_equal(cpu.rflags, all | 2);
    cpu.rflags |= CPU_RF;
    DONE("\x9c");
    assert_int_equal(at(0x8000, 8), all | 2); /* RF is not pushed */
    for (unsigned iopl = 0; iopl < 4; iopl += 3) {
        cpu.rflags = 2 | (uint64_t)iopl << 12;
        cpu.cpl = 3;
        DONE("\x9d");
        assert_int_equal(cpu.rflags & CPU_IOPL, iopl << 12);
        assert_int_equal((cpu.rflags & CPU_IF) != 0, iopl == 3);
        assert_true(cpu.rflags & CPU_CF);
        cpu.gpr[CPU_RSP] = 0x8000;
    }
    real_mode();
    put(0x8000, &all, 8);
    cpu.rflags |= CPU_ID;
    DONE("\x9d"); /* popf: 16 bits */
    assert_int_equal(cpu.rflags, ((all | CPU_ID) & (0xffff | CPU_ID)) | 2);
    assert_int_equal(cpu.gpr[CPU_RSP], 0x8002);
}

static void frames(void **state)
{
    (void)state;
    reset(64);
    cpu.gpr[CPU_RBP] = 0x9000;
    put(0x8ff8, "\x11", 1);
    put(0x8ff0, "\x22", 1);
    DONE("\xc8\x20\x00\x03"); /* enter 32, 3 */
    assert_int_equal(at(0x7ff8, 8), 0x9000);
    assert_int_equal(at(0x7ff0, 8), 0x11);
    assert_int_equal(at(0x7fe8, 8), 0x22);
    assert_int_equal(at(0x7fe0, 8), 0x7ff8);
    assert_int_equal(cpu.gpr[CPU_RBP], 0x7ff8);
    assert_int_equal(cpu.gpr[CPU_RSP], 0x7fc0);
    DONE("\xc9");
    assert_int_equal(cpu.gpr[CPU_RBP], 0x9000);
    assert_int_equal(cpu.gpr[CPU_RSP], 0x8000);
    put(0x8000, "\x44", 1);
    DONE("\x8f\x04\x24"); /* pop [rsp]: where RSP is afterwards */
    assert_int_equal(at(0x8008, 8), 0x44);
    DONE("\x54"); /* push rsp: as it was */
    assert_int_equal(at(0x8000, 8), 0x8008);
    DONE("\x5c");
    assert_int_equal(cpu.gpr[CPU_RSP], 0x8008);
}

static void loops(void **state)
{
    (void)state;
    reset(64);
    cpu.gpr[CPU_RCX] = UINT64_C(0x100000001);
    DONE("\xe2\x10");
    assert_int_equal(cpu.rip, CODE + 18);
    DONE("\x67\xe2\x10"); /* ECX becomes -1, and RCX is cut */
    assert_int_equal(cpu.rip, CODE + 37);
    assert_int_equal(cpu.gpr[CPU_RCX], UINT32_MAX);
    cpu.gpr[CPU_RCX] = 1;
    DONE("\xe2\x10");
    assert_int_equal(cpu.rip, CODE + 39);
    DONE("\xe3\x10"); /* jrcxz */
    assert_int_equal(cpu.rip, CODE + 57);
    cpu.gpr[CPU_RCX] = 9;
    DONE("\xe1\x10"); /* loope, ZF clear */
    assert_int_equal(cpu.rip, CODE + 59);
    DONE("\xe0\x10"); /* loopne */
    assert_int_equal(cpu.rip, CODE + 77);
    assert_int_equal(cpu.gpr[CPU_RCX], 7);
}

static void decimal(void **state)
{
    (void)state;
    reset(32);
    cpu.gpr[CPU_RAX] = 0x79 + 0x35;
    DONE("\x27"); /* daa: 79 + 35 */
    assert_int_equal(cpu.gpr[CPU_RAX], 0x14);
    assert_int_equal(cpu.rflags & (CPU_CF | CPU_AF), CPU_CF | CPU_AF);
    cpu.gpr[CPU_RAX] = 73;
    DONE("\xd4\x0a"); /* aam */
    assert_int_equal(cpu.gpr[CPU_RAX], 0x0703);
    DONE("\xd5\x0a"); /* aad */
    assert_int_equal(cpu.gpr[CPU_RAX], 73);
    FAULTS("\xd4\x00", CPU_DE, 0);
    put(0x5000, "\x02\x00\x00\x00\x04\x00\x00\x00", 8);
    cpu.gpr[CPU_RAX] = 5;
    cpu.gpr[CPU_RBX] = 0x5000;
    FAULTS("\x62\x03", CPU_BR, 0); /* bound eax, [ebx] */
    cpu.gpr[CPU_RAX] = 4;
    DONE("\x62\x03");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_mode_addresses),
        cmocka_unit_test(real_mode_stack),
        cmocka_unit_test(wrapping_ip),
        cmocka_unit_test(segments),
        cmocka_unit_test(canonical),
        cmocka_unit_test(across_pages),
        cmocka_unit_test(repeated),
        cmocka_unit_test(repeated_compare),
        cmocka_unit_test(repeated_in_16_bits),
        cmocka_unit_test(compare_exchange_16),
        cmocka_unit_test(flags_by_privilege),
        cmocka_unit_test(frames),
        cmocka_unit_test(loops),
        cmocka_unit_test(decimal),
    };

    if (!fixture_create())
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
