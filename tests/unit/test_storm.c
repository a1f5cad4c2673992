/*
 * Everything that takes pages away and brings them back, all at once: threads write pages and check
 * them, while one command after the other moves, watches, guards and learns whatever part of RAM
 * chance picks. A page that was lost, or came twice, no longer says what its writer left. No KVM:
 * the threads are the vCPUs, and stopping them is a lock.
 *
 * STORM_SECONDS in the environment makes it longer than the moment it takes in the suite.
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
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "vmm/memory.h"
#include "vmm/migrate.h"
#include "vmm/track.h"

#define MIB     (UINT64_C(1) << 20)
#define PAGE    PAGE_SIZE_4K
#define WORK    (16 * MIB)
#define PAGES   (WORK / PAGE)
#define WRITERS 2
#define WORDS   (PAGE / 8)

struct storm {
    enum mem_backing backing;
    enum populate populate;
    bool high; /* RAM on both sides of the hole; otherwise all of it is `WORK` */
};

static struct {
    struct memory *mem;
    struct pages *pages;
    struct track *track;
    uint8_t *work;            /* PAGES pages, one behind the other in the monitor, if not in gpa */
    uint64_t first;           /* offset of `work` in RAM */
    uint64_t told[PAGES];     /* what each page has to say: 0, while nobody wrote it */
    pthread_rwlock_t running; /* read: a step of a vCPU; write: they are held */
    atomic_bool stop;
    atomic_ulong steps, wrong;
    uint64_t seed;
    unsigned done[8];
} t;

static uint64_t chance(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static void failed(void *ctx, const char *why)
{
    (void)ctx;
    print_error("the fault thread failed: %s\n", why);
    abort();
}

/* --- the vCPUs ------------------------------------------------------------------------------- */

/* Words that a page says its number by: at both ends, and where chance has it. */
static bool says(const uint64_t *page, uint64_t number)
{
    static const unsigned places[] = { 0, 1, 255, WORDS - 1 };

    for (size_t i = 0; i < 4; i++)
        if (*(const volatile uint64_t *)&page[places[i]] != (number ? number + places[i] : 0))
            return false;
    return true;
}

static void say(uint64_t *page, uint64_t number)
{
    static const unsigned places[] = { 0, 1, 255, WORDS - 1 };

    for (size_t i = 0; i < 4; i++)
        *(volatile uint64_t *)&page[places[i]] = number + places[i];
}

static uint64_t *page_at(uint64_t n)
{
    return (uint64_t *)(void *)(t.work + n * PAGE);
}

/* Page n is the writer's alone whose number is n modulo WRITERS. */
static void *vcpu(void *arg)
{
    uint64_t me = (uintptr_t)arg, seed = (me + 1) * UINT64_C(0xd1342543de82ef95);

    while (!t.stop) {
        (void)pthread_rwlock_rdlock(&t.running);
        for (unsigned i = 0; i < 16; i++) {
            uint64_t n = chance(&seed) % (PAGES / WRITERS) * WRITERS + me;

            if (!says(page_at(n), t.told[n]))
                t.wrong++;
            if (chance(&seed) % 4 == 0)
                continue;
            t.told[n] = n << 40 | (chance(&seed) & 0xffffffff) << 8 | 0x5a;
            say(page_at(n), t.told[n]);
        }
        (void)pthread_rwlock_unlock(&t.running);
        t.steps++;
    }
    return NULL;
}

static int hold(void *ctx, bool *held)
{
    (void)ctx;
    (void)pthread_rwlock_wrlock(&t.running);
    *held = true;
    return 0;
}

static void let_go(void *ctx, bool held)
{
    (void)ctx, (void)held;
    (void)pthread_rwlock_unlock(&t.running);
}

/* --- the commands ---------------------------------------------------------------------------- */

/* A part of `work` in one slot. */
static void pick(gpa_t *at, uint64_t *len)
{
    size_t count;
    const struct mem_slot *slot = memory_slots(t.mem, &count);
    uint64_t page = chance(&t.seed) % PAGES, pages = 1 + chance(&t.seed) % 1024, offset;

    if (chance(&t.seed) % 4 == 0)
        page &= ~UINT64_C(511), pages = 512;
    if (page + pages > PAGES)
        pages = PAGES - page;
    offset = t.first + page * PAGE;
    *len = pages * PAGE;
    if (offset < slot[0].size && offset + *len > slot[0].size)
        *len = slot[0].size - offset;
    *at = gpa(offset < slot[0].size ? slot[0].base.v + offset
                                    : slot[1].base.v + (offset - slot[0].size));
}

static void migrate(gpa_t at, uint64_t len, bool always)
{
    struct migrate_hold how = { .hold = hold, .let_go = let_go, .always = always };
    struct migrate_report r;
    struct error err = { "" };

    if (migrate_range(t.pages, at, len, &how, &r, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(r.moved + r.busy + r.empty, len);
}

static void guard(gpa_t at, uint64_t len, enum page_guard what)
{
    struct error err = { "" };

    if (pages_guard(t.pages, at, len, what, &err) < 0)
        fail_msg("%s", err.text);
}

/* Closed while the vCPUs stand still, and opened before they go on. */
static void close_and_open(gpa_t at, uint64_t len)
{
    struct migrate_hold how = { .hold = hold, .let_go = let_go };
    struct migrate_report r;
    struct error err = { "" };
    bool held;

    (void)hold(NULL, &held);
    guard(at, len, PAGE_GUARD_ACCESS);
    assert_int_equal(migrate_range(t.pages, at, len, &how, &r, &err), -EBUSY);
    if (chance(&t.seed) % 2)
        (void)track_clear(t.track, TRACK_ACCESSED, at, len, &err);
    if (chance(&t.seed) % 4 == 0)
        (void)track_stop(t.track, TRACK_ACCESSED, &err);
    guard(at, len, PAGE_GUARD_OFF);
    let_go(NULL, held);
}

static void command(bool may_watch)
{
    unsigned what = (unsigned)(chance(&t.seed) % 8);
    struct error err = { "" };
    uint64_t len;
    gpa_t at;
    int rc = 0;

    pick(&at, &len);
    switch (what) {
    case 0:
    case 1:
        migrate(at, len, what);
        break;
    case 2:
        close_and_open(at, len);
        break;
    case 3:
        guard(at, len, chance(&t.seed) % 2 ? PAGE_GUARD_NODUMP : PAGE_GUARD_OFF);
        break;
    case 4:
        rc = pages_learn(t.pages, at, len);
        break;
    case 5:
        if (may_watch)
            rc = track_start(t.track, TRACK_ACCESSED | TRACK_DIRTY, at, len, &err);
        break;
    case 6:
        rc = track_clear(t.track, TRACK_ACCESSED | TRACK_DIRTY, at, len, &err);
        break;
    default:
        rc = chance(&t.seed) % 8 ? track_update(t.track, &err)
                                 : track_stop(t.track, TRACK_ACCESSED, &err);
        break;
    }
    if (rc < 0)
        fail_msg("command %u: %s: %s", what, strerror(-rc), err.text);
    t.done[what]++;
}

/* --- a storm --------------------------------------------------------------------------------- */

static void begin(const struct storm *s)
{
    uint64_t bytes = s->high ? MEMORY_HOLE_START + WORK / 2 : WORK;
    struct pages_config cfg = { .populate = s->populate };
    struct error err = { "" };
    pthread_rwlockattr_t fair;

    memset(&t, 0, sizeof(t));
    t.seed = UINT64_C(0x9e3779b97f4a7c15);
    (void)pthread_rwlockattr_init(&fair);
    /* Or the vCPUs would never let go of it all at once. */
    (void)pthread_rwlockattr_setkind_np(&fair, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    (void)pthread_rwlock_init(&t.running, &fair);
    (void)pthread_rwlockattr_destroy(&fair);
    if (memory_create(&t.mem, bytes, s->backing, &err) < 0 ||
        pages_create(&t.pages, t.mem, &cfg, failed, NULL, &err) < 0) {
        print_message("skipped: %s\n", err.text);
        memory_destroy(t.mem);
        skip();
    }
    if (track_create(&t.track, t.pages, -1, &err) < 0)
        fail_msg("%s", err.text);
    t.first = bytes - WORK;
    t.work = (uint8_t *)memory_at(t.mem, gpa(0), PAGE) + t.first;
}

static void end(void)
{
    pages_destroy(t.pages);
    track_destroy(t.track);
    memory_destroy(t.mem);
    (void)pthread_rwlock_destroy(&t.running);
}

static bool over(const struct timespec *start, double seconds)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - start->tv_sec) + 1e-9 * (double)(now.tv_nsec - start->tv_nsec) >
           seconds;
}

static void storm(void **state)
{
    const struct storm *s = *state;
    const char *longer = getenv("STORM_SECONDS");
    double seconds = longer ? strtod(longer, NULL) : 0.5;
    pthread_t thread[WRITERS];
    struct timespec start;
    struct error err = { "" };
    bool may_watch;

    begin(s);
    may_watch = track_start(t.track, TRACK_ACCESSED, gpa(0), PAGE, &err) == 0;
    if (!may_watch)
        print_message("without a tracker: %s\n", err.text);
    for (uintptr_t i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, vcpu, (void *)i), 0);
    (void)clock_gettime(CLOCK_MONOTONIC, &start);
    while (!over(&start, seconds) || t.steps < 100)
        command(may_watch);
    t.stop = true;
    for (unsigned i = 0; i < WRITERS; i++)
        (void)pthread_join(thread[i], NULL);
    assert_int_equal(t.wrong, 0);
    if (track_stop(t.track, TRACK_ACCESSED | TRACK_DIRTY, &err) < 0)
        fail_msg("%s", err.text);
    for (uint64_t n = 0; n < PAGES; n++)
        if (!says(page_at(n), t.told[n]))
            fail_msg("page %lu is not what it was left as", (unsigned long)n);
    if (longer) {
        print_message("%lu steps; commands:", (unsigned long)t.steps);
        for (size_t i = 0; i < 8; i++)
            print_message(" %u", t.done[i]);
        print_message("\n");
    }
    end();
}

#define STORM(label, ...)                                                     \
    {                                                                         \
        .name = (label), .test_func = storm, .initial_state = &(struct storm) \
        {                                                                     \
            __VA_ARGS__                                                       \
        }                                                                     \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORM("storm: anon, kernel-managed", MEM_ANON, POPULATE_KERNEL, false),
        STORM("storm: anon, lazy", MEM_ANON, POPULATE_LAZY, false),
        STORM("storm: thp, kernel-managed", MEM_THP, POPULATE_KERNEL, false),
        STORM("storm: thp, lazy", MEM_THP, POPULATE_LAZY, false),
        STORM("storm: memfd, kernel-managed", MEM_MEMFD, POPULATE_KERNEL, false),
        STORM("storm: memfd, lazy", MEM_MEMFD, POPULATE_LAZY, false),
        STORM("storm: anon, lazy, both sides of the hole", MEM_ANON, POPULATE_LAZY, true),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
