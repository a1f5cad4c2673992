/*
 * The interpreter where this process can't be the oracle: 16 and 32 bits, segments, pages that
 * refuse, devices, privilege, the classes of instructions. Expectations are the manual's.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/interp.h"

#define PAGES 64u
#define PAGE  4096u
#define CODE  0x1000u

enum page {
    NORMAL,
    READ_ONLY,
    ABSENT,
    DEVICE,
};

static _Alignas(4096) uint8_t memory[PAGES * PAGE];
static enum page page[PAGES];
static struct cpu_state cpu;
static struct interp *interp;
static struct interp_insn insn;
static struct cpu_fault fault;

static struct {
    unsigned n;
    uint64_t at[8], value[8];
    unsigned len[8];
    bool write[8];
} bus;

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

/* Flat segments of `bits`, protected (or long) mode, ring 0, everything mapped. */
static void reset(unsigned bits)
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

static void real_mode(void)
{
    reset(16);
    cpu.cr0 = 0;
    for (unsigned i = 0; i < CPU_SEGS; i++)
        cpu.seg[i].limit = 0xffff;
}

static void put(uint64_t linear, const void *bytes, size_t n)
{
    memcpy(memory + linear, bytes, n);
}

static uint64_t at(uint64_t linear, unsigned size)
{
    uint64_t value = 0;

    memcpy(&value, memory + linear, size);
    return value;
}

static enum interp_result run_rounds(const char *bytes, size_t n, unsigned rounds)
{
    put(cpu.seg[CPU_CS].base + cpu.rip, bytes, n);
    return interp_step(interp, rounds, &insn, &fault);
}

#define RUN(bytes)  run_rounds(bytes, sizeof(bytes) - 1, 1000000)
#define DONE(bytes) assert_int_equal(RUN(bytes), INTERP_OK)

/* The instruction faults, and neither registers nor memory change. */
static void check_fault(const char *bytes, size_t n, uint8_t vector, uint32_t error)
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

#define FAULTS(bytes, vector, error) check_fault(bytes, sizeof(bytes) - 1, vector, error)

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

static void fetches(void **state)
{
    (void)state;
    reset(64);
    page[2] = ABSENT;
    cpu.rip = 0x1ffe;
    DONE("\x89\xc3"); /* ends with the page */
    cpu.rip = 0x1ffe;
    put(0x1ffe, "\x48\x89\xc3", 3);
    assert_int_equal(interp_step(interp, 1, &insn, &fault), INTERP_FAULT);
    assert_int_equal(fault.vector, CPU_PAGE);
    assert_int_equal(fault.address, 0x2000);
    page[2] = NORMAL;
    cpu.gpr[CPU_RAX] = 5;
    assert_int_equal(interp_step(interp, 1, &insn, &fault), INTERP_OK);
    assert_int_equal(cpu.gpr[CPU_RBX], 5);
    page[2] = DEVICE;
    cpu.rip = 0x2000;
    assert_int_equal(interp_step(interp, 1, &insn, &fault), INTERP_UNKNOWN);
    assert_int_equal(interp_decode(interp, &insn, &fault), INTERP_UNKNOWN);
    assert_int_equal(bus.n, 0);
    cpu.rip = CODE;
    FAULTS("\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x90", CPU_GP, 0);
    DONE("\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x90");
    FAULTS("\x06", CPU_UD, 0);         /* push es */
    FAULTS("\x0f\x0b", CPU_UD, 0);     /* ud2 */
    FAULTS("\xf0\x89\x03", CPU_UD, 0); /* lock mov */
    FAULTS("\xf0\x01\xc3", CPU_UD, 0); /* lock add ebx, eax */
    FAULTS("\xf0\x90", CPU_UD, 0);
}

static void self_modifying(void **state)
{
    (void)state;
    reset(64);
    for (unsigned i = 0; i < 10; i++) {
        char bytes[] = "\xb8\x00\x00\x00\x00";

        bytes[1] = (char)i;
        cpu.rip = CODE;
        DONE(bytes);
        assert_int_equal(cpu.gpr[CPU_RAX], i);
    }
    cpu.rip = CODE;
    DONE("\x90");
    assert_int_equal(cpu.rip, CODE + 1);
    cpu.rip = CODE;
    DONE("\x48\xff\xc0"); /* inc rax; in 32 bits these are dec eax; inc eax */
    assert_int_equal(cpu.gpr[CPU_RAX], 10);
    reset(32);
    cpu.gpr[CPU_RAX] = 10;
    DONE("\x48\xff\xc0");
    assert_int_equal(cpu.rip, CODE + 1);
    assert_int_equal(cpu.gpr[CPU_RAX], 9);
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

static void devices(void **state)
{
    (void)state;
    reset(64);
    page[5] = DEVICE;
    cpu.gpr[CPU_RBX] = 0x5010;
    DONE("\x8b\x03");
    assert_int_equal(cpu.gpr[CPU_RAX], 0x11111111);
    assert_int_equal(bus.n, 1);
    assert_int_equal(bus.len[0], 4);
    bus.n = 0;
    DONE("\xf0\x48\x83\x03\x05"); /* lock add [rbx], 5: read, then written */
    assert_int_equal(bus.n, 2);
    assert_false(bus.write[0]);
    assert_true(bus.write[1] && bus.value[1] == 0x1111111111111116);
    bus.n = 0;
    cpu.gpr[CPU_RDI] = 0x4ffd; /* across the border: 3 bytes of RAM, 1 of the device */
    DONE("\x89\x07");
    assert_int_equal(bus.n, 1);
    assert_int_equal(bus.len[0], 1);
    assert_int_equal(at(0x4ffd, 3), 0x111111);
    bus.n = 0;
    cpu.gpr[CPU_RSI] = 0x6000;
    cpu.gpr[CPU_RDI] = 0x5000;
    cpu.gpr[CPU_RCX] = 3;
    put(0x6000, "\1\2\3\4\5\6", 6);
    DONE("\xf3\x66\xa5"); /* rep movsw */
    assert_int_equal(bus.n, 3);
    assert_int_equal(bus.value[2], 0x0605);
    assert_int_equal(bus.at[2], 0x5004);
}

struct kind {
    const char *bytes;
    size_t n;
    enum interp_result expect;
};

#define S(bytes)                                \
    {                                           \
        bytes, sizeof(bytes) - 1, INTERP_SYSTEM \
    }
#define U(bytes)                                 \
    {                                            \
        bytes, sizeof(bytes) - 1, INTERP_UNKNOWN \
    }
#define O(bytes)                            \
    {                                       \
        bytes, sizeof(bytes) - 1, INTERP_OK \
    }

static void check_kinds(const struct kind *k, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct cpu_state before;
        enum interp_result got;

        cpu.rip = CODE;
        before = cpu;
        got = run_rounds(k[i].bytes, k[i].n, 1);
        if (got != k[i].expect)
            fail_msg("%zu: %02x %02x...: %d instead of %d", i, (uint8_t)k[i].bytes[0],
                     (uint8_t)k[i].bytes[1], got, k[i].expect);
        assert_int_equal(insn.length, k[i].n);
        if (got == INTERP_OK)
            continue;
        assert_memory_equal(&before, &cpu, sizeof(cpu));
        assert_int_equal(interp_decode(interp, &insn, &fault), INTERP_SYSTEM);
        interp_skip(interp, &insn);
        assert_int_equal(cpu.rip, CODE + k[i].n);
    }
}

static void kinds(void **state)
{
    static const struct kind in64[] = {
        S("\x0f\x22\xc0"),
        S("\x0f\x20\xd8"),
        S("\x0f\x23\xf8"),
        S("\x0f\x21\xf8"),
        S("\x8e\xd8"),
        S("\x8e\x1b"),
        S("\x0f\xa1"),
        S("\x0f\xa9"),
        S("\xfa"),
        S("\xfb"),
        S("\xf4"),
        S("\x0f\xa2"),
        S("\x0f\x31"),
        S("\x0f\x01\xf9"),
        S("\xe4\x10"),
        S("\xef"),
        S("\x6c"),
        S("\xf3\x6f"),
        S("\x0f\x32"),
        S("\x0f\x30"),
        S("\x0f\x33"),
        S("\x0f\x01\xd0"),
        S("\x0f\x01\xd1"),
        S("\x0f\x01\xf8"),
        S("\x0f\x01\xca"),
        S("\x0f\x01\xcb"),
        S("\xf3\x48\x0f\xae\xc0"),
        S("\xf3\x48\x0f\xae\xd8"),
        S("\x0f\x01\xc8"),
        S("\x0f\x01\xc9"),
        S("\x0f\xc7\xf0"),
        S("\x0f\xc7\xf8"),
        S("\xcd\x80"),
        S("\xcc"),
        S("\xf1"),
        S("\x48\xcf"),
        S("\xcf"),
        S("\x0f\x05"),
        S("\x48\x0f\x07"),
        S("\x0f\x34"),
        S("\x0f\x35"),
        S("\xcb"),
        S("\x48\xff\x2b"),
        S("\xff\x1b"),
        S("\x0f\x01\x03"),
        S("\x0f\x01\x13"),
        S("\x0f\x01\x1b"),
        S("\x0f\x01\x0b"),
        S("\x0f\x00\xd0"),
        S("\x0f\x00\xd8"),
        S("\x0f\x00\xc0"),
        S("\x0f\x01\xe0"),
        S("\x0f\x01\xf0"),
        S("\x0f\x06"),
        S("\x0f\x01\x3b"),
        S("\x66\x0f\x38\x82\x03"),
        S("\x0f\x09"),
        S("\x0f\x08"),
        S("\x0f\x02\xc3"),
        S("\x0f\x03\xc3"),
        S("\x0f\x00\xe0"),
        S("\x0f\x01\xc1"),
        S("\x0f\x01\xd9"),
        S("\x0f\xb2\x03"),
        S("\xf3\x0f\xc7\xf8"),
        U("\x0f\x28\xc1"),
        U("\xf2\x0f\x10\xc1"),
        U("\xd9\xe8"),
        U("\x0f\x6f\xc1"),
        U("\x0f\xae\x03"),
        U("\xc5\xf8\x28\xc1"),
        U("\x9b"),
        U("\x0f\x77"),
        U("\xdb\xe3"),
        U("\xf2\x0f\xc2\xc1\x00"),
        U("\x0f\xae\x23"),
        O("\x90"),
        O("\xf3\x90"),
        O("\x66\x0f\x1f\x44\x00\x00"),
        O("\xf3\x0f\x1e\xfa"),
        O("\x0f\x18\x0b"),
        O("\x0f\x0d\x0b"),
        O("\x0f\xae\xf0"),
        O("\x0f\xae\xe8"),
        O("\x0f\xae\xf8"),
        O("\x0f\xae\x3b"),
        O("\x0f\xc3\x03"),
        O("\xfc"),
        O("\xfd"),
        O("\xf2\xe9\x00\x00\x00\x00"),
    };
    static const struct kind in32[] = {
        S("\x07"),
        S("\x1f"),
        S("\x17"),
        S("\xea\x00\x00\x00\x00\x08\x00"),
        S("\x9a\x00\x00\x00\x00\x08\x00"),
        S("\xc5\x03"),
        S("\xc4\x03"),
        S("\xce"),
        S("\x63\xc3"),
        O("\x06"),
        O("\x0e"),
        O("\x60"),
        O("\x61"),
        O("\xd6"),
    };

    (void)state;
    reset(64);
    cpu.gpr[CPU_RBX] = 0x6000;
    check_kinds(in64, sizeof(in64) / sizeof(in64[0]));
    reset(32);
    cpu.gpr[CPU_RBX] = 0x6000;
    check_kinds(in32, sizeof(in32) / sizeof(in32[0]));
}

static void for_the_caller(void **state)
{
    uint64_t value;
    uint8_t buf[256];

    (void)state;
    reset(64);
    cpu.gpr[CPU_RBX] = 0x5ffe;
    cpu.gpr[CPU_RAX] = UINT64_MAX;
    assert_int_equal(RUN("\x0f\x01\x54\x23\x10"), INTERP_SYSTEM); /* lgdt [rbx+16] (no index) */
    assert_int_equal(insn.z->mnemonic, ZYDIS_MNEMONIC_LGDT);
    assert_int_equal(RUN("\x0f\x22\xd8"), INTERP_SYSTEM); /* mov cr3, rax */
    assert_int_equal(interp_operand_read(interp, &insn, 1, &value, &fault), 0);
    assert_true(value == UINT64_MAX);
    assert_int_equal(RUN("\x0f\x00\x13"), INTERP_SYSTEM); /* lldt [rbx] */
    assert_int_equal(interp_operand_linear(interp, &insn, 0, &value, &fault), 0);
    assert_int_equal(value, 0x5ffe);
    put(0x5ffe, "\x34\x12", 2);
    assert_int_equal(interp_operand_read(interp, &insn, 0, &value, &fault), 0);
    assert_int_equal(value, 0x1234);
    assert_int_equal(RUN("\x0f\x01\x23"), INTERP_SYSTEM); /* smsw [rbx] */
    assert_int_equal(interp_operand_write(interp, &insn, 0, 0x31, &fault), 0);
    assert_int_equal(at(0x5ffe, 4), 0x31);
    assert_int_equal(RUN("\x0f\x01\x15\x00\x01\x00\x00"), INTERP_SYSTEM); /* lgdt [rip+256] */
    assert_int_equal(interp_operand_linear(interp, &insn, 0, &value, &fault), 0);
    assert_int_equal(value, CODE + 7 + 256);
    memset(buf, 0x5a, sizeof(buf));
    page[7] = ABSENT;
    assert_int_equal(interp_store(interp, 0x6f80, buf, 256, false, true, &fault), -1);
    assert_int_equal(fault.address, 0x7000);
    assert_int_equal(memory[0x6f80], 0);
    page[7] = NORMAL;
    assert_int_equal(interp_store(interp, 0x6f80, buf, 256, false, true, &fault), 0);
    memset(buf, 0, sizeof(buf));
    assert_int_equal(interp_load(interp, 0x6f80, buf, 256, false, true, &fault), 0);
    assert_int_equal(buf[255], 0x5a);
}

#define TURNS 200000u

static void *other_cpu(void *unused)
{
    (void)unused;
    for (unsigned i = 0; i < TURNS; i++)
        __atomic_add_fetch((uint32_t *)(void *)(memory + 0x5000), 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void locked(void **state)
{
    pthread_t thread;

    (void)state;
    reset(64);
    cpu.gpr[CPU_RBX] = 0x5000;
    put(CODE, "\xf0\xff\x03", 3); /* lock inc dword [rbx] */
    assert_int_equal(pthread_create(&thread, NULL, other_cpu, NULL), 0);
    for (unsigned i = 0; i < TURNS; i++) {
        cpu.rip = CODE;
        if (interp_step(interp, 1, &insn, &fault) != INTERP_OK)
            break;
    }
    pthread_join(thread, NULL);
    assert_int_equal(at(0x5000, 4), 2 * TURNS);
}

/* Anything random, in any mode: no crash, and what is refused changes nothing. */
static void nonsense(void **state)
{
    uint64_t seed = 7;

    (void)state;
    for (unsigned round = 0; round < 200000; round++) {
        struct cpu_state before;
        enum interp_result result;

        if (round % 1000 == 0)
            reset(round % 3000 == 0 ? 64 : round % 3000 == 1000 ? 32 : 16);
        for (unsigned i = 0; i < CPU_GPRS; i++)
            cpu.gpr[i] = (seed = seed * 6364136223846793005u + 1442695040888963407u) >> 46;
        for (unsigned i = 0; i < 15; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            memory[CODE + i] = (uint8_t)(seed >> 56);
        }
        cpu.rip = CODE;
        before = cpu;
        result = interp_step(interp, 100, &insn, &fault);
        if (result == INTERP_SYSTEM || result == INTERP_UNKNOWN)
            assert_memory_equal(&before, &cpu, sizeof(cpu));
        else if (result == INTERP_FAULT)
            assert_int_equal(cpu.rip, CODE);
    }
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
        cmocka_unit_test(fetches),
        cmocka_unit_test(self_modifying),
        cmocka_unit_test(repeated),
        cmocka_unit_test(repeated_compare),
        cmocka_unit_test(repeated_in_16_bits),
        cmocka_unit_test(compare_exchange_16),
        cmocka_unit_test(flags_by_privilege),
        cmocka_unit_test(frames),
        cmocka_unit_test(loops),
        cmocka_unit_test(decimal),
        cmocka_unit_test(devices),
        cmocka_unit_test(kinds),
        cmocka_unit_test(for_the_caller),
        cmocka_unit_test(locked),
        cmocka_unit_test(nonsense),
    };

    if (interp_create(&interp, &cpu, &ops, NULL))
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
