#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void sample_add(struct samples *s, double value)
{
    if (value >= 0 && s->n < SAMPLES_MAX)
        s->value[s->n++] = value;
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

struct summary summarize(const struct samples *s)
{
    double sorted[SAMPLES_MAX];
    struct summary r = { .n = s->n };

    if (s->n == 0)
        return r;
    memcpy(sorted, s->value, s->n * sizeof(sorted[0]));
    qsort(sorted, s->n, sizeof(sorted[0]), by_value);
    r.median = quantile(sorted, s->n, 0.5);
    r.low = quantile(sorted, s->n, 0.25);
    r.high = quantile(sorted, s->n, 0.75);
    return r;
}

void print_row(const char *name, const struct samples *s, const char *unit)
{
    struct summary r = summarize(s);

    if (r.n == 0)
        printf("  %-46s not available\n", name);
    else
        printf("  %-46s %9.3f %-4s (quartiles %.3f to %.3f, n=%zu)\n", name, r.median, unit, r.low,
               r.high, r.n);
}

void print_ratio(const char *name, const struct samples *a, const struct samples *b,
                 const char *goal, double at_least, double at_most)
{
    struct summary x = summarize(a), y = summarize(b);
    double ratio;

    if (x.n == 0 || y.n == 0 || y.median <= 0) {
        printf("  %-46s not available\n", name);
        return;
    }
    ratio = x.median / y.median;
    printf("  %-46s %9.3f x", name, ratio);
    if (goal)
        printf("   goal %s: %s", goal, ratio >= at_least && ratio <= at_most ? "met" : "NOT met");
    puts("");
}
