/*
 * Reading a result's file. The tables below are docs/measure.schema.json in C: a file that they
 * take is one of which the rest of the program may believe each type and range.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "tools/measure_view.h"

#define FILE_MAX    (64u << 20)
#define STRING_MAX  4096
#define SAMPLES_MAX 1000000
#define ITEMS_MAX   2000 /* cells, loads, sentences */
#define NUMBER_MAX  9e15 /* integers that a double holds */
#define PATH_SIZE   128

enum kind { STRING, INTEGER, NUMBER, BOOLEAN, PAGE, OBJECT, ARRAY };

struct field {
    const char *name;
    enum kind kind;
    bool optional, nullable;
    bool positive;            /* a number above 0 */
    double min, max;          /* of a number or integer; max 0: NUMBER_MAX */
    const char *const *words; /* a string is one of them */
    const struct field *of; /* an object's fields (NULL: numbers by any name), or an array's item */
};

static const char *const words_mode[] = { "quick", "default", "full", NULL };
static const char *const words_state[] = { "measured", "noisy",         "no pages", "failed",
                                           "not run",  "not available", NULL };
static const char *const words_paging[] = { "native", "nested", "shadow", NULL };
static const char *const words_trust[] = { "good", "fair", "poor", "none", NULL };

static const struct field sample = { .kind = NUMBER, .min = -NUMBER_MAX };
static const struct field sentence = { .kind = STRING };

static const struct field summary_fields[] = {
    { .name = "median", .kind = NUMBER, .positive = true },
    { "low", NUMBER, .min = -NUMBER_MAX },
    { .name = "high", .kind = NUMBER, .min = -NUMBER_MAX },
    { "q1", NUMBER, .min = -NUMBER_MAX },
    { "q3", NUMBER, .min = -NUMBER_MAX },
    { .name = "n", .kind = INTEGER, .min = 1 },
    { .name = "samples", .kind = ARRAY, .of = &sample },
    { .name = NULL },
};

static const struct field environment_fields[] = {
    { .name = "cpu", .kind = STRING },
    { .name = "microcode", .kind = STRING },
    { .name = "kernel", .kind = STRING },
    { .name = "cpus_online", .kind = INTEGER, .min = -NUMBER_MAX },
    { .name = "cpu_pinned", .kind = INTEGER, .min = -NUMBER_MAX },
    { .name = "tsc_hz", .kind = INTEGER, .min = -NUMBER_MAX },
    { .name = "is_guest", .kind = BOOLEAN, .nullable = true },
    { .name = "hypervisor", .kind = STRING },
    { .name = "emulated", .kind = BOOLEAN },
    { .name = "kvm", .kind = STRING },
    { .name = "nested_by", .kind = STRING },
    { .name = "thp", .kind = STRING },
    { .name = "memory_bytes", .kind = INTEGER, .min = -NUMBER_MAX },
    { .name = "counters", .kind = STRING },
    { .name = "notes", .kind = ARRAY, .of = &sentence },
    { .name = NULL },
};

static const struct field cell_fields[] = {
    { .name = "paging", .kind = STRING, .words = words_paging },
    { .name = "guest_page", .kind = PAGE, .nullable = true },
    { .name = "host_page", .kind = PAGE },
    { .name = "footprint", .kind = INTEGER, .min = 4096 },
    { .name = "repeat", .kind = BOOLEAN, .optional = true },
    { .name = "state", .kind = STRING, .words = words_state },
    { .name = "why", .kind = STRING },
    { .name = "ns", .kind = OBJECT, .optional = true, .of = summary_fields },
    { .name = "cycles", .kind = OBJECT, .optional = true, .of = summary_fields },
    { .name = "accesses", .kind = INTEGER, .optional = true, .min = -NUMBER_MAX },
    { .name = "guest_page_share", .kind = NUMBER, .optional = true, .max = 1 },
    { .name = "host_page_share", .kind = NUMBER, .optional = true, .max = 1 },
    { .name = "references",
      .kind = INTEGER,
      .optional = true,
      .nullable = true,
      .min = -NUMBER_MAX },
    { .name = "references_formula",
      .kind = INTEGER,
      .optional = true,
      .nullable = true,
      .min = -NUMBER_MAX },
    { .name = "translation_ns",
      .kind = NUMBER,
      .optional = true,
      .nullable = true,
      .min = -NUMBER_MAX },
    { .name = "counters", .kind = OBJECT, .optional = true },
    { .name = NULL },
};
static const struct field cell = { .kind = OBJECT, .of = cell_fields };

static const struct field load_fields[] = {
    { .name = "name", .kind = STRING },
    { .name = "what", .kind = STRING },
    { .name = "paging", .kind = STRING, .words = words_paging },
    { .name = "state", .kind = STRING, .words = words_state },
    { .name = "why", .kind = STRING },
    { .name = "ns", .kind = OBJECT, .optional = true, .of = summary_fields },
    { .name = NULL },
};
static const struct field load = { .kind = OBJECT, .of = load_fields };

static const struct field verdict_fields[] = {
    { .name = "trust", .kind = STRING, .words = words_trust },
    { .name = "reasons", .kind = ARRAY, .of = &sentence },
    { .name = NULL },
};

static const struct field result_fields[] = {
    { .name = "twofold_measure", .kind = INTEGER, .min = 1, .max = 1 },
    { .name = "version", .kind = STRING },
    { .name = "created", .kind = STRING },
    { .name = "duration_s", .kind = NUMBER },
    { .name = "mode", .kind = STRING, .words = words_mode },
    { .name = "complete", .kind = BOOLEAN },
    { .name = "environment", .kind = OBJECT, .of = environment_fields },
    { .name = "cells", .kind = ARRAY, .of = &cell },
    { .name = "loads", .kind = ARRAY, .of = &load },
    { .name = "verdict", .kind = OBJECT, .of = verdict_fields },
    { .name = NULL },
};
static const struct field whole = { .kind = OBJECT, .of = result_fields };

/* Where in the file the check is: "cells[3].ns.median". */
struct place {
    const char *file;
    struct error *err;
    char path[PATH_SIZE];
};

static int wrong(const struct place *at, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static int wrong(const struct place *at, const char *fmt, ...)
{
    char what[200];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    return error_set(at->err, -EINVAL, "%.150s is no result of 'twofold measure': %s %s", at->file,
                     *at->path ? at->path : "the whole", what);
}

static int check(struct place *at, const struct field *f, const json_t *value);

/* Adds a step to the path, and returns where to cut it off again. */
static size_t enter(struct place *at, const char *name, size_t index)
{
    size_t n = strlen(at->path);
    char clean[48];

    if (name)
        (void)snprintf(at->path + n, sizeof(at->path) - n, "%s%s", n ? "." : "",
                       measure_clean(name, clean, sizeof(clean)));
    else
        (void)snprintf(at->path + n, sizeof(at->path) - n, "[%zu]", index);
    return n;
}

static int check_string(const struct place *at, const struct field *f, const json_t *value)
{
    const char *s = json_string_value(value);
    char clean[48];

    if (!s)
        return wrong(at, "is no text");
    if (json_string_length(value) > STRING_MAX)
        return wrong(at, "is longer than %d bytes", STRING_MAX);
    if (!f->words)
        return 0;
    for (size_t i = 0; f->words[i]; i++)
        if (!strcmp(s, f->words[i]))
            return 0;
    return wrong(at, "is '%s', which is none of its values",
                 measure_clean(s, clean, sizeof(clean)));
}

static int check_number(const struct place *at, const struct field *f, const json_t *value)
{
    double n = json_number_value(value), max = f->max > 0 ? f->max : NUMBER_MAX;

    if (f->kind == INTEGER ? !json_is_integer(value) : !json_is_number(value))
        return wrong(at, f->kind == INTEGER ? "is no whole number" : "is no number");
    if (n < f->min || n > max || (f->positive && n <= 0))
        return wrong(at, "is %g, which is out of its range", n);
    return 0;
}

static int check_page(const struct place *at, const json_t *value)
{
    json_int_t n = json_integer_value(value);

    if (!json_is_integer(value) || (n != 4096 && n != 2097152 && n != 1073741824))
        return wrong(at, "is no page size: 4096, 2097152 or 1073741824");
    return 0;
}

static int check_array(struct place *at, const struct field *f, const json_t *value)
{
    size_t most = f->of == &sample ? SAMPLES_MAX : ITEMS_MAX, i;
    const json_t *item;
    int code = 0;

    if (!json_is_array(value))
        return wrong(at, "is no list");
    if (json_array_size(value) > most)
        return wrong(at, "has more than %zu items", most);
    json_array_foreach(value, i, item)
    {
        size_t back = enter(at, NULL, i);

        code = check(at, f->of, item);
        if (code)
            break;
        at->path[back] = '\0';
    }
    return code;
}

/* NULL when there is no such field. */
static const struct field *find_field(const struct field *fields, const char *name)
{
    for (; fields->name; fields++)
        if (!strcmp(fields->name, name))
            return fields;
    return NULL;
}

static int check_object(struct place *at, const struct field *f, json_t *value)
{
    static const struct field any = { .kind = NUMBER, .min = -NUMBER_MAX };
    const char *key;
    json_t *item;

    if (!json_is_object(value))
        return wrong(at, "is no object");
    for (const struct field *want = f->of; want && want->name; want++)
        if (!want->optional && !json_object_get(value, want->name))
            return wrong(at, "has no %s", want->name);
    json_object_foreach(value, key, item)
    {
        const struct field *is = f->of ? find_field(f->of, key) : &any;
        size_t back = enter(at, key, 0);
        int code = is ? check(at, is, item) : wrong(at, "is not known in version 1");

        if (code)
            return code;
        at->path[back] = '\0';
    }
    return 0;
}

static int check(struct place *at, const struct field *f, const json_t *value)
{
    if (f->nullable && json_is_null(value))
        return 0;
    switch (f->kind) {
    case STRING:
        return check_string(at, f, value);
    case INTEGER:
    case NUMBER:
        return check_number(at, f, value);
    case BOOLEAN:
        return json_is_boolean(value) ? 0 : wrong(at, "is neither true nor false");
    case PAGE:
        return check_page(at, value);
    case ARRAY:
        return check_array(at, f, value);
    default:
        return check_object(at, f, (json_t *)value);
    }
}

/* What a schema can't say: a state promises figures, and an interval has its median within. */
static int check_figures(struct place *at, const json_t *list, const char *name)
{
    const json_t *item;
    size_t i;

    json_array_foreach(list, i, item)
    {
        const json_t *ns = json_object_get(item, "ns");
        double median = json_number_value(json_object_get(ns, "median"));

        (void)snprintf(at->path, sizeof(at->path), "%s[%zu]", name, i);
        if (!ns && !strcmp(measure_string(item, "state"), "measured"))
            return wrong(at, "is measured, but has no ns");
        if (ns && (json_number_value(json_object_get(ns, "low")) > median ||
                   json_number_value(json_object_get(ns, "high")) < median))
            return wrong(at, "has a median outside of its interval");
    }
    return 0;
}

/* All of the file, with a NUL behind it; NULL with *err. */
static char *read_all(const char *path, size_t *size, struct error *err)
{
    FILE *f = fopen(path, "re");
    size_t cap = 1 << 16;
    char *text = NULL, *grown;

    if (!f) {
        error_set(err, -EINVAL, "%.200s can't be opened: %s", path, strerror(errno));
        return NULL;
    }
    *size = 0;
    do {
        cap *= 2;
        grown = cap <= 2 * FILE_MAX ? realloc(text, cap) : NULL;
        if (!grown) {
            error_set(err, -EINVAL, "%.200s is too large for a result of 'twofold measure'", path);
            goto out;
        }
        text = grown;
        *size += fread(text + *size, 1, cap - *size, f);
    } while (*size == cap);
    if (!ferror(f)) {
        (void)fclose(f);
        return text;
    }
    error_set(err, -EINVAL, "%.200s can't be read: %s", path, strerror(errno));
out:
    free(text);
    (void)fclose(f);
    return NULL;
}

json_t *measure_read(const char *path, struct error *err)
{
    struct place at = { .file = path, .err = err };
    json_error_t where;
    json_t *result;
    char clean[160];
    size_t size;
    char *text = read_all(path, &size, err);

    if (!text)
        return NULL;
    result = json_loadb(text, size, JSON_REJECT_DUPLICATES, &where);
    free(text);
    if (!result) {
        error_set(err, -EINVAL, "%.150s is no JSON: line %d: %s", path, where.line,
                  measure_clean(where.text, clean, sizeof(clean)));
        return NULL;
    }
    if (check(&at, &whole, result) ||
        check_figures(&at, json_object_get(result, "cells"), "cells") ||
        check_figures(&at, json_object_get(result, "loads"), "loads")) {
        json_decref(result);
        return NULL;
    }
    return result;
}
