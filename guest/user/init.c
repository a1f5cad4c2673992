/*
 * init [PROGRAM ARGS]: process 1. Runs the program, and the VM ends with its exit code;
 * without one, says what machine this is and runs the tests.
 */
#include "guest/user/lib/lib.h"

static const struct {
    uint32_t bit;
    const char *name;
} features[] = {
    { SYS_FEATURE_SMEP, "smep" },       { SYS_FEATURE_SMAP, "smap" },
    { SYS_FEATURE_UMIP, "umip" },       { SYS_FEATURE_PCID, "pcid" },
    { SYS_FEATURE_INVPCID, "invpcid" }, { SYS_FEATURE_FSGSBASE, "fsgsbase" },
    { SYS_FEATURE_1G, "1g-pages" },     { SYS_FEATURE_X2APIC, "x2apic" },
    { SYS_FEATURE_CONSOLE, "console" }, { SYS_FEATURE_ZEROED, "zeroed-ram" },
};

static const char *memory_type(uint32_t type)
{
    static const char *const names[] = {
        "?", "usable", "reserved", "ACPI", "ACPI NVS", "unusable"
    };

    return type < sizeof names / sizeof names[0] ? names[type] : "?";
}

static void print_machine(const struct sys_info *info)
{
    const char *name = info->cpu_name;

    while (*name == ' ')
        name++;
    printf("twofold guest, %u CPU%s, %lu MiB\n", info->cpus, info->cpus == 1 ? "" : "s",
           info->ram_bytes >> 20);
    printf("cpu: %s %s, TSC %lu MHz\n", info->cpu_vendor, name, info->tsc_hz / 1000000);
    if (info->hypervisor[0] != '\0')
        printf("hypervisor: %s\n", info->hypervisor);
    printf("uses: nx");
    for (size_t i = 0; i < sizeof features / sizeof features[0]; i++)
        if (info->features & features[i].bit)
            printf(" %s", features[i].name);
    printf("\n");
}

static void print_memory(const struct sys_info *info)
{
    struct sys_memory m;

    printf("memory map:\n");
    for (unsigned i = 0; sys_info(SYS_INFO_MEMORY, i, &m, sizeof m) > 0; i++)
        printf("  %012lx-%012lx %s\n", m.start, m.end - 1, memory_type(m.type));
    printf("initrd: %012lx, %lu KiB%s\n", info->initrd_gpa, info->initrd_bytes >> 10,
           info->initrd_builtin ? ", built in" : "");
    printf("page allocator: %lu of %lu KiB free\n", info->mem_free >> 10, info->mem_total >> 10);
}

static void print_times(void)
{
    struct sys_time t;

    printf("start-up:");
    for (unsigned i = 0; sys_info(SYS_INFO_TIME, i, &t, sizeof t) > 0; i++)
        printf("%s %s %lu us", i > 0 ? "," : "", t.stage, t.ns / 1000);
    printf("\n");
}

static int run_program(char **argv)
{
    struct sys_status end;
    struct sys_file file;
    long rc = run((const char *const *)argv, 0, &end);

    if (rc == 0)
        return end.code;
    if (rc == -ENOENT) {
        printf("programs:");
        for (unsigned i = 0; sys_info(SYS_INFO_FILE, i, &file, sizeof file) > 0; i++)
            printf(" %s", file.name);
        printf("\n");
    }
    return SYS_CODE_NO_PROGRAM;
}

/* --- tests ------------------------------------------------------------------- */

#define FAULT(vector) (TF_EXIT_FAULT_BASE + (vector))
#define PF(bits)      .code = FAULT(14), .error = 4 | (bits), .check_error = true
#define PRESENT       1u
#define WRITE         2u

/* A program, and how it has to end. */
struct test {
    const char *command;
    int code;
    bool check_error; /* #PF: the low four bits of the error code are predicted too */
    uint32_t error;
    bool not_tcg; /* QEMU's software emulation has no such exception */
};

static const struct test tests[] = {
    { "hello", .code = 0 },
    { "echo", .code = 0 },
    { "no-such-program", .code = SYS_CODE_NO_PROGRAM },
    { "die exit 0", .code = 0 },
    { "die exit 1", .code = 1 },
    { "die exit 255", .code = 255 },
    { "die abort", .code = SYS_CODE_ABORT },
    { "die double-free", .code = SYS_CODE_ABORT },
    { "die null", PF(0) },
    { "die unmapped", PF(WRITE) },
    { "die stack", PF(WRITE) },
    { "die write-ro", PF(WRITE | PRESENT) },
    { "die write-text", PF(WRITE | PRESENT) },
    { "die exec-nx", PF(PRESENT) },
    { "die kernel", .code = FAULT(14) },
    { "die kernel-image", .code = FAULT(14) },
    { "die kernel-write", .code = FAULT(14) },
    { "die kernel-exec", .code = FAULT(14) },
    { "die noncanonical", .code = FAULT(13) },
    { "die ss", .code = FAULT(12), .not_tcg = true },
    { "die div", .code = FAULT(0) },
    { "die ud", .code = FAULT(6) },
    { "die gp", .code = FAULT(13) },
    { "die cli", .code = FAULT(13) },
    { "die cr3", .code = FAULT(13) },
    { "die wrmsr", .code = FAULT(13) },
    { "die io", .code = FAULT(13) },
    { "die fpu", .code = FAULT(19), .not_tcg = true },
    { "die x87", .code = FAULT(16) },
    { "die step", .code = FAULT(1) },
    { "touch 256K", .code = 0 },
    { "chase 256K 3", .code = 0 },
    { "spin 1", .code = 0 },
    { "mem", .code = 0 },
    { "fpu", .code = 0 },
    { "smp", .code = 0 },
    { "storm", .code = 0 },
    { "badcalls", .code = 0 },
};

static unsigned n_passed, n_failed;

static void count(bool passed, const char *name, const char *how, uint64_t started)
{
    uint64_t us = (sys_clock() - started) / 1000;

    n_passed += passed;
    n_failed += !passed;
    printf("%s %s: %s (%lu.%lu ms)\n", passed ? "ok  " : "FAIL", name, how, us / 1000,
           us / 100 % 10);
}

/* Splits `command` at its spaces in place. */
static void split(char *command, const char **argv, size_t max)
{
    size_t n = 0;

    while (*command != '\0' && n + 1 < max) {
        argv[n++] = command;
        while (*command != '\0' && *command != ' ')
            command++;
        if (*command == ' ')
            *command++ = '\0';
    }
    argv[n] = NULL;
}

static void run_test(const struct test *t)
{
    struct sys_status end = { .vector = -1, .code = SYS_CODE_NO_PROGRAM };
    char command[64], how[128], line[192];
    const char *argv[8];
    bool passed;
    long rc;
    uint64_t started = sys_clock();

    snprintf(command, sizeof command, "%s", t->command);
    split(command, argv, sizeof argv / sizeof argv[0]);
    rc = run(argv, SYS_QUIET, &end);
    passed = end.code == t->code && (rc == 0 || rc == -ENOENT);
    if (t->check_error && (end.error & 0xf) != t->error)
        passed = false;
    describe_end(&end, how, sizeof how);
    if (passed)
        snprintf(line, sizeof line, "%s", how);
    else
        snprintf(line, sizeof line, "%s, exit code %d; expected exit code %d", how, end.code,
                 t->code);
    count(passed, t->command, line, started);
}

static void run_kernel_tests(void)
{
    uint64_t started = sys_clock();
    struct sys_selftest t;
    char name[80];

    for (unsigned i = 0; sys_selftest(i, &t) == 0; i++) {
        snprintf(name, sizeof name, "kernel: %s", t.name);
        count(t.passed != 0, name, t.passed ? "right" : t.detail, started);
        started = sys_clock();
    }
}

static bool run_tests(const struct sys_info *info)
{
    bool tcg = memcmp(info->hypervisor, "TCGTCGTCGTCG", 12) == 0;

    run_kernel_tests();
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
        if (!tcg || !tests[i].not_tcg)
            run_test(&tests[i]);
    printf("%u passed, %u failed\n", n_passed, n_failed);
    return n_failed == 0;
}

int main(int argc, char **argv)
{
    struct sys_info info;

    if (argc > 1)
        return run_program(argv + 1);
    info = info_general();
    print_machine(&info);
    print_memory(&info);
    print_times();
    return run_tests(&info) ? 0 : 1;
}
