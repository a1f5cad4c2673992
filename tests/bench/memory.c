/* The monitor's own memory: resident pages of the process that are not the guest's RAM. */
#include "bench.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define GUEST_BYTES (256ul << 20)

struct rss {
    double other_kib, guest_kib, anon_kib;
};

/* Sums /proc/PID/smaps; the one mapping as large as the guest's RAM is the guest's. */
static int read_rss(pid_t pid, struct rss *r)
{
    char path[64], line[512];
    unsigned long lo, hi, kib;
    int guest = 0, found = 0;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
    f = fopen(path, "r");
    if (!f)
        return -1;
    *r = (struct rss){ 0 };
    while (fgets(line, sizeof(line), f)) {
        if (sscanf(line, "%lx-%lx ", &lo, &hi) == 2) {
            guest = hi - lo >= GUEST_BYTES;
            found |= guest;
        } else if (sscanf(line, "Rss: %lu", &kib) == 1) {
            *(guest ? &r->guest_kib : &r->other_kib) += (double)kib;
        } else if (sscanf(line, "Anonymous: %lu", &kib) == 1 && !guest) {
            r->anon_kib += (double)kib;
        }
    }
    fclose(f);
    return found ? 0 : -1;
}

void bench_memory(const struct bench_options *o)
{
    char twofold[512], kernel[512], c;
    const char *argv[] = { twofold, "run", "--mem", "256M", kernel, NULL };
    struct samples other = { .n = 0 }, anon = { .n = 0 }, guest = { .n = 0 }, goal = { .n = 0 };

    snprintf(twofold, sizeof(twofold), "%s/twofold", o->build);
    snprintf(kernel, sizeof(kernel), "%s/tests/kernels/bench_idle.elf", o->build);
    sample_add(&goal, 1);
    for (unsigned i = 0; i < (o->runs + 3) / 4; i++) {
        struct rss r;
        int out;
        pid_t pid = spawn(argv, &out);

        if (pid < 0)
            continue;
        if (read(out, &c, 1) == 1 && read_rss(pid, &r) == 0) {
            sample_add(&other, r.other_kib / 1024);
            sample_add(&anon, r.anon_kib / 1024);
            sample_add(&guest, r.guest_kib / 1024);
        }
        kill(pid, SIGTERM);
        close(out);
        reap(pid);
    }
    puts("the monitor's memory while its guest idles (256 MiB, 1 vCPU)");
    print_row("resident, less the guest's RAM", &other, "MiB");
    print_row("  of it anonymous (not shared with the files)", &anon, "MiB");
    print_row("the guest's RAM, resident", &guest, "MiB");
    print_ratio("resident, less the guest's RAM / 1 MiB", &other, &goal, "at most 3", 0, 3);
}
