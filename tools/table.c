#include "tools/table.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct table {
    size_t columns;
    bool right[TABLE_COLUMNS_MAX];
    size_t width[TABLE_COLUMNS_MAX];
    size_t cells, cap;
    char **cell;
    bool failed; /* memory was out: nothing is printed rather than half of it */
};

static void add(struct table *t, char *text)
{
    size_t column = t->cells % t->columns;

    if (t->cells == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 64;
        char **grown = realloc(t->cell, cap * sizeof(*grown));

        if (grown) {
            t->cell = grown;
            t->cap = cap;
        }
    }
    if (!text || t->cells == t->cap) {
        free(text);
        t->failed = true;
        return;
    }
    if (strlen(text) > t->width[column])
        t->width[column] = strlen(text);
    t->cell[t->cells++] = text;
}

struct table *table_create(const char *heads)
{
    struct table *t = calloc(1, sizeof(*t));
    char *copy = strdup(heads);
    char *rest = copy;

    if (!t || !copy) {
        free(t);
        free(copy);
        return NULL;
    }
    for (const char *at = heads; *at && t->columns < TABLE_COLUMNS_MAX; t->columns++) {
        at += strspn(at, " ");
        t->right[t->columns] = *at == '>';
        at += strcspn(at, " ");
    }
    for (size_t i = 0; i < t->columns; i++) {
        char *word = strsep(&rest, " ");

        add(t, strdup(word + (t->right[i] ? 1 : 0)));
    }
    free(copy);
    return t;
}

void table_cell(struct table *t, const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;

    if (!t)
        return;
    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        text = NULL;
    va_end(ap);
    add(t, text);
}

static void print_row(const struct table *t, char *const *row, const char *indent, FILE *f)
{
    (void)fputs(indent, f);
    for (size_t i = 0; i < t->columns; i++) {
        bool last = i + 1 == t->columns;
        int width = (int)t->width[i];

        if (t->right[i])
            (void)fprintf(f, "%*s", width, row[i]);
        else
            (void)fprintf(f, "%-*s", last ? 0 : width, row[i]);
        (void)fputs(last ? "\n" : "  ", f);
    }
}

void table_print(struct table *t, const char *indent, FILE *f)
{
    if (!t)
        return;
    if (!t->failed) {
        for (size_t i = 0; i + t->columns <= t->cells; i += t->columns)
            print_row(t, t->cell + i, indent, f);
    }
    for (size_t i = 0; i < t->cells; i++)
        free(t->cell[i]);
    free(t->cell);
    free(t);
}

char *format_bytes(uint64_t bytes, char *buf, size_t size)
{
    static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    double value = (double)bytes;
    size_t unit = 0;

    /* What would be rounded to 1024 is 1.0 of the next unit. */
    while (value >= (unit ? 1023.5 : 1024) && unit + 1 < sizeof(units) / sizeof(units[0])) {
        value /= 1024;
        unit++;
    }
    if (bytes == 0)
        (void)snprintf(buf, size, "0");
    else if (value == (double)(uint64_t)value || value >= 999.95)
        (void)snprintf(buf, size, "%.0f %s", value, units[unit]);
    else
        (void)snprintf(buf, size, "%.1f %s", value, units[unit]);
    return buf;
}

char *format_seconds(double seconds, char *buf, size_t size)
{
    uint64_t s = seconds > 0 ? (uint64_t)(seconds + 0.5) : 0;

    /* The limits are where a number would be rounded up to the next unit. */
    if (seconds < 0.9995e-3)
        (void)snprintf(buf, size, "%.0f us", seconds * 1e6);
    else if (seconds < 0.99995)
        (void)snprintf(buf, size, "%.1f ms", seconds * 1e3);
    else if (seconds < 59.95)
        (void)snprintf(buf, size, "%.1f s", seconds);
    else if (s < 3600)
        (void)snprintf(buf, size, "%" PRIu64 "m %" PRIu64 "s", s / 60, s % 60);
    else if (s < 86400)
        (void)snprintf(buf, size, "%" PRIu64 "h %" PRIu64 "m", s / 3600, s / 60 % 60);
    else
        (void)snprintf(buf, size, "%" PRIu64 "d %" PRIu64 "h", s / 86400, s / 3600 % 24);
    return buf;
}
