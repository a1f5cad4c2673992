/* The cost of an exit: the same guest under `twofold run` and under a bare KVM_RUN loop. */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#define COUNT 2000 /* as in tests/kernels/bench_exits.S */

/* TSC ticks a microsecond, against CLOCK_MONOTONIC_RAW over 50 ms. */
static double tsc_per_us(void)
{
    struct timespec a, b, wait = { .tv_nsec = 50000000 };
    uint64_t t0, t1;

    clock_gettime(CLOCK_MONOTONIC_RAW, &a);
    t0 = __rdtsc();
    nanosleep(&wait, NULL);
    clock_gettime(CLOCK_MONOTONIC_RAW, &b);
    t1 = __rdtsc();
    return (double)(t1 - t0) /
           ((double)(b.tv_sec - a.tv_sec) * 1e6 + (double)(b.tv_nsec - a.tv_nsec) / 1e3);
}

/* Runs the guest once and adds what its lines say, in microseconds an exit. */
static void run_once(const char *const argv[], double tsc, struct samples *pio,
                     struct samples *mmio)
{
    char line[128];
    int out;
    pid_t pid = spawn(argv, &out);
    FILE *f;

    if (pid < 0)
        return;
    f = fdopen(out, "r");
    while (f && fgets(line, sizeof(line), f)) {
        double us = (double)strtoull(line + 1, NULL, 16) / tsc / COUNT;

        if (line[0] == 'p')
            sample_add(pio, us);
        else if (line[0] == 'm')
            sample_add(mmio, us);
    }
    if (f)
        fclose(f);
    reap(pid);
}

void bench_exits(const struct bench_options *o)
{
    char twofold[512], kernel[512];
    const char *ours[] = { twofold, "run", kernel, NULL };
    const char *bare[] = { o->self, "--bare", kernel, NULL };
    struct samples pio = { .n = 0 }, mmio = { .n = 0 }, bare_pio = { .n = 0 },
                   bare_mmio = { .n = 0 };
    double tsc = tsc_per_us();

    snprintf(twofold, sizeof(twofold), "%s/twofold", o->build);
    snprintf(kernel, sizeof(kernel), "%s/tests/kernels/bench_exits.elf", o->build);
    for (unsigned i = 0; i < o->runs; i++) {
        run_once(ours, tsc, &pio, &mmio);
        run_once(bare, tsc, &bare_pio, &bare_mmio);
    }
    printf("cost of an exit to the monitor (%d in a row, timed by the guest's TSC)\n", COUNT);
    print_row("port write, twofold", &pio, "us");
    print_row("port write, bare KVM_RUN loop", &bare_pio, "us");
    print_ratio("twofold / bare", &pio, &bare_pio, "at most 1.05", 0, 1.05);
    print_row("MMIO read, twofold", &mmio, "us");
    print_row("MMIO read, bare KVM_RUN loop", &bare_mmio, "us");
    print_ratio("twofold / bare", &mmio, &bare_mmio, "at most 1.05", 0, 1.05);
}
