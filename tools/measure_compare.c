#include "tools/measure_compare.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct compare_row *add_row(struct compare *c)
{
    if (c->rows == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 64;
        struct compare_row *grown = realloc(c->row, cap * sizeof(*grown));

        if (!grown)
            return NULL;
        c->row = grown;
        c->cap = cap;
    }
    c->row[c->rows] = (struct compare_row){ .says = COMPARE_IMPOSSIBLE, .p = 1, .p_holm = 1 };
    return &c->row[c->rows++];
}

/* Samples in a new array; NULL without any, or when memory is out. */
static double *samples_of(const json_t *item, size_t *n)
{
    const json_t *list = json_object_get(json_object_get(item, "ns"), "samples"), *sample;
    double *out;
    size_t i;

    *n = json_array_size(list);
    out = *n ? malloc(*n * sizeof(*out)) : NULL;
    if (!out)
        return NULL;
    json_array_foreach(list, i, sample)
    {
        out[i] = json_number_value(sample);
    }
    return out;
}

/* The smallest p that so many rounds can give: all of one side are below all of the other. */
static double smallest_p(size_t n, size_t m)
{
    double *apart = malloc((n + m) * sizeof(*apart));
    double p = 1;

    for (size_t i = 0; apart && i < n + m; i++)
        apart[i] = (double)i;
    if (apart)
        p = measure_mann_whitney(apart, n, apart + n, m);
    free(apart);
    return p;
}

/* Fills a row whose items are both there. */
static void compare_figures(struct compare_row *row, const json_t *a, const json_t *b,
                            const struct measure_summary *ns_a, const struct measure_summary *ns_b)
{
    size_t n, m;
    double *of_a = samples_of(a, &n), *of_b = samples_of(b, &m);

    row->median_a = ns_a->median;
    row->median_b = ns_b->median;
    if (!of_a || !of_b)
        (void)snprintf(row->why, sizeof(row->why), "%s has no samples", of_a ? "B" : "A");
    else if (!measure_ratio_of(ns_b, ns_a, &row->ratio))
        (void)snprintf(row->why, sizeof(row->why), "an interval reaches down to zero");
    else if (smallest_p(n, m) >= COMPARE_ALPHA)
        (void)snprintf(row->why, sizeof(row->why), "%zu and %zu rounds are too few to tell", n, m);
    else {
        row->p = measure_mann_whitney(of_a, n, of_b, m);
        row->says = COMPARE_NO_DIFFERENCE;
    }
    free(of_a);
    free(of_b);
}

static bool comparable(struct compare_row *row, const json_t *a, const json_t *b)
{
    const json_t *side[] = { a, b };

    for (unsigned i = 0; i < 2; i++) {
        const char *state = measure_string(side[i], "state"), *why = measure_string(side[i], "why");

        if (!side[i])
            (void)snprintf(row->why, sizeof(row->why), "%c has none", "AB"[i]);
        else if (strcmp(state, "measured") != 0)
            (void)snprintf(row->why, sizeof(row->why), "%s in %c%s%.180s", state, "AB"[i],
                           *why ? ": " : "", why);
        else
            continue;
        return false;
    }
    return true;
}

static int add_cell(struct compare *c, const struct measure_cell *a, const struct measure_cell *b)
{
    struct compare_row *row = add_row(c);

    if (!row)
        return -ENOMEM;
    row->cell_a = *a;
    row->cell_b = *b;
    if (comparable(row, a->json, b->json))
        compare_figures(row, a->json, b->json, &a->ns, &b->ns);
    return 0;
}

static int add_load(struct compare *c, const struct measure_load *a, const struct measure_load *b)
{
    struct compare_row *row = add_row(c);

    if (!row)
        return -ENOMEM;
    row->is_load = true;
    row->load_a = *a;
    row->load_b = *b;
    if (comparable(row, a->json, b->json))
        compare_figures(row, a->json, b->json, &a->ns, &b->ns);
    return 0;
}

/* All of `from`; with `only_new`, those that `other` has not, and the sides are exchanged. */
static int add_cells(struct compare *c, const json_t *from, const json_t *other, bool only_new)
{
    struct measure_cell mine, its, first;
    const json_t *item;
    int rc = 0;
    size_t i;

    json_array_foreach(json_object_get(from, "cells"), i, item)
    {
        struct measure_combo combo;

        measure_cell_of(&mine, item);
        combo = (struct measure_combo){ mine.guest_page, mine.host_page };
        /* A second one of the same kind is none of ours. */
        if (mine.repeat || !measure_find_cell(from, mine.paging, combo, mine.footprint, &first) ||
            first.json != item)
            continue;
        measure_find_cell(other, mine.paging, combo, mine.footprint, &its);
        if (only_new && its.json)
            continue;
        rc = only_new ? add_cell(c, &its, &mine) : add_cell(c, &mine, &its);
        if (rc)
            break;
    }
    return rc;
}

static int add_loads(struct compare *c, const json_t *from, const json_t *other, bool only_new)
{
    struct measure_load mine, its, first;
    const json_t *item;
    int rc = 0;
    size_t i;

    json_array_foreach(json_object_get(from, "loads"), i, item)
    {
        measure_load_of(&mine, item);
        if (!measure_find_load(from, mine.name, mine.paging, &first) || first.json != item)
            continue;
        measure_find_load(other, mine.name, mine.paging, &its);
        if (only_new && its.json)
            continue;
        rc = only_new ? add_load(c, &its, &mine) : add_load(c, &mine, &its);
        if (rc)
            break;
    }
    return rc;
}

static int by_p(const void *a, const void *b)
{
    const struct compare_row *x = *(const struct compare_row *const *)a;
    const struct compare_row *y = *(const struct compare_row *const *)b;

    return (x->p > y->p) - (x->p < y->p);
}

/*
 * Holm's correction: the smallest p counts as often as there are rows, the next one once less, and
 * so on; none below the one before. So the chance of even one false "differs" is 5 %.
 */
static int correct(struct compare *c)
{
    struct compare_row **sorted = malloc((c->rows ? c->rows : 1) * sizeof(struct compare_row *));
    double least = 0;

    if (!sorted)
        return -ENOMEM;
    for (size_t i = 0; i < c->rows; i++)
        if (c->row[i].says != COMPARE_IMPOSSIBLE)
            sorted[c->compared++] = &c->row[i];
    qsort(sorted, c->compared, sizeof(struct compare_row *), by_p);
    for (size_t i = 0; i < c->compared; i++) {
        double p = sorted[i]->p * (double)(c->compared - i);

        least = p > least ? p : least;
        sorted[i]->p_holm = least < 1 ? least : 1;
        if (sorted[i]->p_holm < COMPARE_ALPHA) {
            sorted[i]->says = COMPARE_DIFFERS;
            c->differ++;
        }
    }
    free(sorted);
    return 0;
}

static size_t rounds_of(const json_t *item)
{
    return json_array_size(json_object_get(json_object_get(item, "ns"), "samples"));
}

/* "No difference seen" says nothing where none could have been. */
static void find_too_few(struct compare *c)
{
    for (size_t i = 0; i < c->rows; i++) {
        struct compare_row *row = &c->row[i];
        size_t n = rounds_of(row->is_load ? row->load_a.json : row->cell_a.json);
        size_t m = rounds_of(row->is_load ? row->load_b.json : row->cell_b.json);

        row->too_few = row->says == COMPARE_NO_DIFFERENCE &&
                       smallest_p(n, m) * (double)(c->compared - c->differ) >= COMPARE_ALPHA;
        c->too_few += row->too_few;
    }
}

int compare_results(struct compare *out, const json_t *a, const json_t *b, struct error *err)
{
    int rc;

    *out = (struct compare){ 0 };
    rc = add_cells(out, a, b, false);
    if (!rc)
        rc = add_cells(out, b, a, true);
    if (!rc)
        rc = add_loads(out, a, b, false);
    if (!rc)
        rc = add_loads(out, b, a, true);
    if (!rc)
        rc = correct(out);
    if (rc) {
        compare_free(out);
        return error_set(err, rc, "memory is out for a comparison");
    }
    find_too_few(out);
    return 0;
}

void compare_free(struct compare *c)
{
    free(c->row);
    *c = (struct compare){ 0 };
}

char *compare_name(const struct compare_row *row, char *buf, size_t size)
{
    const struct measure_cell *cell = row->cell_a.json ? &row->cell_a : &row->cell_b;
    const struct measure_load *load = row->load_a.json ? &row->load_a : &row->load_b;
    char name[40], footprint[24];

    if (row->is_load)
        (void)snprintf(buf, size, "%s %s", load->paging,
                       measure_clean(load->name, name, sizeof(name)));
    else
        (void)snprintf(
            buf, size, "%s %s, %s", cell->paging,
            measure_combo_name((struct measure_combo){ cell->guest_page, cell->host_page }, name,
                               sizeof(name)),
            measure_size(cell->footprint, footprint, sizeof(footprint)));
    return buf;
}
