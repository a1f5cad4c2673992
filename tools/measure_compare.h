/*
 * Two results of `twofold measure` side by side, cell by cell and load by load
 * (docs/measuring.md, "Comparing").
 */
#ifndef TWOFOLD_TOOLS_MEASURE_COMPARE_H
#define TWOFOLD_TOOLS_MEASURE_COMPARE_H

#include "tools/measure_view.h"

#define COMPARE_ALPHA 0.05

enum compare_says { COMPARE_DIFFERS, COMPARE_NO_DIFFERENCE, COMPARE_IMPOSSIBLE };

struct compare_row {
    bool is_load;
    struct measure_cell cell_a, cell_b; /* json NULL: that result has none */
    struct measure_load load_a, load_b;
    enum compare_says says;
    char why[256]; /* it is impossible */
    double median_a, median_b;
    struct measure_ratio ratio; /* B / A */
    double p, p_holm;           /* p_holm: corrected for all rows that are compared */
    bool too_few; /* of rounds: not even complete separation would be seen among so many rows */
};

struct compare {
    struct compare_row *row;
    size_t rows, cap;
    size_t compared, differ, too_few;
};

/* Compares; -ENOMEM. The rows point into both results. Free with compare_free(). */
int compare_results(struct compare *out, const json_t *a, const json_t *b, struct error *err);
void compare_free(struct compare *c);

/* "nested 4K in 2M, 64M", or a load's name and paging; of the one that is there. Returns buf. */
char *compare_name(const struct compare_row *row, char *buf, size_t size);

#endif
