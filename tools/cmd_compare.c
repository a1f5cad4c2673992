#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/client.h"
#include "tools/measure_compare.h"
#include "tools/table.h"

static const char help[] =
    "usage: twofold compare [--json] A.json B.json\n"
    "\n"
    "Compares two results of 'twofold measure', cell by cell and load by load: what differs\n"
    "for sure, and by how much. A ratio above 1 means that B takes longer.\n"
    "\n"
    "'differs' is the Mann-Whitney test of the rounds at 5 %, corrected (Holm) for how many\n"
    "are compared: the chance that any of them is wrong is 5 % in all. It is about these two\n"
    "runs: that a third one on either machine would be like them is not tested.\n"
    "\n"
    "  --json         one object, as docs/measuring.md describes it\n"
    "  -h, --help     this text\n"
    "\n"
    "Exit status: 0, whatever differs; 1 could not be done; 2 wrong usage, or a file that is\n"
    "no result.\n";

struct side {
    const char *path;
    json_t *result;
};

static const char *const says[] = {
    [COMPARE_DIFFERS] = "differs",
    [COMPARE_NO_DIFFERENCE] = "no difference seen",
    [COMPARE_IMPOSSIBLE] = "can't be compared",
};

/* --- what is told before any figure ------------------------------------------------------ */

/* As text for both outputs. A borrowed reference, or NULL where it is the same. */
static json_t *environment_differences(const struct side *a, const struct side *b)
{
    static const char *const keys[] = { "cpu",     "microcode", "kernel",     "cpus_online",
                                        "tsc_hz",  "is_guest",  "hypervisor", "emulated",
                                        "kvm",     "nested_by", "thp",        "memory_bytes",
                                        "counters" };
    const json_t *of_a = json_object_get(a->result, "environment");
    const json_t *of_b = json_object_get(b->result, "environment");
    json_t *list = json_array();

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        json_t *x = json_object_get(of_a, keys[i]), *y = json_object_get(of_b, keys[i]);

        if (!json_equal(x, y))
            json_array_append_new(list,
                                  json_pack("{s:s, s:O, s:O}", "what", keys[i], "a", x, "b", y));
    }
    if (!json_equal(json_object_get(a->result, "version"), json_object_get(b->result, "version")))
        json_array_append_new(list, json_pack("{s:s, s:O, s:O}", "what", "version", "a",
                                              json_object_get(a->result, "version"), "b",
                                              json_object_get(b->result, "version")));
    return list;
}

static void add_warning(json_t *list, char which, const char *what)
{
    json_array_append_new(list, json_sprintf("%c %s", which, what));
}

static void add_warnings(json_t *list, const struct side *s, char which)
{
    const char *trust = measure_string(json_object_get(s->result, "verdict"), "trust");

    if (json_is_true(json_object_get(json_object_get(s->result, "environment"), "emulated")))
        add_warning(list, which, "is of a machine that is emulated: its times mean nothing");
    if (!strcmp(trust, "poor") || !strcmp(trust, "none"))
        json_array_append_new(
            list, json_sprintf("%c says of itself that trust in it is: %s", which, trust));
    if (!json_is_true(json_object_get(s->result, "complete")))
        add_warning(list, which, "is not complete");
}

static json_t *warnings(const struct side *a, const struct side *b, const struct compare *c)
{
    json_t *list = json_array();

    add_warnings(list, a, 'A');
    add_warnings(list, b, 'B');
    if (json_equal(a->result, b->result))
        json_array_append_new(list, json_string("both files are the same result"));
    if (c->too_few)
        json_array_append_new(
            list, json_sprintf("%zu of %zu have too few rounds for any difference to show among "
                               "so many: measure with --full",
                               c->too_few, c->compared));
    return list;
}

/* --- JSON ------------------------------------------------------------------------------------ */

static json_t *row_json(const struct compare_row *row)
{
    const json_t *item = row->is_load ? (row->load_a.json ? row->load_a.json : row->load_b.json)
                                      : (row->cell_a.json ? row->cell_a.json : row->cell_b.json);
    static const char *const keys[] = { "name", "paging", "guest_page", "host_page", "footprint" };
    json_t *out = json_object();

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (json_object_get(item, keys[i]))
            json_object_set(out, keys[i], json_object_get(item, keys[i]));
    json_object_set_new(out, "says", json_string(says[row->says]));
    json_object_set_new(out, "why", json_string(row->why));
    if (row->says == COMPARE_IMPOSSIBLE)
        return out;
    json_object_update_new(out, json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:b}", "a_ns",
                                          row->median_a, "b_ns", row->median_b, "ratio",
                                          row->ratio.ratio, "ratio_low", row->ratio.low,
                                          "ratio_high", row->ratio.high, "p", row->p, "p_holm",
                                          row->p_holm, "too_few_rounds", (int)row->too_few));
    return out;
}

static json_t *side_json(const struct side *s)
{
    return json_pack("{s:s, s:O, s:O}", "file", s->path, "created",
                     json_object_get(s->result, "created"), "trust",
                     json_object_get(json_object_get(s->result, "verdict"), "trust"));
}

/* Takes the references of both lists. */
static void print_json(const struct side *a, const struct side *b, const struct compare *c,
                       json_t *environment, json_t *told)
{
    json_t *cells = json_array(), *loads = json_array(), *all;

    for (size_t i = 0; i < c->rows; i++)
        json_array_append_new(c->row[i].is_load ? loads : cells, row_json(&c->row[i]));
    all = json_pack("{s:i, s:o, s:o, s:o, s:o, s:i, s:i, s:o, s:o}", "twofold_compare", 1, "a",
                    side_json(a), "b", side_json(b), "environment", environment, "warnings", told,
                    "compared", (int)c->compared, "differ", (int)c->differ, "cells", cells, "loads",
                    loads);
    client_print_json(all);
    json_decref(all);
}

/* --- text --------------------------------------------------------------------------------------
 */

static void print_value(const char *before, const json_t *value)
{
    char *text = json_is_string(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY);

    measure_fold(stdout, before, "      ", text ? text : json_string_value(value));
    free(text);
}

static void print_environment(const json_t *differences)
{
    const json_t *item;
    size_t i;

    if (!json_array_size(differences)) {
        (void)printf("environment: the same\n");
        return;
    }
    (void)printf("environment: what differs\n");
    json_array_foreach(differences, i, item)
    {
        (void)printf("  %s\n", measure_string(item, "what"));
        print_value("    A ", json_object_get(item, "a"));
        print_value("    B ", json_object_get(item, "b"));
    }
}

static void print_warnings(const json_t *list)
{
    const json_t *item;
    size_t i;

    json_array_foreach(list, i, item)
    {
        measure_fold(stdout, i ? "         " : "warning: ", "         ", json_string_value(item));
    }
}

static void add_row(struct table *t, const struct compare_row *row)
{
    char name[80], a[32], b[32];

    table_cell(t, "%s", compare_name(row, name, sizeof(name)));
    table_cell(t, "%s", measure_time(row->median_a, a, sizeof(a)));
    table_cell(t, "%s", measure_time(row->median_b, b, sizeof(b)));
    table_cell(t, "%.3f", row->ratio.ratio);
    table_cell(t, "%.2f-%.2f", row->ratio.low, row->ratio.high);
    if (row->p_holm < 1e-4)
        table_cell(t, "<0.0001");
    else
        table_cell(t, "%.4f%s", row->p_holm, row->too_few ? " few" : "");
}

static void print_rows(const struct compare *c, enum compare_says which, size_t n)
{
    struct table *t;

    (void)printf("\n%s: %zu of %zu\n", says[which], n, c->compared);
    if (!n)
        return;
    t = table_create("what >A >B >B/A interval >p");
    for (size_t i = 0; i < c->rows; i++)
        if (c->row[i].says == which)
            add_row(t, &c->row[i]);
    table_print(t, "  ", stdout);
}

/* Those from row `from` on that can't be compared for the reason that it can't. */
static void print_reason(const struct compare *c, size_t from)
{
    char names[1600] = "", name[80];
    size_t n = 0;

    for (size_t i = from; i < c->rows; i++) {
        size_t used = strlen(names);

        if (c->row[i].says != COMPARE_IMPOSSIBLE || strcmp(c->row[i].why, c->row[from].why) != 0)
            continue;
        n++;
        if (used + sizeof(name) < sizeof(names))
            (void)snprintf(names + used, sizeof(names) - used, "%s%s", used ? "; " : "",
                           compare_name(&c->row[i], name, sizeof(name)));
        else if (strcmp(names + used - 3, "...") != 0)
            (void)snprintf(names + used, sizeof(names) - used, "; ...");
    }
    (void)snprintf(name, sizeof(name), "  %zu, ", n);
    measure_fold(stdout, name, "    ", c->row[from].why);
    measure_fold(stdout, "    ", "    ", names);
}

static void print_impossible(const struct compare *c)
{
    if (c->rows > c->compared)
        (void)printf("\ncan't be compared: %zu\n", c->rows - c->compared);
    for (size_t i = 0; i < c->rows; i++) {
        size_t before = 0;

        while (before < i && (c->row[before].says != COMPARE_IMPOSSIBLE ||
                              strcmp(c->row[before].why, c->row[i].why) != 0))
            before++;
        if (before == i && c->row[i].says == COMPARE_IMPOSSIBLE)
            print_reason(c, i);
    }
}

static void print_text(const struct side *a, const struct side *b, const struct compare *c,
                       const json_t *environment, const json_t *told)
{
    measure_fold(stdout, "A: ", "   ", a->path);
    measure_fold(stdout, "B: ", "   ", b->path);
    print_warnings(told);
    print_environment(environment);
    print_rows(c, COMPARE_DIFFERS, c->differ);
    print_rows(c, COMPARE_NO_DIFFERENCE, c->compared - c->differ);
    print_impossible(c);
    (void)printf("\nB/A: above 1, B takes longer. p: Mann-Whitney, corrected for all compared.\n"
                 "It is about these two runs, not about what a third one would give.\n");
}

/* --- the command
 * ---------------------------------------------------------------------------------- */

static int compare(struct side *a, struct side *b, bool json)
{
    json_t *environment, *told;
    struct compare c;
    struct error err;

    a->result = measure_read(a->path, &err);
    if (a->result)
        b->result = measure_read(b->path, &err);
    if (!a->result || !b->result)
        return command_fail(STATUS_USAGE, "%s", err.text);
    if (compare_results(&c, a->result, b->result, &err))
        return command_fail(STATUS_FAILED, "%s", err.text);
    environment = environment_differences(a, b);
    told = warnings(a, b, &c);
    if (json) {
        print_json(a, b, &c, environment, told);
    } else {
        print_text(a, b, &c, environment, told);
        json_decref(environment);
        json_decref(told);
    }
    compare_free(&c);
    return STATUS_OK;
}

static int run(const struct command *cmd, int argc, char **argv)
{
    static const struct option options[] = {
        { "json", no_argument, NULL, UCHAR_MAX + 1 },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    struct side a = { 0 }, b = { 0 };
    bool json = false;
    int opt, status;

    while ((opt = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        if (opt == 'h')
            return command_help(cmd);
        if (opt != UCHAR_MAX + 1)
            return command_bad_option(cmd, argv, opt);
        json = true;
    }
    if (argc - optind != 2)
        return command_fail(STATUS_USAGE,
                            "compare takes two results of 'twofold measure', not %d; see 'twofold "
                            "compare --help'",
                            argc - optind);
    a.path = argv[optind];
    b.path = argv[optind + 1];
    status = compare(&a, &b, json);
    json_decref(a.result);
    json_decref(b.result);
    return status;
}

const struct command command_compare = {
    .name = "compare",
    .summary = "compare two results of measure",
    .help = help,
    .run = run,
};
