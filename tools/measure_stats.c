/*
 * Without libm, which each start of a VM would have to load (docs/structure.md): the one function
 * of it that matters is fetched when it is wanted.
 */
#include <dlfcn.h>
#include <emmintrin.h>
#include <stdlib.h>
#include <string.h>

#include "tools/measure.h"

#define SAMPLES_MIN 6 /* from here on order statistics give an interval of 95 % */
#define Z_95        1.959964

static double root(double x)
{
    return _mm_cvtsd_f64(_mm_sqrt_sd(_mm_set_sd(0), _mm_set_sd(x)));
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Linear interpolation between the two nearest ranks. */
static double quantile(const double *sorted, size_t n, double q)
{
    double at = q * (double)(n - 1);
    size_t i = (size_t)at;

    if (i + 1 >= n)
        return sorted[n - 1];
    return sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]);
}

/*
 * The largest rank r (from 1 on) with P(Binomial(n, 1/2) < r) <= 2.5 %: the median lies between the
 * r-th smallest and the r-th largest sample in at least 95 of 100 cases, whatever the distribution.
 */
static size_t interval_rank(size_t n)
{
    double mean = (double)n / 2, term = 1, below = 0;
    size_t r = 0;

    if (n > 1000) /* 2^-n is no number any more */
        return (size_t)(mean - Z_95 * root((double)n) / 2);
    for (size_t i = 0; i < n; i++)
        term /= 2;
    while (below + term <= 0.025 && r < n / 2) {
        below += term;
        term *= (double)(n - r) / (double)(r + 1);
        r++;
    }
    return r ? r : 1;
}

struct measure_summary measure_summarize(const double *samples, size_t n)
{
    struct measure_summary s = { .n = n };
    double *sorted = malloc(n * sizeof(*sorted));
    size_t r;

    if (!sorted || n == 0) { /* too little memory for a figure: then there is none */
        free(sorted);
        return (struct measure_summary){ 0 };
    }
    memcpy(sorted, samples, n * sizeof(*sorted));
    qsort(sorted, n, sizeof(*sorted), by_value);
    r = n < SAMPLES_MIN ? 1 : interval_rank(n);
    s.median = quantile(sorted, n, 0.5);
    s.q1 = quantile(sorted, n, 0.25);
    s.q3 = quantile(sorted, n, 0.75);
    s.low = sorted[r - 1];
    s.high = sorted[n - r];
    free(sorted);
    return s;
}

/* How likely a normal variable is at least z away from its mean, on either side. 1 (nothing can be
 * concluded) without libm. */
static double both_tails(double z)
{
    void *libm = dlopen("libm.so.6", RTLD_NOW | RTLD_LOCAL);
    union {
        void *found;
        double (*erfc)(double);
    } fn = { .found = libm ? dlsym(libm, "erfc") : NULL };

    return fn.found ? fn.erfc(z / root(2)) : 1;
}

struct ranked {
    double value;
    bool first; /* of sample `a` */
};

static int by_ranked(const void *a, const void *b)
{
    return by_value(&((const struct ranked *)a)->value, &((const struct ranked *)b)->value);
}

double measure_mann_whitney(const double *a, size_t n, const double *b, size_t m)
{
    size_t all = n + m;
    struct ranked *r = malloc((all ? all : 1) * sizeof(*r));
    double ranks = 0, ties = 0, u, mean, variance, z;

    if (!r || n == 0 || m == 0) {
        free(r);
        return 1;
    }
    for (size_t i = 0; i < all; i++)
        r[i] = i < n ? (struct ranked){ a[i], true } : (struct ranked){ b[i - n], false };
    qsort(r, all, sizeof(*r), by_ranked);
    for (size_t i = 0, end; i < all; i = end) {
        double same;

        for (end = i + 1; end < all && r[end].value <= r[i].value;)
            end++;
        same = (double)(end - i);
        ties += same * same * same - same;
        for (size_t k = i; k < end; k++)
            ranks += r[k].first ? (double)(i + 1 + end) / 2 : 0; /* mean of the ranks i+1..end */
    }
    free(r);
    u = ranks - (double)n * ((double)n + 1) / 2;
    mean = (double)n * (double)m / 2;
    variance =
        (double)n * (double)m / 12 * ((double)all + 1 - ties / ((double)all * ((double)all - 1)));
    if (variance <= 0) /* all alike */
        return 1;
    z = ((u > mean ? u - mean : mean - u) - 0.5) / root(variance);
    return z <= 0 ? 1 : both_tails(z);
}
