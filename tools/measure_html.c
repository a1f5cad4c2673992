/*
 * A result as one page: nothing besides it is loaded, so it works from a file, by mail, offline.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "tools/measure_html.h"
#include "tools/table.h"

/* --p1 to --p9 are the colours of the plots (html_gnuplot()). */
static const char style[] =
    ":root{color-scheme:light dark;--bg:#fdfdfc;--ink:#1c2024;--dim:#5b6470;--line:#d5d9de;"
    "--card:#f3f5f7;--bar:#cfe3f5;--off:#fbf1dc;--warn:#8a5a00;--bad:#b3261e;--good:#1c6b36;"
    "--p1:#333b44;--p2:#dfe3e7;--p3:#0a66b5;--p4:#c2500a;--p5:#0d8058;--p6:#b3261e;"
    "--host:#e2effa;--guest:#e1f4e7}\n"
    "@media (prefers-color-scheme:dark){:root{--bg:#14171a;--ink:#e6e9ec;--dim:#a2abb5;"
    "--line:#3a4149;--card:#1d2125;--bar:#1f4566;--off:#3a3018;--warn:#f0c060;--bad:#ff9088;"
    "--good:#7fd69a;--p1:#cfd6dd;--p2:#333a41;--p3:#6db7f2;--p4:#f59a5b;--p5:#52cfa0;--p6:#ff9088;"
    "--host:#1d3d57;--guest:#1e4730}}\n"
    "*{box-sizing:border-box}body{margin:0 auto;padding:1rem;max-width:76rem;background:var(--bg);"
    "color:var(--ink);font:1rem/1.5 system-ui,'Segoe UI','DejaVu Sans',sans-serif;"
    "overflow-wrap:anywhere}\n"
    "h1{font-size:1.5rem;line-height:1.25;margin:.5rem 0}h2{font-size:1.2rem;margin:2.2rem 0 .5rem;"
    "border-bottom:1px solid var(--line);padding-bottom:.2rem}h3{font-size:1rem;"
    "margin:1.4rem 0 .4rem}p,li,dd{max-width:48rem}.dim,figcaption,small{color:var(--dim)}\n"
    ".verdict{background:var(--card);border:1px solid var(--line);border-left:.4rem solid "
    "var(--dim);border-radius:.4rem;padding:.6rem 1rem;margin:1rem 0}.verdict h2{border:0;"
    "margin:.2rem 0}.verdict.good{border-left-color:var(--good)}.verdict.fair{border-left-color:"
    "var(--warn)}.verdict.poor,.verdict.none{border-left-color:var(--bad)}\n"
    ".badge{display:inline-block;padding:0 .45em;border:1px solid currentColor;border-radius:1em;"
    "font-size:.8em;color:var(--warn);white-space:nowrap}.badge.bad{color:var(--bad)}"
    ".badge.good{color:var(--good)}.missing{border:1px dashed var(--warn);border-radius:.4rem;"
    "padding:.5rem .8rem;color:var(--warn)}\n"
    "dl{display:grid;grid-template-columns:minmax(6rem,max-content) 1fr;gap:.15rem 1rem;margin:0}"
    "dt{color:var(--dim)}dd{margin:0}\n"
    ".box{overflow-x:auto;border:1px solid var(--line);border-radius:.4rem;margin:.6rem 0 1.2rem}"
    ".box:focus-visible{outline:2px solid "
    "var(--p3)}table{border-collapse:collapse;font-size:.88rem;"
    "min-width:100%;font-variant-numeric:tabular-nums}caption{text-align:left;padding:.5rem .7rem;"
    "color:var(--dim)}th,td{padding:.25rem .7rem;border-top:1px solid var(--line);text-align:left;"
    "white-space:nowrap;overflow-wrap:normal}thead th{background:var(--card)}.num{text-align:right}"
    ".words{white-space:normal;min-width:16rem}.off{background:var(--off)}.cost{background:"
    "linear-gradient(90deg,var(--bar) calc(var(--v)*100%),transparent 0)}\n"
    ".plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,27rem),1fr));"
    "gap:1rem}figure{margin:.5rem 0}figure svg{display:block;width:100%;height:auto;"
    "max-width:44rem}.plot{background:var(--card);border:1px solid var(--line);"
    "border-radius:.4rem;padding:.6rem}.plot figcaption{font-weight:600;color:var(--ink)}\n"
    ".grids{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,15rem),1fr));"
    "gap:1rem}.grid svg{max-width:17rem}.grid text{font:12px system-ui,sans-serif;fill:var(--ink)}"
    ".grid .dim{fill:var(--dim)}.grid rect{stroke:var(--p3);fill:var(--host)}.grid .guest{stroke:"
    "var(--p5);fill:var(--guest)}\n"
    "@media print{.box{overflow:visible}}\n";

void html_text(FILE *f, const char *s)
{
    for (; *s; s++) {
        switch (*s) {
        case '<':
            (void)fputs("&lt;", f);
            break;
        case '>':
            (void)fputs("&gt;", f);
            break;
        case '&':
            (void)fputs("&amp;", f);
            break;
        case '"':
            (void)fputs("&quot;", f);
            break;
        case '\'':
            (void)fputs("&#39;", f);
            break;
        default:
            if ((unsigned char)*s >= 0x20 && *s != 0x7f)
                (void)fputc(*s, f);
        }
    }
}

void html_put(FILE *f, const char *open, const char *s, const char *close)
{
    (void)fputs(open, f);
    html_text(f, s);
    (void)fputs(close, f);
}

void html_badge(FILE *f, const char *state, const char *why)
{
    if (!strcmp(state, "measured"))
        return;
    (void)fprintf(f, "<span class=\"badge%s\"", !strcmp(state, "failed") ? " bad" : "");
    if (why && *why)
        html_put(f, " title=\"", why, "\"");
    html_put(f, ">", state, "</span>");
}

void html_svg_begin(FILE *f, const struct html_picture *picture)
{
    (void)fprintf(f,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" "
                  "xmlns:xlink=\"http://www.w3.org/1999/xlink\" viewBox=\"0 0 %u %u\" "
                  "role=\"img\" aria-labelledby=\"%s-t %s-d\">\n",
                  picture->width, picture->height, picture->id, picture->id);
    (void)fprintf(f, "<title id=\"%s-t\">", picture->id);
    html_put(f, "", picture->title, "</title>\n");
    (void)fprintf(f, "<desc id=\"%s-d\">", picture->id);
    html_put(f, "", picture->desc, "</desc>\n");
}

static void put_sentences(FILE *f, const json_t *list)
{
    const json_t *sentence;
    size_t i;

    (void)fputs("<ul>\n", f);
    json_array_foreach(list, i, sentence)
    {
        if (json_is_string(sentence))
            html_put(f, "<li>", json_string_value(sentence), "</li>\n");
    }
    (void)fputs("</ul>\n", f);
}

static void put_head(FILE *f, const json_t *result)
{
    const char *cpu = measure_string(json_object_get(result, "environment"), "cpu");
    double s = json_number_value(json_object_get(result, "duration_s"));
    char time[32];

    (void)fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
                f);
    html_put(f, "<title>Address translation on ", cpu, "</title>\n");
    (void)fprintf(f, "<style>\n%s</style>\n</head>\n<body>\n<header>\n", style);
    html_put(f, "<h1>Address translation on ", cpu, "</h1>\n");
    html_put(f, "<p class=\"dim\">", measure_string(result, "created"), ", ");
    html_put(f, "twofold ", measure_string(result, "version"), " measure");
    html_put(f, ", mode ", measure_string(result, "mode"), "");
    (void)fprintf(f, ", %s", format_seconds(s, time, sizeof(time)));
    if (!json_is_true(json_object_get(result, "complete")))
        (void)fputs(" <span class=\"badge bad\">not complete</span>", f);
    (void)fputs("</p>\n</header>\n<main>\n", f);
}

static void put_verdict(FILE *f, const json_t *result)
{
    static const struct {
        const char *trust, *means;
    } known[] = {
        { "good", "these figures can be relied on" },
        { "fair", "differences that are large can be relied on" },
        { "poor", "these figures say little" },
        { "none", "these figures mean nothing as times" },
    };
    const json_t *verdict = json_object_get(result, "verdict");
    const char *trust = measure_string(verdict, "trust"), *class = "poor", *means = "";

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (!strcmp(trust, known[i].trust)) {
            class = known[i].trust;
            means = known[i].means;
        }
    }
    (void)fprintf(f, "<section class=\"verdict %s\">\n", class);
    html_put(f, "<h2>Trust: ", trust, "");
    (void)fprintf(f, "</h2>\n<p>%s%s</p>\n", means, *means ? "." : "");
    if (json_is_true(json_object_get(json_object_get(result, "environment"), "emulated")))
        (void)fputs("<p><span class=\"badge bad\">emulated</span> This machine is emulated in "
                    "software. References count as they do on hardware; times are the "
                    "emulator's.</p>\n",
                    f);
    put_sentences(f, json_object_get(verdict, "reasons"));
    (void)fputs("</section>\n", f);
}

static void put_pair(FILE *f, const char *what, const char *value)
{
    (void)fprintf(f, "<dt>%s</dt>", what);
    html_put(f, "<dd>", *value ? value : "unknown", "</dd>\n");
}

static json_int_t number(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static void put_environment(FILE *f, const json_t *result)
{
    const json_t *e = json_object_get(result, "environment");
    const json_t *guest = json_object_get(e, "is_guest");
    char line[256], size[32];

    (void)fputs("<h2>The machine</h2>\n<dl>\n", f);
    put_pair(f, "CPU", measure_string(e, "cpu"));
    put_pair(f, "microcode", measure_string(e, "microcode"));
    put_pair(f, "kernel", measure_string(e, "kernel"));
    (void)snprintf(
        line, sizeof(line),
        "%" JSON_INTEGER_FORMAT " online, measured on CPU %" JSON_INTEGER_FORMAT ", TSC %.3f GHz",
        number(e, "cpus_online"), number(e, "cpu_pinned"), (double)number(e, "tsc_hz") / 1e9);
    put_pair(f, "CPUs", line);
    put_pair(f, "memory", format_bytes((uint64_t)number(e, "memory_bytes"), size, sizeof(size)));
    put_pair(f, "THP", measure_string(e, "thp"));
    (void)snprintf(line, sizeof(line), "%s%s%.150s",
                   json_is_true(guest)    ? "yes"
                   : json_is_false(guest) ? "no"
                                          : "unknown",
                   *measure_string(e, "hypervisor") ? ", of " : "",
                   measure_string(e, "hypervisor"));
    put_pair(f, "itself a guest", line);
    put_pair(f, "KVM", *measure_string(e, "kvm") ? measure_string(e, "kvm") : "none");
    put_pair(f, "paging nested is", measure_string(e, "nested_by"));
    put_pair(f, "counters", measure_string(e, "counters"));
    (void)fputs("</dl>\n", f);
}

/* What an interval is of, and what it leaves out. */
static void put_intervals(FILE *f, const json_t *result)
{
    double differs = measure_repeat_differs(result);

    (void)fputs("<li>A figure is the median of its rounds; &#177; is the farther end of the "
                "median's 95 % confidence interval, which is of one runner's rounds: it does not "
                "say how another runner of the same cell, elsewhere in memory, would do. ",
                f);
    if (differs >= 0)
        (void)fprintf(f, "Here the two runners of a repeated cell differ by up to %.1f&#8201;%%. ",
                      100 * differs);
    else
        (void)fputs("Here no cell has the figures of two runners. ", f);
    (void)fputs("Two figures differ beyond chance when their intervals do not overlap and they are "
                "farther apart than that; <code>twofold compare</code> tells differences of two "
                "results.</li>\n",
                f);
}

static void put_how_to_read(FILE *f, const json_t *result)
{
    (void)fputs(
        "<h2>How to read it</h2>\n<ul>\n"
        "<li>Each access of the chase depends on the one before and goes to another page, in "
        "random order: it pays for a translation as soon as the footprint is larger than the "
        "CPU's caches of translations reach.</li>\n"
        "<li><strong>4K in 2M</strong> means: the guest maps pages of 4 KiB, and the host backs "
        "them by pages of 2 MiB. Native rows have the host's page alone.</li>\n",
        f);
    put_intervals(f, result);
    (void)fputs(
        "<li>Translation cost is the median minus that of the same footprint with the largest "
        "pages on both sides. A small cost may come out below zero: that is chance.</li>\n"
        "<li>The interval of a quotient is the widest that both medians' intervals allow.</li>\n"
        "<li>What is not <em>measured</em> bears a mark: <span class=\"badge\">noisy</span> is "
        "shown but not to be concluded from (a ring in the plots), <span class=\"badge\">no "
        "pages</span> did not get the page size asked for, <span class=\"badge\">not "
        "available</span> can't be here, <span class=\"badge\">not run</span> was not come to, "
        "<span class=\"badge bad\">failed</span> went wrong. The last table says why.</li>\n"
        "</ul>\n",
        f);
}

/* Draws one, in a frame; says once what is the matter when that can't be. */
static void put_plot(FILE *f, const json_t *result, const char *caption, const char *what,
                     bool *told)
{
    struct error err = { .text = "" };
    int rc;

    if (*told)
        return;
    (void)fprintf(f, "<figure class=\"plot\">\n<figcaption>%s</figcaption>\n", caption);
    rc = html_plot(f, result, what, &err);
    if (rc) {
        *told = rc == -ENOENT;
        html_put(f, "<p class=\"missing\">There is no plot: ", err.text, "");
        (void)fputs(". The tables have all figures.</p>\n", f);
    }
    (void)fputs("</figure>\n", f);
}

static bool has_figures(const json_t *result, const char *list, const char *paging)
{
    const json_t *item;
    size_t i;

    json_array_foreach(json_object_get(result, list), i, item)
    {
        if ((!paging || !strcmp(measure_string(item, "paging"), paging)) &&
            json_object_get(item, "ns"))
            return true;
    }
    return false;
}

static bool has_cells(const json_t *result, const char *paging)
{
    const json_t *item;
    size_t i;

    json_array_foreach(json_object_get(result, "cells"), i, item)
    {
        if (!strcmp(measure_string(item, "paging"), paging))
            return true;
    }
    return false;
}

static void put_accesses(FILE *f, const json_t *result, bool *told)
{
    char caption[64];

    (void)fputs("<h2>An access</h2>\n<div class=\"plots\">\n", f);
    for (unsigned p = 0; p < MEASURE_PAGINGS; p++) {
        if (!has_figures(result, "cells", measure_pagings[p]))
            continue;
        (void)snprintf(caption, sizeof(caption), "%s: ns an access over the footprint",
                       measure_pagings[p]);
        put_plot(f, result, caption, measure_pagings[p], told);
    }
    (void)fputs("</div>\n", f);
    for (unsigned p = 0; p < MEASURE_PAGINGS; p++) {
        if (!has_cells(result, measure_pagings[p]))
            continue;
        (void)fprintf(f, "<h3>Paging %s</h3>\n", measure_pagings[p]);
        html_matrix(f, result, measure_pagings[p]);
    }
}

static void put_sections(FILE *f, const json_t *result)
{
    const json_t *notes = json_object_get(json_object_get(result, "environment"), "notes");
    bool told = false;

    put_verdict(f, result);
    (void)fputs("<h2>What the columns mean on this host</h2>\n", f);
    put_sentences(f, notes);
    put_environment(f, result);
    put_how_to_read(f, result);
    put_accesses(f, result, &told);
    (void)fputs("<h2>What translation costs</h2>\n", f);
    if (has_figures(result, "cells", NULL))
        put_plot(f, result, "ns an access above the largest pages", "costs", &told);
    html_costs(f, result);
    (void)fputs("<h2>Loads that change tables</h2>\n", f);
    if (has_figures(result, "loads", NULL))
        put_plot(f, result, "one operation, logarithmic scale", "loads", &told);
    html_loads(f, result);
    (void)fputs("<h2>References of a nested walk</h2>\n<p>What a CPU that walks both dimensions "
                "reads when none of its caches helps: each row is an entry of the guest's tables "
                "(g), whose own address goes through the host's levels (h) first. Native and "
                "shadow walks read one table: 4, 3 or 2 entries.</p>\n",
                f);
    html_grids(f, result);
    (void)fputs("<h2>All figures</h2>\n", f);
    html_figures(f, result);
    (void)fputs("<h2>What is not measured, and why</h2>\n", f);
    if (!html_unmeasured(f, result))
        (void)fputs("<p>Nothing: all cells and loads are measured.</p>\n", f);
}

int measure_write_html(const json_t *result, const char *path, struct error *err)
{
    FILE *f = fopen(path, "we");
    int bad;

    if (!f)
        return error_set(err, -errno, "%.200s can't be written: %s", path, strerror(errno));
    put_head(f, result);
    put_sections(f, result);
    (void)fputs("</main>\n</body>\n</html>\n", f);
    bad = ferror(f);
    if (fclose(f) || bad)
        return error_set(err, -EIO, "%.200s can't be written: %s", path, strerror(errno));
    return 0;
}
