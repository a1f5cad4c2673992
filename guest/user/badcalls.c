/*
 * badcalls: every system call with arguments that it has to refuse. The right error must
 * come back, and the kernel must still be there afterwards.
 */
#include "guest/user/lib/lib.h"

#define KERNEL_HALF  0xffff880000000000ul
#define KERNEL_IMAGE 0xffffffff80200000ul
#define USER_END     0x0000800000000000ul

static uint64_t read_only, hole; /* `hole`: an unmapped page, behind a mapped one */

static const uint64_t *bad_pointers(void)
{
    static uint64_t bad[9];

    bad[0] = 0;
    bad[1] = 8;
    bad[2] = hole;
    bad[3] = hole - 4; /* begins well */
    bad[4] = KERNEL_HALF;
    bad[5] = KERNEL_IMAGE;
    bad[6] = USER_END - 8;
    bad[7] = 0x8000000000000000ul; /* not canonical */
    bad[8] = UINT64_MAX - 3;       /* wraps around */
    return bad;
}

static void expect(long got, long want, const char *what, uint64_t arg)
{
    check(got == want, "%s (0x%lx): %ld, expected %ld", what, arg, got, want);
}

static void test_pointers(void)
{
    const uint64_t *bad = bad_pointers();

    for (int i = 0; i < 9; i++) {
        uint64_t p = bad[i];

        expect(sys_write(1, (void *)p, 64), -EFAULT, "write", p);
        expect(sys_read(0, (void *)p, 64), -EFAULT, "read", p);
        expect(sys_spawn((void *)p, 64, SYS_QUIET), -EFAULT, "spawn", p);
        expect(sys_exec((void *)p, 64), -EFAULT, "exec", p);
        expect(sys_info(SYS_INFO_GENERAL, 0, (void *)p, sizeof(struct sys_info)), -EFAULT, "info",
               p);
        expect(sys_selftest(0, (void *)p), -EFAULT, "selftest", p);
        expect(sys_dma((void *)p), -EFAULT, "dma", p);
        if (p != 0) /* where it means: no status wanted */
            expect(sys_wait(-1, (void *)p), -EFAULT, "wait", p);
    }
    expect(sys_read(0, (void *)read_only, 64), -EFAULT, "read to read-only memory", read_only);
    expect(sys_wait(-1, (void *)read_only), -EFAULT, "wait to read-only memory", read_only);
    expect(sys_selftest(0, (void *)read_only), -EFAULT, "selftest to read-only memory", read_only);
    expect(sys_dma((void *)read_only), -EFAULT, "dma to read-only memory", read_only);
    expect(sys_info(SYS_INFO_GENERAL, 0, (void *)read_only, 64), -EFAULT,
           "info to read-only memory", read_only);
}

static void test_memory_calls(void)
{
    static const uint64_t bad_addr[] = { 1,
                                         0xfff,
                                         KERNEL_HALF,
                                         KERNEL_IMAGE & -PAGE_SIZE,
                                         USER_END - PAGE_SIZE,
                                         USER_END,
                                         UINT64_MAX & -PAGE_SIZE };
    unsigned rw = SYS_PROT_READ | SYS_PROT_WRITE;

    for (size_t i = 0; i < sizeof bad_addr / sizeof bad_addr[0]; i++) {
        uint64_t a = bad_addr[i];

        expect(sys_mmap(a, PAGE_SIZE, rw, SYS_MAP_FIXED), -EINVAL, "mmap", a);
        expect(sys_munmap(a, PAGE_SIZE), -EINVAL, "munmap", a);
        expect(sys_mprotect(a, PAGE_SIZE, SYS_PROT_READ), -EINVAL, "mprotect", a);
    }
    expect(sys_mmap(0, 0, rw, 0), -EINVAL, "mmap of nothing", 0);
    expect(sys_mmap(0, PAGE_SIZE, 8, 0), -EACCES, "mmap with an unknown protection", 8);
    expect(sys_mmap(0, PAGE_SIZE, rw, 1u << 31), -EINVAL, "mmap with an unknown flag", 0);
    expect(sys_mmap(0, PAGE_SIZE, rw, SYS_MAP_LARGE | SYS_MAP_HUGE), -EINVAL, "mmap of two sizes",
           0);
    expect(sys_mmap(0, UINT64_MAX, rw, 0), -EINVAL, "mmap of 2^64 bytes", 0);
    expect(sys_mmap(0, 1ul << 46, rw, 0), -ENOMEM, "mmap of 64 TiB", 0);
    expect(sys_mmap(read_only, UINT64_MAX - PAGE_SIZE, rw, SYS_MAP_FIXED), -EINVAL,
           "mmap that wraps", 0);
    expect(sys_munmap(read_only, UINT64_MAX - PAGE_SIZE), -EINVAL, "munmap that wraps", 0);
    expect(sys_munmap(read_only, 0), -EINVAL, "munmap of nothing", 0);
    expect(sys_mprotect(read_only, UINT64_MAX, SYS_PROT_READ), -EINVAL, "mprotect that wraps", 0);
    expect(sys_mprotect(hole, PAGE_SIZE, SYS_PROT_READ), -ENOMEM, "mprotect of a hole", hole);
    expect(sys_mprotect((uint64_t)test_pointers & -PAGE_SIZE, PAGE_SIZE, rw), -EACCES,
           "mprotect of the text to writable", 0);
}

static void test_numbers(void)
{
    char args[8] = "hello";
    struct sys_info info;

    expect(sys_call(SYS_COUNT, 0, 0, 0, 0), -ENOSYS, "first unknown call", SYS_COUNT);
    expect(sys_call(-1, 0, 0, 0, 0), -ENOSYS, "call -1", 0);
    expect(sys_call(1L << 62, 0, 0, 0, 0), -ENOSYS, "call 2^62", 0);
    expect(sys_call(1L << 32, 0, 0, 0, 0), -ENOSYS, "call 2^32", 0);
    expect(sys_write(0, args, 1), -EBADF, "write to the input", 0);
    expect(sys_write(3, args, 1), -EBADF, "write to descriptor 3", 3);
    expect(sys_write(1, args, 0), 0, "write of nothing", 0);
    expect(sys_read(1, args, 1), -EBADF, "read from the output", 1);
    expect(sys_read(0, args, 0), 0, "read of nothing", 0);
    expect(sys_spawn(args, 0, 0), -EINVAL, "spawn without a name", 0);
    expect(sys_spawn(args, 5, 0), -EINVAL, "spawn without a closing NUL", 0);
    expect(sys_spawn(args, SYS_ARGS_MAX + 1, 0), -EINVAL, "spawn with too long arguments", 0);
    expect(sys_spawn(args, 6, 1u << 9), -EINVAL, "spawn with an unknown flag", 0);
    expect(sys_spawn(args, 6, SYS_SHARE), -EINVAL, "spawn that shares", 0);
    expect(sys_spawn("no such program", 16, SYS_QUIET), -ENOENT, "spawn of nothing", 0);
    expect(sys_exec(args, 0), -EINVAL, "exec without a name", 0);
    expect(sys_exec(args, 5), -EINVAL, "exec without a closing NUL", 0);
    expect(sys_exec(args, SYS_ARGS_MAX + 1), -EINVAL, "exec with too long arguments", 0);
    expect(sys_fork(1u << 9), -EINVAL, "fork with an unknown flag", 0);
    expect(sys_wait(-1, NULL), -ECHILD, "wait without a child", 0);
    expect(sys_wait(1, NULL), -ECHILD, "wait for somebody else's child", 1);
    expect(sys_kill(1), -EINVAL, "kill of process 1", 1);
    expect(sys_kill(1 << 30), -ESRCH, "kill of nobody", 0);
    expect(sys_kill(-1), -ESRCH, "kill of -1", 0);
    expect(sys_pin(-2), -EINVAL, "pin to CPU -2", 0);
    expect(sys_pin(1000), -EINVAL, "pin to CPU 1000", 0);
    expect(sys_info(99, 0, &info, sizeof info), -EINVAL, "info of an unknown kind", 99);
    expect(sys_info(SYS_INFO_CPU, 1000, &info, sizeof info), -ENOENT, "info of CPU 1000", 1000);
    expect(sys_info(SYS_INFO_MEMORY, UINT32_MAX, &info, sizeof info), -ENOENT, "info of a range",
           UINT32_MAX);
}

int main(void)
{
    read_only = (uint64_t)map_pages(PAGE_SIZE, PAGE_SIZE);
    check(sys_mprotect(read_only, PAGE_SIZE, SYS_PROT_READ) == 0, "mprotect to read-only");
    hole = (uint64_t)map_pages(2 * PAGE_SIZE, PAGE_SIZE) + PAGE_SIZE;
    sys_munmap(hole, PAGE_SIZE);
    test_pointers();
    test_memory_calls();
    test_numbers();
    return check_end();
}
