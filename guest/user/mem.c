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

static bool has_huge(void)
{
    return (info_general().features & SYS_FEATURE_1G) != 0;
}

/* No child here: a fork copies what there is, and these are 2 GiB. */
static void test_huge(void)
{
    long at = sys_mmap(0, 2 * HUGE_SIZE, RW, SYS_MAP_HUGE);
    volatile char *mem = (volatile char *)at;

    if (!has_huge()) {
        check(at == -ENOTSUP, "huge pages without such pages: %ld", at);
        return;
    }
    if (info_general().mem_total < 4 * HUGE_SIZE) {
        check(at == -ENOMEM, "2 huge pages in too little memory: %ld", at);
        return;
    }
    if (!check(at > 0 && (uint64_t)at % HUGE_SIZE == 0, "a huge mapping at 0x%lx", (uint64_t)at))
        return;
    check(is_zero((uint64_t)at + HUGE_SIZE - PAGE_SIZE, 2 * PAGE_SIZE), "huge pages not zero");
    mem[HUGE_SIZE - 1] = 1;
    mem[HUGE_SIZE] = 2;
    mem[2 * HUGE_SIZE - 1] = 3;
    check(mem[HUGE_SIZE - 1] == 1, "a huge page forgot");
    check(sys_munmap((uint64_t)at, PAGE_SIZE) == -EINVAL, "munmap of a part of a huge page");
    check(sys_munmap((uint64_t)at, LARGE_SIZE) == -EINVAL, "munmap of 2 MiB of a huge page");
    check(sys_mprotect((uint64_t)at + LARGE_SIZE, HUGE_SIZE, RW) == -EINVAL, "mprotect across two");
    check(sys_munmap((uint64_t)at, HUGE_SIZE) == 0, "munmap of a huge page");
    check(mem[HUGE_SIZE] == 2 && mem[2 * HUGE_SIZE - 1] == 3, "the other huge page forgot");
    check(sys_mmap((uint64_t)at, LARGE_SIZE, RW, SYS_MAP_FIXED | SYS_MAP_LARGE) == at && *mem == 0,
          "2 MiB where a huge page was");
    check(sys_munmap((uint64_t)at, LARGE_SIZE) == 0, "munmap of the 2 MiB");
    check(sys_mmap((uint64_t)at, HUGE_SIZE, RW, SYS_MAP_FIXED | SYS_MAP_HUGE) == at && *mem == 0 &&
              mem[HUGE_SIZE - 1] == 0,
          "a huge page where small tables were");
    check(sys_munmap((uint64_t)at, 2 * HUGE_SIZE) == 0, "munmap of both huge pages");
    expect(READ, (uint64_t)at, false, false);
    expect(READ, (uint64_t)at + HUGE_SIZE, false, false);
}

/* mem huge: a fork copies a huge page, and keeps its protection. */
static int huge_fork(void)
{
    volatile char *mem = map_pages(HUGE_SIZE, HUGE_SIZE);
    long pid;

    mem[0] = 1;
    mem[HUGE_SIZE - 1] = 2;
    check(sys_mprotect((uint64_t)mem, HUGE_SIZE, SYS_PROT_READ) == 0, "mprotect of a huge page");
    expect(WRITE, (uint64_t)mem + LARGE_SIZE, false, true);
    check(sys_mprotect((uint64_t)mem, HUGE_SIZE, RW) == 0, "mprotect to write again");
    pid = fork_flushed(0);
    if (pid == 0) {
        bool same = mem[0] == 1 && mem[HUGE_SIZE - 1] == 2;

        mem[0] = 3;
        exit(same ? 0 : 1);
    }
    check(wait_for(pid).code == 0, "a child does not see its parent's huge page");
    check(mem[0] == 1, "a child's write reaches its parent's huge page");
    printf("mem: a huge page was copied twice\n");
    return check_end();
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

/* --- one address space for two ---------------------------------------------------------------- */

/* What a child in this address space finds; in memory that is there. */
struct sharer {
    volatile char *page, *missing;
    volatile long mmap, munmap, mprotect, fork, info, info_missing;
    bool touch; /* what is missing */
};

static void share(void *arg)
{
    struct sharer *s = arg;
    uint64_t at = (uint64_t)s->page;

    s->page[0] = 1;
    s->mmap = sys_mmap(0, PAGE_SIZE, RW, 0);
    s->munmap = sys_munmap(at, PAGE_SIZE);
    s->mprotect = sys_mprotect(at, PAGE_SIZE, SYS_PROT_READ);
    s->fork = sys_fork(0);
    s->info = sys_info(SYS_INFO_GENERAL, 0, (void *)(at + 64), sizeof(struct sys_info));
    s->info_missing = sys_info(SYS_INFO_GENERAL, 0, (void *)s->missing, sizeof(struct sys_info));
    if (s->touch)
        *s->missing = 1;
    sys_call(SYS_EXIT, 7, 0, 0, 0);
}

static struct sys_status share_once(struct sharer *s, char *stack)
{
    long pid = sys_share(share, stack + PAGE_SIZE, s, SYS_QUIET);

    if (pid < 0)
        die(1, "a child in this address space: error %ld", -pid);
    return wait_for(pid);
}

static void test_share(void)
{
    char *mem = map_pages(3 * PAGE_SIZE, PAGE_SIZE);
    struct sharer *s = (struct sharer *)(void *)(mem + PAGE_SIZE);
    uint64_t lazy = map(0, PAGE_SIZE, RW, SYS_MAP_LAZY);
    struct sys_status end;

    *s = (struct sharer){ .page = mem, .missing = (volatile char *)lazy };
    end = share_once(s, mem + 2 * PAGE_SIZE);
    check(end.vector == -1 && end.code == 7, "the sharer ended with %d", end.code);
    check(mem[0] == 1, "what it wrote is not here");
    check(s->mmap == -EPERM && s->munmap == -EPERM && s->mprotect == -EPERM && s->fork == -EPERM,
          "it could map (%ld), unmap (%ld), protect (%ld), fork (%ld)", s->mmap, s->munmap,
          s->mprotect, s->fork);
    check(s->info > 0 && s->info_missing == -EFAULT,
          "a copy to what is there: %ld, to what is not: %ld", s->info, s->info_missing);
    s->touch = true;
    end = share_once(s, mem + 2 * PAGE_SIZE);
    check(end.vector == 14 && end.addr == lazy, "a page was supplied to it, it ended with %d",
          end.code);
    *s->missing = 1;
    check(share_once(s, mem + 2 * PAGE_SIZE).code == 7, "the page is there now");
    check(sys_share(share, (void *)UINT64_MAX, s, 0) == -EFAULT, "a stack that can't be");
    check(sys_call(SYS_FORK, SYS_SHARE, -1, 0, 0) == -EFAULT, "an entry that can't be");
    sys_munmap((uint64_t)mem, 3 * PAGE_SIZE);
    sys_munmap(lazy, PAGE_SIZE);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "huge") == 0)
        return huge_fork();
    if (argc > 1)
        die(2, "usage: mem [huge]");
    test_fresh();
    test_hole();
    test_protect();
    test_none_and_lazy();
    test_large();
    test_huge();
    test_fork();
    test_share();
    test_malloc();
    return check_end();
}
