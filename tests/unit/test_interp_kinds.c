/*
 * What the interpreter makes of each kind of instruction: done, the system's, unknown, invalid. And
 * fetching, changed code, devices, other CPUs, what it does for its caller.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/interp_fixture.h"

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

/* clang-format off */
static const struct kind in64[] = {
    S("\x0f\x22\xc0"), S("\x0f\x20\xd8"), S("\x0f\x23\xf8"), S("\x0f\x21\xf8"), S("\x8e\xd8"),
    S("\x8e\x1b"), S("\x0f\xa1"), S("\x0f\xa9"), S("\xfa"), S("\xfb"), S("\xf4"), S("\x0f\xa2"),
    S("\x0f\x31"), S("\x0f\x01\xf9"), S("\xe4\x10"), S("\xef"), S("\x6c"), S("\xf3\x6f"),
    S("\x0f\x32"), S("\x0f\x30"), S("\x0f\x33"), S("\x0f\x01\xd0"), S("\x0f\x01\xd1"),
    S("\x0f\x01\xf8"), S("\x0f\x01\xca"), S("\x0f\x01\xcb"), S("\xf3\x48\x0f\xae\xc0"),
    S("\xf3\x48\x0f\xae\xd8"), S("\x0f\x01\xc8"), S("\x0f\x01\xc9"), S("\x0f\xc7\xf0"),
    S("\x0f\xc7\xf8"), S("\xcd\x80"), S("\xcc"), S("\xf1"), S("\x48\xcf"), S("\xcf"),
    S("\x0f\x05"), S("\x48\x0f\x07"), S("\x0f\x34"), S("\x0f\x35"), S("\xcb"), S("\x48\xff\x2b"),
    S("\xff\x1b"), S("\x0f\x01\x03"), S("\x0f\x01\x13"), S("\x0f\x01\x1b"), S("\x0f\x01\x0b"),
    S("\x0f\x00\xd0"), S("\x0f\x00\xd8"), S("\x0f\x00\xc0"), S("\x0f\x01\xe0"), S("\x0f\x01\xf0"),
    S("\x0f\x06"), S("\x0f\x01\x3b"), S("\x66\x0f\x38\x82\x03"), S("\x0f\x09"), S("\x0f\x08"),
    S("\x0f\x02\xc3"), S("\x0f\x03\xc3"), S("\x0f\x00\xe0"), S("\x0f\x01\xc1"), S("\x0f\x01\xd9"),
    S("\x0f\xb2\x03"), S("\xf3\x0f\xc7\xf8"), U("\x0f\x28\xc1"), U("\xf2\x0f\x10\xc1"),
    U("\xd9\xe8"), U("\x0f\x6f\xc1"), U("\x0f\xae\x03"), U("\xc5\xf8\x28\xc1"), U("\x9b"),
    U("\x0f\x77"), U("\xdb\xe3"), U("\xf2\x0f\xc2\xc1\x00"), U("\x0f\xae\x23"), O("\x90"),
    O("\xf3\x90"), O("\x66\x0f\x1f\x44\x00\x00"), O("\xf3\x0f\x1e\xfa"), O("\x0f\x18\x0b"),
    O("\x0f\x0d\x0b"), O("\x0f\xae\xf0"), O("\x0f\xae\xe8"), O("\x0f\xae\xf8"), O("\x0f\xae\x3b"),
    O("\x0f\xc3\x03"), O("\xfc"), O("\xfd"), O("\xf2\xe9\x00\x00\x00\x00"),
};

static const struct kind in32[] = {
    S("\x07"), S("\x1f"), S("\x17"), S("\xea\x00\x00\x00\x00\x08\x00"),
    S("\x9a\x00\x00\x00\x00\x08\x00"), S("\xc5\x03"), S("\xc4\x03"), S("\xce"), S("\x63\xc3"),
    O("\x06"), O("\x0e"), O("\x60"), O("\x61"), O("\xd6"),
};
/* clang-format on */

static void kinds(void **state)
{
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
        cmocka_unit_test(fetches),  cmocka_unit_test(self_modifying), cmocka_unit_test(devices),
        cmocka_unit_test(kinds),    cmocka_unit_test(for_the_caller), cmocka_unit_test(locked),
        cmocka_unit_test(nonsense),
    };

    if (!fixture_create())
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
