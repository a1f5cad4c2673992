/* Start-up: to the first guest instruction, and from start to exit, against a bare loop and QEMU's
 * microvm. */
#include "bench.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Milliseconds from before the process exists to the first byte that its guest sent, or -1. */
static double first_byte(const char *const argv[])
{
    uint64_t t0 = now_ns(), t1 = 0;
    char c;
    int out;
    pid_t pid = spawn(argv, &out);

    if (pid < 0)
        return -1;
    if (read(out, &c, 1) == 1 && c == 'x')
        t1 = now_ns();
    close(out);
    reap(pid);
    return t1 ? (double)(t1 - t0) / 1e6 : -1;
}

static void bench_first(const struct bench_options *o)
{
    char twofold[512], kernel[512];
    const char *ours[] = { twofold, "run", kernel, NULL };
    const char *bare[] = { o->self, "--bare", kernel, NULL };
    struct samples a = { .n = 0 }, b = { .n = 0 };

    snprintf(twofold, sizeof(twofold), "%s/twofold", o->build);
    snprintf(kernel, sizeof(kernel), "%s/tests/kernels/bench_first.elf", o->build);
    for (unsigned i = 0; i < o->runs; i++) {
        sample_add(&a, first_byte(ours));
        sample_add(&b, first_byte(bare));
    }
    puts(
        "start to the first guest instruction (256 MiB, 1 vCPU; seen by its first byte in a pipe)");
    print_row("twofold run", &a, "ms");
    print_row("bare KVM: same guest, no devices", &b, "ms");
}

/* `file` in the build folder with `args`, started and ended by both, in turns. */
static void against_microvm(const struct bench_options *o, const char *title, const char *file,
                            const char *args, const char *text)
{
    char twofold[512], guest[512];
    const char *ours[] = { twofold, "run", guest, "--", args, NULL };
    const char *microvm[] = { "qemu-system-x86_64",
                              "-accel",
                              "kvm",
                              "-cpu",
                              "host,-arch-capabilities",
                              "-M",
                              "microvm,pit=on,pic=on,rtc=on,isa-serial=on",
                              "-m",
                              "256M",
                              "-nodefaults",
                              "-no-user-config",
                              "-display",
                              "none",
                              "-no-reboot",
                              "-serial",
                              "stdio",
                              "-device",
                              "isa-debug-exit,iobase=0xf4,iosize=0x04",
                              "-kernel",
                              guest,
                              "-append",
                              args,
                              NULL };
    struct samples a = { .n = 0 }, b = { .n = 0 };

    snprintf(twofold, sizeof(twofold), "%s/twofold", o->build);
    snprintf(guest, sizeof(guest), "%s/%s", o->build, file);
    for (unsigned i = 0; i < o->runs; i++) {
        sample_add(&a, timed_run(ours, 0, text) / 1e6);
        sample_add(&b, timed_run(microvm, 1, text) / 1e6); /* (0 << 1) | 1 */
    }
    printf("start to exit of %s (256 MiB, 1 vCPU)\n", title);
    print_row("twofold run", &a, "ms");
    print_row("qemu-system-x86_64 -accel kvm -M microvm", &b, "ms");
    print_ratio("QEMU / twofold", &b, &a, "at least 10", 10, INFINITY);
}

void bench_start(const struct bench_options *o)
{
    bench_first(o);
    against_microvm(o, "a kernel that ends at once", "tests/kernels/bench_first.elf", "", "x");
    against_microvm(o, "the tiny guest running `hello`", "guest.elf", "hello", "Hello");
}
