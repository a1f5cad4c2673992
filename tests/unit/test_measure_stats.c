/* Medians, their intervals and the rank test, against exact results for small samples. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tools/measure.h"

static void near(double got, double expected, double by)
{
    if (!(got - expected <= by && expected - got <= by))
        fail_msg("%g instead of %g", got, expected);
}

static void medians(void **state)
{
    static const double odd[] = { 5, 1, 9, 3, 7 }, even[] = { 4, 1, 3, 2 }, one[] = { 8 };
    struct measure_summary s = measure_summarize(odd, 5);

    (void)state;
    near(s.median, 5, 0);
    near(s.q1, 3, 0);
    near(s.q3, 7, 0);
    /* Too few for 95 %: the extremes. */
    near(s.low, 1, 0);
    near(s.high, 9, 0);
    near(measure_summarize(even, 4).median, 2.5, 0);
    s = measure_summarize(one, 1);
    assert_int_equal(s.n, 1);
    near(s.low, 8, 0);
    near(s.high, 8, 0);
    assert_int_equal(measure_summarize(one, 0).n, 0);
}

/* Textbook ranks: n 6: 1 and 6; n 10: 2 and 9; n 20: 6 and 15; n 50: 18 and 33. */
static void intervals(void **state)
{
    static const size_t n[] = { 6, 10, 20, 50 }, rank[] = { 1, 2, 6, 18 };
    double v[50];

    (void)state;
    for (size_t i = 0; i < 50; i++)
        v[i] = (double)(i * 7 % 50 + 1);
    for (size_t k = 0; k < 4; k++) {
        struct measure_summary s;
        double w[50];

        for (size_t i = 0, used = 0; i < 50; i++)
            if (v[i] <= (double)n[k])
                w[used++] = v[i];
        s = measure_summarize(w, n[k]);
        near(s.low, (double)rank[k], 0);
        near(s.high, (double)(n[k] + 1 - rank[k]), 0);
    }
}

/* The interval has to hold the true median in 95 of 100 runs. */
static void coverage(void **state)
{
    uint64_t random = 88172645463325252u;
    unsigned held = 0, runs = 4000;

    (void)state;
    for (unsigned r = 0; r < runs; r++) {
        double v[25];
        struct measure_summary s;

        for (size_t i = 0; i < 25; i++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            v[i] = (double)(random >> 11) / 9007199254740992.0;
            v[i] *= v[i]; /* skewed; the median of x*x is a quarter */
        }
        s = measure_summarize(v, 25);
        held += s.low <= 0.25 && 0.25 <= s.high;
    }
    assert_in_range(held, runs * 94 / 100, runs * 99 / 100);
}

static void rank_test(void **state)
{
    static const double a[] = { 1, 2, 3, 4, 5, 6, 7, 8 }, b[] = { 9, 10, 11, 12, 13, 14, 15, 16 };
    static const double c[] = { 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5 }, same[] = { 3, 3, 3, 3 };

    (void)state;
    /* U = 0, mean 32, variance 90.67: z = 31.5 / 9.522. */
    near(measure_mann_whitney(a, 8, b, 8), 0.000939, 0.00001);
    near(measure_mann_whitney(b, 8, a, 8), 0.000939, 0.00001);
    assert_true(measure_mann_whitney(a, 8, c, 8) > 0.5);
    near(measure_mann_whitney(same, 4, same, 4), 1, 0);
    near(measure_mann_whitney(a, 0, b, 8), 1, 0);
    /* Ties: {1,2,2,3} and {2,3,3,4}: U = 3, variance 16/12 * (9 - 48/56): z = 4.5 / 3.295. */
    near(measure_mann_whitney((const double[]){ 1, 2, 2, 3 }, 4, (const double[]){ 2, 3, 3, 4 }, 4),
         0.1720, 0.001);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(medians),
        cmocka_unit_test(intervals),
        cmocka_unit_test(coverage),
        cmocka_unit_test(rank_test),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
