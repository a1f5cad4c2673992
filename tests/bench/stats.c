#include "bench.h"

#include <stdio.h>

#include "tools/measure.h"

void sample_add(struct samples *s, double value)
{
    if (value >= 0 && s->n < SAMPLES_MAX)
        s->value[s->n++] = value;
}

struct summary summarize(const struct samples *s)
{
    struct measure_summary m = measure_summarize(s->value, s->n);

    return (struct summary){ .median = m.median, .low = m.q1, .high = m.q3, .n = s->n };
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
