#include "vmm/memory_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <linux/memfd.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/hugepages.h"

/* KVM refuses a slot of 2^31 pages or more (KVM_MEM_MAX_NR_PAGES). */
#define SLOT_BYTES_MAX (((UINT64_C(1) << 31) - 1) << PAGE_SHIFT_4K)

static const struct {
    const char *name;
    uint64_t page;
} backings[] = {
    [MEM_ANON] = { "anon", PAGE_SIZE_4K },
    [MEM_THP] = { "thp", PAGE_SIZE_4K },
    [MEM_MEMFD] = { "memfd", PAGE_SIZE_4K },
    [MEM_HUGETLB_2M] = { "hugetlb-2m", PAGE_SIZE_2M },
    [MEM_HUGETLB_1G] = { "hugetlb-1g", PAGE_SIZE_1G },
};

#define BACKINGS (sizeof(backings) / sizeof(backings[0]))

const char *mem_backing_name(enum mem_backing b)
{
    return (size_t)b < BACKINGS ? backings[b].name : NULL;
}

int mem_backing_parse(const char *name, enum mem_backing *out, struct error *err)
{
    for (size_t i = 0; i < BACKINGS; i++) {
        if (strcmp(name, backings[i].name) == 0) {
            *out = (enum mem_backing)i;
            return 0;
        }
    }
    return error_set(err, -EINVAL,
                     "backing '%s' is unknown: use anon, thp, memfd, hugetlb-2m or hugetlb-1g",
                     name);
}

uint64_t mem_backing_page(enum mem_backing b)
{
    return (size_t)b < BACKINGS ? backings[b].page : PAGE_SIZE_4K;
}

static int size_check(uint64_t bytes, enum mem_backing backing, struct error *err)
{
    uint64_t page = mem_backing_page(backing);

    if ((size_t)backing >= BACKINGS)
        return error_set(err, -EINVAL, "memory backing %d is unknown", (int)backing);
    if (bytes == 0)
        return error_set(err, -EINVAL, "0 bytes of guest memory: a guest needs some");
    if (bytes % page)
        return error_set(err, -EINVAL,
                         "%" PRIu64 " bytes of guest memory are not a multiple of the %s page "
                         "of backing %s",
                         bytes, hugepages_size_name(page), mem_backing_name(backing));
    if (bytes > SIZE_MAX / 2 || bytes > MEMORY_HOLE_START + SLOT_BYTES_MAX)
        return error_set(err, -EINVAL,
                         "%" PRIu64 " MiB of guest memory are more than KVM maps: at most "
                         "%" PRIu64 " MiB",
                         bytes >> 20, (MEMORY_HOLE_START + SLOT_BYTES_MAX) >> 20);
    return 0;
}

/* The file behind shared backings: pages can be made in it without a mapping. -1: none is needed.
 */
static int backing_fd(size_t bytes, enum mem_backing backing, int *fd)
{
    uint64_t page = mem_backing_page(backing);
    unsigned flags = MFD_CLOEXEC;

    *fd = -1;
    if (backing == MEM_ANON || backing == MEM_THP)
        return 0;
    if (page != PAGE_SIZE_4K)
        flags |= MFD_HUGETLB | (unsigned)__builtin_ctzll(page) << MFD_HUGE_SHIFT;
    *fd = memfd_create("twofold-ram", flags);
    if (*fd >= 0 && ftruncate(*fd, (off_t)bytes) == 0)
        return 0;
    return -errno;
}

/* Maps RAM at `at`, inside of the reservation; *fd is what is behind it, or -1. Returns 0 or
 * -errno, without a sentence. */
static int map_backing(uint8_t *at, size_t bytes, enum mem_backing backing, int *fd)
{
    int rc = backing_fd(bytes, backing, fd);
    int flags = MAP_FIXED | (*fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);

    if (rc < 0)
        return rc;
    if (mmap(at, bytes, PROT_READ | PROT_WRITE, flags, *fd, 0) == MAP_FAILED ||
        (backing == MEM_THP && madvise(at, bytes, MADV_HUGEPAGE) < 0))
        return -errno;
    if (backing == MEM_ANON)
        /* Fails only where the kernel knows no huge pages, which is what is asked for. */
        (void)madvise(at, bytes, MADV_NOHUGEPAGE);
    return 0;
}

static int map_failed(int rc, uint64_t bytes, enum mem_backing backing, struct error *err)
{
    if (mem_backing_page(backing) != PAGE_SIZE_4K)
        return hugepages_missing(rc, bytes, mem_backing_page(backing), err);
    if (backing == MEM_THP && rc == -EINVAL)
        return error_set(err, rc,
                         "backing thp: this kernel has no transparent huge pages: use --backing "
                         "anon");
    if (rc == -ENOMEM)
        return error_set(err, rc,
                         "%" PRIu64 " MiB of guest memory (%s) are more than this host can give: "
                         "ask for less, or see vm.overcommit_memory and ulimit -v",
                         bytes >> 20, mem_backing_name(backing));
    return error_set(err, rc, "can't map %" PRIu64 " MiB of guest memory (%s): %s", bytes >> 20,
                     mem_backing_name(backing), strerror(-rc));
}

static void slots_fill(struct memory *mem, uint8_t *host, enum mem_backing backing)
{
    uint64_t low = mem->bytes < MEMORY_HOLE_START ? mem->bytes : MEMORY_HOLE_START;

    mem->slot[0] = (struct mem_slot){
        .base = gpa(0), .size = low, .host = host, .backing = backing, .fd = mem->fd
    };
    mem->count = 1;
    if (mem->bytes == low)
        return;
    mem->slot[1] = (struct mem_slot){ .base = gpa(MEMORY_HOLE_END),
                                      .size = mem->bytes - low,
                                      .host = host + low,
                                      .backing = backing,
                                      .fd = mem->fd,
                                      .fd_offset = low };
    mem->count = 2;
}

int memory_create(struct memory **out, uint64_t bytes, enum mem_backing backing, struct error *err)
{
    uint64_t align = bytes >= PAGE_SIZE_1G ? PAGE_SIZE_1G : PAGE_SIZE_2M;
    struct memory *mem;
    uintptr_t start;
    int rc = size_check(bytes, backing, err);

    *out = NULL;
    if (rc < 0)
        return rc;
    mem = calloc(1, sizeof(*mem));
    if (!mem)
        return error_set(err, -ENOMEM, "no memory for the guest's memory table");

    mem->fd = -1;
    mem->bytes = bytes;
    mem->reserved_bytes = (size_t)(bytes + 2 * align);
    mem->reserved = mmap(NULL, mem->reserved_bytes, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mem->reserved == MAP_FAILED) {
        rc = map_failed(-ENOMEM, bytes, MEM_ANON, err);
        goto fail;
    }
    /* At least one page of the reservation stays in front, and one behind. */
    start = ((uintptr_t)mem->reserved + PAGE_SIZE_4K + align - 1) & ~(uintptr_t)(align - 1);
    rc = map_backing((uint8_t *)start, (size_t)bytes, backing, &mem->fd);
    if (rc < 0) {
        (void)munmap(mem->reserved, mem->reserved_bytes);
        rc = map_failed(rc, bytes, backing, err);
        goto fail;
    }
    slots_fill(mem, (uint8_t *)start, backing);
    *out = mem;
    return 0;

fail:
    if (mem->fd >= 0)
        (void)close(mem->fd);
    free(mem);
    return rc;
}

void memory_destroy(struct memory *mem)
{
    if (!mem)
        return;
    (void)munmap(mem->reserved, mem->reserved_bytes);
    if (mem->fd >= 0)
        (void)close(mem->fd);
    free(mem);
}

static int slots_set(const struct memory *mem, int vm_fd, uint32_t flags, struct error *err)
{
    for (size_t i = 0; i < mem->count; i++) {
        const struct mem_slot *slot = &mem->slot[i];
        struct kvm_userspace_memory_region region = {
            .slot = (uint32_t)i,
            .flags = flags,
            .guest_phys_addr = slot->base.v,
            .memory_size = slot->size,
            .userspace_addr = (uintptr_t)slot->host,
        };

        if (ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
            return error_set(err, -errno,
                             "KVM refuses %" PRIu64 " MiB of guest memory at 0x%" PRIx64 ": %s",
                             slot->size >> 20, slot->base.v, strerror(errno));
    }
    return 0;
}

int memory_register(struct memory *mem, int vm_fd, struct error *err)
{
    return slots_set(mem, vm_fd, 0, err);
}

int memory_log_dirty(struct memory *mem, int vm_fd, bool on, struct error *err)
{
    struct error ignored;
    int rc = slots_set(mem, vm_fd, on ? KVM_MEM_LOG_DIRTY_PAGES : 0, err);

    if (rc < 0)
        (void)slots_set(mem, vm_fd, 0, &ignored);
    return rc;
}

void memory_unregister(struct memory *mem, int vm_fd)
{
    for (size_t i = 0; i < mem->count; i++) {
        struct kvm_userspace_memory_region region = { .slot = (uint32_t)i };

        (void)ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION, &region);
    }
}

const struct mem_slot *memory_slots(const struct memory *mem, size_t *count)
{
    *count = mem->count;
    return mem->slot;
}

int memory_file(const struct memory *mem)
{
    return mem->fd;
}

uint64_t memory_size(const struct memory *mem)
{
    return mem->bytes;
}

/* One load while nothing is guarded, which is nearly always. */
static bool shut(const struct memory *mem, gpa_t at, uint64_t len)
{
    return __builtin_expect(__atomic_load_n(&mem->guards, __ATOMIC_RELAXED) != 0, 0) &&
           memory_guarded(mem, at, len);
}

void *memory_at(const struct memory *mem, gpa_t at, uint64_t len)
{
    if (len == 0)
        return NULL;
    for (size_t i = 0; i < mem->count; i++) {
        const struct mem_slot *slot = &mem->slot[i];
        uint64_t offset = at.v - slot->base.v; /* huge when `at` is below the slot */

        if (offset < slot->size && len <= slot->size - offset)
            return shut(mem, at, len) ? NULL : slot->host + offset;
    }
    return NULL;
}

/*
 * The longest run from `at` within one slot, at most `len`. Returns its hva and
 * shortens *len, or NULL when `at` is no RAM.
 */
static uint8_t *run_at(const struct memory *mem, gpa_t at, uint64_t *len)
{
    for (size_t i = 0; i < mem->count; i++) {
        const struct mem_slot *slot = &mem->slot[i];
        uint64_t offset = at.v - slot->base.v;

        if (offset >= slot->size)
            continue;
        if (*len > slot->size - offset)
            *len = slot->size - offset;
        return slot->host + offset;
    }
    return NULL;
}

uint64_t memory_run(const struct memory *mem, gpa_t at, uint64_t len)
{
    uint64_t done = 0;

    while (done < len) {
        uint64_t run = len - done;

        if (!run_at(mem, gpa(at.v + done), &run))
            break;
        done += run;
    }
    return done;
}

/* True when all of [at, at + len) is RAM and open, in as many slots as it takes. */
static bool all_open(const struct memory *mem, gpa_t at, uint64_t len)
{
    return !shut(mem, at, len) && memory_run(mem, at, len) == len;
}

/* After the write: who reads the bit and then the page misses nothing. */
static void note(const struct memory *mem, const uint8_t *to, uint64_t len)
{
    uint64_t *log = atomic_load_explicit(&mem->log, memory_order_acquire);
    uint64_t first = (uint64_t)(to - mem->slot[0].host) >> PAGE_SHIFT_4K;
    uint64_t last = (uint64_t)(to + len - 1 - mem->slot[0].host) >> PAGE_SHIFT_4K;

    for (uint64_t page = first; log && page <= last; page++)
        (void)__atomic_fetch_or(&log[page / 64], UINT64_C(1) << page % 64, __ATOMIC_RELEASE);
}

void memory_note_writes(struct memory *mem, uint64_t *bitmap)
{
    atomic_store_explicit(&mem->log, bitmap, memory_order_release);
}

void memory_wrote(const struct memory *mem, gpa_t at, uint64_t len)
{
    const uint8_t *to = memory_at(mem, at, len);

    if (to)
        note(mem, to, len);
}

int memory_read(const struct memory *mem, gpa_t at, void *buf, uint64_t len)
{
    uint8_t *to = buf;

    if (!all_open(mem, at, len))
        return -EFAULT;
    while (len > 0) {
        uint64_t run = len;
        const uint8_t *from = run_at(mem, at, &run);

        memcpy(to, from, run);
        to += run;
        at.v += run;
        len -= run;
    }
    return 0;
}

int memory_write(const struct memory *mem, gpa_t at, const void *buf, uint64_t len)
{
    const uint8_t *from = buf;

    if (!all_open(mem, at, len))
        return -EFAULT;
    while (len > 0) {
        uint64_t run = len;
        uint8_t *to = run_at(mem, at, &run);

        memcpy(to, from, run);
        note(mem, to, run);
        from += run;
        at.v += run;
        len -= run;
    }
    return 0;
}
