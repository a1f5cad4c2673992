/*
 * The system calls as C functions. Each returns what guest/sys.h says:
 * zero or more, or a negative error number.
 */
#ifndef TWOFOLD_GUEST_USER_SYSCALL_H
#define TWOFOLD_GUEST_USER_SYSCALL_H

#include <stddef.h>
#include <stdint.h>

#include "guest/sys.h"

static inline long sys_call(long number, long a, long b, long c, long d)
{
    long result;
    register long r10 __asm__("r10") = d;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
}

static inline long sys_call5(long number, long a, long b, long c, long d, long e)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}

static inline long sys_write(int fd, const void *buf, size_t len)
{
    return sys_call(SYS_WRITE, fd, (long)buf, (long)len, 0);
}

static inline long sys_read(int fd, void *buf, size_t len)
{
    return sys_call(SYS_READ, fd, (long)buf, (long)len, 0);
}

/* `args` is the program's name and arguments, each closed by a NUL byte. */
static inline long sys_spawn(const char *args, size_t len, unsigned flags)
{
    return sys_call(SYS_SPAWN, (long)args, (long)len, flags, 0);
}

/* Returns only when the program can't be started. */
static inline long sys_exec(const char *args, size_t len)
{
    return sys_call(SYS_EXEC, (long)args, (long)len, 0, 0);
}

static inline long sys_fork(unsigned flags)
{
    return sys_call(SYS_FORK, flags, 0, 0, 0);
}

/*
 * A child in the caller's address space that runs entry(arg), which must not return, on a stack
 * that ends at `stack_top` (a multiple of 16). See SYS_SHARE.
 */
static inline long sys_share(void (*entry)(void *arg), void *stack_top, void *arg, unsigned flags)
{
    /* As if it had been called: the return address lies below a multiple of 16. */
    return sys_call(SYS_FORK, (long)(SYS_SHARE | flags), (long)entry, (long)stack_top - 8,
                    (long)arg);
}

/* Waits for child `pid` (-1: whichever ends first); `status` may be NULL. */
static inline long sys_wait(long pid, struct sys_status *status)
{
    return sys_call(SYS_WAIT, pid, (long)status, 0, 0);
}

static inline long sys_kill(long pid)
{
    return sys_call(SYS_KILL, pid, 0, 0, 0);
}

static inline long sys_yield(void)
{
    return sys_call(SYS_YIELD, 0, 0, 0, 0);
}

static inline long sys_sleep(uint64_t ns)
{
    return sys_call(SYS_SLEEP, (long)ns, 0, 0, 0);
}

static inline uint64_t sys_clock(void)
{
    return (uint64_t)sys_call(SYS_CLOCK, 0, 0, 0, 0);
}

static inline long sys_getpid(void)
{
    return sys_call(SYS_GETPID, 0, 0, 0, 0);
}

static inline long sys_getcpu(void)
{
    return sys_call(SYS_GETCPU, 0, 0, 0, 0);
}

static inline long sys_pin(int cpu)
{
    return sys_call(SYS_PIN, cpu, 0, 0, 0);
}

/* The address as a number: a negative one is an error. */
static inline long sys_mmap(uint64_t addr, size_t len, unsigned prot, unsigned flags)
{
    return sys_call(SYS_MMAP, (long)addr, (long)len, prot, flags);
}

static inline long sys_munmap(uint64_t addr, size_t len)
{
    return sys_call(SYS_MUNMAP, (long)addr, (long)len, 0, 0);
}

static inline long sys_mprotect(uint64_t addr, size_t len, unsigned prot)
{
    return sys_call(SYS_MPROTECT, (long)addr, (long)len, prot, 0);
}

static inline long sys_info(enum sys_info_what what, unsigned index, void *buf, size_t len)
{
    return sys_call(SYS_INFO, what, index, (long)buf, (long)len);
}

static inline long sys_selftest(unsigned index, struct sys_selftest *result)
{
    return sys_call(SYS_SELFTEST, index, (long)result, 0, 0);
}

static inline long sys_block(enum sys_block_op op, uint64_t disk, uint64_t sector, void *buf,
                             uint64_t sectors)
{
    return sys_call5(SYS_BLOCK, op, (long)disk, (long)sector, (long)buf, (long)sectors);
}

static inline long sys_random(void *buf, size_t len)
{
    return sys_call(SYS_RANDOM, (long)buf, (long)len, 0, 0);
}

static inline long sys_dma(struct sys_dma *a)
{
    return sys_call(SYS_DMA, (long)a, 0, 0, 0);
}

#endif
