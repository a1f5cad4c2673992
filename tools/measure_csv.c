/*
 * A result as CSV (RFC 4180): a line for each cell and load. What does not apply is empty.
 */
#include <errno.h>
#include <inttypes.h>

#include <string.h>

#include "tools/measure_view.h"

static const char heads[] =
    "kind,name,what,paging,guest_page,host_page,footprint,repeat,state,why,median_ns,low_ns,"
    "high_ns,q1_ns,q3_ns,n,median_cycles,accesses,guest_page_share,host_page_share,references,"
    "references_formula,translation_ns,counters\r\n";

/* "6. Fields containing line breaks, double quotes, and commas should be enclosed". */
static void put_field(FILE *f, const char *s)
{
    if (s[strcspn(s, ",\"\r\n")] == '\0') {
        (void)fputs(s, f);
        return;
    }
    (void)fputc('"', f);
    for (; *s; s++) {
        if (*s == '"')
            (void)fputc('"', f);
        (void)fputc(*s, f);
    }
    (void)fputc('"', f);
}

static void put_number(FILE *f, const json_t *number)
{
    (void)fputc(',', f);
    if (json_is_integer(number))
        (void)fprintf(f, "%" JSON_INTEGER_FORMAT, json_integer_value(number));
    else if (json_is_real(number))
        (void)fprintf(f, "%.10g", json_real_value(number));
}

static void put_summary(FILE *f, const json_t *ns)
{
    static const char *const keys[] = { "median", "low", "high", "q1", "q3", "n" };

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        put_number(f, json_object_get(ns, keys[i]));
}

/* "name=value name=value": which there are is the machine's choice, columns are not. */
static void put_counters(FILE *f, json_t *counters)
{
    char text[1024] = "";
    const char *name;
    json_t *value;

    json_object_foreach(counters, name, value)
    {
        size_t n = strlen(text);

        (void)snprintf(text + n, sizeof(text) - n, "%s%.100s=%.10g", n ? " " : "", name,
                       json_number_value(value));
    }
    (void)fputc(',', f);
    put_field(f, text);
}

static void put_fields(FILE *f, const json_t *object, size_t n, const char *const *keys)
{
    for (size_t i = 0; i < n; i++) {
        (void)fputc(',', f);
        put_field(f, measure_string(object, keys[i]));
    }
}

static void put_cell(FILE *f, const json_t *cell)
{
    (void)fputs("cell,,", f);
    put_fields(f, cell, 1, (const char *const[]){ "paging" });
    put_number(f, json_object_get(cell, "guest_page"));
    put_number(f, json_object_get(cell, "host_page"));
    put_number(f, json_object_get(cell, "footprint"));
    (void)fputs(json_is_true(json_object_get(cell, "repeat")) ? ",true" : ",false", f);
    put_fields(f, cell, 2, (const char *const[]){ "state", "why" });
    put_summary(f, json_object_get(cell, "ns"));
    put_number(f, json_object_get(json_object_get(cell, "cycles"), "median"));
    put_number(f, json_object_get(cell, "accesses"));
    put_number(f, json_object_get(cell, "guest_page_share"));
    put_number(f, json_object_get(cell, "host_page_share"));
    put_number(f, json_object_get(cell, "references"));
    put_number(f, json_object_get(cell, "references_formula"));
    put_number(f, json_object_get(cell, "translation_ns"));
    put_counters(f, json_object_get(cell, "counters"));
    (void)fputs("\r\n", f);
}

static void put_load(FILE *f, const json_t *load)
{
    (void)fputs("load", f);
    put_fields(f, load, 3, (const char *const[]){ "name", "what", "paging" });
    (void)fputs(",,,,", f);
    put_fields(f, load, 2, (const char *const[]){ "state", "why" });
    put_summary(f, json_object_get(load, "ns"));
    (void)fputs(",,,,,,,,\r\n", f);
}

int measure_write_csv(const json_t *result, const char *path, struct error *err)
{
    FILE *f = fopen(path, "we");
    const json_t *item;
    size_t i;
    int bad;

    if (!f)
        return error_set(err, -errno, "%.200s can't be written: %s", path, strerror(errno));
    (void)fputs(heads, f);
    json_array_foreach(json_object_get(result, "cells"), i, item)
    {
        put_cell(f, item);
    }
    json_array_foreach(json_object_get(result, "loads"), i, item)
    {
        put_load(f, item);
    }
    bad = ferror(f);
    if (fclose(f) || bad)
        return error_set(err, -EIO, "%.200s can't be written: %s", path, strerror(errno));
    return 0;
}
