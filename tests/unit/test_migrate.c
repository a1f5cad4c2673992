/*
 * Moving host frames under threads that write: every word has to be what its writer left. No KVM:
 * the threads are the vCPUs, and stopping them is a lock.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>

#include "vmm/memory.h"
#include "vmm/migrate.h"

#define RAM   (UINT64_C(16) << 20)
#define WORK  (UINT64_C(4) << 20) /* the threads' part */
#define WORDS (WORK / 8)

static struct {
    struct memory *mem;
    struct pages *pages;
    uint64_t *ram;
    pthread_t thread;
    pthread_rwlock_t running; /* read: a pass; write: held */
    atomic_bool stop;
    atomic_ulong passes, wrong;
    unsigned holds;
} t;

static void failed(void *ctx, const char *why)
{
    (void)ctx;
    print_error("%s\n", why);
    abort();
}

/* Word i is i * odd + passes: adding one to each keeps their differences. */
static void *vcpu(void *arg)
{
    volatile uint64_t *ram = t.ram;

    (void)arg;
    for (uint64_t pass = 0; !t.stop; pass++) {
        for (uint64_t i = 0; i < WORDS; i++) {
            if (i % 512 == 0)
                (void)pthread_rwlock_rdlock(&t.running);
            if (ram[i] != i * 0x9e3779b97f4a7c15u + pass)
                t.wrong++;
            ram[i] = i * 0x9e3779b97f4a7c15u + pass + 1;
            if (i % 512 == 511)
                (void)pthread_rwlock_unlock(&t.running);
        }
        t.passes++;
    }
    return NULL;
}

static int hold(void *ctx, bool *held)
{
    (void)ctx;
    (void)pthread_rwlock_wrlock(&t.running);
    t.holds++;
    *held = true;
    return 0;
}

static void let_go(void *ctx, bool held)
{
    (void)ctx;
    assert_true(held);
    (void)pthread_rwlock_unlock(&t.running);
}

static int begin(enum mem_backing backing, enum populate populate, bool lock)
{
    struct pages_config cfg = { .populate = populate, .lock = lock };
    struct error err;

    memset(&t, 0, sizeof(t));
    (void)pthread_rwlock_init(&t.running, NULL);
    if (memory_create(&t.mem, RAM, backing, &err) < 0 ||
        pages_create(&t.pages, t.mem, &cfg, failed, NULL, &err) < 0) {
        print_message("skipped: %s\n", err.text);
        memory_destroy(t.mem);
        return -1;
    }
    t.ram = memory_at(t.mem, gpa(0), RAM);
    for (uint64_t i = 0; i < WORDS; i++)
        t.ram[i] = i * 0x9e3779b97f4a7c15u;
    return 0;
}

static void end(void)
{
    pages_destroy(t.pages);
    memory_destroy(t.mem);
    (void)pthread_rwlock_destroy(&t.running);
}

/* Moves all of RAM again and again while the thread runs, by one method. */
static void storm(enum mem_backing backing, enum populate populate, bool lock, bool always)
{
    struct migrate_hold how = { .hold = hold, .let_go = let_go, .always = always };
    struct migrate_report r;
    struct error err;
    unsigned rounds = 0;

    if (begin(backing, populate, lock) < 0)
        skip();
    assert_int_equal(pthread_create(&t.thread, NULL, vcpu, NULL), 0);
    while (rounds < 20 || t.passes < 3) {
        if (migrate_range(t.pages, gpa(0), RAM, &how, &r, &err) < 0)
            fail_msg("%s", err.text);
        assert_int_equal(r.moved + r.busy + r.empty, RAM);
        assert_true(r.moved >= WORK || r.busy > 0);
        assert_true(r.same <= r.seen / 8);
        if (r.method == MIGRATE_BY_MOVE)
            assert_int_equal(r.held_ns, 0);
        rounds++;
        (void)sched_yield();
    }
    t.stop = true;
    (void)pthread_join(t.thread, NULL);
    assert_int_equal(t.wrong, 0);
    if (always || lock)
        assert_int_equal(t.holds, rounds);
    end();
}

static void anon_runs_on(void **state)
{
    (void)state;
    storm(MEM_ANON, POPULATE_KERNEL, false, false);
}

static void anon_held(void **state)
{
    (void)state;
    storm(MEM_ANON, POPULATE_KERNEL, false, true);
}

static void anon_managed(void **state)
{
    (void)state;
    storm(MEM_ANON, POPULATE_LAZY, false, false);
    storm(MEM_ANON, POPULATE_LAZY, false, true);
}

static void thp(void **state)
{
    (void)state;
    storm(MEM_THP, POPULATE_KERNEL, false, false);
    storm(MEM_THP, POPULATE_KERNEL, false, true);
}

static void thp_managed(void **state)
{
    (void)state;
    storm(MEM_THP, POPULATE_LAZY, false, false);
    storm(MEM_THP, POPULATE_LAZY, false, true);
}

static void memfd(void **state)
{
    (void)state;
    storm(MEM_MEMFD, POPULATE_KERNEL, false, false);
    storm(MEM_MEMFD, POPULATE_LAZY, false, false);
}

static void locked(void **state)
{
    (void)state;
    storm(MEM_ANON, POPULATE_KERNEL, true, false);
}

static void hugetlb(void **state)
{
    (void)state;
    storm(MEM_HUGETLB_2M, POPULATE_KERNEL, false, false);
}

/* What is empty stays empty, and costs nothing. */
static void leaves_the_empty(void **state)
{
    struct migrate_hold how = { .hold = hold, .let_go = let_go };
    struct migrate_report r;

    (void)state;
    if (begin(MEM_ANON, POPULATE_KERNEL, false) < 0)
        skip();
    assert_int_equal(migrate_range(t.pages, gpa(WORK), RAM - WORK, &how, &r, NULL), 0);
    assert_int_equal(r.moved, 0);
    assert_int_equal(r.empty, RAM - WORK);
    end();
}

static void refuses(void **state)
{
    static const struct {
        uint64_t at, len;
        int rc;
    } row[] = {
        { 0, 0, -EINVAL },
        { 1, 4096, -EINVAL },
        { 0, 4097, -EINVAL },
        { RAM, 4096, -EINVAL },
        { RAM - 4096, 8192, -EINVAL },
        { UINT64_MAX - 4095, 4096, -EINVAL },
        { 4096, UINT64_MAX - 4095, -EINVAL },
    };
    struct migrate_hold how = { .hold = hold, .let_go = let_go };
    struct migrate_report r;
    struct error err;

    (void)state;
    if (begin(MEM_ANON, POPULATE_KERNEL, false) < 0)
        skip();
    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++)
        assert_int_equal(migrate_range(t.pages, gpa(row[i].at), row[i].len, &how, &r, &err),
                         row[i].rc);
    assert_int_equal(memory_pin(t.mem, gpa(0)), 0);
    assert_int_equal(migrate_range(t.pages, gpa(0), 4096, &how, &r, &err), -EBUSY);
    assert_non_null(strstr(err.text, "pinned"));
    assert_int_equal(memory_unpin(t.mem, gpa(0)), 0);
    assert_int_equal(memory_guard(t.mem, gpa(4096), 4096, true), 0);
    assert_int_equal(migrate_range(t.pages, gpa(0), 8192, &how, &r, &err), -EBUSY);
    assert_non_null(strstr(err.text, "guarded"));
    assert_int_equal(migrate_range(t.pages, gpa(0), 4096, &how, &r, &err), 0);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(anon_runs_on),     cmocka_unit_test(anon_held),
        cmocka_unit_test(anon_managed),     cmocka_unit_test(thp),
        cmocka_unit_test(thp_managed),      cmocka_unit_test(memfd),
        cmocka_unit_test(locked),           cmocka_unit_test(hugetlb),
        cmocka_unit_test(leaves_the_empty), cmocka_unit_test(refuses),
    };

    return cmocka_run_group_tests_name("migrate", tests, NULL, NULL);
}
