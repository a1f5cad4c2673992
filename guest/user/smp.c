/*
 * smp: a process pinned to each CPU runs there and nowhere else; processes that are
 * not pinned spread over all of them and still end with the right results.
 */
#include "guest/user/lib/lib.h"

#define ROUNDS 5

static unsigned n_cpus;

static int pinned_child(unsigned cpu)
{
    check(sys_pin((int)cpu) == 0, "pin to CPU %u", cpu);
    for (int i = 0; i < ROUNDS; i++) {
        check(sys_getcpu() == (long)cpu, "pinned to CPU %u, runs on %ld", cpu, sys_getcpu());
        if (i % 2 == 0)
            sys_yield();
        else
            sys_sleep(100000);
    }
    return check_end();
}

static void test_pinned(void)
{
    long *pids = calloc(n_cpus, sizeof *pids);

    for (unsigned i = 0; i < n_cpus; i++) {
        pids[i] = fork_flushed(0);
        if (pids[i] == 0)
            exit(pinned_child(i));
        check(pids[i] > 0, "fork for CPU %u: error %ld", i, -pids[i]);
    }
    for (unsigned i = 0; i < n_cpus; i++)
        if (pids[i] > 0)
            check(wait_for(pids[i]).code == 0, "the process on CPU %u failed", i);
    free(pids);
}

/* Visits all CPUs in turn: each move is a migration with live registers. */
static void test_tour(void)
{
    uint64_t random = 1, expected = 1;

    for (unsigned i = 0; i < n_cpus; i++) {
        check(sys_pin((int)i) == 0, "pin to CPU %u", i);
        check(sys_getcpu() == (long)i, "moved to CPU %u, runs on %ld", i, sys_getcpu());
        next_random(&random);
    }
    check(sys_pin(-1) == 0, "unpin");
    for (unsigned i = 0; i < n_cpus; i++)
        next_random(&expected);
    check(random == expected, "a migration changed the data");
}

static uint64_t switches_of(unsigned cpu)
{
    struct sys_cpu c = { 0 };

    sys_info(SYS_INFO_CPU, cpu, &c, sizeof c);
    return c.switches;
}

static unsigned cpus_switched(const uint64_t *before)
{
    unsigned n = 0;

    for (unsigned i = 0; i < n_cpus && i < 64; i++)
        n += switches_of(i) > before[i];
    return n;
}

/*
 * One process more than there are CPUs, all of them busy until the last one is there and
 * a second CPU took one: on an emulator a CPU may need longer to wake than five forks take.
 * Were there no second one, they would not end, and the test's time-out would tell.
 */
static void test_spread(void)
{
    unsigned n = n_cpus < 8 ? n_cpus + 1 : 9;
    uint32_t all = info_general().started + n;
    uint64_t before[64] = { 0 };

    for (unsigned i = 0; i < n_cpus && i < 64; i++)
        before[i] = switches_of(i);
    for (unsigned i = 0; i < n; i++) {
        long pid = fork_flushed(0);

        if (pid == 0) {
            while (info_general().started < all || (n_cpus > 1 && cpus_switched(before) < 2))
                ;
            exit((int)sys_getcpu());
        }
        check(pid > 0, "fork: error %ld", -pid);
    }
    for (unsigned i = 0; i < n; i++) {
        struct sys_status end = wait_for(-1);

        check(end.vector == -1 && end.code < (int)n_cpus, "a process ended with %d", end.code);
    }
}

int main(void)
{
    struct sys_cpu cpu;
    unsigned listed = 0;

    n_cpus = info_general().cpus;
    while (sys_info(SYS_INFO_CPU, listed, &cpu, sizeof cpu) > 0)
        listed++;
    check(n_cpus >= 1 && listed == n_cpus, "%u CPUs run, %u are listed", n_cpus, listed);
    test_pinned();
    test_tour();
    test_spread();
    return check_end();
}
