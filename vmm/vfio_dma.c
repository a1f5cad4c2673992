#include "vmm/vfio_dma.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- what is asked for ------------------------------------------------------------------------ */

static int bad_range(const char *name, uint64_t gpa, uint64_t size, const char *why,
                     struct error *err)
{
    return error_set(err, -EINVAL, "--vfio %s: iova=0x%" PRIx64 "-0x%" PRIx64 " %s", name, gpa,
                     gpa + size, why);
}

/* As memory_create() lays RAM out. */
static bool is_ram(uint64_t ram, uint64_t at, uint64_t size)
{
    uint64_t low = ram < MEMORY_HOLE_START ? ram : MEMORY_HOLE_START, high = ram - low;

    if (at >= MEMORY_HOLE_END)
        return at - MEMORY_HOLE_END < high && size <= high - (at - MEMORY_HOLE_END);
    return at < low && size <= low - at;
}

int vfio_dma_check(const struct device_config *cfg, uint64_t ram, struct error *err)
{
    for (size_t i = 0; i < cfg->ranges; i++) {
        uint64_t at = cfg->range[i].gpa, size = cfg->range[i].size;

        if ((at | size) & (PAGE_SIZE_4K - 1))
            return bad_range(cfg->path, at, size, "does not begin and end with a page of 4 KiB",
                             err);
        if (size == 0 || !is_ram(ram, at, size))
            return bad_range(cfg->path, at, size, "is not RAM of the guest as a whole", err);
        for (size_t n = 0; n < i; n++)
            if (at < cfg->range[n].gpa + cfg->range[n].size && cfg->range[n].gpa < at + size)
                return bad_range(cfg->path, at, size, "overlaps another one", err);
    }
    return 0;
}

/*
 * VFIO pins by the kernel's own look at the page tables, which can't wait for a fault thread: it
 * fails at the first page that is not there. And pinning would bring all pages at once anyway.
 */
static int lazy_check(const char *name, struct vfio_span s, struct pages *pages, struct error *err)
{
    struct pages_range r;

    for (size_t i = 0; pages_range(pages, i, &r); i++)
        if ((r.managed || r.policy == POPULATE_LAZY) && r.base.v <= s.last &&
            r.base.v + r.size > s.first)
            return error_set(err, -EINVAL,
                             "--vfio %s: the device may reach memory at 0x%" PRIx64
                             " any time, so that it can't come by --populate lazy: use kernel or "
                             "eager there, or iova=RANGE for other memory",
                             name, r.base.v > s.first ? r.base.v : s.first);
    return 0;
}

int vfio_dma_ranges(struct vfio_container *c, const char *name, const struct device_config *cfg,
                    const struct memory *mem, struct pages *pages, struct error *err)
{
    size_t count;
    const struct mem_slot *slot = memory_slots(mem, &count);
    int rc = vfio_dma_check(cfg, memory_size(mem), err);

    if (rc < 0)
        return rc;
    for (size_t i = 0; i < cfg->ranges; i++)
        c->range[i] = (struct vfio_span){ .first = cfg->range[i].gpa,
                                          .last = cfg->range[i].gpa + cfg->range[i].size - 1 };
    c->ranges = cfg->ranges;
    for (size_t i = 0; rc == 0 && i < c->ranges; i++)
        rc = lazy_check(name, c->range[i], pages, err);
    for (size_t i = 0; rc == 0 && c->ranges == 0 && i < count; i++)
        rc = lazy_check(name,
                        (struct vfio_span){ slot[i].base.v, slot[i].base.v + slot[i].size - 1 },
                        pages, err);
    return rc;
}

bool vfio_dma_same(const struct vfio_container *a, const struct vfio_container *b)
{
    bool same = a->ranges == b->ranges;

    for (size_t i = 0; same && i < a->ranges; i++) {
        bool found = false;

        for (size_t n = 0; n < b->ranges; n++)
            found |= a->range[i].first == b->range[n].first && a->range[i].last == b->range[n].last;
        same = found;
    }
    return same;
}

/* --- may it ------------------------------------------------------------------------------------
 */

static bool may_lock_all(void)
{
    struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { { 0 } };

    return syscall(SYS_capget, &head, data) == 0 && data[0].effective & 1u << CAP_IPC_LOCK;
}

/* Bytes that count against RLIMIT_MEMLOCK already: --lock, and other containers. */
static uint64_t locked_now(void)
{
    FILE *f = fopen("/proc/self/status", "re");
    unsigned long long kib = 0;
    char line[128];

    if (!f)
        return 0;
    while (fgets(line, sizeof(line), f) && sscanf(line, "VmLck: %llu", &kib) != 1)
        ;
    (void)fclose(f);
    return (uint64_t)kib << 10;
}

static int limit_check(uint64_t bytes, struct error *err)
{
    uint64_t need = bytes + locked_now();
    struct rlimit limit;

    if (may_lock_all() || getrlimit(RLIMIT_MEMLOCK, &limit) < 0 ||
        limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= need)
        return 0;
    return error_set(err, -EPERM,
                     "--vfio pins the memory that a device may reach, and needs a limit on locked "
                     "memory of %" PRIu64 " KiB; it is %" PRIu64 " KiB: raise it with 'ulimit -l "
                     "%" PRIu64 "', or be root",
                     (need + 1023) >> 10, (uint64_t)limit.rlim_cur >> 10, (need + 1023) >> 10);
}

/* The IOMMU keeps some addresses for itself: the window of MSIs, and what firmware uses. */
static int iova_check(const struct vfio_container *c, struct vfio_span s, struct error *err)
{
    for (size_t i = 0; i < c->iovas; i++)
        if (s.first >= c->iova[i].first && s.last <= c->iova[i].last)
            return 0;
    if (c->iovas == 0)
        return 0;
    return error_set(err, -ENOTSUP,
                     "--vfio: the IOMMU can't map all of guest memory from 0x%" PRIx64 " to "
                     "0x%" PRIx64 ": this machine reserves a part of these addresses; give "
                     "iova=RANGE without it, see reserved_regions of the device's iommu_group",
                     s.first, s.last);
}

/* --- mapping ------------------------------------------------------------------------------------
 */

static int map_one(struct vfio_container *c, struct memory *mem, struct vfio_span s,
                   const struct mem_slot *slot, struct error *err)
{
    struct vfio_iommu_type1_dma_map map = {
        .argsz = sizeof(map),
        .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
        .vaddr = (uintptr_t)slot->host + (s.first - slot->base.v),
        .iova = s.first,
        .size = s.last - s.first + 1,
    };

    if (c->maps == VFIO_MAPS_MAX)
        return error_set(err, -E2BIG, "--vfio: too many ranges");
    /* Before it is true: nobody may move a page while VFIO looks at it. */
    (void)memory_pin(mem, gpa(s.first));
    if (ioctl(c->fd, VFIO_IOMMU_MAP_DMA, &map) < 0) {
        int code = -errno;

        (void)memory_unpin(mem, gpa(s.first));
        return error_set(err, error_of_kernel(code),
                         "--vfio: guest memory from 0x%" PRIx64 " to 0x%" PRIx64
                         " can't be mapped for the device: %s",
                         s.first, s.last, strerror(-code));
    }
    c->map[c->maps++] = s;
    return 0;
}

/* The parts of RAM to map, in `out`: their number. */
static size_t parts_of(const struct vfio_container *c, const struct mem_slot *slot, size_t slots,
                       struct vfio_span *out, const struct mem_slot **of)
{
    size_t n = 0;

    for (size_t i = 0; i < slots; i++) {
        struct vfio_span all = { slot[i].base.v, slot[i].base.v + slot[i].size - 1 };

        for (size_t r = 0; r < c->ranges; r++) {
            if (c->range[r].first > all.last || c->range[r].last < all.first)
                continue;
            out[n] = c->range[r]; /* inside: slots don't touch each other */
            of[n++] = &slot[i];
        }
        if (c->ranges == 0) {
            out[n] = all;
            of[n++] = &slot[i];
        }
    }
    return n;
}

int vfio_dma_map(struct vfio_container *c, struct memory *mem, struct error *err)
{
    struct vfio_span part[VFIO_MAPS_MAX];
    const struct mem_slot *of[VFIO_MAPS_MAX];
    size_t count, n;
    const struct mem_slot *slot = memory_slots(mem, &count);
    uint64_t bytes = 0;
    int rc = 0;

    n = parts_of(c, slot, count, part, of);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        bytes += part[i].last - part[i].first + 1;
        rc = iova_check(c, part[i], err);
    }
    if (rc == 0 && c->maps_left_known && c->maps_left < n)
        rc = error_set(err, -ENOSPC,
                       "--vfio: VFIO allows %" PRIu32 " more mappings, and %zu are needed: see "
                       "dma_entry_limit of vfio_iommu_type1",
                       c->maps_left, n);
    if (rc == 0)
        rc = limit_check(bytes, err);
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = map_one(c, mem, part[i], of[i], err);
    return rc;
}

void vfio_dma_unmap(struct vfio_container *c, struct memory *mem)
{
    while (c->maps > 0) {
        struct vfio_span s = c->map[--c->maps];
        struct vfio_iommu_type1_dma_unmap unmap = {
            .argsz = sizeof(unmap),
            .iova = s.first,
            .size = s.last - s.first + 1,
        };

        /* Fails only for what is not mapped. */
        (void)ioctl(c->fd, VFIO_IOMMU_UNMAP_DMA, &unmap);
        (void)memory_unpin(mem, gpa(s.first));
    }
}
