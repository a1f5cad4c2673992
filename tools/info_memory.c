#include "tools/info.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <linux/userfaultfd.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- page sizes --------------------------------------------------------------------- */

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

/* "always [madvise] never" is "madvise". */
static void chosen_word(const char *path, char *buf, size_t size)
{
    char line[128];
    char *open, *close;

    (void)info_line(path, line, sizeof(line));
    open = strchr(line, '[');
    close = open ? strchr(open, ']') : NULL;
    if (close)
        *close = 0;
    (void)snprintf(buf, size, "%s", close ? open + 1 : "not available");
}

static json_t *thp_json(void)
{
    char enabled[32], defrag[32];
    long long size = info_number("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size");

    chosen_word("/sys/kernel/mm/transparent_hugepage/enabled", enabled, sizeof(enabled));
    chosen_word("/sys/kernel/mm/transparent_hugepage/defrag", defrag, sizeof(defrag));
    return json_pack("{s:s, s:s, s:I}", "enabled", enabled, "defrag", defrag, "page_bytes",
                     (json_int_t)(size > 0 ? size : 0));
}

static json_int_t pool_number(const char *pool, const char *file)
{
    char path[128];
    long long n;

    (void)snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/%.40s/%s", pool, file);
    n = info_number(path);
    return n > 0 ? n : 0;
}

static int is_pool(const struct dirent *entry)
{
    return !strncmp(entry->d_name, "hugepages-", 10);
}

static json_t *hugetlb_json(void)
{
    struct dirent **pools = NULL;
    json_t *list = json_array();
    int n = scandir("/sys/kernel/mm/hugepages", &pools, is_pool, versionsort);

    for (int i = 0; i < n; i++) {
        const char *name = pools[i]->d_name;
        json_int_t kib = strtoll(name + 10, NULL, 10);

        (void)json_array_append_new(list,
                                    json_pack("{s:I, s:I, s:I, s:I}", "page_bytes", kib << 10,
                                              "total", pool_number(name, "nr_hugepages"), "free",
                                              pool_number(name, "free_hugepages"), "reserved",
                                              pool_number(name, "resv_hugepages")));
        free(pools[i]);
    }
    free((void *)pools);
    return list;
}

/* --- userfaultfd -------------------------------------------------------------------- */

/* By bit of uffdio_api.features; those from bit 13 on are younger than our oldest headers. */
static const char *const uffd_features[] = {
    "wp",
    "event_fork",
    "event_remap",
    "event_remove",
    "missing_hugetlbfs",
    "missing_shmem",
    "event_unmap",
    "sigbus",
    "thread_id",
    "minor_hugetlbfs",
    "minor_shmem",
    "exact_address",
    "wp_hugetlbfs_shmem",
    "wp_unpopulated",
    "poison",
    "wp_async",
    "move",
};

static json_t *uffd_json(void)
{
    struct uffdio_api api = { .api = UFFD_API };
    json_t *features = json_array();
    const char *mode = "all faults";
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    int why = errno;

    if (fd < 0) {
        int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);

        if (dev >= 0) {
            fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
            close(dev);
        }
    }
    if (fd < 0 && why == EPERM) {
        mode = "faults of user mode only, not KVM's";
        fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    }
    if (fd < 0)
        return json_pack("{s:b, s:s, s:o}", "available", 0, "mode", strerror(why), "features",
                         features);
    if (ioctl(fd, UFFDIO_API, &api))
        api.features = 0;
    for (size_t i = 0; i < sizeof(uffd_features) / sizeof(uffd_features[0]); i++) {
        if (api.features & (UINT64_C(1) << i))
            (void)json_array_append_new(features, json_string(uffd_features[i]));
    }
    close(fd);
    return json_pack("{s:b, s:s, s:o}", "available", 1, "mode", mode, "features", features);
}

json_t *info_memory(void)
{
    return json_pack("{s:I, s:o, s:o, s:o, s:b}", "page_bytes", (json_int_t)sysconf(_SC_PAGESIZE),
                     "thp", thp_json(), "hugetlb", hugetlb_json(), "userfaultfd", uffd_json(),
                     "idle_page_tracking", (int)exists("/sys/kernel/mm/page_idle/bitmap"));
}

/* --- devices and counters ------------------------------------------------------------ */

static int iommu_groups(void)
{
    DIR *dir = opendir("/sys/kernel/iommu_groups");
    const struct dirent *entry;
    int count = 0;

    while (dir && (entry = readdir(dir)))
        count += entry->d_name[0] != '.';
    if (dir)
        closedir(dir);
    return count;
}

/* "" when the counter counts, else why it does not. */
static const char *probe_counter(uint32_t type, uint64_t config)
{
    struct perf_event_attr attr = {
        .type = type,
        .size = sizeof(attr),
        .config = config,
        .exclude_kernel = 1,
        .exclude_hv = 1,
    };
    int fd = (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);

    if (fd >= 0) {
        close(fd);
        return "";
    }
    switch (errno) {
    case EACCES:
    case EPERM:
        return "not permitted (kernel.perf_event_paranoid)";
    case ENOSYS:
        return "the kernel has no perf events";
    default:
        return "not available";
    }
}

static json_t *pmu_json(void)
{
    static const uint64_t dtlb_misses = PERF_COUNT_HW_CACHE_DTLB |
                                        (PERF_COUNT_HW_CACHE_OP_READ << 8) |
                                        (PERF_COUNT_HW_CACHE_RESULT_MISS << 16);
    const char *cycles = probe_counter(PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES);
    const char *dtlb = probe_counter(PERF_TYPE_HW_CACHE, dtlb_misses);

    return json_pack("{s:b, s:b, s:s}", "cycles", !*cycles, "dtlb_misses", !*dtlb, "why",
                     *cycles ? cycles : dtlb);
}

json_t *info_devices(void)
{
    return json_pack("{s:i, s:b, s:b, s:o}", "iommu_groups", iommu_groups(), "vfio",
                     (int)exists("/dev/vfio/vfio"), "iommufd", (int)exists("/dev/iommu"), "pmu",
                     pmu_json());
}
