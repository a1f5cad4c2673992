/* The system calls: each takes what the program asked for apart, and nothing more. */
#include "guest/kernel/clock.h"
#include "guest/kernel/cpu.h"
#include "guest/kernel/dma_user.h"
#include "guest/kernel/errno.h"
#include "guest/kernel/input.h"
#include "guest/kernel/mm.h"
#include "guest/kernel/printk.h"
#include "guest/kernel/proc.h"
#include "guest/kernel/sched.h"
#include "guest/kernel/selftest.h"
#include "guest/kernel/string.h"
#include "guest/kernel/sysinfo.h"
#include "guest/kernel/trap.h"
#include "guest/kernel/usercopy.h"
#include "guest/kernel/virtio_blk.h"
#include "guest/kernel/virtio_rng.h"
#include "guest/kernel/vma.h"
#include "guest/sys.h"

/* One write or read; a program that wants more has to ask again. */
#define WRITE_MAX 65536ul
#define READ_MAX  256ul

static struct vm *my_vm(void)
{
    return proc_vm(proc_current());
}

static int64_t do_exit(const struct trap_frame *f)
{
    proc_exit((int)(f->rdi & 0xff), NULL);
}

/* The bytes go to the console from where they are: nothing is copied in ring 0. */
static int64_t do_write(const struct trap_frame *f)
{
    uint64_t addr = f->rsi, len = f->rdx < WRITE_MAX ? f->rdx : WRITE_MAX;

    if (f->rdi != SYS_STDOUT && f->rdi != SYS_STDERR)
        return -EBADF;
    if (user_readable(addr, len) != 0)
        return -EFAULT;
    for (uint64_t done = 0; done < len;) {
        uint64_t gva = addr + done, part = PAGE_SIZE - gva % PAGE_SIZE, gpa, size;

        if (!aspace_hold(my_vm()->as, gva, &gpa, &size))
            return -EFAULT;
        if (part > len - done)
            part = len - done;
        console_write(phys_to_virt(gpa + gva % size), part);
        page_put(gpa);
        done += part;
    }
    return (int64_t)len;
}

static int64_t do_read(const struct trap_frame *f)
{
    char buf[READ_MAX];
    uint64_t len = f->rdx < READ_MAX ? f->rdx : READ_MAX;
    int64_t n;

    if (f->rdi != SYS_STDIN)
        return -EBADF;
    if (user_writable(f->rsi, len) != 0)
        return -EFAULT;
    if (len == 0)
        return 0;
    n = input_read(buf, len);
    if (n <= 0)
        return n;
    return copy_to_user(f->rsi, buf, (uint64_t)n) == 0 ? n : -EFAULT;
}

/* Fetches the block of arguments that spawn and exec take into args[SYS_ARGS_MAX]. */
static int fetch_args(char *args, uint64_t addr, uint64_t len)
{
    if (len == 0 || len > SYS_ARGS_MAX)
        return -EINVAL;
    if (copy_from_user(args, addr, len) != 0)
        return -EFAULT;
    return args[len - 1] == '\0' ? 0 : -EINVAL;
}

static int64_t do_spawn(const struct trap_frame *f)
{
    char args[SYS_ARGS_MAX];
    uint64_t len = f->rsi;
    int rc = f->rdx & ~(uint64_t)SYS_QUIET ? -EINVAL : fetch_args(args, f->rdi, len);

    if (rc != 0)
        return rc;
    return proc_spawn(proc_current(), args, len, (uint32_t)f->rdx);
}

static int64_t do_exec(const struct trap_frame *f)
{
    char args[SYS_ARGS_MAX];
    uint64_t len = f->rsi;
    int rc = fetch_args(args, f->rdi, len);

    return rc != 0 ? rc : proc_exec(args, len);
}

static int64_t do_fork(const struct trap_frame *f)
{
    if (f->rdi & ~(uint64_t)(SYS_QUIET | SYS_SHARE))
        return -EINVAL;
    if (f->rdi & SYS_SHARE && (f->rsi >= VM_HIGHEST || f->rdx > VM_HIGHEST))
        return -EFAULT;
    return proc_fork((uint32_t)f->rdi);
}

static int64_t do_wait(const struct trap_frame *f)
{
    struct sys_status status;
    int64_t pid = (int64_t)f->rdi;

    if (f->rsi != 0 && user_writable(f->rsi, sizeof status) != 0)
        return -EFAULT;
    pid = proc_wait(pid, &status);
    if (pid >= 0 && f->rsi != 0 && copy_to_user(f->rsi, &status, sizeof status) != 0)
        return -EFAULT;
    return pid;
}

static int64_t do_kill(const struct trap_frame *f)
{
    return proc_kill((int64_t)f->rdi);
}

static int64_t do_yield(const struct trap_frame *f)
{
    (void)f;
    sched_yield();
    return 0;
}

static int64_t do_sleep(const struct trap_frame *f)
{
    sched_sleep(f->rdi);
    return 0;
}

static int64_t do_clock(const struct trap_frame *f)
{
    (void)f;
    return (int64_t)clock_ns();
}

static int64_t do_getpid(const struct trap_frame *f)
{
    (void)f;
    return proc_pid(proc_current());
}

static int64_t do_getcpu(const struct trap_frame *f)
{
    (void)f;
    return this_cpu()->id;
}

static int64_t do_pin(const struct trap_frame *f)
{
    int64_t cpu = (int64_t)f->rdi;

    if (cpu < SCHED_ANY_CPU || cpu >= cpus_online())
        return -EINVAL;
    sched_pin((int)cpu);
    return 0;
}

/* A request that can't be met is refused before half of it was supplied. */
static bool memory_left(uint64_t len)
{
    struct pmm_stats stats;

    pmm_stats(&stats);
    if (len >> PAGE_SHIFT > stats.free) {
        proc_free_ended();
        pmm_stats(&stats);
    }
    return len >> PAGE_SHIFT <= stats.free;
}

/* What pages the flags ask for; 0, -EINVAL, -ENOTSUP. */
static int mmap_pages(uint64_t flags, enum vma_kind *kind, uint64_t *size)
{
    if (flags & SYS_MAP_LARGE && flags & SYS_MAP_HUGE)
        return -EINVAL;
    if (flags & SYS_MAP_HUGE && !cpu_features.gbpages)
        return -ENOTSUP;
    if (flags & SYS_MAP_LARGE) {
        *kind = VMA_LARGE;
        *size = LARGE_SIZE;
    } else if (flags & SYS_MAP_HUGE) {
        *kind = VMA_HUGE;
        *size = HUGE_SIZE;
    }
    return 0;
}

static int64_t do_mmap(const struct trap_frame *f)
{
    uint64_t addr = f->rdi, len = f->rsi, prot = f->rdx, flags = f->r10;
    enum vma_kind kind = VMA_ANON;
    uint64_t size = PAGE_SIZE;
    bool now = prot != SYS_PROT_NONE && !(flags & SYS_MAP_LAZY);
    struct vm *vm = my_vm();
    int rc;

    if (flags & ~(uint64_t)(SYS_MAP_FIXED | SYS_MAP_LARGE | SYS_MAP_LAZY | SYS_MAP_HUGE) ||
        prot > UINT32_MAX || len == 0 || len > VM_HIGHEST)
        return -EINVAL;
    rc = mmap_pages(flags, &kind, &size);
    if (rc != 0)
        return rc;
    len = (len + size - 1) & -size;
    if (!(flags & SYS_MAP_FIXED))
        addr = vm_find_gap(vm, len, size);
    if (addr == 0 && !(flags & SYS_MAP_FIXED))
        return -ENOMEM;
    if (__builtin_add_overflow(addr, len, &(uint64_t){ 0 }))
        return -EINVAL;
    if (now && !memory_left(len))
        return -ENOMEM;
    rc = vm_add(vm, addr, addr + len, (uint32_t)prot, kind);
    if (rc != 0)
        return rc;
    if (now)
        rc = vm_populate(vm, addr, addr + len);
    if (rc != 0) {
        vm_unmap(vm, addr, addr + len);
        return rc;
    }
    return (int64_t)addr;
}

/* End of the range that a program names; false if it is none. */
static bool range_end(uint64_t addr, uint64_t len, uint64_t *end)
{
    return len <= VM_HIGHEST && addr <= VM_HIGHEST &&
           (*end = addr + ((len + PAGE_SIZE - 1) & -PAGE_SIZE)) <= VM_HIGHEST;
}

static int64_t do_munmap(const struct trap_frame *f)
{
    uint64_t end;

    return range_end(f->rdi, f->rsi, &end) ? vm_unmap(my_vm(), f->rdi, end) : -EINVAL;
}

static int64_t do_mprotect(const struct trap_frame *f)
{
    uint64_t end;

    if (!range_end(f->rdi, f->rsi, &end) || f->rdx > UINT32_MAX)
        return -EINVAL;
    return vm_protect(my_vm(), f->rdi, end, (uint32_t)f->rdx);
}

static int64_t do_info(const struct trap_frame *f)
{
    return sysinfo_copy(f->rdi, f->rsi, f->rdx, f->r10);
}

static int64_t do_selftest(const struct trap_frame *f)
{
    struct sys_selftest result;
    const char *name;
    bool passed;

    if (user_writable(f->rsi, sizeof result) != 0)
        return -EFAULT;
    memset(&result, 0, sizeof result);
    if (f->rdi > UINT32_MAX ||
        !kernel_selftest_one((unsigned)f->rdi, &name, &passed, result.detail, sizeof result.detail))
        return -ENOENT;
    result.passed = passed;
    kformat(result.name, sizeof result.name, "%s", name);
    return copy_to_user(f->rsi, &result, sizeof result);
}

static int64_t do_block(const struct trap_frame *f)
{
    return virtio_blk_call(f->rdi, f->rsi, f->rdx, f->r10, f->r8);
}

static int64_t do_random(const struct trap_frame *f)
{
    return virtio_rng_call(f->rdi, f->rsi);
}

static int64_t do_dma(const struct trap_frame *f)
{
    struct sys_dma a;
    int64_t rc;

    if (user_writable(f->rdi, sizeof a) != 0 || copy_from_user(&a, f->rdi, sizeof a) != 0)
        return -EFAULT;
    rc = dma_user(&a);
    return rc < 0 || copy_to_user(f->rdi, &a, sizeof a) == 0 ? rc : -EFAULT;
}

static int64_t (*const calls[SYS_COUNT])(const struct trap_frame *f) = {
    [SYS_EXIT] = do_exit,         [SYS_WRITE] = do_write,   [SYS_READ] = do_read,
    [SYS_SPAWN] = do_spawn,       [SYS_FORK] = do_fork,     [SYS_WAIT] = do_wait,
    [SYS_KILL] = do_kill,         [SYS_YIELD] = do_yield,   [SYS_SLEEP] = do_sleep,
    [SYS_CLOCK] = do_clock,       [SYS_GETPID] = do_getpid, [SYS_GETCPU] = do_getcpu,
    [SYS_PIN] = do_pin,           [SYS_MMAP] = do_mmap,     [SYS_MUNMAP] = do_munmap,
    [SYS_MPROTECT] = do_mprotect, [SYS_INFO] = do_info,     [SYS_SELFTEST] = do_selftest,
    [SYS_EXEC] = do_exec,         [SYS_BLOCK] = do_block,   [SYS_RANDOM] = do_random,
    [SYS_DMA] = do_dma,
};

void syscall_dispatch(struct trap_frame *f)
{
    f->rax = f->rax < SYS_COUNT ? (uint64_t)calls[f->rax](f) : (uint64_t)-ENOSYS;
    proc_check_killed();
}
