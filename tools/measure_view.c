#include "tools/measure_view.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_WIDTH 80

const char *const measure_pagings[MEASURE_PAGINGS] = { "native", "nested", "shadow" };

const char *measure_string(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));

    return s ? s : "";
}

static uint64_t count(const json_t *object, const char *key)
{
    json_int_t n = json_integer_value(json_object_get(object, key));

    return n < 0 ? 0 : (uint64_t)n;
}

static double real_or(const json_t *object, const char *key, double otherwise)
{
    const json_t *n = json_object_get(object, key);

    return json_is_number(n) ? json_number_value(n) : otherwise;
}

static int small_or_unknown(const json_t *object, const char *key)
{
    const json_t *n = json_object_get(object, key);
    json_int_t value = json_integer_value(n);

    return json_is_integer(n) && value >= 0 && value < 1000 ? (int)value : -1;
}

static bool summary_of(struct measure_summary *out, const json_t *summary)
{
    *out = (struct measure_summary){
        .median = real_or(summary, "median", 0),
        .low = real_or(summary, "low", 0),
        .high = real_or(summary, "high", 0),
        .q1 = real_or(summary, "q1", 0),
        .q3 = real_or(summary, "q3", 0),
        .n = (size_t)count(summary, "n"),
    };
    return json_is_object(summary) && out->median > 0;
}

void measure_cell_of(struct measure_cell *out, const json_t *cell)
{
    *out = (struct measure_cell){
        .json = cell,
        .paging = measure_string(cell, "paging"),
        .state = measure_string(cell, "state"),
        .why = measure_string(cell, "why"),
        .guest_page = count(cell, "guest_page"),
        .host_page = count(cell, "host_page"),
        .footprint = count(cell, "footprint"),
        .repeat = json_is_true(json_object_get(cell, "repeat")),
        .has_translation = json_is_number(json_object_get(cell, "translation_ns")),
        .translation_ns = real_or(cell, "translation_ns", 0),
        .references = small_or_unknown(cell, "references"),
        .formula = small_or_unknown(cell, "references_formula"),
        .guest_share = real_or(cell, "guest_page_share", -1),
        .host_share = real_or(cell, "host_page_share", -1),
    };
    out->has_ns = summary_of(&out->ns, json_object_get(cell, "ns"));
}

void measure_load_of(struct measure_load *out, const json_t *load)
{
    *out = (struct measure_load){
        .json = load,
        .name = measure_string(load, "name"),
        .what = measure_string(load, "what"),
        .paging = measure_string(load, "paging"),
        .state = measure_string(load, "state"),
        .why = measure_string(load, "why"),
    };
    out->has_ns = summary_of(&out->ns, json_object_get(load, "ns"));
}

bool measure_find_cell(const json_t *result, const char *paging, struct measure_combo combo,
                       uint64_t footprint, struct measure_cell *out)
{
    const json_t *cell;
    size_t i;

    json_array_foreach(json_object_get(result, "cells"), i, cell)
    {
        if (count(cell, "footprint") != footprint) /* most are sorted out by that alone */
            continue;
        measure_cell_of(out, cell);
        if (!out->repeat && !strcmp(out->paging, paging) && out->guest_page == combo.guest_page &&
            out->host_page == combo.host_page)
            return true;
    }
    measure_cell_of(out, NULL);
    return false;
}

bool measure_find_baseline(const json_t *result, const char *paging, uint64_t footprint,
                           struct measure_cell *out)
{
    struct measure_combo largest = { 0, 0 };
    const json_t *item;
    size_t i;

    json_array_foreach(json_object_get(result, "cells"), i, item)
    {
        struct measure_cell c;

        measure_cell_of(&c, item);
        if (c.footprint != footprint || strcmp(c.paging, paging) != 0 ||
            !strcmp(c.state, "not available"))
            continue;
        if (c.guest_page > largest.guest_page)
            largest.guest_page = c.guest_page;
        if (c.host_page > largest.host_page)
            largest.host_page = c.host_page;
    }
    return measure_find_cell(result, paging, largest, footprint, out) && out->has_ns &&
           !strcmp(out->state, "measured");
}

double measure_repeat_differs(const json_t *result)
{
    double most = -1;
    const json_t *item;
    size_t i;

    json_array_foreach(json_object_get(result, "cells"), i, item)
    {
        struct measure_cell one, other;
        double ratio;

        measure_cell_of(&one, item);
        if (!one.repeat || !one.has_ns || one.ns.median <= 0 ||
            !measure_find_cell(result, one.paging,
                               (struct measure_combo){ one.guest_page, one.host_page },
                               one.footprint, &other) ||
            !other.has_ns || other.ns.median <= 0)
            continue;
        ratio = one.ns.median / other.ns.median;
        ratio = (ratio < 1 ? 1 / ratio : ratio) - 1;
        most = ratio > most ? ratio : most;
    }
    return most;
}

bool measure_find_load(const json_t *result, const char *name, const char *paging,
                       struct measure_load *out)
{
    const json_t *load;
    size_t i;

    json_array_foreach(json_object_get(result, "loads"), i, load)
    {
        measure_load_of(out, load);
        if (!strcmp(out->name, name) && !strcmp(out->paging, paging))
            return true;
    }
    measure_load_of(out, NULL);
    return false;
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

size_t measure_footprints(const json_t *result, uint64_t out[MEASURE_FOOTPRINTS_MAX])
{
    const json_t *cell;
    size_t i, n = 0;

    json_array_foreach(json_object_get(result, "cells"), i, cell)
    {
        uint64_t footprint = count(cell, "footprint");
        size_t k = 0;

        while (k < n && out[k] != footprint)
            k++;
        if (k == n && n < MEASURE_FOOTPRINTS_MAX)
            out[n++] = footprint;
    }
    qsort(out, n, sizeof(*out), by_size);
    return n;
}

static int by_combo(const void *a, const void *b)
{
    const struct measure_combo *x = a, *y = b;

    if (x->guest_page != y->guest_page)
        return x->guest_page < y->guest_page ? -1 : 1;
    return (x->host_page > y->host_page) - (x->host_page < y->host_page);
}

size_t measure_combos(const json_t *result, struct measure_combo out[MEASURE_COMBOS_MAX])
{
    const json_t *cell;
    size_t i, n = 0;

    json_array_foreach(json_object_get(result, "cells"), i, cell)
    {
        struct measure_combo combo = { count(cell, "guest_page"), count(cell, "host_page") };
        size_t k = 0;

        while (k < n && by_combo(&out[k], &combo) != 0)
            k++;
        if (k == n && n < MEASURE_COMBOS_MAX)
            out[n++] = combo;
    }
    qsort(out, n, sizeof(*out), by_combo);
    return n;
}

bool measure_first_of_name(const json_t *result, const struct measure_load *load)
{
    const json_t *other;
    size_t i;

    json_array_foreach(json_object_get(result, "loads"), i, other)
    {
        if (!strcmp(measure_string(other, "name"), load->name))
            return other == load->json;
    }
    return false;
}

bool measure_ratio_of(const struct measure_summary *a, const struct measure_summary *b,
                      struct measure_ratio *out)
{
    if (a->low <= 0 || b->low <= 0 || b->median <= 0 || b->high <= 0)
        return false;
    out->ratio = a->median / b->median;
    out->low = a->low / b->high;
    out->high = a->high / b->low;
    return true;
}

double measure_spread(const struct measure_summary *s)
{
    double below = s->median - s->low, above = s->high - s->median;

    return s->median > 0 ? 100 * (below > above ? below : above) / s->median : 0;
}

double measure_zero(double ns)
{
    return ns > -0.05 && ns < 0.05 ? 0 : ns;
}

unsigned measure_levels(uint64_t page)
{
    if (page == 0)
        return 0;
    return page >= 1u << 30 ? 2 : page >= 2u << 20 ? 3 : 4;
}

char *measure_size(uint64_t bytes, char *buf, size_t size)
{
    static const char units[] = "\0KMGT";
    unsigned unit = 0;

    while (bytes && bytes % 1024 == 0 && units[unit + 1]) {
        bytes /= 1024;
        unit++;
    }
    if (bytes && unit)
        (void)snprintf(buf, size, "%" PRIu64 "%c", bytes, units[unit]);
    else if (bytes)
        (void)snprintf(buf, size, "%" PRIu64, bytes);
    else
        (void)snprintf(buf, size, "-");
    return buf;
}

char *measure_combo_name(struct measure_combo combo, char *buf, size_t size)
{
    char guest[24], host[24];

    measure_size(combo.guest_page, guest, sizeof(guest));
    measure_size(combo.host_page, host, sizeof(host));
    if (combo.guest_page)
        (void)snprintf(buf, size, "%s in %s", guest, host);
    else
        (void)snprintf(buf, size, "%s", host);
    return buf;
}

char *measure_time(double ns, char *buf, size_t size)
{
    static const char *const units[] = { "ns", "us", "ms", "s" };
    unsigned unit = 0;

    while (ns >= 999.5 && unit < 3) {
        ns /= 1000;
        unit++;
    }
    (void)snprintf(buf, size, "%.*f %s", ns >= 99.95 ? 0 : ns >= 9.995 ? 1 : 2, ns, units[unit]);
    return buf;
}

char *measure_clean(const char *s, char *buf, size_t size)
{
    size_t n = 0;

    for (; *s && n + 1 < size; s++) {
        unsigned char c = (unsigned char)*s, next = (unsigned char)s[1];

        if (c == 0xc2 && next >= 0x80 && next < 0xa0) /* a C1 control, in UTF-8 */
            s++;
        else if (c >= 0x20 && c != 0x7f) {
            buf[n++] = (char)c;
            continue;
        }
        buf[n++] = '?';
    }
    while (n && *s && ((unsigned char)buf[n - 1] & 0x80)) /* no half of a character at the end */
        n--;
    buf[n] = '\0';
    return buf;
}

/* Bytes of `s` that fill at most `width` columns, up to a blank where there is one. */
static size_t fit(const char *s, size_t width)
{
    size_t n = 0, columns = 0, blank = 0;

    for (; s[n]; n++) {
        if (((unsigned char)s[n] & 0xc0) != 0x80 && ++columns > width)
            return blank ? blank : n;
        if (s[n] == ' ')
            blank = n;
    }
    return n;
}

void measure_fold(FILE *to, const char *first, const char *indent, const char *text)
{
    char clean[2048];
    const char *at = measure_clean(text, clean, sizeof(clean));
    const char *before = first;

    do {
        size_t n = fit(at, TEXT_WIDTH - strlen(before));

        (void)fprintf(to, "%s%.*s\n", before, (int)n, at);
        at += n + strspn(at + n, " ");
        before = indent;
    } while (*at);
}
