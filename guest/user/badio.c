/*
 * badio: the calls for devices with what they have to refuse, on a machine with a disk that takes
 * writes and a random number generator. The devices must still work afterwards.
 */
#include "guest/user/lib/lib.h"

#define KERNEL_HALF  0xffff880000000000ul
#define KERNEL_IMAGE 0xffffffff80200000ul
#define USER_LAST    0x00007ffffffff000ul /* the page that nobody may have */
#define SECTOR       SYS_SECTOR_SIZE

static uint8_t *buf;       /* a page, and a hole behind it */
static uint64_t read_only; /* a page */
static uint64_t sectors;

static void expect(long got, long want, const char *what, uint64_t arg)
{
    check(got == want, "%s (0x%lx): %ld, expected %ld", what, arg, got, want);
}

static void test_pointers(void)
{
    const uint64_t bad[] = {
        0,         (uint64_t)buf + PAGE_SIZE, KERNEL_HALF, KERNEL_IMAGE, USER_LAST,
        1ul << 63, -(uint64_t)SECTOR,
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        void *p = (void *)bad[i];

        expect(sys_block(SYS_BLOCK_READ, 0, 0, p, 1), -EFAULT, "read to", bad[i]);
        expect(sys_block(SYS_BLOCK_WRITE, 0, 0, p, 1), -EFAULT, "write from", bad[i]);
        expect(sys_random(p, 16), -EFAULT, "random to", bad[i]);
        if (p)
            expect(sys_block(SYS_BLOCK_SIZE, 0, 0, p, 0), -EFAULT, "size to", bad[i]);
    }
    /* They begin well. */
    expect(sys_block(SYS_BLOCK_READ, 0, 0, buf, 16), -EFAULT, "read beyond the page", 16);
    expect(sys_block(SYS_BLOCK_WRITE, 0, 0, buf, 16), -EFAULT, "write beyond the page", 16);
    expect(sys_random(buf + PAGE_SIZE - 8, 16), -EFAULT, "random beyond the page", 16);
    expect(sys_random(buf, UINT64_MAX), -EFAULT, "random of 2^64 bytes", 0);
    expect(sys_block(SYS_BLOCK_READ, 0, 0, (void *)read_only, 1), -EFAULT,
           "read to read-only memory", read_only);
    expect(sys_random((void *)read_only, 16), -EFAULT, "random to read-only memory", read_only);
    expect(sys_block(SYS_BLOCK_SIZE, 0, 0, (void *)read_only, 0), -EFAULT,
           "size to read-only memory", read_only);
    for (size_t i = 0; i < PAGE_SIZE; i++)
        check(((uint8_t *)read_only)[i] == 0, "byte %lu of read-only memory was written", i);
}

static void test_numbers(void)
{
    struct sys_pci pci;

    for (unsigned op = SYS_BLOCK_READ; op <= SYS_BLOCK_WRITE; op++) {
        expect(sys_block(op, 0, 0, buf, 0), -EINVAL, "no sectors", op);
        expect(sys_block(op, 0, sectors, buf, 1), -EINVAL, "the sector behind the end", op);
        expect(sys_block(op, 0, sectors - 1, buf, 2), -EINVAL, "over the end", op);
        expect(sys_block(op, 0, 0, buf, sectors + 1), -EINVAL, "more than all", op);
        expect(sys_block(op, 0, UINT64_MAX, buf, 2), -EINVAL, "a sum that wraps", op);
        expect(sys_block(op, 0, 2, buf, UINT64_MAX), -EINVAL, "a number that wraps", op);
        expect(sys_block(op, 0, 0, buf, 1ul << 55), -EINVAL, "2^64 bytes", op);
        expect(sys_block(op, 0, 0, buf + 1, 1), -EINVAL, "an odd address", op);
        expect(sys_block(op, 1, 0, buf, 1), -ENODEV, "another disk", op);
        expect(sys_block(op, UINT64_MAX, 0, buf, 1), -ENODEV, "disk -1", op);
    }
    expect(sys_block((enum sys_block_op)4, 0, 0, buf, 1), -EINVAL, "an unknown operation", 4);
    expect(sys_call5(SYS_BLOCK, -1, 0, 0, (long)buf, 1), -EINVAL, "operation -1", 0);
    expect(sys_block(SYS_BLOCK_SIZE, 1, 0, NULL, 0), -ENODEV, "size of another disk", 1);
    expect(sys_block(SYS_BLOCK_FLUSH, 1, 0, NULL, 0), -ENODEV, "flush of another disk", 1);
    expect(sys_random(buf, 0), 0, "no random bytes", 0);
    expect(sys_info(SYS_INFO_PCI, 1000, &pci, sizeof(pci)), -ENOENT, "PCI function", 1000);
    expect(sys_info(SYS_INFO_PCI, UINT32_MAX, &pci, sizeof(pci)), -ENOENT, "PCI function", -1ul);
}

int main(void)
{
    long n = sys_block(SYS_BLOCK_SIZE, 0, 0, NULL, 0);

    if (n <= 0)
        die(2, "there is no disk: --disk");
    sectors = (uint64_t)n;
    read_only = (uint64_t)map_pages(PAGE_SIZE, PAGE_SIZE);
    check(sys_mprotect(read_only, PAGE_SIZE, SYS_PROT_READ) == 0, "mprotect to read-only");
    buf = map_pages(2 * PAGE_SIZE, PAGE_SIZE);
    sys_munmap((uint64_t)buf + PAGE_SIZE, PAGE_SIZE);
    test_pointers();
    test_numbers();
    expect(sys_block(SYS_BLOCK_WRITE, 0, 1, (void *)read_only, 8), 8, "write from read-only memory",
           read_only);
    expect(sys_block(SYS_BLOCK_READ, 0, 1, buf, 8), 8, "read", 8);
    check(memcmp(buf, (void *)read_only, PAGE_SIZE) == 0, "it is not what was written");
    expect(sys_random(buf, PAGE_SIZE), PAGE_SIZE, "random", PAGE_SIZE);
    return check_end();
}
