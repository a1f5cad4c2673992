/*
 * The plots of a result's page, as gnuplot scripts. Text of the result gets into a script only by
 * script_name(), which leaves letters, digits and a few signs.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/measure_html.h"

#define WIDTH     560u
#define HEIGHT    410u
#define BARS_MAX  24
#define BAR_WIDTH 0.27

struct script {
    FILE *f;
    char *text;
    size_t size;
};

static bool script_begin(struct script *s)
{
    *s = (struct script){ 0 };
    s->f = open_memstream(&s->text, &s->size);
    if (!s->f)
        return false;
    (void)fprintf(s->f,
                  "set term svg size %u,%u dynamic noenhanced font 'sans-serif,15'\n"
                  "set encoding utf8\n"
                  "set border 3 lc rgb '#010101'\n"
                  "set tics nomirror out textcolor rgb '#010101'\n"
                  "set grid ytics lc rgb '#020202' dt solid\n"
                  "set key below horizontal maxcols 3 textcolor rgb '#010101'\n",
                  WIDTH, HEIGHT);
    return true;
}

/* Draws what the script says and frees it. */
static int script_end(FILE *to, struct script *s, struct html_picture *picture, struct error *err)
{
    int rc = fclose(s->f) ? error_set(err, -ENOMEM, "memory is out for a plot") : 0;

    picture->width = WIDTH;
    picture->height = HEIGHT;
    if (!rc)
        rc = html_gnuplot(to, picture, s->text, s->size, err);
    free(s->text);
    return rc;
}

static void script_name(FILE *f, const char *name)
{
    for (size_t i = 0; i < 16 && name[i]; i++)
        (void)fputc(isalnum((unsigned char)name[i]) || strchr(" -_.", name[i]) ? name[i] : '?', f);
}

/* --- ns an access over the footprint --------------------------------------------------- */

static unsigned page_index(uint64_t page)
{
    return page ? 4 - measure_levels(page) : 0;
}

/* A block of lines; a gap in the footprints is one in the curve. True if there are any. */
static bool put_curve(FILE *f, const json_t *result, const char *paging, size_t index,
                      struct measure_combo combo, const uint64_t *footprints, size_t n)
{
    struct measure_cell c;
    bool any = false;

    (void)fprintf(f, "$c%zu << E\n", index);
    for (size_t i = 0; i < n; i++) {
        measure_find_cell(result, paging, combo, footprints[i], &c);
        if (c.has_ns)
            (void)fprintf(f, "%" PRIu64 " %.6g %.6g %.6g %d\n", c.footprint, c.ns.median, c.ns.low,
                          c.ns.high, !strcmp(c.state, "noisy"));
        else
            (void)fputc('\n', f);
        any |= c.has_ns;
    }
    (void)fputs("E\n", f);
    return any;
}

static void put_footprint_tics(FILE *f, const uint64_t *footprints, size_t n)
{
    size_t step = n > 8 ? 2 : 1;
    char size[24];

    (void)fputs("set logscale x 2\nset xtics (", f);
    for (size_t i = 0; i < n; i += step)
        (void)fprintf(f, "%s'%s' %" PRIu64, i ? "," : "",
                      measure_size(footprints[i], size, sizeof(size)), footprints[i]);
    (void)fprintf(f,
                  ")\nset xrange [%.6g:%.6g]\nset yrange [0:*]\n"
                  "set ylabel 'ns an access' textcolor rgb '#010101'\n",
                  (double)footprints[0] * 0.8, (double)footprints[n - 1] * 1.25);
}

/* The colour tells the guest's page, dashes and points the host's. */
static void put_curves(FILE *f, const struct measure_combo *combos, const bool *any, size_t n)
{
    static const unsigned points[] = { 7, 5, 9 };
    static const char *const dashes[] = { "1", "'-'", "'.'" };
    const char *separator = "plot ";
    char name[40];

    for (size_t i = 0; i < n; i++) {
        unsigned host = page_index(combos[i].host_page);
        unsigned hue = combos[i].guest_page ? page_index(combos[i].guest_page) : host;

        if (!any[i])
            continue;
        (void)fprintf(f,
                      "%s$c%zu using 1:2:3:4 with yerrorlines lw 1.5 ps 0.7 pt %u dt %s lc rgb "
                      "'#0%u0%u0%u' title '%s'",
                      separator, i, points[host], dashes[host], 3 + hue, 3 + hue, 3 + hue,
                      measure_combo_name(combos[i], name, sizeof(name)));
        separator = ", ";
    }
    for (size_t i = 0; i < n; i++)
        if (any[i])
            (void)fprintf(f,
                          ", $c%zu using 1:($5 == 1 ? $2 : NaN) with points pt 6 ps 1.8 lw 1.5 lc "
                          "rgb '#060606' notitle",
                          i);
    (void)fputc('\n', f);
}

static int plot_paging(FILE *f, const json_t *result, const char *paging, struct error *err)
{
    struct measure_combo combos[MEASURE_COMBOS_MAX];
    uint64_t footprints[MEASURE_FOOTPRINTS_MAX];
    size_t n = measure_combos(result, combos), m = measure_footprints(result, footprints);
    bool any[MEASURE_COMBOS_MAX], some = false;
    char id[24], title[64];
    struct html_picture picture = {
        .id = id,
        .title = title,
        .desc = "Nanoseconds an access over the footprint, which grows by powers of two to the "
                "right; a line for each pair of page sizes, with the 95 % confidence interval of "
                "each median. The table below has the same figures.",
    };
    struct script s;

    if (!script_begin(&s))
        return error_set(err, -ENOMEM, "memory is out for a plot");
    for (size_t i = 0; i < n; i++) {
        any[i] = put_curve(s.f, result, paging, i, combos[i], footprints, m);
        some |= any[i];
    }
    if (!some) {
        (void)fclose(s.f);
        free(s.text);
        return 0;
    }
    (void)snprintf(id, sizeof(id), "p-%s", paging);
    (void)snprintf(title, sizeof(title), "ns an access, paging %s", paging);
    put_footprint_tics(s.f, footprints, m);
    put_curves(s.f, combos, any, n);
    return script_end(f, &s, &picture, err);
}

/* --- bars: a group for each name, a bar for each paging ---------------------------------- */

static void put_bars(FILE *f, const bool *any)
{
    const char *separator = "plot ";

    for (unsigned p = 0; p < MEASURE_PAGINGS; p++) {
        if (!any[p])
            continue;
        (void)fprintf(f,
                      "%s$b%u using ($1 + %g):2 with boxes fs solid 0.75 noborder lc rgb "
                      "'#0%u0%u0%u' title '%s'",
                      separator, p, ((double)p - 1) * BAR_WIDTH, 3 + p, 3 + p, 3 + p,
                      measure_pagings[p]);
        separator = ", ";
    }
    for (unsigned p = 0; p < MEASURE_PAGINGS; p++)
        if (any[p])
            (void)fprintf(f,
                          ", $b%u using ($1 + %g):3:(0):($4 - $3) with vectors nohead lw 2 lc rgb "
                          "'#010101' notitle, $b%u using ($1 + %g):($5 == 1 ? $2 : NaN) with "
                          "points pt 6 ps 1.8 lw 1.5 lc rgb '#060606' notitle",
                          p, ((double)p - 1) * BAR_WIDTH, p, ((double)p - 1) * BAR_WIDTH);
    (void)fputc('\n', f);
}

/* Data of one paging, in seconds; true if there is any. */
static bool put_load_bars(FILE *f, const json_t *result, const char *paging)
{
    struct measure_load l, bar;
    const json_t *item;
    bool any = false;
    size_t i, at = 0;

    json_array_foreach(json_object_get(result, "loads"), i, item)
    {
        measure_load_of(&l, item);
        if (!measure_first_of_name(result, &l) || ++at > BARS_MAX)
            continue;
        measure_find_load(result, l.name, paging, &bar);
        if (bar.has_ns)
            (void)fprintf(f, "%zu %.6g %.6g %.6g %d\n", at, bar.ns.median * 1e-9, bar.ns.low * 1e-9,
                          bar.ns.high * 1e-9, !strcmp(bar.state, "noisy"));
        any |= bar.has_ns;
    }
    return any;
}

static void put_load_tics(FILE *f, const json_t *result)
{
    struct measure_load l;
    const json_t *item;
    size_t i, at = 0;

    (void)fputs("set xtics rotate by -35 (", f);
    json_array_foreach(json_object_get(result, "loads"), i, item)
    {
        measure_load_of(&l, item);
        if (!measure_first_of_name(result, &l) || ++at > BARS_MAX)
            continue;
        (void)fputs(at > 1 ? ",'" : "'", f);
        script_name(f, l.name);
        (void)fprintf(f, "' %zu", at);
    }
    (void)fprintf(f, ")\nset xrange [0.4:%zu.6]\n", at > BARS_MAX ? BARS_MAX : at);
}

static int plot_loads(FILE *f, const json_t *result, struct error *err)
{
    struct html_picture picture = {
        .id = "p-loads",
        .title = "loads that change tables",
        .desc = "The time of one operation on a logarithmic scale: a group for each load, a bar "
                "for each paging, with the 95 % confidence interval of the median. The table below "
                "has the same figures.",
    };
    bool any[MEASURE_PAGINGS];
    struct script s;

    if (!script_begin(&s))
        return error_set(err, -ENOMEM, "memory is out for a plot");
    for (unsigned p = 0; p < MEASURE_PAGINGS; p++) {
        (void)fprintf(s.f, "$b%u << E\n", p);
        any[p] = put_load_bars(s.f, result, measure_pagings[p]);
        (void)fputs("E\n", s.f);
    }
    if (!any[0] && !any[1] && !any[2]) {
        (void)fclose(s.f);
        free(s.text);
        return 0;
    }
    put_load_tics(s.f, result);
    (void)fprintf(s.f,
                  "set boxwidth %g\nset logscale y 10\nset format y '%%.0s %%cs'\n"
                  "set ylabel 'an operation' textcolor rgb '#010101'\n",
                  BAR_WIDTH);
    put_bars(s.f, any);
    return script_end(f, &s, &picture, err);
}

/* The footprint at which most cells have a cost; the larger one of two. 0: there is none. */
static uint64_t footprint_of_costs(const json_t *result)
{
    uint64_t footprints[MEASURE_FOOTPRINTS_MAX], best = 0;
    size_t n = measure_footprints(result, footprints), most = 1;
    struct measure_cell c;
    const json_t *item;

    for (size_t i = 0; i < n; i++) {
        size_t k, have = 0;

        json_array_foreach(json_object_get(result, "cells"), k, item)
        {
            measure_cell_of(&c, item);
            have += c.footprint == footprints[i] && c.has_translation && !c.repeat;
        }
        if (have >= most) {
            most = have;
            best = footprints[i];
        }
    }
    return best;
}

static bool put_cost_bars(FILE *f, const json_t *result, const char *paging, uint64_t footprint)
{
    struct measure_combo combos[MEASURE_COMBOS_MAX];
    size_t n = measure_combos(result, combos);
    struct measure_cell c;
    struct measure_cell base;
    bool any = false, has_base = measure_find_baseline(result, paging, footprint, &base);
    double low, high;

    for (size_t i = 0; i < n; i++) {
        measure_find_cell(result, paging, combos[i], footprint, &c);
        if (!c.has_translation)
            continue;
        low = high = c.translation_ns;
        /* The widest that both medians' intervals allow; the baseline's own cost is 0. */
        if (has_base && c.has_ns && c.json != base.json) {
            low = c.ns.low - base.ns.high;
            high = c.ns.high - base.ns.low;
        }
        (void)fprintf(f, "%zu %.6g %.6g %.6g %d\n", i + 1, c.translation_ns, low, high,
                      !strcmp(c.state, "noisy"));
        any = true;
    }
    return any;
}

static int plot_costs(FILE *f, const json_t *result, struct error *err)
{
    uint64_t footprint = footprint_of_costs(result);
    struct measure_combo combos[MEASURE_COMBOS_MAX];
    size_t n = measure_combos(result, combos);
    bool any[MEASURE_PAGINGS];
    char title[80], name[40];
    struct html_picture picture = {
        .id = "p-costs",
        .title = title,
        .desc = "Nanoseconds an access above the baseline: a group for each pair of page sizes, a "
                "bar for each paging, with the widest interval that those of both medians allow. "
                "The table below has the same figures for all footprints.",
    };
    struct script s;

    if (!footprint)
        return 0;
    if (!script_begin(&s))
        return error_set(err, -ENOMEM, "memory is out for a plot");
    (void)snprintf(title, sizeof(title), "translation cost over %s",
                   measure_size(footprint, name, sizeof(name)));
    for (unsigned p = 0; p < MEASURE_PAGINGS; p++) {
        (void)fprintf(s.f, "$b%u << E\n", p);
        any[p] = put_cost_bars(s.f, result, measure_pagings[p], footprint);
        (void)fputs("E\n", s.f);
    }
    (void)fputs("set xtics rotate by -35 (", s.f);
    for (size_t i = 0; i < n; i++)
        (void)fprintf(s.f, "%s'%s' %zu", i ? "," : "",
                      measure_combo_name(combos[i], name, sizeof(name)), i + 1);
    (void)fprintf(s.f,
                  ")\nset xrange [0.4:%zu.6]\nset boxwidth %g\nset xzeroaxis lc rgb '#010101'\n"
                  "set ylabel 'ns above the baseline, over %s' textcolor rgb '#010101'\n",
                  n, BAR_WIDTH, measure_size(footprint, name, sizeof(name)));
    put_bars(s.f, any);
    return script_end(f, &s, &picture, err);
}

int html_plot(FILE *f, const json_t *result, const char *what, struct error *err)
{
    if (!strcmp(what, "loads"))
        return plot_loads(f, result, err);
    if (!strcmp(what, "costs"))
        return plot_costs(f, result, err);
    return plot_paging(f, result, what, err);
}
