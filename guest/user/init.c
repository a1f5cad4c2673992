/*
 * init [PROGRAM ARGS]: process 1. Becomes the program, and the VM ends with its exit code;
 * without one, says what machine this is and runs the tests.
 */
#include "guest/user/lib/lib.h"

/* The arguments lie one behind the other as the kernel gave them: so they go on. */
static int become_program(int argc, char **argv)
{
    const char *end = argv[argc - 1] + strlen(argv[argc - 1]) + 1;
    struct sys_file file = { 0 };

    if (sys_exec(argv[1], (size_t)(end - argv[1])) == -ENOENT) {
        printf("programs:");
        for (unsigned i = 0; sys_info(SYS_INFO_FILE, i, &file, sizeof file) > 0; i++)
            printf("%s%s", file.program ? " " : "", file.program ? file.name : "");
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
    { "forks 5", .code = 0 },
    { "maps 10", .code = 0 },
    { "protects 5", .code = 0 },
    { "switches 50", .code = 0 },
    { "syscalls 100", .code = 0 },
    { "faults 100", .code = 0 },
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
    struct sys_selftest t = { 0 };
    char name[80];

    for (unsigned i = 0; sys_selftest(i, &t) == 0; i++) {
        snprintf(name, sizeof name, "kernel: %s", t.name);
        count(t.passed != 0, name, t.passed ? "right" : t.detail, started);
        started = sys_clock();
    }
}

static bool run_tests(void)
{
    struct sys_info info = info_general();
    /* The CPU's name, for between us and QEMU there may be KVM, with a signature of its own. */
    bool tcg = memcmp(info.cpu_name, "QEMU TCG", 8) == 0;

    run_kernel_tests();
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
        if (!tcg || !tests[i].not_tcg)
            run_test(&tests[i]);
    printf("%u passed, %u failed\n", n_passed, n_failed);
    return n_failed == 0;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return become_program(argc, argv);
    print_machine();
    return run_tests() ? 0 : 1;
}
