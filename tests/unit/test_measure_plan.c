/* The plan of `twofold measure`: which cells there are on what host, and what the others say. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <string.h>

#include <cmocka.h>

#include "tools/measure_impl.h"

#define GIB(n) ((uint64_t)(n) << 30)

static const struct measure_host rich = { .kvm = true,
                                          .shadow = true,
                                          .guest_1g = true,
                                          .thp = true,
                                          .pool_2m = true,
                                          .pool_1g = true,
                                          .cpus = 2,
                                          .available = GIB(1024),
                                          .cache = 32 << 20 };

static size_t count(const struct measure_plan *plan, enum measure_paging paging,
                    enum measure_state state, const char *why)
{
    size_t n = 0;

    for (size_t i = 0; i < plan->n; i++)
        n += plan->unit[i].paging == paging && plan->unit[i].state == state &&
             strstr(plan->unit[i].why, why) != NULL;
    return n;
}

static void make(struct measure_plan *plan, enum measure_mode mode, const struct measure_host *host)
{
    assert_int_equal(measure_plan_make(plan, mode, host), 0);
    assert_true(plan->n > 0);
}

/* Each combination once, and one of each footprint twice. */
static void test_quick_has_each_combination(void **state)
{
    size_t cells = 0, repeats = 0, loads = 0;
    struct measure_plan plan;

    (void)state;
    make(&plan, MEASURE_QUICK, &rich);
    for (size_t i = 0; i < plan.n; i++) {
        const struct measure_unit *u = &plan.unit[i];

        assert_int_equal(u->state, MEASURE_NOT_RUN);
        assert_true((u->guest_page == 0) == (u->paging == MEASURE_NATIVE));
        cells += !u->load && !u->repeat;
        repeats += u->repeat;
        loads += u->load != NULL;
        for (size_t j = 0; j < i; j++)
            assert_false(!u->load && !u->repeat && measure_alike(u, &plan.unit[j]) &&
                         u->paging == plan.unit[j].paging &&
                         u->guest_page == plan.unit[j].guest_page &&
                         u->host_page == plan.unit[j].host_page);
    }
    /* Two footprints; 2 native, 2 x 2 nested, 2 x 2 shadow. */
    assert_int_equal(cells, 2 * (2 + 4 + 4));
    assert_int_equal(repeats, 2);
    assert_int_equal(loads, 2 * 3);
    measure_plan_free(&plan);
}

/* Units that are compared have to be neighbours: a group is a run of them. */
static void test_groups_are_runs(void **state)
{
    (void)state;
    for (int mode = MEASURE_QUICK; mode <= MEASURE_FULL; mode++) {
        struct measure_plan plan;

        make(&plan, (enum measure_mode)mode, &rich);
        for (size_t i = 0; i < plan.n; i++)
            for (size_t j = i + 1; j < plan.n; j++)
                if (measure_alike(&plan.unit[i], &plan.unit[j]))
                    assert_true(measure_alike(&plan.unit[i], &plan.unit[j - 1]));
        measure_plan_free(&plan);
    }
}

static void test_full_goes_beyond_the_cache(void **state)
{
    uint64_t least = UINT64_MAX, most = 0;
    struct measure_plan plan;
    bool gib = false;

    (void)state;
    make(&plan, MEASURE_FULL, &rich);
    for (size_t i = 0; i < plan.n; i++) {
        const struct measure_unit *u = &plan.unit[i];

        if (u->load)
            continue;
        least = u->footprint < least ? u->footprint : least;
        most = u->footprint > most ? u->footprint : most;
        gib = gib || (u->guest_page == PAGE_SIZE_1G && u->host_page == PAGE_SIZE_1G &&
                      u->state == MEASURE_NOT_RUN);
    }
    assert_true(gib);
    assert_true(least <= 64 * PAGE_SIZE_4K);
    assert_true(most / PAGE_SIZE_4K * 8 >= 2 * rich.cache);
    measure_plan_free(&plan);
}

static void test_without_kvm_native_is_left(void **state)
{
    struct measure_host host = rich;
    struct measure_plan plan;

    (void)state;
    host.kvm = host.shadow = false;
    (void)strcpy(host.kvm_why, "there is no /dev/kvm");
    make(&plan, MEASURE_QUICK, &host);
    /* Two footprints, two page sizes, and a repeat each. */
    assert_int_equal(count(&plan, MEASURE_NATIVE, MEASURE_NOT_RUN, ""), 2 * 3);
    assert_int_equal(count(&plan, MEASURE_NESTED, MEASURE_NOT_AVAILABLE, "there is no /dev/kvm"),
                     2 * 4 + 3);
    assert_int_equal(count(&plan, MEASURE_SHADOW, MEASURE_NOT_AVAILABLE, "there is no /dev/kvm"),
                     2 * 4 + 3);
    measure_plan_free(&plan);
}

static void test_what_a_host_lacks(void **state)
{
    struct measure_host host = rich;
    struct measure_plan plan;

    (void)state;
    host.shadow = host.guest_1g = host.pool_1g = host.pool_2m = false;
    host.cpus = 1;
    (void)strcpy(host.shadow_why, "no KVM_CAP_SYNC_REGS");
    make(&plan, MEASURE_FULL, &host);
    assert_int_equal(count(&plan, MEASURE_SHADOW, MEASURE_NOT_RUN, ""), 0);
    assert_true(count(&plan, MEASURE_SHADOW, MEASURE_NOT_AVAILABLE, "KVM_CAP_SYNC_REGS") > 0);
    assert_true(count(&plan, MEASURE_NESTED, MEASURE_NOT_AVAILABLE, "CPUID") > 0);
    assert_true(count(&plan, MEASURE_NESTED, MEASURE_NOT_AVAILABLE, "huge pages of 1 GiB") > 0);
    assert_true(count(&plan, MEASURE_NATIVE, MEASURE_NOT_AVAILABLE, "huge pages of 1 GiB") > 0);
    assert_int_equal(count(&plan, MEASURE_NESTED, MEASURE_NOT_AVAILABLE, "takes 2 CPUs"), 1);
    /* Transparent pages do for 2 MiB. */
    assert_int_equal(count(&plan, MEASURE_NATIVE, MEASURE_NOT_AVAILABLE, "2 MiB"), 0);
    measure_plan_free(&plan);
    host.thp = false;
    make(&plan, MEASURE_FULL, &host);
    assert_true(count(&plan, MEASURE_NATIVE, MEASURE_NOT_AVAILABLE, "2 MiB") > 0);
    measure_plan_free(&plan);
}

static void test_too_little_memory(void **state)
{
    struct measure_host host = rich;
    struct measure_plan plan;

    (void)state;
    host.available = GIB(1);
    make(&plan, MEASURE_QUICK, &host);
    /* A smaller footprint, of which all runners have room at once. */
    for (size_t i = 0; i < plan.n; i++) {
        assert_int_equal(plan.unit[i].state, MEASURE_NOT_RUN);
        assert_true(plan.unit[i].footprint <= 64 << 20);
    }
    measure_plan_free(&plan);
    make(&plan, MEASURE_FULL, &host);
    assert_true(count(&plan, MEASURE_NATIVE, MEASURE_NOT_AVAILABLE, "too little memory") > 0);
    for (size_t i = 0; i < plan.n; i++)
        assert_true((plan.unit[i].memory > host.available) ==
                    (plan.unit[i].state == MEASURE_NOT_AVAILABLE));
    measure_plan_free(&plan);
    host.available = 0;
    make(&plan, MEASURE_DEFAULT, &host);
    for (size_t i = 0; i < plan.n; i++)
        assert_int_equal(plan.unit[i].state, MEASURE_NOT_AVAILABLE);
    measure_plan_free(&plan);
}

/* RAM: whole host pages, room for the chain, and whole GiB beside the kernel's for pages of 1G. */
static void test_ram(void **state)
{
    struct measure_plan plan;

    (void)state;
    make(&plan, MEASURE_FULL, &rich);
    for (size_t i = 0; i < plan.n; i++) {
        const struct measure_unit *u = &plan.unit[i];

        if (u->paging == MEASURE_NATIVE)
            continue;
        assert_int_equal(measure_ram(u) % u->host_page, 0);
        assert_true(measure_ram(u) > u->footprint);
        assert_true(u->memory >= measure_ram(u));
        if (u->guest_page == PAGE_SIZE_1G)
            assert_true(measure_ram(u) >= u->footprint + PAGE_SIZE_1G);
    }
    measure_plan_free(&plan);
}

/* The largest pages there are, measured, or nothing. */
static void test_baseline(void **state)
{
    static const enum measure_state others[] = { MEASURE_NOT_RUN, MEASURE_NOISY, MEASURE_NO_PAGES,
                                                 MEASURE_FAILED };
    struct measure_host host = rich;
    struct measure_plan plan;

    (void)state;
    host.pool_1g = false;
    make(&plan, MEASURE_FULL, &host);
    for (size_t i = 0; i < plan.n; i++)
        if (plan.unit[i].state == MEASURE_NOT_RUN)
            plan.unit[i].state = MEASURE_MEASURED;
    for (size_t i = 0; i < plan.n; i++) {
        const struct measure_unit *u = &plan.unit[i], *found;
        struct measure_unit *base;

        if (u->load || u->state != MEASURE_MEASURED)
            continue;
        found = measure_baseline(&plan, u);
        assert_non_null(found);
        assert_true(measure_alike(u, found) && found->paging == u->paging && !found->repeat);
        assert_true(found->host_page == PAGE_SIZE_2M && found->guest_page >= u->guest_page);
        base = &plan.unit[found - plan.unit];
        for (size_t k = 0; k < sizeof(others) / sizeof(others[0]); k++) {
            base->state = others[k];
            assert_null(measure_baseline(&plan, u));
        }
        base->state = MEASURE_MEASURED;
    }
    measure_plan_free(&plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quick_has_each_combination),
        cmocka_unit_test(test_groups_are_runs),
        cmocka_unit_test(test_full_goes_beyond_the_cache),
        cmocka_unit_test(test_without_kvm_native_is_left),
        cmocka_unit_test(test_what_a_host_lacks),
        cmocka_unit_test(test_too_little_memory),
        cmocka_unit_test(test_ram),
        cmocka_unit_test(test_baseline),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
