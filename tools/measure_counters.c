/*
 * PMU counters of a runner's thread, where this host has any.
 */
#include <errno.h>
#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tools/measure_impl.h"

const char *const measure_counter_name[MEASURE_COUNTERS] = { "cpu_cycles", "dtlb_load_misses" };

static const struct {
    uint32_t type;
    uint64_t config;
} events[MEASURE_COUNTERS] = {
    { PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES },
    { PERF_TYPE_HW_CACHE, PERF_COUNT_HW_CACHE_DTLB | PERF_COUNT_HW_CACHE_OP_READ << 8 |
                              PERF_COUNT_HW_CACHE_RESULT_MISS << 16 },
};

void measure_counters_open(pid_t thread, int fd[MEASURE_COUNTERS])
{
    for (size_t i = 0; i < MEASURE_COUNTERS; i++) {
        /* The chase is in user mode, a guest's as well. */
        struct perf_event_attr attr = {
            .type = events[i].type,
            .size = sizeof(attr),
            .config = events[i].config,
            .exclude_kernel = 1,
            .exclude_hv = 1,
        };

        fd[i] = (int)syscall(SYS_perf_event_open, &attr, thread, -1, -1, PERF_FLAG_FD_CLOEXEC);
    }
}

void measure_counters_close(int fd[MEASURE_COUNTERS])
{
    for (size_t i = 0; i < MEASURE_COUNTERS; i++) {
        if (fd[i] >= 0)
            close(fd[i]);
        fd[i] = -1;
    }
}

double measure_counter_read(int fd)
{
    uint64_t value;

    return fd >= 0 && read(fd, &value, sizeof(value)) == sizeof(value) ? (double)value : -1;
}
