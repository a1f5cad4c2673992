/*
 * bench: what twofold costs, each figure beside a baseline of the same run.
 *   bench [--build DIR] [--runs N] [PART...]
 */
#include "bench.h"

#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void bench_environment(const struct bench_options *o)
{
    char command[600];

    snprintf(command, sizeof(command), "%s/twofold info", o->build);
    fflush(stdout);
    if (system(command) != 0)
        puts("twofold info: not available");
    puts("");
}

static const struct part {
    const char *name;
    void (*run)(const struct bench_options *o);
    bool kvm;
} parts[] = {
    { "start", bench_start, true },           { "exits", bench_exits, true },
    { "memory", bench_memory, true },         { "faults", bench_faults, false },
    { "populate", bench_populate, false },    { "scan", bench_scan, false },
    { "shadow", bench_shadow, true },         { "iommu", bench_iommu, false },
    { "interrupts", bench_interrupts, true }, { "measure", bench_measure, false },
};

#define PARTS (sizeof(parts) / sizeof(parts[0]))

static void usage(void)
{
    puts("usage: bench [--build DIR] [--runs N] [PART...]\n"
         "Each line gives the median, the quartiles and the number of samples;\n"
         "what is compared runs interleaved. The parts, all of them by default:");
    for (size_t i = 0; i < PARTS; i++)
        printf(" %s", parts[i].name);
    puts("");
}

static bool is_part(const char *name)
{
    for (size_t i = 0; i < PARTS; i++)
        if (strcmp(parts[i].name, name) == 0)
            return true;
    fprintf(stderr, "bench: there is no part '%s'; see --help\n", name);
    return false;
}

static bool wanted(const char *name, char **names)
{
    if (!*names)
        return true;
    while (*names && strcmp(*names, name) != 0)
        names++;
    return *names != NULL;
}

static void run_part(const struct part *part, const struct bench_options *o)
{
    if (part->kvm && access("/dev/kvm", R_OK | W_OK))
        printf("%s: not available: /dev/kvm is not there or not ours\n", part->name);
    else
        part->run(o);
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        { "build", required_argument, NULL, 'b' },
        { "runs", required_argument, NULL, 'r' },
        { "bare", required_argument, NULL, 'B' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    struct bench_options o = { .build = "build", .runs = 20, .self = "/proc/self/exe" };
    int c;

    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (c) {
        case 'b':
            o.build = optarg;
            break;
        case 'r':
            o.runs = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'B':
            return bare_run(optarg);
        case 'h':
            usage();
            return 0;
        default:
            usage();
            return 2;
        }
    }
    if (o.runs < 3 || o.runs > 100) {
        fputs("bench: --runs takes 3 to 100\n", stderr);
        return 2;
    }
    for (int i = optind; i < argc; i++)
        if (!is_part(argv[i]))
            return 2;
    bench_environment(&o);
    for (size_t i = 0; i < PARTS; i++)
        if (wanted(parts[i].name, argv + optind))
            run_part(&parts[i], &o);
    return 0;
}
