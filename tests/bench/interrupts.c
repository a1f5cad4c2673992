/*
 * From a device's interrupt to its handler: an emulated device of a VM, one that is passed through,
 * and the same without a VM. Each sample is the median of a run's COUNT.
 */
#include "bench.h"

#include <cpuid.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define COUNT      101
#define COUNT_TEXT "101"

/* What the guest says, in us; -1: it failed. */
static double vm_latency(const char *const argv[])
{
    char line[160];
    double median = -1;
    int out;
    pid_t pid = spawn(argv, &out);
    FILE *f = pid < 0 ? NULL : fdopen(out, "r");

    while (f && fgets(line, sizeof(line), f))
        (void)sscanf(line, "edu: latency median %lf ns", &median);
    if (f)
        (void)fclose(f);
    return pid >= 0 && reap(pid) == 0 ? median / 1000 : -1;
}

/* No processor behind it: figures of its emulator. */
static bool emulated(void)
{
    char vendor[64] = "", signature[13] = "";
    unsigned max;
    FILE *f = fopen("/sys/class/dmi/id/sys_vendor", "re");

    if (f && !fgets(vendor, sizeof(vendor), f))
        vendor[0] = '\0';
    if (f)
        (void)fclose(f);
    __cpuid(0x40000000, max, *(unsigned *)(void *)signature, *(unsigned *)(void *)(signature + 4),
            *(unsigned *)(void *)(signature + 8));
    if (max >= 0x40000000 && !strncmp(signature, "TCG", 3))
        return true;
    return strstr(vendor, "Bochs") || (strstr(vendor, "QEMU") && strncmp(signature, "KVM", 3) != 0);
}

void bench_interrupts(const struct bench_options *o)
{
    static struct samples ours, passed, host;
    char twofold[512], kernel[512];
    const char *why, *device = host_edu_take(&why);
    const char *edu[] = { twofold, "run", "--mem",     "64M",      "--edu", kernel,
                          "--",    "edu", "--latency", COUNT_TEXT, NULL };
    const char *vfio[] = { twofold, "run", "--mem", "64M",       "--vfio",   device,
                           kernel,  "--",  "edu",   "--latency", COUNT_TEXT, NULL };

    (void)snprintf(twofold, sizeof(twofold), "%s/twofold", o->build);
    (void)snprintf(kernel, sizeof(kernel), "%s/guest.elf", o->build);
    for (unsigned i = 0; i < o->runs; i++) {
        sample_add(&ours, vm_latency(edu));
        if (!device)
            continue;
        sample_add(&passed, vm_latency(vfio));
        sample_add(&host, host_edu_latency(COUNT));
    }
    host_edu_give_back();
    printf("interrupts: from the write of the device's register (medians of %d)%s\n", COUNT,
           emulated() ? "; emulated: this machine has no processor of its own" : "");
    print_row("emulated device, to the guest's handler", &ours, "us");
    if (!device) {
        printf("  passed through: not available: %s\n", why);
        return;
    }
    print_row("passed through, to the guest's handler", &passed, "us");
    print_row("no VM: VFIO's eventfd, by poll()", &host, "us");
    print_ratio("passed through / no VM", &passed, &host, NULL, 0, 0);
}
