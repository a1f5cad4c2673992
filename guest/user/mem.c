/*
 * mem: mmap, munmap and mprotect. A forked child tries each access, and its end has to be
 * the one that the protection predicts.
 */
#include "guest/user/lib/lib.h"

#define RW (SYS_PROT_READ | SYS_PROT_WRITE)
#define RX (SYS_PROT_READ | SYS_PROT_EXEC)

enum access { READ, WRITE, FETCH };

static const char *const access_names[] = { "read", "write", "fetch" };

static void do_access(enum access access, uint64_t addr)
{
    switch (access) {
    case READ:
        (void)*(volatile char *)addr;
        break;
    case WRITE:
        *(volatile char *)addr = (char)0xc3; /* RET, so that a fetch there returns */
        break;
    case FETCH:
        __asm__ volatile("call *%0" : : "r"(addr) : "memory");
        break;
    }
}

/* The exact end of a child that makes the access: `present` is for the error code. */
static void expect(enum access access, uint64_t addr, bool allowed, bool present)
{
    struct sys_status end;
    uint32_t error = 4u | (present ? 1u : 0) | (access == WRITE ? 2u : 0);
    long pid = fork_flushed(SYS_QUIET);

    if (pid == 0) {
        do_access(access, addr);
        exit(0);
    }
    if (!check(pid > 0, "fork: error %ld", -pid))
        return;
    end = wait_for(pid);
    if (allowed) {
        check(end.vector == -1 && end.code == 0, "%s of 0x%lx: ended with %d, expected to work",
              access_names[access], addr, end.code);
        return;
    }
    check(end.code == TF_EXIT_FAULT_BASE + 14 && end.vector == 14,
          "%s of 0x%lx: ended with %d, expected a page fault", access_names[access], addr,
          end.code);
    check(end.addr == addr, "%s of 0x%lx: fault address 0x%lx", access_names[access], addr,
          end.addr);
    /* The fetch bit is there or not: it depends on the CPU and on CR4 and EFER. */
    check((end.error & 0xf) == error, "%s of 0x%lx: error code 0x%x, expected 0x%x",
          access_names[access], addr, end.error, error);
}

static uint64_t map(uint64_t addr, size_t len, unsigned prot, unsigned flags)
{
    long at = sys_mmap(addr, len, prot, flags);

    if (at < 0)
        die(1, "mmap(0x%lx, 0x%lx, %u, %u): error %ld", addr, len, prot, flags, -at);
    return (uint64_t)at;
}

static bool is_zero(uint64_t addr, size_t len)
{
    const uint64_t *word = (const uint64_t *)addr;

    for (size_t i = 0; i < len / 8; i++)
        if (word[i] != 0)
            return false;
    return true;
}

static void test_fresh(void)
{
    uint64_t a = map(0, 3 * PAGE_SIZE, RW, 0), b;

    check(a % PAGE_SIZE == 0, "mmap gave 0x%lx", a);
    check(is_zero(a, 3 * PAGE_SIZE), "fresh memory is not zero");
    memset((void *)a, 0x5a, 3 * PAGE_SIZE);
    check(sys_munmap(a, 3 * PAGE_SIZE) == 0, "munmap");
    b = map(a, 3 * PAGE_SIZE, RW, SYS_MAP_FIXED);
    check(b == a, "fixed mapping at 0x%lx, not 0x%lx", b, a);
    check(is_zero(b, 3 * PAGE_SIZE), "memory of a former mapping comes back with its content");
    check(sys_mmap(a, PAGE_SIZE, RW, SYS_MAP_FIXED) == -EEXIST, "fixed mapping over another");
    sys_munmap(b, 3 * PAGE_SIZE);
}

/* Unmaps the middle of three pages: the others keep their content. */
static void test_hole(void)
{
    uint64_t a = map(0, 3 * PAGE_SIZE, RW, 0);

    *(uint64_t *)a = 1;
    *(uint64_t *)(a + 2 * PAGE_SIZE) = 3;
    check(sys_munmap(a + PAGE_SIZE, PAGE_SIZE) == 0, "munmap of the middle");
    expect(READ, a + PAGE_SIZE, false, false);
    expect(WRITE, a + 2 * PAGE_SIZE - 1, false, false);
    check(*(uint64_t *)a == 1 && *(uint64_t *)(a + 2 * PAGE_SIZE) == 3, "the neighbours changed");
    check(map(0, PAGE_SIZE, RW, 0) == a + PAGE_SIZE, "the hole is not used again");
    check(sys_munmap(a, 3 * PAGE_SIZE) == 0, "munmap of all");
    expect(READ, a, false, false);
}

static void test_protect(void)
{
    uint64_t a = map(0, 4 * PAGE_SIZE, RW, 0);

    expect(READ, a, true, true);
    expect(WRITE, a, true, true);
    expect(FETCH, a, false, true);
    *(volatile unsigned char *)a = 0xc3;
    check(sys_mprotect(a, PAGE_SIZE, SYS_PROT_READ) == 0, "mprotect to read");
    expect(READ, a + 8, true, true);
    expect(WRITE, a + 8, false, true);
    expect(WRITE, a + PAGE_SIZE, true, true);
    check(sys_mprotect(a, PAGE_SIZE, RX) == 0, "mprotect to execute");
    expect(FETCH, a, true, true);
    expect(WRITE, a, false, true);
    check(sys_mprotect(a, PAGE_SIZE, RW) == 0, "mprotect to write again");
    expect(WRITE, a, true, true);
    expect(FETCH, a, false, true);
    check(sys_mprotect(a, PAGE_SIZE, RW | SYS_PROT_EXEC) == -EACCES, "writable and executable");
    check(sys_mmap(0, PAGE_SIZE, RW | SYS_PROT_EXEC, 0) == -EACCES, "W and X in mmap");
    check(sys_mprotect(a, 5 * PAGE_SIZE, SYS_PROT_READ) == -ENOMEM, "mprotect beyond the mapping");
    expect(WRITE, a + 3 * PAGE_SIZE, true, true);
    sys_munmap(a, 4 * PAGE_SIZE);
}

static void test_none_and_lazy(void)
{
    uint64_t a = map(0, 2 * PAGE_SIZE, SYS_PROT_NONE, 0);
    uint64_t b = map(0, 1ul << 36, RW, SYS_MAP_LAZY);
    uint64_t before = info_general().mem_free;

    expect(READ, a, false, false);
    check(sys_mprotect(a, PAGE_SIZE, RW) == 0, "mprotect of a reserved page");
    expect(WRITE, a, true, true);
    expect(READ, a + PAGE_SIZE, false, false);
    *(volatile char *)(b + (1ul << 35)) = 1;
    check(*(volatile char *)(b + (1ul << 35)) == 1, "a lazy page forgot");
    check(is_zero(b, PAGE_SIZE), "a lazy page is not zero");
    check(before - info_general().mem_free < 64 * PAGE_SIZE, "64 GiB of lazy memory took %lu KiB",
          (before - info_general().mem_free) >> 10);
    check(sys_munmap(b, 1ul << 36) == 0, "munmap of 64 GiB");
    sys_munmap(a, 2 * PAGE_SIZE);
}

static void test_large(void)
{
    uint64_t a = map(0, 2 * LARGE_SIZE, RW, SYS_MAP_LARGE);

    check(a % LARGE_SIZE == 0, "a large mapping at 0x%lx", a);
    *(volatile uint64_t *)(a + LARGE_SIZE - 8) = 1;
    *(volatile uint64_t *)(a + LARGE_SIZE) = 2;
    check(*(volatile uint64_t *)(a + LARGE_SIZE - 8) == 1, "a large page forgot");
    check(sys_munmap(a, PAGE_SIZE) == -EINVAL, "munmap of a part of a large page");
    check(sys_mprotect(a + LARGE_SIZE, LARGE_SIZE, SYS_PROT_READ) == 0, "mprotect of a large page");
    check(*(volatile uint64_t *)(a + LARGE_SIZE) == 2, "a protected large page forgot");
    check(sys_munmap(a, LARGE_SIZE) == 0, "munmap of a large page");
    check(sys_munmap(a + LARGE_SIZE, LARGE_SIZE) == 0, "munmap of the other large page");
    expect(READ, a, false, false);
}

static void test_malloc(void)
{
    unsigned char *p[64];

    for (size_t i = 0; i < 64; i++) {
        p[i] = malloc(i * i * 20 + 1);
        if (p[i] == NULL)
            die(1, "malloc of %lu bytes failed", i * i * 20 + 1);
        check((uint64_t)p[i] % 16 == 0, "malloc gave %p", (void *)p[i]);
        memset(p[i], (int)i, i * i * 20 + 1);
    }
    for (size_t i = 0; i < 64; i++) {
        check(p[i][0] == i && p[i][i * i * 20] == i, "block %lu was overwritten", i);
        free(p[i]);
    }
    p[0] = malloc(SIZE_MAX);
    check(p[0] == NULL, "malloc of everything");
    free(p[0]);
}

/* A child writes to what it got from its parent: neither may see the other's. */
static void test_fork(void)
{
    static volatile int data = 1;
    volatile uint64_t *page = (volatile uint64_t *)map(0, PAGE_SIZE, RW, 0);
    long pid;

    *page = 10;
    pid = fork_flushed(0);
    if (pid == 0) {
        bool same = data == 1 && *page == 10;

        data = 2;
        *page = 20;
        exit(same ? 0 : 1);
    }
    check(wait_for(pid).code == 0, "a child does not see its parent's memory");
    check(data == 1 && *page == 10, "a child's writes reach its parent");
    sys_munmap((uint64_t)page, PAGE_SIZE);
}

int main(void)
{
    test_fresh();
    test_hole();
    test_protect();
    test_none_and_lazy();
    test_large();
    test_fork();
    test_malloc();
    return check_end();
}
