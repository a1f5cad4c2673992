/*
 * What measuring has to know of the host: memory, CPUs and how busy they are, the TSC.
 */
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "tools/info.h"
#include "tools/measure_impl.h"
#include "vmm/clock.h"
#include "vmm/cpuid.h"

#define TSC_READS 10

static const json_t *at(const json_t *object, const char *a, const char *b)
{
    return json_object_get(json_object_get(object, a), b);
}

static void copy(char *to, size_t size, const json_t *text)
{
    (void)snprintf(to, size, "%s", text ? json_string_value(text) : "not known");
}

uint64_t measure_memory_available(void)
{
    FILE *f = fopen("/proc/meminfo", "re");
    uint64_t kib = 0;
    char line[128];

    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "MemAvailable: %" SCNu64, &kib) == 1)
            break;
    if (f)
        (void)fclose(f);
    return kib << 10;
}

/* Of the last level: "32768K". */
static uint64_t last_cache(void)
{
    char path[96], line[32];
    uint64_t bytes = 0;

    for (int i = 0; i < 8; i++) {
        char *unit;
        uint64_t n;

        (void)snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
        n = strtoull(info_line(path, line, sizeof(line)), &unit, 10);
        n <<= *unit == 'K' ? 10 : *unit == 'M' ? 20 : 0;
        bytes = n > bytes ? n : bytes;
    }
    return bytes;
}

static bool has_pool(const json_t *memory, uint64_t page)
{
    const json_t *pool;
    size_t i;

    json_array_foreach(json_object_get(memory, "hugetlb"), i, pool)
    {
        if ((uint64_t)json_integer_value(json_object_get(pool, "page_bytes")) == page)
            return true;
    }
    return false;
}

/* Which a KVM may hide, whatever the processor has. */
static bool guest_has_1g(void)
{
    struct cpuid *cpuid = NULL;
    struct error err;
    struct kvm kvm;
    bool has;

    if (kvm_open(&kvm, &err))
        return false;
    has = cpuid_create(&cpuid, &kvm, 1, &err) == 0 && cpuid_gib_pages(cpuid);
    cpuid_destroy(cpuid);
    kvm_close(&kvm);
    return has;
}

void measure_host_read(struct measure_host *host, const json_t *kvm, const json_t *memory)
{
    const json_t *shadow = at(kvm, "paging", "shadow");
    const char *thp = json_string_value(at(memory, "thp", "enabled"));

    *host = (struct measure_host){
        .kvm = json_is_true(json_object_get(kvm, "available")),
        .shadow = json_is_true(json_object_get(shadow, "available")),
        .thp = thp && (!strcmp(thp, "always") || !strcmp(thp, "madvise")),
        .pool_2m = has_pool(memory, PAGE_SIZE_2M),
        .pool_1g = has_pool(memory, PAGE_SIZE_1G),
        .cpus = measure_cpus_allowed(),
        .available = measure_memory_available() / 10 * 9,
        .cache = last_cache(),
    };
    host->guest_1g = host->kvm && guest_has_1g();
    copy(host->kvm_why, sizeof(host->kvm_why), json_object_get(kvm, "why"));
    copy(host->shadow_why, sizeof(host->shadow_why), json_object_get(shadow, "why"));
}

/* --- CPUs ---------------------------------------------------------------------------- */

int measure_cpus_allowed(void)
{
    cpu_set_t set;

    return sched_getaffinity(0, sizeof(set), &set) ? 1 : CPU_COUNT(&set);
}

bool measure_cpu_allowed(int cpu)
{
    cpu_set_t set;

    return cpu >= 0 && cpu < CPU_SETSIZE && sched_getaffinity(0, sizeof(set), &set) == 0 &&
           CPU_ISSET(cpu, &set);
}

int measure_cpu_other(int cpu)
{
    for (int other = 0; other < CPU_SETSIZE; other++)
        if (other != cpu && measure_cpu_allowed(other))
            return other;
    return -1;
}

/* A CPU's line of /proc/stat: user nice system idle iowait irq softirq steal. */
static bool cpu_times(int cpu, uint64_t times[8])
{
    FILE *f = fopen("/proc/stat", "re");
    char line[256], name[16];
    bool found = false;

    (void)snprintf(name, sizeof(name), "cpu%d ", cpu);
    while (f && !found && fgets(line, sizeof(line), f))
        found = !strncmp(line, name, strlen(name)) &&
                sscanf(line + strlen(name),
                       "%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
                       " %" SCNu64 " %" SCNu64,
                       &times[0], &times[1], &times[2], &times[3], &times[4], &times[5], &times[6],
                       &times[7]) == 8;
    if (f)
        (void)fclose(f);
    return found;
}

static uint64_t idle_ticks(int cpu)
{
    uint64_t times[8];

    return cpu_times(cpu, times) ? times[3] + times[4] : 0;
}

uint64_t measure_cpu_stolen(int cpu)
{
    uint64_t times[8];

    return cpu_times(cpu, times) ? times[7] : 0;
}

int measure_cpu_quietest(void)
{
    static const struct timespec moment = { .tv_nsec = 300000000 };
    uint64_t idle[CPU_SETSIZE], most = 0;
    int best = -1;

    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        idle[cpu] = measure_cpu_allowed(cpu) ? idle_ticks(cpu) : 0;
    (void)nanosleep(&moment, NULL);
    /* The last one of equals: the first has more of the interrupts. */
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (measure_cpu_allowed(cpu) && (best < 0 || idle_ticks(cpu) - idle[cpu] >= most)) {
            most = idle_ticks(cpu) - idle[cpu];
            best = cpu;
        }
    return best < 0 ? 0 : best;
}

double measure_cpu_frequency(int cpu)
{
    char path[96];
    long long khz;

    (void)snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/cpufreq/scaling_cur_freq",
                   cpu);
    khz = info_number(path);
    return khz > 0 ? (double)khz * 1e3 : 0;
}

/* The clock and the TSC of one moment. */
struct moment {
    uint64_t tsc, ns;
};

/*
 * Between the two reads a hypervisor or another task may come in: the clock is read between two of
 * the TSC, and the tightest pair of some counts.
 */
static struct moment moment_now(void)
{
    struct moment best = { 0 };
    uint64_t tightest = UINT64_MAX;

    for (unsigned i = 0; i < TSC_READS; i++) {
        uint64_t before = __rdtsc(), ns = now_ns(), width = __rdtsc() - before;

        if (width < tightest) {
            tightest = width;
            best = (struct moment){ .tsc = before + width / 2, .ns = ns };
        }
    }
    return best;
}

double measure_tsc_hz(double seconds)
{
    struct timespec span = { .tv_sec = (time_t)seconds };
    struct moment begin, end;

    span.tv_nsec = (long)((seconds - (double)span.tv_sec) * 1e9);
    begin = moment_now();
    (void)nanosleep(&span, NULL);
    end = moment_now();
    return end.ns > begin.ns ? (double)(end.tsc - begin.tsc) * 1e9 / (double)(end.ns - begin.ns)
                             : 0;
}
