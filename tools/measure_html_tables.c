/*
 * The tables of a result's page. Each scrolls in a box of its own, which the keyboard reaches.
 */
#include <inttypes.h>
#include <string.h>

#include "tools/measure_html.h"

/* `label` is ours. */
static void table_begin(FILE *f, const char *label)
{
    (void)fprintf(f,
                  "<div class=\"box\" tabindex=\"0\" role=\"region\" aria-label=\"%s\">\n<table>\n"
                  "<caption>%s</caption>\n",
                  label, label);
}

static void table_end(FILE *f)
{
    (void)fputs("</tbody>\n</table>\n</div>\n", f);
}

static void put_heads(FILE *f, const char *const *heads)
{
    (void)fputs("<thead><tr>", f);
    for (; *heads; heads++)
        (void)fprintf(f, "<th scope=\"col\">%s</th>", *heads);
    (void)fputs("</tr></thead>\n<tbody>\n", f);
}

static void put_size(FILE *f, const char *open, uint64_t bytes, const char *close)
{
    char size[24];

    (void)fprintf(f, "%s%s%s", open, measure_size(bytes, size, sizeof(size)), close);
}

static void put_footprint_heads(FILE *f, const char *first, const uint64_t *footprints, size_t n)
{
    (void)fprintf(f, "<thead><tr>%s", first);
    for (size_t i = 0; i < n; i++)
        put_size(f, "<th scope=\"col\" class=\"num\">", footprints[i], "</th>");
    (void)fputs("</tr></thead>\n<tbody>\n", f);
}

static const char *row_class(const char *state)
{
    return strcmp(state, "measured") != 0 ? " class=\"off\"" : "";
}

static void put_matrix_cell(FILE *f, const struct measure_cell *c)
{
    if (!c->json) {
        (void)fputs("<td></td>", f);
        return;
    }
    (void)fprintf(f, "<td%s>",
                  strcmp(c->state, "measured") != 0 ? " class=\"num off\"" : " class=\"num\"");
    if (c->has_ns)
        (void)fprintf(f, "%.1f <small>&#177;%.0f&#8201;%%</small> ", c->ns.median,
                      measure_spread(&c->ns));
    html_badge(f, c->state, c->why);
    (void)fputs("</td>", f);
}

static bool has_cells(const json_t *result, const char *paging, struct measure_combo combo,
                      const uint64_t *footprints, size_t n)
{
    struct measure_cell c;

    for (size_t i = 0; i < n; i++)
        if (measure_find_cell(result, paging, combo, footprints[i], &c))
            return true;
    return false;
}

void html_matrix(FILE *f, const json_t *result, const char *paging)
{
    uint64_t footprints[MEASURE_FOOTPRINTS_MAX];
    size_t n = measure_footprints(result, footprints);
    struct measure_combo combos[MEASURE_COMBOS_MAX];
    size_t rows = measure_combos(result, combos);
    struct measure_cell c;
    char label[64], name[40];

    (void)snprintf(label, sizeof(label), "ns an access by footprint, paging %s", paging);
    table_begin(f, label);
    put_footprint_heads(f, "<th scope=\"col\">pages</th>", footprints, n);
    for (size_t i = 0; i < rows; i++) {
        if (!has_cells(result, paging, combos[i], footprints, n))
            continue;
        (void)fprintf(f, "<tr><th scope=\"row\">%s</th>",
                      measure_combo_name(combos[i], name, sizeof(name)));
        for (size_t k = 0; k < n; k++) {
            measure_find_cell(result, paging, combos[i], footprints[k], &c);
            put_matrix_cell(f, &c);
        }
        (void)fputs("</tr>\n", f);
    }
    table_end(f);
}

static double largest_cost(const json_t *result)
{
    struct measure_cell c;
    const json_t *item;
    double most = 0;
    size_t i;

    json_array_foreach(json_object_get(result, "cells"), i, item)
    {
        measure_cell_of(&c, item);
        if (c.has_translation && c.translation_ns > most)
            most = c.translation_ns;
    }
    return most;
}

/* A bar behind the figure shows its part of the largest one. */
static void put_cost(FILE *f, const struct measure_cell *c, double most)
{
    double part = most > 0 && c->translation_ns > 0 ? c->translation_ns / most : 0;

    if (!c->has_translation) {
        (void)fputs(c->json ? "<td class=\"num off\">" : "<td>", f);
        if (c->json)
            html_badge(f, strcmp(c->state, "measured") != 0 ? c->state : "no baseline", c->why);
        (void)fputs("</td>", f);
        return;
    }
    (void)fprintf(f, "<td class=\"num cost\" style=\"--v:%.3f\">%.1f ", part,
                  measure_zero(c->translation_ns));
    html_badge(f, c->state, c->why);
    (void)fputs("</td>", f);
}

void html_costs(FILE *f, const json_t *result)
{
    uint64_t footprints[MEASURE_FOOTPRINTS_MAX];
    size_t n = measure_footprints(result, footprints);
    struct measure_combo combos[MEASURE_COMBOS_MAX];
    size_t rows = measure_combos(result, combos);
    double most = largest_cost(result);
    struct measure_cell c;
    char name[40];

    table_begin(f, "translation cost by footprint, ns an access above the baseline");
    put_footprint_heads(f, "<th scope=\"col\">paging</th><th scope=\"col\">pages</th>", footprints,
                        n);
    for (unsigned p = 0; p < MEASURE_PAGINGS; p++) {
        for (size_t i = 0; i < rows; i++) {
            if (!has_cells(result, measure_pagings[p], combos[i], footprints, n))
                continue;
            (void)fprintf(f, "<tr><th scope=\"row\">%s</th><th scope=\"row\">%s</th>",
                          measure_pagings[p], measure_combo_name(combos[i], name, sizeof(name)));
            for (size_t k = 0; k < n; k++) {
                measure_find_cell(result, measure_pagings[p], combos[i], footprints[k], &c);
                put_cost(f, &c, most);
            }
            (void)fputs("</tr>\n", f);
        }
    }
    table_end(f);
}

/* --- loads -------------------------------------------------------------------------------- */

static void put_load(FILE *f, const struct measure_load *l)
{
    char median[32], low[32], high[32];

    if (!l->json) {
        (void)fputs("<td></td><td></td>", f);
        return;
    }
    if (l->has_ns)
        (void)fprintf(f, "<td class=\"num%s\">%s ", strcmp(l->state, "measured") != 0 ? " off" : "",
                      measure_time(l->ns.median, median, sizeof(median)));
    else
        (void)fputs("<td class=\"num off\">", f);
    html_badge(f, l->state, l->why);
    if (l->has_ns)
        (void)fprintf(f, "</td><td class=\"num\"><small>%s to %s, n %zu</small></td>",
                      measure_time(l->ns.low, low, sizeof(low)),
                      measure_time(l->ns.high, high, sizeof(high)), l->ns.n);
    else
        (void)fputs("</td><td></td>", f);
}

/* Which pagings have loads at all: loads need a VM, so `native` mostly has none. */
static void load_pagings(const json_t *result, bool has[MEASURE_PAGINGS])
{
    const json_t *item;
    size_t i;

    memset(has, 0, MEASURE_PAGINGS * sizeof(*has));
    json_array_foreach(json_object_get(result, "loads"), i, item)
    {
        for (unsigned p = 0; p < MEASURE_PAGINGS; p++)
            has[p] |= !strcmp(measure_string(item, "paging"), measure_pagings[p]);
    }
}

static void put_load_ratio(FILE *f, const struct measure_load *shadow,
                           const struct measure_load *nested)
{
    struct measure_ratio r;

    bool sure = !strcmp(nested->state, "measured") && !strcmp(shadow->state, "measured");

    if (!nested->has_ns || !shadow->has_ns || !measure_ratio_of(&shadow->ns, &nested->ns, &r)) {
        (void)fputs("<td class=\"num off\">none</td><td></td></tr>\n", f);
        return;
    }
    if (sure)
        (void)fprintf(f, "<td class=\"num\"><strong>%.3g</strong></td>", r.ratio);
    else
        (void)fprintf(f, "<td class=\"num off\">%.3g <span class=\"badge\">noisy</span></td>",
                      r.ratio);
    (void)fprintf(f, "<td class=\"num\"><small>%.3g to %.3g</small></td></tr>\n", r.low, r.high);
}

void html_loads(FILE *f, const json_t *result)
{
    struct measure_load l, of[MEASURE_PAGINGS];
    bool has[MEASURE_PAGINGS];
    const json_t *item;
    size_t i;

    load_pagings(result, has);
    table_begin(f, "loads that change tables, medians with their 95 % intervals");
    (void)fputs("<thead><tr><th scope=\"col\">load</th><th scope=\"col\">one operation</th>", f);
    for (unsigned p = 0; p < MEASURE_PAGINGS; p++)
        if (has[p])
            (void)fprintf(f,
                          "<th scope=\"col\" class=\"num\">%s</th>"
                          "<th scope=\"col\" class=\"num\">interval</th>",
                          measure_pagings[p]);
    (void)fputs("<th scope=\"col\" class=\"num\">shadow / nested</th>"
                "<th scope=\"col\" class=\"num\">interval</th></tr></thead>\n<tbody>\n",
                f);
    json_array_foreach(json_object_get(result, "loads"), i, item)
    {
        measure_load_of(&l, item);
        if (!measure_first_of_name(result, &l))
            continue;
        html_put(f, "<tr><th scope=\"row\">", l.name, "</th>");
        html_put(f, "<td class=\"words\">", l.what, "</td>");
        for (unsigned p = 0; p < MEASURE_PAGINGS; p++) {
            measure_find_load(result, l.name, measure_pagings[p], &of[p]);
            if (has[p])
                put_load(f, &of[p]);
        }
        put_load_ratio(f, &of[2], &of[1]);
    }
    table_end(f);
}

/* --- all figures ---------------------------------------------------------------------------- */

static void put_share(FILE *f, double share)
{
    if (share >= 0)
        (void)fprintf(f, "<td class=\"num\">%.1f&#8201;%%</td>", 100 * share);
    else
        (void)fputs("<td></td>", f);
}

static void put_known(FILE *f, int n)
{
    if (n >= 0)
        (void)fprintf(f, "<td class=\"num\">%d</td>", n);
    else
        (void)fputs("<td></td>", f);
}

static void put_counters(FILE *f, json_t *counters)
{
    const char *name, *separator = "";
    json_t *value;

    (void)fputs("<td>", f);
    json_object_foreach(counters, name, value)
    {
        html_put(f, separator, name, "");
        (void)fprintf(f, "&#160;%.4g", json_number_value(value));
        separator = ", ";
    }
    (void)fputs("</td>", f);
}

static void put_figures(FILE *f, const struct measure_cell *c)
{
    const json_t *cycles = json_object_get(json_object_get(c->json, "cycles"), "median");

    (void)fprintf(f, "<tr%s>", row_class(c->state));
    html_put(f, "<th scope=\"row\">", c->paging,
             c->repeat ? " <small>repeat</small></th>" : "</th>");
    put_size(f, "<td>", c->guest_page, "</td>");
    put_size(f, "<td>", c->host_page, "</td>");
    put_size(f, "<td class=\"num\">", c->footprint, "</td><td>");
    html_badge(f, c->state, NULL);
    (void)fputs("</td>", f);
    if (c->has_ns)
        (void)fprintf(f,
                      "<td class=\"num\"><strong>%.2f</strong></td>"
                      "<td class=\"num\">%.2f to %.2f</td><td class=\"num\">%.2f to %.2f</td>"
                      "<td class=\"num\">%zu</td>",
                      c->ns.median, c->ns.low, c->ns.high, c->ns.q1, c->ns.q3, c->ns.n);
    else
        (void)fputs("<td></td><td></td><td></td><td></td>", f);
    if (cycles)
        (void)fprintf(f, "<td class=\"num\">%.1f</td>", json_number_value(cycles));
    else
        (void)fputs("<td></td>", f);
    if (c->has_translation)
        (void)fprintf(f, "<td class=\"num\">%.2f</td>", c->translation_ns);
    else
        (void)fputs("<td></td>", f);
    put_known(f, c->references);
    put_known(f, c->formula);
    put_share(f, c->guest_share);
    put_share(f, c->host_share);
    put_counters(f, json_object_get(c->json, "counters"));
    html_put(f, "<td class=\"words\">", c->why, "</td></tr>\n");
}

void html_figures(FILE *f, const json_t *result)
{
    static const char *const heads[] = { "paging",
                                         "guest page",
                                         "host page",
                                         "footprint",
                                         "state",
                                         "ns",
                                         "95 % interval",
                                         "quartiles",
                                         "n",
                                         "cycles",
                                         "translation, ns",
                                         "references",
                                         "by formula",
                                         "guest pages as asked",
                                         "host pages as asked",
                                         "counters, an access",
                                         "why",
                                         NULL };
    struct measure_cell c;
    const json_t *item;
    size_t i;

    table_begin(f, "all cells");
    put_heads(f, heads);
    json_array_foreach(json_object_get(result, "cells"), i, item)
    {
        measure_cell_of(&c, item);
        put_figures(f, &c);
    }
    table_end(f);
}

/* --- what is not measured ----------------------------------------------------------------------
 */

static void put_unmeasured_cell(FILE *f, const struct measure_cell *c)
{
    struct measure_combo combo = { c->guest_page, c->host_page };
    char name[40], size[24];

    html_put(f, "<tr class=\"off\"><td>", c->paging, "");
    (void)fprintf(f, " %s, %s%s</td><td>", measure_combo_name(combo, name, sizeof(name)),
                  measure_size(c->footprint, size, sizeof(size)), c->repeat ? ", repeat" : "");
    html_badge(f, c->state, NULL);
    html_put(f, "</td><td class=\"words\">", *c->why ? c->why : "no reason is given",
             "</td></tr>\n");
}

static void put_unmeasured_load(FILE *f, const struct measure_load *l)
{
    html_put(f, "<tr class=\"off\"><td>", l->paging, " ");
    html_put(f, "", l->name, "</td><td>");
    html_badge(f, l->state, NULL);
    html_put(f, "</td><td class=\"words\">", *l->why ? l->why : "no reason is given",
             "</td></tr>\n");
}

bool html_unmeasured(FILE *f, const json_t *result)
{
    static const char *const heads[] = { "what", "state", "why", NULL };
    static const char *const lists[] = { "cells", "loads" };
    struct measure_cell c;
    struct measure_load l;
    const json_t *item;
    bool any = false;
    size_t i;

    for (unsigned which = 0; which < 2; which++) {
        json_array_foreach(json_object_get(result, lists[which]), i, item)
        {
            if (!strcmp(measure_string(item, "state"), "measured"))
                continue;
            if (!any) {
                table_begin(f, "cells and loads that are not measured");
                put_heads(f, heads);
            }
            any = true;
            measure_cell_of(&c, item);
            measure_load_of(&l, item);
            if (which)
                put_unmeasured_load(f, &l);
            else
                put_unmeasured_cell(f, &c);
        }
    }
    if (any)
        table_end(f);
    return any;
}
