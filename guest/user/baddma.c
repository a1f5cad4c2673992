/*
 * baddma: SYS_DMA with what it has to refuse, on a machine with the test device behind an IOMMU.
 * The device and the kernel must still work afterwards, and no page be lost.
 */
#include "guest/user/lib/dma.h"

#define KERNEL_HALF 0xffff880000000000ul
#define USER_LAST   0x00007ffffffff000ul /* the page that nobody may have */
#define RW          (SYS_DMA_READ | SYS_DMA_WRITE)

static uint8_t *page;      /* a page, and a hole behind it */
static uint64_t read_only; /* a page */
static struct sys_dma_info info;

static void expect(long got, long want, const char *what, uint64_t arg)
{
    check(got == want, "%s (0x%lx): %ld, expected %ld", what, arg, got, want);
}

static long call(enum sys_dma_op op, unsigned flags, uint64_t addr, uint64_t len, uint64_t iova,
                 uint64_t value)
{
    struct sys_dma a = {
        .op = op, .flags = flags, .addr = addr, .len = len, .iova = iova, .value = value
    };

    return sys_dma(&a);
}

static void test_pointers(void)
{
    const uint64_t bad[] = { 0,           (uint64_t)page + PAGE_SIZE,
                             KERNEL_HALF, USER_LAST,
                             1ul << 63,   UINT64_MAX - 7,
                             read_only,   KERNEL_HALF + 0x200000 };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint64_t p = bad[i];

        expect(sys_dma((void *)p), -EFAULT, "the call's own structure", p);
        expect(call(SYS_DMA_INFO, 0, p, sizeof(info), 0, 0), -EFAULT, "info", p);
        expect(call(SYS_DMA_MAP, RW, p, 64, 0, 0), -EFAULT, "map", p);
        expect(call(SYS_DMA_PEEK, 0, p, 64, info.ram_end - PAGE_SIZE, 0), -EFAULT, "peek", p);
        if (p != read_only)
            expect(call(SYS_DMA_GPA, 0, p, 0, 0, 0), -EFAULT, "gpa", p);
        if (p % PAGE_SIZE == 0)
            expect(call(SYS_DMA_PLACE, 0, p, 1 << 20, 0x1000000, 0), -EFAULT, "place", p);
    }
    expect(call(SYS_DMA_MAP, SYS_DMA_READ, (uint64_t)page + 8, PAGE_SIZE, 0, 0), -EFAULT,
           "map beyond the page", 8);
    expect(call(SYS_DMA_MAP, RW, (uint64_t)test_pointers, 8, 0, 0), -EFAULT,
           "map the text for writing", 0);
}

static void test_maps(void)
{
    uint64_t iova = 0, other, p = (uint64_t)page;

    expect(call(SYS_DMA_MAP, RW, p, 0, 0, 0), -EINVAL, "map nothing", 0);
    expect(call(SYS_DMA_MAP, 0, p, 64, 0, 0), -EINVAL, "map without a right", 0);
    expect(call(SYS_DMA_MAP, 1u << 31 | RW, p, 64, 0, 0), -EINVAL, "map with an unknown flag", 0);
    expect(call(SYS_DMA_MAP, RW, p, UINT64_MAX, 0, 0), -EFAULT, "map 2^64 bytes", 0);
    expect(call(SYS_DMA_MAP, RW, p, 1ul << 46, 0, 0), -E2BIG, "map 64 TiB", 0);
    expect(call(SYS_DMA_MAP, RW | SYS_DMA_AT, p, 64, 0, 0), -EINVAL, "map at 0", 0);
    expect(call(SYS_DMA_MAP, RW | SYS_DMA_AT, p, 64, p + 1, 0), -EINVAL, "map askew", 0);
    expect(call(SYS_DMA_MAP, RW | SYS_DMA_AT, p, 64, -PAGE_SIZE, 0), -EINVAL, "map at the end", 0);
    expect(call(SYS_DMA_MAP, RW | SYS_DMA_AT, p, 64, info.msi_addr & -PAGE_SIZE, 0), -EINVAL,
           "map where interrupts are", info.msi_addr);
    expect(dma_unmap(0x123456000), -EINVAL, "unmap what was never mapped", 0);
    expect(dma_map(page, 64, RW, &iova), 0, "map", p);
    expect(call(SYS_DMA_MAP, RW | SYS_DMA_AT, p, 64, iova, 0), -EEXIST, "map over it", iova);
    other = iova;
    expect(dma_unmap(iova + PAGE_SIZE), -EINVAL, "unmap beside it", iova);
    expect(dma_unmap(iova), 0, "unmap", iova);
    expect(dma_unmap(iova), -EINVAL, "unmap twice", iova);
    iova = 0;
    expect(dma_map(page, 64, RW, &iova), 0, "map again", p);
    check(iova != other, "an iova was used again at once: 0x%lx", iova);
    expect(dma_unmap(iova), 0, "unmap", iova);
}

static void test_numbers(void)
{
    struct sys_dma_fault fault;

    expect(call(1000, 0, 0, 0, 0, 0), -EINVAL, "an unknown operation", 1000);
    expect(call(-1, 0, 0, 0, 0, 0), -EINVAL, "operation -1", 0);
    expect(call(SYS_DMA_INFO, 0, (uint64_t)&info, 8, 0, 0), -EINVAL, "a short info", 8);
    expect(call(SYS_DMA_IDENTITY, 2, 0, 0, 0, 0), -EINVAL, "identity with an unknown flag", 2);
    expect(dma_transfer(0x1000, 0, 0, 0), -EINVAL, "a transfer of nothing", 0);
    expect(dma_transfer(0x1000, TF_EDU_BYTES + 1, 0, 0), -EINVAL, "a long transfer", 0);
    expect(dma_transfer(0x1000, 2, 0, TF_EDU_BYTES - 1), -EINVAL, "over the buffer's end", 0);
    expect(dma_transfer(0x1000, 2, 0, UINT64_MAX), -EINVAL, "an offset that wraps", 0);
    expect(dma_transfer(0x1000, UINT64_MAX, 0, 2), -EINVAL, "a length that wraps", 0);
    expect(dma_transfer(0x1000, 2, SYS_DMA_OWN_MEMORY, info.device_bytes), -EINVAL,
           "over its memory's end", info.device_bytes);
    expect(dma_transfer(0x1000, 2, 8, 0), -EINVAL, "a transfer with an unknown flag", 8);
    expect(dma_transfer(UINT64_MAX - 1, 8, 0, 0), TF_EDU_FAULT, "an iova that wraps", 0);
    expect(call(SYS_DMA_RAISE, 0, 0, 0, 0, 0), -EINVAL, "an interrupt of no bits", 0);
    expect(call(SYS_DMA_RAISE, 0, 0, 0, 0, 1ul << 32), -EINVAL, "bit 32", 0);
    expect(call(SYS_DMA_COMPUTE, 0, 0, 0, 0, 1ul << 32), -EINVAL, "the factorial of 2^32", 0);
    expect(call(SYS_DMA_LIVE, 0, 0, 0, 0, 1ul << 32), -EINVAL, "liveness of 2^32", 0);
    expect(call(SYS_DMA_PEEK, 0, (uint64_t)page, PAGE_SIZE + 1, 0x1000000, 0), -EINVAL,
           "peek at more than a page", 0);
    expect(call(SYS_DMA_PEEK, 0, (uint64_t)page, 8, info.nowhere, 0), -EINVAL, "peek at no RAM", 0);
    expect(call(SYS_DMA_PEEK, 0, (uint64_t)page, 16, info.ram_end - 8, 0), -EINVAL,
           "peek over the end", 0);
    expect(call(SYS_DMA_PEEK, 0, (uint64_t)page, 8, UINT64_MAX - 3, 0), -EINVAL, "a gpa that wraps",
           0);
    expect(call(SYS_DMA_PLACE, 0, (uint64_t)page, UINT64_MAX, 2, 0), -EINVAL, "a window that wraps",
           0);
    expect(call(SYS_DMA_PLACE, 0, (uint64_t)page, PAGE_SIZE, info.nowhere, 0), -EINVAL,
           "a window without RAM", info.nowhere);
    expect(dma_fault(UINT64_MAX, &fault), 0, "the fault behind the last", 0);
}

static void test_shared(void)
{
    struct sys_dma a = { .op = SYS_DMA_SHARE, .len = 2 * PAGE_SIZE };
    struct sys_dma_shared s;

    expect(call(SYS_DMA_UNSHARE, 0, 0, 0, 0, 0), -EINVAL, "unshare what isn't shared", 0);
    expect(call(SYS_DMA_SHARED, 0, (uint64_t)&s, sizeof(s), 0, 0), -EINVAL, "counters of none", 0);
    expect(call(SYS_DMA_SHARE, 0, 0, 0, 0, 0), -EINVAL, "share nothing", 0);
    expect(call(SYS_DMA_SHARE, 0, 0, 100, 0, 0), -EINVAL, "share a part of a page", 100);
    expect(call(SYS_DMA_SHARE, 0, 0, 1ul << 40, 0, 0), -EINVAL, "share 1 TiB", 0);
    expect(sys_dma(&a), 0, "share", 0);
    expect(call(SYS_DMA_SHARE, 0, 0, PAGE_SIZE, 0, 0), -EBUSY, "share twice", 0);
    expect(call(SYS_DMA_SHARED, 0, (uint64_t)&s, 8, 0, 0), -EINVAL, "short counters", 8);
    expect(call(SYS_DMA_MAP, RW, a.addr, 64, 0, 0), -EBUSY, "map what is shared", a.addr);
    expect(sys_munmap(a.addr, PAGE_SIZE), -EBUSY, "munmap of what is shared", a.addr);
    expect(sys_mprotect(a.addr, PAGE_SIZE, SYS_PROT_READ), -EACCES, "mprotect of it", a.addr);
    expect(dma_transfer(a.iova + 2 * PAGE_SIZE, 8, SYS_DMA_PAGE_REQUESTS, 0), TF_EDU_REFUSED,
           "a page request behind its end", a.iova);
    expect(dma_transfer(a.iova, 8, SYS_DMA_PAGE_REQUESTS, 0), 0, "a page request", a.iova);
    /* The kernel takes back what it needs of a program's memory, like the program itself. */
    expect(call(SYS_DMA_INFO, 0, a.addr, sizeof(info), 0, 0), 0, "info to a page of the device's",
           a.addr);
}

/* A child that ends with memory given to the device, and shared: all of it comes back. */
static void test_ends(void)
{
    struct sys_status status;
    uint64_t free_before = info_general().mem_free, iova = 0;
    long pid = fork_flushed(SYS_QUIET);

    if (pid == 0) {
        uint8_t *mine = map_pages(16 * PAGE_SIZE, PAGE_SIZE);

        test_shared();
        expect(dma_map(mine, 16 * PAGE_SIZE, RW, &iova), 0, "map", 0);
        expect(dma_identity(true), 0, "identity", 0);
        expect(dma_transfer(iova, 8, 0, 0), 0, "transfer", iova);
        exit(check_end());
    }
    status = wait_for(pid);
    check(status.code == 0, "the child ended with %d", status.code);
    expect(dma_identity(true), 0, "identity, which the child had", 0);
    expect(dma_identity(false), 0, "no identity", 0);
    expect(call(SYS_DMA_SHARED, 0, (uint64_t)page, PAGE_SIZE, 0, 0), -EINVAL, "the child's range",
           0);
    check(info_general().mem_free + 4 * PAGE_SIZE >= free_before, "%lu bytes were lost",
          free_before - info_general().mem_free);
}

/* Uses the device, and shared memory, until it is killed. */
static void never_end(void)
{
    struct sys_dma a = { .op = SYS_DMA_SHARE, .len = 2 * PAGE_SIZE };
    uint64_t iova = 0;

    if (sys_dma(&a) < 0 || a.addr == 0 || dma_map(page, PAGE_SIZE, RW, &iova) < 0)
        exit(1);
    for (;;) {
        (void)dma_transfer(a.iova, 64, SYS_DMA_PAGE_REQUESTS, 0);
        (void)dma_transfer(iova, 64, SYS_DMA_TO_MEMORY, 0);
        *(volatile uint64_t *)a.addr += 1;
    }
}

/* Killed in the middle of whatever it did: the device is free again, and so is all of its memory.
 */
static void test_kills(void)
{
    uint64_t free_before = info_general().mem_free, iova = 0, seed = 3;

    for (int i = 0; i < 20; i++) {
        long pid = fork_flushed(SYS_QUIET);
        struct sys_status status;

        if (pid == 0)
            never_end();
        sys_sleep(next_random(&seed) % 30000000);
        sys_kill(pid);
        status = wait_for(pid);
        check(status.code == SYS_CODE_KILLED, "round %d: the child ended with %d", i, status.code);
    }
    expect(dma_map(page, 64, RW, &iova), 0, "map", 0);
    expect(dma_transfer(iova, 64, SYS_DMA_TO_MEMORY, 0), 0, "transfer", iova);
    expect(dma_unmap(iova), 0, "unmap", iova);
    check(info_general().mem_free + 8 * PAGE_SIZE >= free_before, "%lu bytes were lost",
          free_before - info_general().mem_free);
}

int main(void)
{
    if (dma_info(&info) < 0 || !info.translated || !info.device_bytes)
        die(2, "it takes twofold's test device behind an IOMMU: --edu --iommu");
    read_only = (uint64_t)map_pages(PAGE_SIZE, PAGE_SIZE);
    check(sys_mprotect(read_only, PAGE_SIZE, SYS_PROT_READ) == 0, "mprotect to read-only");
    page = map_pages(2 * PAGE_SIZE, PAGE_SIZE);
    sys_munmap((uint64_t)page + PAGE_SIZE, PAGE_SIZE);
    test_pointers();
    test_maps();
    test_numbers();
    test_ends();
    test_ends();
    test_kills();
    return check_end();
}
