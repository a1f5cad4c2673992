#include "vmm/hugepages.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ept/addr.h"

#define POOL_PATH "/sys/kernel/mm/hugepages/hugepages-%" PRIu64 "kB/%s"

static int pool_value(uint64_t page, const char *name, uint64_t *out)
{
    char path[128];
    FILE *file;
    int got;

    (void)snprintf(path, sizeof(path), POOL_PATH, page >> 10, name);
    file = fopen(path, "re");
    if (!file)
        return -ENOENT;
    got = fscanf(file, "%" SCNu64, out);
    (void)fclose(file);
    return got == 1 ? 0 : -ENOENT;
}

int hugepages_read(uint64_t page, struct hugepages *out)
{
    memset(out, 0, sizeof(*out));
    if (pool_value(page, "nr_hugepages", &out->total) < 0 ||
        pool_value(page, "free_hugepages", &out->free) < 0 ||
        pool_value(page, "resv_hugepages", &out->reserved) < 0)
        return -ENOENT;
    return 0;
}

const char *hugepages_size_name(uint64_t page)
{
    switch (page) {
    case PAGE_SIZE_2M:
        return "2 MiB";
    case PAGE_SIZE_1G:
        return "1 GiB";
    default:
        return "4 KiB";
    }
}

int hugepages_missing(int code, uint64_t bytes, uint64_t page, struct error *err)
{
    const char *size = hugepages_size_name(page);
    struct hugepages pool;
    uint64_t need = bytes / page, have, missing;
    char path[128];

    if (hugepages_read(page, &pool) < 0)
        return error_set(err, code,
                         "%" PRIu64 " huge pages of %s are needed, and this host has none of "
                         "that size: use --backing thp",
                         need, size);
    have = pool.free > pool.reserved ? pool.free - pool.reserved : 0;
    if (have >= need)
        return error_set(err, code, "can't map %" PRIu64 " huge pages of %s: %s", need, size,
                         strerror(-code));
    missing = need - have;
    (void)snprintf(path, sizeof(path), POOL_PATH, page >> 10, "nr_hugepages");
    return error_set(err, code,
                     "huge pages of %s: %" PRIu64 " needed, %" PRIu64 " free, %" PRIu64
                     " missing: echo %" PRIu64 " > %s, as root%s",
                     size, need, have, missing, pool.total + missing, path,
                     page == PAGE_SIZE_1G ? " (or boot with hugepagesz=1G hugepages=N)" : "");
}
