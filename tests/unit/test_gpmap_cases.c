/*
 * The guest-physical map: what is refused, what single changes do, and several threads at once.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ept/gpmap.h"

#define HVA UINT64_C(0x7f0000000000)

#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)

/* --- single cases ----------------------------------------------------------------- */

static void change(struct gpmap *map, uint64_t at, uint64_t len, enum gp_state to, unsigned shift)
{
    struct gp_change c = { .from = GP_ANY, .to = { .state = to, .shift = shift } };

    assert_int_equal(gpmap_change(map, gpa(at), len, &c, NULL), 0);
}

static struct gp_page look(struct gpmap *map, uint64_t at)
{
    struct gp_page page;

    assert_int_equal(gpmap_get(map, gpa(at), &page), 0);
    return page;
}

static int no_run(void *ctx, gpa_t at, uint64_t len, const struct gp_page *page)
{
    (void)ctx, (void)at, (void)len, (void)page;
    return -ECANCELED;
}

static void test_refused(void **state)
{
    struct gp_change c = { .from = GP_ANY, .to = { .state = GP_PRESENT, .shift = 12 } };
    struct gp_page page;
    struct gpmap *map;
    uint64_t changed = 1;

    (void)state;
    assert_int_equal(gpmap_create(&map), 0);
    assert_int_equal(gpmap_get(map, gpa(0), &page), -ENOENT);
    assert_int_equal(gpmap_add(map, gpa(0), 0, hva(HVA), 0), -EINVAL);
    assert_int_equal(gpmap_add(map, gpa(1), 4096, hva(HVA), 0), -EINVAL);
    assert_int_equal(gpmap_add(map, gpa(0), 4097, hva(HVA), 0), -EINVAL);
    assert_int_equal(gpmap_add(map, gpa(0), 4096, hva(HVA + 1), 0), -EINVAL);
    assert_int_equal(gpmap_add(map, gpa(0), 4096, hva(HVA), 8), -EINVAL);
    assert_int_equal(gpmap_add(map, gpa(UINT64_C(1) << 48), 4096, hva(HVA), 0), -EINVAL);
    assert_int_equal(gpmap_add(map, gpa(4096), UINT64_C(1) << 48, hva(HVA), 0), -EINVAL);
    assert_int_equal(gpmap_add(map, gpa(4096), ~UINT64_C(0xfff), hva(HVA), 0), -EINVAL);
    assert_int_equal(gpmap_add(map, gpa(MIB(1)), MIB(1), hva(HVA), 0), 0);
    assert_int_equal(gpmap_add(map, gpa(0), MIB(1) + 4096, hva(HVA), 0), -EEXIST);
    assert_int_equal(gpmap_add(map, gpa(MIB(2) - 4096), MIB(1), hva(HVA), 0), -EEXIST);
    assert_int_equal(gpmap_add(map, gpa(0), MIB(4), hva(HVA), 0), -EEXIST);

    assert_int_equal(gpmap_get(map, gpa(MIB(1) - 1), &page), -ENOENT);
    assert_int_equal(gpmap_get(map, gpa(MIB(2)), &page), -ENOENT);
    assert_int_equal(gpmap_change(map, gpa(MIB(1) + 1), 4096, &c, &changed), -EINVAL);
    assert_int_equal(changed, 0);
    assert_int_equal(gpmap_change(map, gpa(MIB(1)), 4095, &c, NULL), -EINVAL);
    assert_int_equal(gpmap_change(map, gpa(MIB(1)), ~UINT64_C(0xfff), &c, NULL), -EINVAL);
    assert_int_equal(gpmap_change(map, gpa(MIB(1)), MIB(1) + 4096, &c, &changed), -ENOENT);
    assert_int_equal(changed, 0);
    assert_int_equal(look(map, MIB(1)).state, GP_UNTOUCHED);
    c.to.state = GP_STATES;
    assert_int_equal(gpmap_change(map, gpa(MIB(1)), 4096, &c, NULL), -EINVAL);
    c.to.state = GP_SWAPPED;
    c.to.payload = UINT64_C(1) << 40;
    assert_int_equal(gpmap_change(map, gpa(MIB(1)), 4096, &c, NULL), -EINVAL);
    c.to.payload--;
    assert_int_equal(gpmap_change(map, gpa(MIB(1)), 4096, &c, NULL), 0);
    assert_int_equal(look(map, MIB(1)).payload, (UINT64_C(1) << 40) - 1);
    c.set_flags = 1u << 6;
    assert_int_equal(gpmap_change(map, gpa(MIB(1)), 4096, &c, NULL), -EINVAL);
    assert_int_equal(gpmap_runs(map, gpa(MIB(2)), 4096, no_run, NULL), -ENOENT);
    assert_int_equal(gpmap_runs(map, gpa(1), 4096, no_run, NULL), -EINVAL);
    assert_int_equal(gpmap_runs(map, gpa(MIB(1)), 4096, no_run, NULL), -ECANCELED);
    gpmap_destroy(map);
    gpmap_destroy(NULL);
}

/* A guard keeps what was there, also when it is taken away page by page. */
static void test_guard(void **state)
{
    struct gp_change back = { .from = GP_MASK(GP_GUARDED), .restore = true };
    struct gpmap *map;
    struct gpmap_stats stats;
    uint64_t changed;

    (void)state;
    assert_int_equal(gpmap_create(&map), 0);
    assert_int_equal(gpmap_add(map, gpa(0), MIB(8), hva(HVA), 1), 0);
    change(map, MIB(2), MIB(2), GP_PRESENT, 21);
    change(map, MIB(4), 4096, GP_ZERO, 12);
    change(map, 0, MIB(8), GP_GUARDED, 12);
    change(map, MIB(2), MIB(1), GP_GUARDED, 12); /* twice is once */
    assert_int_equal(look(map, 0).was, GP_UNTOUCHED);
    assert_int_equal(look(map, MIB(2)).was, GP_PRESENT);
    assert_int_equal(look(map, MIB(3)).shift, 21);
    assert_int_equal(look(map, MIB(4)).was, GP_ZERO);
    gpmap_stats(map, &stats);
    assert_int_equal(stats.bytes[GP_GUARDED], MIB(8));
    assert_int_equal(stats.present_2m, 0);

    assert_int_equal(gpmap_change(map, gpa(0), MIB(3), &back, &changed), 0);
    assert_int_equal(changed, MIB(3));
    assert_int_equal(gpmap_change(map, gpa(0), MIB(3), &back, &changed), 0);
    assert_int_equal(changed, 0);
    assert_int_equal(look(map, 0).state, GP_UNTOUCHED);
    assert_int_equal(look(map, MIB(2)).state, GP_PRESENT);
    assert_int_equal(look(map, MIB(2)).shift, 12); /* cut: it came back in part */
    assert_int_equal(look(map, MIB(3)).state, GP_GUARDED);
    assert_int_equal(gpmap_change(map, gpa(MIB(3)), MIB(5), &back, NULL), 0);
    assert_int_equal(look(map, MIB(3)).state, GP_PRESENT);
    assert_int_equal(look(map, MIB(4)).state, GP_ZERO);
    assert_int_equal(look(map, MIB(4) + 4096).state, GP_UNTOUCHED);

    change(map, MIB(2), MIB(2), GP_PRESENT, 21);
    change(map, MIB(2), MIB(2), GP_GUARDED, 12);
    assert_int_equal(gpmap_change(map, gpa(0), MIB(8), &back, NULL), 0);
    assert_int_equal(look(map, MIB(2)).shift, 21);
    gpmap_stats(map, &stats);
    assert_int_equal(stats.present_2m, MIB(2));
    gpmap_destroy(map);
}

/* What has large entries takes no tables below them, and comes back to none. */
static void test_large(void **state)
{
    struct gpmap *map;
    struct gpmap_stats stats;

    (void)state;
    assert_int_equal(gpmap_create(&map), 0);
    assert_int_equal(gpmap_add(map, gpa(0), GIB(64), hva(HVA), 1), 0);
    change(map, 0, GIB(64), GP_GUARDED, 12);
    change(map, 0, GIB(64), GP_PRESENT, 30);
    gpmap_stats(map, &stats);
    assert_int_equal(stats.present_1g, GIB(64));
    assert_int_equal(stats.tables, 2);
    assert_int_equal(stats.transitions[GP_UNTOUCHED][GP_GUARDED], GIB(64) >> 12);
    change(map, GIB(1) + MIB(2), 4096, GP_UNTOUCHED, 12);
    gpmap_stats(map, &stats);
    assert_int_equal(stats.tables, 4);
    assert_int_equal(stats.present_1g, GIB(63));
    assert_int_equal(stats.present_2m, GIB(1) - MIB(2));
    assert_int_equal(stats.present_4k, MIB(2) - 4096);
    assert_int_equal(look(map, GIB(1)).shift, 21);
    assert_int_equal(look(map, GIB(1) + MIB(2)).state, GP_UNTOUCHED);
    assert_int_equal(look(map, GIB(1) + MIB(3)).shift, 12);
    change(map, GIB(1), GIB(1), GP_PRESENT, 30);
    gpmap_stats(map, &stats);
    assert_int_equal(stats.present_1g, GIB(64)); /* of three runs, again one leaf */
    assert_int_equal(look(map, GIB(1) + MIB(2)).state, GP_PRESENT);
    change(map, GIB(1), GIB(1), GP_UNTOUCHED, 12);
    change(map, GIB(1), GIB(1), GP_PRESENT, 30);
    gpmap_stats(map, &stats);
    assert_int_equal(stats.present_1g, GIB(64));
    gpmap_destroy(map);
}

/* Two ranges whose RAM is contiguous, in both address spaces: no leaf goes across. */
static void test_border(void **state)
{
    struct gpmap *map;

    (void)state;
    assert_int_equal(gpmap_create(&map), 0);
    assert_int_equal(gpmap_add(map, gpa(0), MIB(1), hva(HVA), 1), 0);
    assert_int_equal(gpmap_add(map, gpa(MIB(1)), MIB(3), hva(HVA + MIB(1)), 1), 0);
    change(map, 0, MIB(4), GP_PRESENT, 21);
    assert_int_equal(look(map, MIB(1)).shift, 12);
    assert_int_equal(look(map, MIB(2)).shift, 21);
    change(map, 0, MIB(4), GP_ZERO, 12);
    assert_int_equal(look(map, MIB(2)).shift, 12);
    assert_int_equal(look(map, MIB(2) + 4096).hva.v, HVA + MIB(2) + 4096);
    gpmap_destroy(map);
}

/* Only our tables can be read. */
static void test_reader(void **state)
{
    static uint64_t foreign[512] __attribute__((aligned(4096)));
    struct pt_space space;
    uint64_t raw;
    struct gpmap *map;

    (void)state;
    assert_int_equal(gpmap_create(&map), 0);
    assert_int_equal(gpmap_add(map, gpa(0), MIB(8), hva(HVA), 1), 0);
    change(map, 0, 4096, GP_PRESENT, 12);
    gpmap_space(map, &space);
    assert_int_equal(gpmap_read(map, space.root, 8, &raw), 0);
    assert_true((raw & 7) == 7);
    assert_int_equal(gpmap_read(map, space.root + 4, 8, &raw), -EFAULT);
    assert_int_equal(gpmap_read(map, space.root, 4, &raw), -EFAULT);
    assert_int_equal(gpmap_read(map, (uintptr_t)foreign, 8, &raw), -EFAULT);
    assert_int_equal(gpmap_read(map, 0, 8, &raw), -EFAULT);
    assert_int_equal(gpmap_read(map, HVA, 8, &raw), -EFAULT);
    assert_int_equal(gpmap_read(map, ~UINT64_C(7), 8, &raw), -EFAULT);
    gpmap_destroy(map);
}

static void test_names(void **state)
{
    (void)state;
    for (unsigned i = 0; i < GP_STATES; i++) {
        assert_true(strlen(gp_state_name((enum gp_state)i)) > 3);
        for (unsigned j = 0; j < i; j++)
            assert_string_not_equal(gp_state_name((enum gp_state)i),
                                    gp_state_name((enum gp_state)j));
    }
    assert_string_equal(gp_state_name(GP_STATES), "unknown");
}

/* --- several threads -------------------------------------------------------------- */

#define THREADS      4
#define THREAD_RANGE MIB(64)
#define THREAD_STEPS 40000

static const unsigned some_flags[] = { 0,         GP_NODUMP,  GP_ACCESSED, GP_DIRTY,
                                       GP_LOCKED, GP_WATCHED, GP_LEARNED,  0 };

static uint64_t rnd(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed * UINT64_C(0x2545f4914f6cdd1d) >> 11;
}

static bool same(const struct gp_page *a, const struct gp_page *b)
{
    return a->state == b->state && a->shift == b->shift && a->flags == b->flags &&
           a->payload == b->payload && a->was == b->was;
}

struct shared {
    struct gpmap *map;
    struct gp_page page[THREAD_RANGE >> 12]; /* changed by effects: under the map's lock */
    bool stop;
};

struct worker {
    pthread_t thread;
    struct shared *shared;
    uint64_t seed, looks;
};

static int model_effect(void *ctx, gpa_t at, uint64_t len, const struct gp_page *from,
                        struct gp_page *to)
{
    struct shared *s = ctx;
    struct gp_page now;

    assert_int_equal(gpmap_get(s->map, at, &now), 0);
    assert_true(same(&now, from));
    for (uint64_t p = at.v >> 12; p < (at.v + len) >> 12; p++) {
        assert_true(s->page[p].state == from->state && s->page[p].flags == from->flags &&
                    s->page[p].payload == from->payload);
        s->page[p].state = to->state;
        s->page[p].flags = to->flags;
        s->page[p].payload = to->payload;
    }
    return 0;
}

static void *change_thread(void *arg)
{
    struct worker *w = arg;

    for (unsigned i = 0; i < THREAD_STEPS; i++) {
        uint64_t r = rnd(&w->seed), at = r % (THREAD_RANGE >> 12), len = 1 + (r >> 20) % 64;
        struct gp_change c = { .from = GP_ANY, .effect = model_effect, .ctx = w->shared };

        if (r >> 30 & 1) {
            at &= ~UINT64_C(511);
            len = 512;
        }
        if (at + len > THREAD_RANGE >> 12)
            len = (THREAD_RANGE >> 12) - at;
        r = rnd(&w->seed);
        c.to.state = (enum gp_state)(r & 1 ? GP_PRESENT : (r >> 1) % 3);
        c.to.shift = r >> 4 & 1 ? 21 : 12;
        if (r >> 5 & 1) {
            c.to.state = GP_SWAPPED; /* with a payload by which readers know its place */
            c.to.payload = 0x5000 + (at >> 9);
            at &= ~UINT64_C(511);
            len = 1 + (len - 1) % 512;
        }
        /* Not those two, which a merge may set besides. */
        c.set_flags = some_flags[(r >> 8) % 8] & ~(GP_ACCESSED | GP_DIRTY);
        c.clear_flags = some_flags[(r >> 12) % 8];
        assert_int_equal(gpmap_change(w->shared->map, gpa(at << 12), len << 12, &c, NULL), 0);
    }
    return NULL;
}

/* Whatever it sees, it is this page's. */
static void *look_thread(void *arg)
{
    struct worker *w = arg;
    struct pt_space space;
    struct gpmap_stats stats;

    gpmap_space(w->shared->map, &space);
    while (!__atomic_load_n(&w->shared->stop, __ATOMIC_RELAXED)) {
        uint64_t at = rnd(&w->seed) % THREAD_RANGE;
        struct pt_walk walk;
        struct gp_page page;

        assert_int_equal(gpmap_get(w->shared->map, gpa(at), &page), 0);
        if (page.state == GP_SWAPPED)
            assert_int_equal(page.payload, 0x5000 + (at >> 21));
        if (pt_walk(&space, at, gpmap_read, w->shared->map, &walk) == PT_OK)
            assert_int_equal(walk.output, HVA + at);
        else
            assert_int_equal(walk.fault, PT_NOT_PRESENT);
        if (w->looks++ % 1024 == 0)
            gpmap_stats(w->shared->map, &stats);
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct shared *s = calloc(1, sizeof(*s));
    struct worker worker[THREADS + 2] = { 0 };
    uint64_t bytes[GP_STATES] = { 0 };
    struct gpmap_stats stats;

    (void)state;
    assert_non_null(s);
    assert_int_equal(gpmap_create(&s->map), 0);
    assert_int_equal(gpmap_add(s->map, gpa(0), THREAD_RANGE, hva(HVA), 0), 0);
    for (unsigned i = 0; i < THREADS + 2; i++) {
        worker[i].shared = s;
        worker[i].seed = 0x1234567 + i;
        assert_int_equal(pthread_create(&worker[i].thread, NULL,
                                        i < THREADS ? change_thread : look_thread, &worker[i]),
                         0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(worker[i].thread, NULL);
    __atomic_store_n(&s->stop, true, __ATOMIC_RELAXED);
    for (unsigned i = THREADS; i < THREADS + 2; i++) {
        pthread_join(worker[i].thread, NULL);
        assert_true(worker[i].looks > 0);
    }
    for (uint64_t p = 0; p < THREAD_RANGE >> 12; p++) {
        struct gp_page page;

        assert_int_equal(gpmap_get(s->map, gpa(p << 12), &page), 0);
        assert_int_equal(page.state, s->page[p].state);
        assert_int_equal(page.flags, s->page[p].flags);
        if (page.state == GP_SWAPPED)
            assert_int_equal(page.payload, s->page[p].payload);
        bytes[page.state] += 4096;
    }
    gpmap_stats(s->map, &stats);
    assert_memory_equal(stats.bytes, bytes, sizeof(bytes));
    gpmap_destroy(s->map);
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused), cmocka_unit_test(test_guard),  cmocka_unit_test(test_large),
        cmocka_unit_test(test_border),  cmocka_unit_test(test_reader), cmocka_unit_test(test_names),
        cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
