/*
 * A result for a terminal, 80 columns wide.
 */
#include <inttypes.h>
#include <string.h>

#include "tools/measure_view.h"
#include "tools/table.h"

#define FOOTPRINTS_A_ROW 7

static void put_line(FILE *to, const char *what, const char *value)
{
    char first[24];

    (void)snprintf(first, sizeof(first), "  %-10s ", what);
    measure_fold(to, first, "             ", *value ? value : "unknown");
}

static json_int_t number(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static void put_environment(FILE *to, const json_t *result)
{
    const json_t *e = json_object_get(result, "environment"), *guest;
    const char *by = measure_string(e, "hypervisor");
    char line[512], size[32];

    (void)fprintf(to, "environment\n");
    (void)snprintf(line, sizeof(line), "%.200s, microcode %.40s, %" JSON_INTEGER_FORMAT " online",
                   measure_string(e, "cpu"), measure_string(e, "microcode"),
                   number(e, "cpus_online"));
    put_line(to, "CPU", line);
    (void)snprintf(line, sizeof(line),
                   "on CPU %" JSON_INTEGER_FORMAT ", TSC %.3f GHz, memory %s, THP %.40s",
                   number(e, "cpu_pinned"), (double)number(e, "tsc_hz") / 1e9,
                   format_bytes((uint64_t)number(e, "memory_bytes"), size, sizeof(size)),
                   measure_string(e, "thp"));
    put_line(to, "measured", line);
    guest = json_object_get(e, "is_guest");
    (void)snprintf(line, sizeof(line), "kernel %.100s, %s%s%.100s%s", measure_string(e, "kernel"),
                   json_is_true(guest)    ? "itself a guest"
                   : json_is_false(guest) ? "no guest itself"
                                          : "a guest or not: unknown",
                   *by ? " of " : "", by,
                   json_is_true(json_object_get(e, "emulated"))
                       ? ", EMULATED in software: times mean nothing"
                       : "");
    put_line(to, "host", line);
    (void)snprintf(line, sizeof(line), "%.100s; nested: %.300s",
                   *measure_string(e, "kvm") ? measure_string(e, "kvm") : "none",
                   measure_string(e, "nested_by"));
    put_line(to, "KVM", line);
    put_line(to, "counters", measure_string(e, "counters"));
    (void)snprintf(line, sizeof(line), "%.40s, twofold %.40s, %s, %s%s",
                   measure_string(result, "created"), measure_string(result, "version"),
                   measure_string(result, "mode"),
                   format_seconds(json_number_value(json_object_get(result, "duration_s")), size,
                                  sizeof(size)),
                   json_is_true(json_object_get(result, "complete")) ? "" : ", NOT COMPLETE");
    put_line(to, "run", line);
}

static void put_sentences(FILE *to, const json_t *list)
{
    const json_t *sentence;
    size_t i;

    json_array_foreach(list, i, sentence)
    {
        measure_fold(to, "  - ", "    ",
                     json_string_value(sentence) ? json_string_value(sentence) : "");
    }
}

/* What stands for a cell in a table: its figure, or why there is none. */
static void add_figure(struct table *t, const struct measure_cell *c)
{
    if (!c->json)
        table_cell(t, "%s", "");
    else if (c->has_ns)
        table_cell(t, "%7.1f +-%.0f%%%s%s", c->ns.median, measure_spread(&c->ns),
                   strcmp(c->state, "measured") != 0 ? " " : "",
                   strcmp(c->state, "measured") != 0 ? c->state : "");
    else
        table_cell(t, "      - %s", c->state);
}

static void put_matrix(FILE *to, const json_t *result, uint64_t footprint)
{
    struct table *t = table_create("guest host native nested shadow");
    struct measure_combo combos[MEASURE_COMBOS_MAX];
    size_t n = measure_combos(result, combos);
    struct measure_cell c;
    char size[32];

    (void)fprintf(to, "\nns an access, %s\n", format_bytes(footprint, size, sizeof(size)));
    for (size_t i = 0; i < n; i++) {
        bool any = false;

        for (unsigned p = 0; p < MEASURE_PAGINGS; p++)
            any |= measure_find_cell(result, measure_pagings[p], combos[i], footprint, &c);
        if (!any)
            continue;
        table_cell(t, "%s", measure_size(combos[i].guest_page, size, sizeof(size)));
        table_cell(t, "%s", measure_size(combos[i].host_page, size, sizeof(size)));
        for (unsigned p = 0; p < MEASURE_PAGINGS; p++) {
            measure_find_cell(result, measure_pagings[p], combos[i], footprint, &c);
            add_figure(t, &c);
        }
    }
    table_print(t, "  ", to);
}

/* Those that have a translation cost for one of the footprints. */
static bool costs_anything(const json_t *result, const char *paging, struct measure_combo combo,
                           const uint64_t *footprints, size_t n)
{
    struct measure_cell c;

    for (size_t i = 0; i < n; i++)
        if (measure_find_cell(result, paging, combo, footprints[i], &c) && c.has_translation)
            return true;
    return false;
}

static void put_cost_rows(struct table *t, const json_t *result, const char *paging,
                          const uint64_t *footprints, size_t n)
{
    struct measure_combo combos[MEASURE_COMBOS_MAX];
    size_t rows = measure_combos(result, combos);
    struct measure_cell c;
    char size[32];

    for (size_t i = 0; i < rows; i++) {
        if (!costs_anything(result, paging, combos[i], footprints, n))
            continue;
        table_cell(t, "%s", paging);
        table_cell(t, "%s", measure_size(combos[i].guest_page, size, sizeof(size)));
        table_cell(t, "%s", measure_size(combos[i].host_page, size, sizeof(size)));
        for (size_t k = 0; k < n; k++) {
            measure_find_cell(result, paging, combos[i], footprints[k], &c);
            if (c.has_translation)
                table_cell(t, "%.1f%s", measure_zero(c.translation_ns),
                           !strcmp(c.state, "noisy") ? "~" : "");
            else
                table_cell(t, "%s", "-");
        }
    }
}

static void put_costs(FILE *to, const json_t *result, const uint64_t *footprints, size_t n)
{
    (void)fprintf(to, "\ntranslation: ns an access above the largest pages (~ noisy)\n");
    for (size_t from = 0; from < n; from += FOOTPRINTS_A_ROW) {
        size_t some = n - from < FOOTPRINTS_A_ROW ? n - from : FOOTPRINTS_A_ROW;
        char heads[256] = "paging guest host", size[32];
        struct table *t;

        for (size_t i = 0; i < some; i++)
            (void)snprintf(heads + strlen(heads), sizeof(heads) - strlen(heads), " >%s",
                           measure_size(footprints[from + i], size, sizeof(size)));
        t = table_create(heads);
        for (unsigned p = 0; p < MEASURE_PAGINGS; p++)
            put_cost_rows(t, result, measure_pagings[p], footprints + from, some);
        table_print(t, "  ", to);
    }
}

/* The walk's references, which all footprints of a cell share. */
static void add_references(struct table *t, const json_t *result, const char *paging,
                           struct measure_combo combo, const uint64_t *footprints, size_t n)
{
    struct measure_cell c, best = { .references = -1, .formula = -1 };

    for (size_t i = 0; i < n; i++) {
        measure_find_cell(result, paging, combo, footprints[i], &c);
        if (c.json && (c.references >= 0 || best.references < 0))
            best = c;
    }
    if (!best.json)
        table_cell(t, "%s", "");
    else if (best.formula < 0 && best.references < 0)
        table_cell(t, "%s", "-");
    else if (best.formula < 0)
        table_cell(t, "%d", best.references);
    else if (best.references < 0)
        table_cell(t, "not seen, formula %d", best.formula);
    else
        table_cell(t, "%d, formula %d%s", best.references, best.formula,
                   best.references != best.formula ? " DIFFERS" : "");
}

static void put_references(FILE *to, const json_t *result, const uint64_t *footprints, size_t n)
{
    struct table *t = table_create("guest host native nested shadow");
    struct measure_combo combos[MEASURE_COMBOS_MAX];
    size_t rows = measure_combos(result, combos);
    char size[32];

    (void)fprintf(to, "\nreferences of a walk: found in the live VM, and by the formula\n");
    for (size_t i = 0; i < rows; i++) {
        table_cell(t, "%s", measure_size(combos[i].guest_page, size, sizeof(size)));
        table_cell(t, "%s", measure_size(combos[i].host_page, size, sizeof(size)));
        for (unsigned p = 0; p < MEASURE_PAGINGS; p++)
            add_references(t, result, measure_pagings[p], combos[i], footprints, n);
    }
    table_print(t, "  ", to);
}

static void add_load(struct table *t, const struct measure_load *l)
{
    char time[32];

    if (!l->json)
        table_cell(t, "%s", "");
    else if (l->has_ns)
        table_cell(t, "%s +-%.0f%%%s", measure_time(l->ns.median, time, sizeof(time)),
                   measure_spread(&l->ns), !strcmp(l->state, "noisy") ? "~" : "");
    else
        table_cell(t, "%s", l->state);
}

/* `t` has a column for native loads, or not: mostly there are none, and 80 columns are few. */
static void put_load(struct table *t, const json_t *result, const char *name, bool with_native)
{
    struct measure_load nested, shadow, native;
    struct measure_ratio r;
    char clean[13], time[32];

    measure_find_load(result, name, "native", &native);
    measure_find_load(result, name, "nested", &nested);
    measure_find_load(result, name, "shadow", &shadow);
    table_cell(t, "%s", measure_clean(name, clean, sizeof(clean)));
    add_load(t, &nested);
    add_load(t, &shadow);
    if (nested.has_ns && shadow.has_ns && measure_ratio_of(&shadow.ns, &nested.ns, &r)) {
        bool sure = !strcmp(nested.state, "measured") && !strcmp(shadow.state, "measured");

        table_cell(t, "%.3g%s", r.ratio, sure ? "" : "~");
        table_cell(t, "%.3g-%.3g", r.low, r.high);
    } else {
        table_cell(t, "%s", "-");
        table_cell(t, "%s", "-");
    }
    if (with_native && native.has_ns)
        table_cell(t, "%s", measure_time(native.ns.median, time, sizeof(time)));
    else if (with_native)
        table_cell(t, "%s", native.state);
}

static void put_loads(FILE *to, const json_t *result)
{
    bool with_native = false;
    struct measure_load l;
    const json_t *item;
    struct table *t;
    size_t i;

    json_array_foreach(json_object_get(result, "loads"), i, item)
    {
        with_native |= !strcmp(measure_string(item, "paging"), "native");
    }
    t = table_create(with_native ? "load nested shadow ratio interval native"
                                 : "load nested shadow ratio interval");
    (void)fprintf(to,
                  "\nloads that change tables, an operation; ratio: shadow / nested (~ noisy)\n");
    json_array_foreach(json_object_get(result, "loads"), i, item)
    {
        measure_load_of(&l, item);
        if (measure_first_of_name(result, &l))
            put_load(t, result, l.name, with_native);
    }
    table_print(t, "  ", to);
}

/* Each reason once, with the number of cells and loads that it is true of. */
static void put_whys(FILE *to, const json_t *list, const char *what, bool *head)
{
    const json_t *item, *other;
    size_t i, k;

    json_array_foreach(list, i, item)
    {
        const char *state = measure_string(item, "state"), *why = measure_string(item, "why");
        size_t before = 0, all = 0;
        char first[64];

        if (!strcmp(state, "measured"))
            continue;
        json_array_foreach(list, k, other)
        {
            bool same = !strcmp(measure_string(other, "state"), state) &&
                        !strcmp(measure_string(other, "why"), why);

            all += same;
            before += same && k < i;
        }
        if (before)
            continue;
        if (!*head)
            (void)fprintf(to, "\nwhat is not measured\n");
        *head = true;
        (void)snprintf(first, sizeof(first), "  %zu %s%s %s: ", all, what, all == 1 ? "" : "s",
                       state);
        measure_fold(to, first, "    ", *why ? why : "no reason is given");
    }
}

void measure_print(FILE *to, const json_t *result)
{
    const json_t *verdict = json_object_get(result, "verdict");
    const json_t *notes = json_object_get(json_object_get(result, "environment"), "notes");
    uint64_t footprints[MEASURE_FOOTPRINTS_MAX];
    size_t n = measure_footprints(result, footprints);
    bool head = false;

    put_environment(to, result);
    (void)fprintf(to, "\nhow far to trust it: %s\n", measure_string(verdict, "trust"));
    put_sentences(to, json_object_get(verdict, "reasons"));
    if (json_array_size(notes)) {
        (void)fprintf(to, "\nwhat the columns mean here\n");
        put_sentences(to, notes);
    }
    for (size_t i = 0; i < n; i++)
        put_matrix(to, result, footprints[i]);
    if (n) {
        put_costs(to, result, footprints, n);
        put_references(to, result, footprints, n);
    }
    if (json_array_size(json_object_get(result, "loads")))
        put_loads(to, result);
    put_whys(to, json_object_get(result, "cells"), "cell", &head);
    put_whys(to, json_object_get(result, "loads"), "load", &head);
}
