/*
 * What shows a result of `twofold measure`, and what reads one. The result is the made-up one of
 * tests/cli/measure, whose figures this file does not know: it compares outputs with the JSON.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/measure_view.h"

#define RESULT  "tests/cli/measure/result.json"
#define COLUMNS 24
#define HOSTILE "<script>alert(1)</script>&\"'\x1b[31m\xc2\x9b,=1+1"

static char folder[] = "/tmp/test_measure_XXXXXX";
static char path[64];

/* A free()able copy of the file's content. */
static char *slurp(const char *name)
{
    FILE *f = fopen(name, "re");
    char *text = calloc(1, 4 << 20);

    assert_non_null(f);
    assert_non_null(text);
    assert_true(fread(text, 1, (4 << 20) - 1, f) > 0);
    (void)fclose(f);
    return text;
}

static json_t *load(void)
{
    json_error_t where;
    json_t *result = json_load_file(RESULT, 0, &where);

    assert_non_null(result);
    return result;
}

static json_t *load_hostile(void)
{
    json_t *result = load(), *cell = json_array_get(json_object_get(result, "cells"), 2);
    json_t *measured = json_array_get(json_object_get(result, "loads"), 0);

    json_object_set_new(json_object_get(result, "environment"), "cpu", json_string(HOSTILE));
    json_object_set_new(cell, "why", json_string("\"quoted\", and\nbroken \xc3\xa9 " HOSTILE));
    json_object_set_new(measured, "name", json_string("'; system 'id" HOSTILE));
    return result;
}

/* --- CSV ---------------------------------------------------------------------------------- */

/* The next field of RFC 4180, freed by the caller; *end: ',', '\n' for CRLF, or 0. */
static char *next_field(const char **at, char *end)
{
    char *out = calloc(1, strlen(*at) + 1);
    bool quoted = **at == '"';
    const char *s = *at + quoted;
    size_t n = 0;

    assert_non_null(out);
    for (; *s; s++) {
        if (quoted && *s == '"' && s[1] != '"')
            break;
        if (quoted && *s == '"')
            s++;
        else if (!quoted && (*s == ',' || *s == '\r'))
            break;
        assert_true(quoted || (*s != '"' && *s != '\n'));
        out[n++] = *s;
    }
    s += quoted;
    *end = *s == '\r' ? s[1] : *s;
    *at = s + (*s == '\r' ? 2 : 1);
    return out;
}

static void same_number(const char *field, const json_t *number)
{
    if (!json_is_number(number))
        assert_string_equal(field, "");
    else
        assert_true(strtod(field, NULL) - json_number_value(number) <
                        1e-6 * (1 + json_number_value(number)) &&
                    json_number_value(number) - strtod(field, NULL) <
                        1e-6 * (1 + json_number_value(number)));
}

static void same_row(char *field[COLUMNS], const json_t *item, bool cell)
{
    static const char *const summary[] = { "median", "low", "high", "q1", "q3", "n" };
    static const char *const numbers[] = { "accesses",   "guest_page_share",   "host_page_share",
                                           "references", "references_formula", "translation_ns" };
    const json_t *ns = json_object_get(item, "ns");

    assert_string_equal(field[0], cell ? "cell" : "load");
    assert_string_equal(field[1], measure_string(item, "name"));
    assert_string_equal(field[2], measure_string(item, "what"));
    assert_string_equal(field[3], measure_string(item, "paging"));
    same_number(field[4], json_object_get(item, "guest_page"));
    same_number(field[5], json_object_get(item, "host_page"));
    same_number(field[6], json_object_get(item, "footprint"));
    if (cell)
        assert_string_equal(field[7],
                            json_is_true(json_object_get(item, "repeat")) ? "true" : "false");
    assert_string_equal(field[8], measure_string(item, "state"));
    assert_string_equal(field[9], measure_string(item, "why"));
    for (size_t i = 0; i < 6; i++)
        same_number(field[10 + i], json_object_get(ns, summary[i]));
    same_number(field[16], json_object_get(json_object_get(item, "cycles"), "median"));
    for (size_t i = 0; i < 6; i++)
        same_number(field[17 + i], json_object_get(item, numbers[i]));
}

static void read_row(const char **at, char *field[COLUMNS])
{
    char end = ',';

    for (size_t i = 0; i < COLUMNS; i++) {
        assert_int_equal(end, ',');
        field[i] = next_field(at, &end);
    }
    assert_int_equal(end, '\n');
}

static void free_row(char *field[COLUMNS])
{
    for (size_t i = 0; i < COLUMNS; i++)
        free(field[i]);
}

static void csv(void **state)
{
    json_t *result = load_hostile();
    const json_t *lists[] = { json_object_get(result, "cells"), json_object_get(result, "loads") };
    char *field[COLUMNS], *text;
    const char *at;
    struct error err;

    (void)state;
    assert_int_equal(measure_write_csv(result, path, &err), 0);
    at = text = slurp(path);
    read_row(&at, field);
    assert_string_equal(field[10], "median_ns");
    free_row(field);
    for (size_t which = 0; which < 2; which++)
        for (size_t i = 0; i < json_array_size(lists[which]); i++) {
            read_row(&at, field);
            same_row(field, json_array_get(lists[which], i), which == 0);
            free_row(field);
        }
    assert_int_equal(*at, '\0');
    free(text);
    json_decref(result);
}

/* --- HTML ---------------------------------------------------------------------------------- */

static size_t occurrences(const char *text, const char *what)
{
    size_t n = 0;

    for (const char *at = text; (at = strstr(at, what)) != NULL; at++)
        n++;
    return n;
}

/* Of an entity's name, behind the '&'. */
static bool is_entity(const char *s)
{
    static const char *const known[] = { "lt;", "gt;", "amp;", "quot;" };

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (!strncmp(s, known[i], strlen(known[i])))
            return true;
    return *s == '#' && s[1 + strspn(s + 1, "0123456789")] == ';';
}

/* One tag from '<' on; returns what is behind its '>'. Attributes are name=QUOTED. */
static const char *read_tag(const char *at, char *name, size_t size, bool *closes, bool *empty)
{
    size_t n;

    at++;
    *closes = *at == '/';
    at += *closes;
    n = strspn(at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789");
    assert_true(n > 0 && n < size);
    (void)snprintf(name, size, "%.*s", (int)n, at);
    for (at += n; *at && *at != '>' && *at != '/'; at++) {
        if (*at == '"' || *at == '\'') {
            const char *end = strchr(at + 1, *at);

            assert_non_null(end);
            assert_true(at[-1] == '=' || (at[-1] == ' ' && at[-2] == '='));
            assert_null(memchr(at, '<', (size_t)(end - at)));
            at = end;
        } else {
            assert_true(*at != '<' && *at != '&');
        }
    }
    *empty = *at == '/';
    at += *empty;
    assert_int_equal(*at, '>');
    return at + 1;
}

/* Each tag is closed by its own, as in XML; `meta` and the first line are HTML's exceptions. */
static void well_formed(const char *text)
{
    char open[32][24], name[24];
    size_t depth = 0;
    bool closes, empty;

    assert_int_equal(strncmp(text, "<!DOCTYPE html>\n", 16), 0);
    for (const char *at = text + 16; *at;) {
        assert_true(*at != '>' || depth == 0 || !strcmp(open[depth - 1], "style"));
        if (*at == '&')
            assert_true(is_entity(at + 1));
        if (*at != '<') {
            at++;
            continue;
        }
        at = read_tag(at, name, sizeof(name), &closes, &empty);
        if (closes) {
            assert_true(depth > 0);
            assert_string_equal(name, open[--depth]);
        } else if (!empty && strcmp(name, "meta") != 0) {
            assert_true(depth < 32);
            (void)snprintf(open[depth++], sizeof(open[0]), "%s", name);
        }
    }
    assert_int_equal(depth, 0);
}

/* Nothing of it is fetched, nothing runs. */
static void self_contained(const char *text)
{
    static const char *const never[] = { "<script", "<link", "<img", "src=", "@import", "onload" };
    const char namespaces[] = "http://www.w3.org/";

    for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++)
        assert_null(strstr(text, never[i]));
    assert_int_equal(occurrences(text, "http"), occurrences(text, namespaces));
    assert_null(strstr(text, "url("));
}

/* Each id occurs once, and each reference leads to one. */
static void ids_are_unique(const char *text)
{
    char id[64], quoted[80];

    for (const char *at = text; (at = strstr(at, " id=")) != NULL;) {
        at += 5;
        (void)snprintf(id, sizeof(id), "%.*s", (int)strcspn(at, "'\""), at);
        (void)snprintf(quoted, sizeof(quoted), " id=%c%s%c", at[-1], id, at[-1]);
        assert_int_equal(occurrences(text, quoted), 1);
    }
    for (const char *at = text; (at = strstr(at, "href='#")) != NULL;) {
        at += 7;
        (void)snprintf(quoted, sizeof(quoted), " id='%.*s'", (int)strcspn(at, "'"), at);
        assert_int_equal(occurrences(text, quoted), 1);
    }
}

static char *html_of(const json_t *result)
{
    struct error err;

    assert_int_equal(measure_write_html(result, path, &err), 0);
    return slurp(path);
}

static bool have_gnuplot(void)
{
    return system("gnuplot --version >/dev/null 2>&1") == 0; // NOLINT(cert-env33-c)
}

/* Quotients that are emphasized in the section on loads. */
static size_t bold_ratios(const json_t *result)
{
    char *text = html_of(result), *from = strstr(text, "<h2>Loads that change tables</h2>"), *end;
    size_t n;

    assert_non_null(from);
    end = strstr(from, "<h2>References");
    assert_non_null(end);
    *end = '\0';
    n = occurrences(from, "<strong>");
    free(text);
    return n;
}

/* What is noisy on one side is nothing to conclude from. */
static void ratios_of_noisy_loads(void **state)
{
    json_t *result = load_hostile(), *load;
    size_t i;

    (void)state;
    assert_true(bold_ratios(result) > 0);
    json_array_foreach(json_object_get(result, "loads"), i, load)
    {
        if (!strcmp(measure_string(load, "paging"), "shadow") &&
            !strcmp(measure_string(load, "state"), "measured"))
            (void)json_object_set_new(load, "state", json_string("noisy"));
    }
    assert_int_equal(bold_ratios(result), 0);
    json_decref(result);
}

static void page(void **state)
{
    json_t *result = load_hostile();
    char *text = html_of(result);
    size_t cells = json_array_size(json_object_get(result, "cells")), off = 0, all = 0;
    const char *figures = strstr(text, "<h2>All figures</h2>");
    const char *rest = strstr(text, "<h2>What is not measured, and why</h2>");

    (void)state;
    well_formed(text);
    self_contained(text);
    ids_are_unique(text);
    assert_non_null(strstr(text, "&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;&#39;[31m"));
    assert_null(strchr(text, '\x1b'));
    assert_non_null(figures);
    assert_non_null(rest);
    /* Head, and a row for each cell; of those a mark for each that is not measured. */
    for (const char *at = figures; (at = strstr(at, "<tr")) && at < rest; at++)
        all++;
    assert_int_equal(all, cells + 1);
    for (size_t i = 0; i < cells; i++)
        off += strcmp(measure_string(json_array_get(json_object_get(result, "cells"), i), "state"),
                      "measured") != 0;
    all = 0;
    for (const char *at = figures; (at = strstr(at, "<tr class=\"off\">")) && at < rest; at++)
        all++;
    assert_int_equal(all, off);
    /* 9 grids; and 5 plots: three pagings, costs, loads. */
    assert_int_equal(occurrences(text, "<svg "), have_gnuplot() ? 9 + 5 : 9);
    assert_int_equal(occurrences(text, "<svg "), occurrences(text, "<desc id="));
    free(text);
    json_decref(result);
}

/* (4 + 1) * (4 + 1) - 1 boxes, and so on for each pair of page sizes. */
static void grids(void **state)
{
    static const unsigned references[] = { 24, 19, 14, 19, 15, 11, 14, 11, 8 };
    json_t *result = load();
    char *text = html_of(result);
    const char *at = text;

    (void)state;
    for (size_t i = 0; i < 9; i++) {
        const char *end;
        size_t boxes = 0;

        at = strstr(at, "<figure class=\"grid\">");
        assert_non_null(at);
        end = strstr(at, "</svg>");
        assert_non_null(end);
        for (const char *box = at; (box = strstr(box, "<rect ")) && box < end; box++)
            boxes++;
        assert_int_equal(boxes, references[i]);
        assert_non_null(strstr(end, "found in the live VM: the same"));
        at = end;
    }
    free(text);
    json_decref(result);
}

static void without_gnuplot(void **state)
{
    json_t *result = load();
    char *before = strdup(getenv("PATH") ? getenv("PATH") : ""), *text;

    (void)state;
    assert_int_equal(setenv("PATH", "/nonexistent", 1), 0);
    text = html_of(result);
    assert_int_equal(setenv("PATH", before, 1), 0);
    well_formed(text);
    assert_int_equal(occurrences(text, "gnuplot is not installed"), 1);
    assert_int_equal(occurrences(text, "<svg "), 9);
    free(text);
    free(before);
    json_decref(result);
}

/* What was interrupted at once, or has nothing in it, is a page all the same. */
static void nothing_measured(void **state)
{
    json_t *result = load();
    char *text;

    (void)state;
    json_array_clear(json_object_get(result, "cells"));
    json_array_clear(json_object_get(result, "loads"));
    text = html_of(result);
    well_formed(text);
    assert_non_null(strstr(text, "not complete"));
    free(text);
    json_decref(result);
}

static void unwritable(void **state)
{
    json_t *result = load();
    struct error err;

    (void)state;
    assert_int_equal(measure_write_html(result, "/nonexistent/x", &err), -ENOENT);
    assert_non_null(strstr(err.text, "/nonexistent/x can't be written"));
    assert_int_equal(measure_write_csv(result, "/nonexistent/x", &err), -ENOENT);
    assert_int_equal(measure_write_csv(result, "/dev/full", &err), -EIO);
    assert_int_equal(measure_write_html(result, "/dev/full", &err), -EIO);
    json_decref(result);
}

/* --- text ---------------------------------------------------------------------------------- */

static void text(void **state)
{
    json_t *result = load_hostile();
    FILE *f = fopen(path, "we");
    size_t columns = 0;
    char *out;

    (void)state;
    assert_non_null(f);
    measure_print(f, result);
    (void)fclose(f);
    out = slurp(path);
    for (const char *at = out; *at; at++) {
        unsigned char c = (unsigned char)*at;

        assert_true(c >= 0x20 || c == '\n');
        assert_false(c == 0xc2 && (unsigned char)at[1] < 0xa0);
        columns = c == '\n' ? 0 : columns + ((c & 0xc0) != 0x80);
        assert_true(columns <= 80);
    }
    /* A row for each pair of page sizes in each of five footprints; every state is told. */
    assert_int_equal(occurrences(out, "ns an access, "), 5);
    assert_true(occurrences(out, "\n  4K     4K ") >= 5);
    assert_non_null(strstr(out, "NOT COMPLETE"));
    assert_non_null(strstr(out, "5 cells not run: "));
    assert_non_null(strstr(out, "2 cells noisy: "));
    assert_non_null(strstr(out, "1 load failed: "));
    free(out);
    json_decref(result);
}

static void numbers(void **state)
{
    char buf[80];

    (void)state;
    assert_string_equal(measure_time(3.5, buf, sizeof(buf)), "3.50 ns");
    assert_string_equal(measure_time(99.96, buf, sizeof(buf)), "100 ns");
    assert_string_equal(measure_time(999.6, buf, sizeof(buf)), "1.00 us");
    assert_string_equal(measure_time(118e6, buf, sizeof(buf)), "118 ms");
    assert_string_equal(measure_size(1536, buf, sizeof(buf)), "1536");
    assert_string_equal(measure_size(1ull << 30, buf, sizeof(buf)), "1G");
    assert_string_equal(measure_clean("a\x1b\x7f\xc2\x9b\xc3\xa9", buf, sizeof(buf)),
                        "a???\xc3\xa9");
    assert_string_equal(measure_clean("ab\xc3\xa9", buf, 4), "ab"); /* no half of a character */
}

/* --- reading --------------------------------------------------------------------------------- */

static json_t *read_text(const char *content, size_t size, struct error *err)
{
    FILE *f = fopen(path, "we");

    assert_non_null(f);
    assert_int_equal(fwrite(content, 1, size, f), size);
    (void)fclose(f);
    return measure_read(path, err);
}

static void refuses(const char *content, size_t size, const char *says)
{
    struct error err = { .text = "" };

    assert_null(read_text(content, size, &err));
    if (!strstr(err.text, says))
        fail_msg("'%s' does not say '%s'", err.text, says);
}

static void reads(void **state)
{
    struct error err;
    json_t *want = load(), *got = measure_read(RESULT, &err);

    (void)state;
    assert_non_null(got);
    assert_true(json_equal(want, got));
    json_decref(want);
    json_decref(got);
}

static void refuses_what_is_no_file(void **state)
{
    struct error err;
    char *whole = slurp(RESULT);

    (void)state;
    assert_null(measure_read("/nonexistent/x.json", &err));
    assert_non_null(strstr(err.text, "/nonexistent/x.json can't be opened: No such file"));
    assert_null(measure_read("/tmp", &err));
    assert_non_null(strstr(err.text, "/tmp can't be read: Is a directory"));
    assert_null(measure_read("/dev/zero", &err));
    assert_non_null(strstr(err.text, "too large"));
    refuses("", 0, "is no JSON");
    refuses("{}", 2, "the whole has no twofold_measure");
    refuses("[1]", 3, "the whole is no object");
    refuses("{\"a\":1,\"a\":2}", 13, "duplicate");
    refuses("\0\0\0\0", 4, "is no JSON");
    for (size_t size = strlen(whole), at = size - 2; at > size / 2; at -= size / 16)
        refuses(whole, at, "is no JSON");
    free(whole);
}

/* The made-up result with one value replaced at PATH, of keys and indices; "" removes it. */
static void refuses_with(const char *where, const char *value, const char *says)
{
    json_t *result = load(), *at = result, *parent = NULL;
    char keys[80], *rest = keys, *key, *last = NULL;
    char *out;

    (void)snprintf(keys, sizeof(keys), "%s", where);
    while ((key = strsep(&rest, "/")) != NULL) {
        parent = at;
        last = key;
        at = json_is_array(at) ? json_array_get(at, strtoul(key, NULL, 10))
                               : json_object_get(at, key);
    }
    if (!*value)
        json_object_del(parent, last);
    else if (json_is_array(parent))
        json_array_set_new(parent, strtoul(last, NULL, 10),
                           json_loads(value, JSON_DECODE_ANY, NULL));
    else
        json_object_set_new(parent, last, json_loads(value, JSON_DECODE_ANY, NULL));
    out = json_dumps(result, 0);
    refuses(out, strlen(out), says);
    free(out);
    json_decref(result);
}

static void refuses_what_the_schema_does(void **state)
{
    (void)state;
    refuses_with("twofold_measure", "2", "twofold_measure is 2, which is out of its range");
    refuses_with("version", "", "the whole has no version");
    refuses_with("more", "1", "more is not known in version 1");
    refuses_with("mode", "\"fast\\u001b\"", "mode is 'fast?', which is none of its values");
    refuses_with("complete", "1", "complete is neither true nor false");
    refuses_with("duration_s", "-1", "duration_s is -1, which is out of its range");
    refuses_with("environment/cpu", "7", "environment.cpu is no text");
    refuses_with("environment/tsc_hz", "1.5", "environment.tsc_hz is no whole number");
    refuses_with("environment/notes/1", "null", "environment.notes[1] is no text");
    refuses_with("cells", "{}", "cells is no list");
    refuses_with("cells/3", "[]", "cells[3] is no object");
    refuses_with("cells/3/guest_page", "8192", "cells[3].guest_page is no page size");
    refuses_with("cells/3/host_page", "null", "cells[3].host_page is no page size");
    refuses_with("cells/3/footprint", "4095", "cells[3].footprint is 4095, which is out of");
    refuses_with("cells/3/state", "\"good\"", "cells[3].state is 'good'");
    refuses_with("cells/3/host_page_share", "1.01", "cells[3].host_page_share is 1.01");
    refuses_with("cells/3/ns/median", "0", "cells[3].ns.median is 0, which is out of");
    refuses_with("cells/3/ns/n", "0", "cells[3].ns.n is 0");
    refuses_with("cells/3/ns/samples/4", "\"x\"", "cells[3].ns.samples[4] is no number");
    refuses_with("cells/0/counters", "{\"a\": \"b\"}", "cells[0].counters.a is no number");
    refuses_with("cells/3/ns/low", "1e3", "cells[3] has a median outside of its interval");
    refuses_with("cells/3/ns", "", "cells[3] is measured, but has no ns");
    refuses_with("loads/1/paging", "\"agile\"", "loads[1].paging is 'agile'");
    refuses_with("verdict/trust", "\"some\"", "verdict.trust is 'some'");
}

/* What a file may cost its reader is bounded. */
static void refuses_too_much(void **state)
{
    json_t *list = json_array(), *result = load();
    char *out, *text_of = calloc(1, 5001);
    json_t *a_load = json_array_get(json_object_get(result, "loads"), 0);

    (void)state;
    assert_non_null(text_of);
    for (size_t i = 0; i < 2001; i++)
        json_array_append(list, a_load);
    json_object_set_new(result, "loads", list);
    out = json_dumps(result, 0);
    refuses(out, strlen(out), "loads has more than 2000 items");
    free(out);
    json_decref(result);
    memset(text_of, 'x', 5000);
    result = load();
    json_object_set_new(result, "created", json_string(text_of));
    out = json_dumps(result, 0);
    refuses(out, strlen(out), "created is longer than 4096 bytes");
    free(out);
    free(text_of);
    json_decref(result);
}

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    (void)snprintf(path, sizeof(path), "%s/file", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    (void)unlink(path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(csv),
        cmocka_unit_test(page),
        cmocka_unit_test(ratios_of_noisy_loads),
        cmocka_unit_test(grids),
        cmocka_unit_test(without_gnuplot),
        cmocka_unit_test(nothing_measured),
        cmocka_unit_test(unwritable),
        cmocka_unit_test(text),
        cmocka_unit_test(numbers),
        cmocka_unit_test(reads),
        cmocka_unit_test(refuses_what_is_no_file),
        cmocka_unit_test(refuses_what_the_schema_does),
        cmocka_unit_test(refuses_too_much),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
