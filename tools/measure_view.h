/*
 * A result of `twofold measure` as those who show it want it: cells and loads as structs, in
 * order. All of it takes a result that measure_run() made or measure_read() checked; what is
 * missing there reads as unknown. Strings are the result's.
 */
#ifndef TWOFOLD_TOOLS_MEASURE_VIEW_H
#define TWOFOLD_TOOLS_MEASURE_VIEW_H

#include "tools/measure.h"

#define MEASURE_COMBOS_MAX     12 /* three host pages x (three guest pages, and none) */
#define MEASURE_FOOTPRINTS_MAX 32
#define MEASURE_PAGINGS        3

/* "native", "nested", "shadow": the order of all tables and pictures. */
extern const char *const measure_pagings[MEASURE_PAGINGS];

struct measure_cell {
    const json_t *json; /* NULL: there is no such cell */
    const char *paging, *state, *why;
    uint64_t guest_page; /* 0: none, `native` */
    uint64_t host_page, footprint;
    bool repeat;
    bool has_ns, has_translation;
    struct measure_summary ns;
    double translation_ns;
    int references, formula;        /* -1: not known */
    double guest_share, host_share; /* of the pages asked for; -1: not known */
};

struct measure_load {
    const json_t *json;
    const char *name, *what, *paging, *state, *why;
    bool has_ns;
    struct measure_summary ns;
};

/* Page sizes of a cell. */
struct measure_combo {
    uint64_t guest_page, host_page;
};

/* A quotient of two medians. The interval is the widest that the two medians' intervals allow. */
struct measure_ratio {
    double ratio, low, high;
};

const char *measure_string(const json_t *object, const char *key); /* "" when there is none */

void measure_cell_of(struct measure_cell *out, const json_t *cell);
void measure_load_of(struct measure_load *out, const json_t *load);

/* A cell that is no repetition. False, and out->json NULL, when the result has none. */
bool measure_find_cell(const json_t *result, const char *paging, struct measure_combo combo,
                       uint64_t footprint, struct measure_cell *out);
/* The cell that costs of translation are counted from, if it is `measured` (measure_baseline()). */
bool measure_find_baseline(const json_t *result, const char *paging, uint64_t footprint,
                           struct measure_cell *out);
/* The largest difference of two runners of one cell, 0.1 for 10 %; -1 when none has two figures. */
double measure_repeat_differs(const json_t *result);
bool measure_find_load(const json_t *result, const char *name, const char *paging,
                       struct measure_load *out);

/* Those that occur, each once, small ones first, and how many. */
size_t measure_footprints(const json_t *result, uint64_t out[MEASURE_FOOTPRINTS_MAX]);
size_t measure_combos(const json_t *result, struct measure_combo out[MEASURE_COMBOS_MAX]);

/* True when `load` is the first of its name in the result. */
bool measure_first_of_name(const json_t *result, const struct measure_load *load);

/* a / b; false when there is no such number. */
bool measure_ratio_of(const struct measure_summary *a, const struct measure_summary *b,
                      struct measure_ratio *out);

/* Half the interval's width in per cent of the median: the farther side. */
double measure_spread(const struct measure_summary *s);

/* Without the sign that a negative number has although a tenth shows none of it. */
double measure_zero(double ns);

/* Levels of tables down to a page of that size; 0 for no page. */
unsigned measure_levels(uint64_t page);

/* "4K", "64M"; "-" for 0. Returns buf. */
char *measure_size(uint64_t bytes, char *buf, size_t size);

/* "4K in 2M", or "2M" alone where there is no guest's page. Returns buf. */
char *measure_combo_name(struct measure_combo combo, char *buf, size_t size);

/* "43.1 us", from nanoseconds. Returns buf. */
char *measure_time(double ns, char *buf, size_t size);

/* For a terminal: what would control one becomes '?'. Returns buf. */
char *measure_clean(const char *s, char *buf, size_t size);

/* Prints a sentence, cleaned, in lines of at most 80 columns, the first after `first`. */
void measure_fold(FILE *to, const char *first, const char *indent, const char *text);

#endif
