/*
 * storm [N]: starts and forks many processes, waits for all, and checks that no memory is
 * lost. Also orphans, exec, kill, and sleep.
 */
#include "guest/user/lib/lib.h"

static void spawn_batch(unsigned n)
{
    const char *argv[] = { "die", "exit", NULL, NULL };
    char code[8];
    long pids[64];
    unsigned sum = 0, expected = 0;

    if (n > 64)
        n = 64;
    argv[2] = code;
    for (unsigned i = 0; i < n; i++) {
        snprintf(code, sizeof code, "%u", i % 100);
        pids[i] = spawn(argv, 0);
        check(pids[i] > 0, "spawn %u: error %ld", i, -pids[i]);
        expected += i % 100;
    }
    for (unsigned i = n; i-- > 0;) /* not in the order in which they were started */
        if (pids[i] > 0)
            sum += (unsigned)wait_for(pids[i]).code;
    check(sum == expected, "the exit codes of %u programs add up to %u, not %u", n, sum, expected);
    check(sys_wait(-1, NULL) == -ECHILD, "there are children left");
}

/* A tree of forks; each node's exit code is the number of nodes below and with it. */
static int fork_tree(unsigned depth, unsigned width)
{
    int nodes = 1;

    if (depth == 0)
        return nodes;
    for (unsigned i = 0; i < width; i++) {
        long pid = fork_flushed(0);

        if (pid == 0)
            exit(fork_tree(depth - 1, width));
        check(pid > 0, "fork: error %ld", -pid);
    }
    for (unsigned i = 0; i < width; i++)
        nodes += wait_for(-1).code;
    return nodes;
}

/* A child that dies before its own child: the grandchild ends alone. */
static void orphan(void)
{
    uint32_t before = info_general().processes;
    long pid = fork_flushed(0);

    if (pid == 0) {
        if (sys_fork(0) == 0)
            sys_sleep(1000000);
        exit(7);
    }
    check(wait_for(pid).code == 7, "the orphan's parent");
    for (int i = 0; i < 1000 && info_general().processes > before; i++)
        sys_sleep(100000);
}

static void rest(void *arg)
{
    (void)arg;
    sys_sleep(1000000);
    sys_call(SYS_EXIT, 0, 0, 0, 0);
}

/* An address space whose first process ends before the other one that uses it. */
static void outlive(void)
{
    uint32_t before = info_general().processes;
    long pid = fork_flushed(0);

    if (pid == 0) {
        char *stack = map_pages(PAGE_SIZE, PAGE_SIZE);

        exit(sys_share(rest, stack + PAGE_SIZE, NULL, 0) > 0 ? 7 : 8);
    }
    check(wait_for(pid).code == 7, "a child that shares its memory");
    for (int i = 0; i < 1000 && info_general().processes > before; i++)
        sys_sleep(100000);
    check(info_general().processes == before, "who shared that memory does not end");
}

static void kill_spinner(void)
{
    const char *argv[] = { "spin", NULL };
    struct sys_status end;
    long pid = spawn(argv, 0);

    check(pid > 0, "spawn of spin: error %ld", -pid);
    sys_sleep(1000000);
    check(sys_kill(pid) == 0, "kill of the spinning process");
    end = wait_for(pid);
    check(end.code == SYS_CODE_KILLED, "the killed process ended with %d", end.code);
    pid = fork_flushed(0);
    if (pid == 0) {
        sys_sleep(UINT64_MAX);
        exit(0);
    }
    sys_yield();
    check(sys_kill(pid) == 0, "kill of the sleeping process");
    check(wait_for(pid).code == SYS_CODE_KILLED, "the killed sleeper");
    check(sys_kill(pid) == -ESRCH, "kill of a process that is gone");
}

/* A child that becomes another program keeps its pid, and its parent waits for it as before. */
static void become(void)
{
    static const char die[] = "die\0exit\0"
                              "7",
                      nobody[] = "no such program";
    long pid = fork_flushed(SYS_QUIET);
    struct sys_status end;

    if (pid == 0) {
        if (sys_exec(nobody, sizeof nobody) != -ENOENT)
            exit(8);
        map_pages(64 * PAGE_SIZE, PAGE_SIZE); /* goes away with the exec */
        sys_exec(die, sizeof die);
        exit(9);
    }
    check(pid > 0, "fork: error %ld", -pid);
    end = wait_for(pid);
    check(end.code == 7, "the child that became another program ended with %d", end.code);
}

static void clocks(void)
{
    uint64_t start = sys_clock(), last = start;

    for (int i = 0; i < 20; i++) {
        uint64_t now = sys_clock();

        check(now >= last, "the clock went back by %lu ns", last - now);
        last = now;
    }
    sys_sleep(3000000);
    check(sys_clock() - last >= 3000000, "slept %lu ns instead of 3000000", sys_clock() - last);
}

static void round_of_all(unsigned n)
{
    spawn_batch(n);
    check(fork_tree(2, 2) == 7, "the fork tree lost nodes");
    orphan();
    outlive();
    become();
    kill_spinner();
}

int main(int argc, char **argv)
{
    uint64_t n = 4;
    struct sys_info before, after;

    if (argc > 2 || (argc == 2 && !parse_size(argv[1], &n)))
        die(2, "usage: storm [N]");
    clocks();
    /* The first round makes what the kernel keeps for the next: stacks, slabs. */
    round_of_all((unsigned)n);
    spawn_batch(1);
    before = info_general();
    round_of_all((unsigned)n);
    spawn_batch(1);
    after = info_general();
    check(after.mem_free + 16 * PAGE_SIZE >= before.mem_free, "%lu KiB of memory were lost",
          (before.mem_free - after.mem_free) >> 10);
    check(after.heap_objects <= before.heap_objects, "%lu heap objects were lost",
          after.heap_objects - before.heap_objects);
    return check_end();
}
