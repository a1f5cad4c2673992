/*
 * `twofold measure` (docs/measuring.md). measure_plan.c says which cells there are,
 * measure_runner.c talks to one runner, measure_run.c asks runners in turn and fills a result,
 * which is JSON as docs/measure.schema.json has it; all that shows a result starts from that JSON.
 */
#ifndef TWOFOLD_TOOLS_MEASURE_H
#define TWOFOLD_TOOLS_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

#include "vmm/error.h"

enum measure_mode { MEASURE_QUICK, MEASURE_DEFAULT, MEASURE_FULL };

struct measure_options {
    enum measure_mode mode;
    const char *kernel; /* the tiny guest's file */
    int cpu;            /* to pin runners to; -1: chosen */
    bool quiet;         /* no progress bar */
    double limit_s;     /* 0: none */
};

/* Measures; returns a result also when it was interrupted (complete: false). NULL with *err when
 * not even that. The caller owns it. Signals that would end the process are caught from then on,
 * also after an error, until measure_release_signals(): a caller writes its files before. */
json_t *measure_run(const struct measure_options *options, struct error *err);
void measure_release_signals(void);

/* The signal that ended measure_run(), or came after it; or 0. */
int measure_ended(void);

/* --- statistics (measure_stats.c) --- */

struct measure_summary {
    double median, low, high, q1, q3;
    size_t n;
};

/* Median with its 95 % confidence interval by order statistics (the extremes when n < 6). n > 0. */
struct measure_summary measure_summarize(const double *samples, size_t n);

/* Two-sided p of the Mann-Whitney U test, by the normal approximation with ties and continuity
 * corrected; 1 when a side has no samples. */
double measure_mann_whitney(const double *a, size_t n, const double *b, size_t m);

/* --- showing (measure_text.c, measure_csv.c, measure_html.c), of a result --- */

void measure_print(FILE *to, const json_t *result);
int measure_write_csv(const json_t *result, const char *path, struct error *err);
/* Self-contained; its plots are made by gnuplot, and left out with a sentence where that is
 * missing. */
int measure_write_html(const json_t *result, const char *path, struct error *err);
/* Reads and checks a result's file: -EINVAL when it is none. */
json_t *measure_read(const char *path, struct error *err);

#endif
