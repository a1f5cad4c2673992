/*
 * bench: what twofold costs, each figure beside a baseline of the same run.
 *   bench [--build DIR] [--runs N]
 */
#include "bench.h"

#include <getopt.h>
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

static void usage(void)
{
    puts("usage: bench [--build DIR] [--runs N]\n"
         "Each line gives the median, the quartiles and the number of samples;\n"
         "what is compared runs interleaved.");
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
    if (access("/dev/kvm", R_OK | W_OK)) {
        fputs("bench: /dev/kvm is not there or not ours; nothing to measure\n", stderr);
        return 1;
    }
    bench_environment(&o);
    bench_start(&o);
    bench_exits(&o);
    bench_memory(&o);
    return 0;
}
