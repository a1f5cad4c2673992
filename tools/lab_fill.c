#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/lab.h"

#define FILE_MAX (1u << 20)

static char *read_text(const char *path, struct error *err)
{
    FILE *f = fopen(path, "re");
    char *text = f ? malloc(FILE_MAX + 1) : NULL;
    size_t n;

    if (!text) {
        (void)error_set(err, -EINVAL, "'%s' can't be read: %s", path, strerror(errno));
        if (f)
            (void)fclose(f);
        return NULL;
    }
    n = fread(text, 1, FILE_MAX + 1, f);
    if (ferror(f) || n > FILE_MAX || memchr(text, 0, n)) {
        (void)error_set(err, -EINVAL, "'%s' is no text file of at most 1 MiB", path);
        free(text);
        text = NULL;
    } else {
        text[n] = 0;
    }
    (void)fclose(f);
    return text;
}

static void put(FILE *f, const char *value, bool xml)
{
    for (; *value; value++) {
        const char *escaped = !xml             ? NULL
                              : *value == '&'  ? "&amp;"
                              : *value == '<'  ? "&lt;"
                              : *value == '>'  ? "&gt;"
                              : *value == '\'' ? "&apos;"
                              : *value == '"'  ? "&quot;"
                                               : NULL;

        if (escaped)
            (void)fputs(escaped, f);
        else
            (void)fputc(*value, f);
    }
}

/* The value for the word that starts at `p`, and the word's length with its braces. */
static const char *match(const char *p, const char *const words[][2], size_t *len)
{
    for (size_t i = 0; words[i][0]; i++) {
        size_t n = strlen(words[i][0]);

        if (!strncmp(p + 1, words[i][0], n) && p[1 + n] == '}') {
            *len = n + 2;
            return words[i][1];
        }
    }
    return NULL;
}

char *lab_fill(const char *from, const char *const words[][2], bool xml, struct error *err)
{
    char *text = read_text(from, err);
    char *filled = NULL;
    size_t size;
    FILE *f = text ? open_memstream(&filled, &size) : NULL;

    for (const char *p = text; f && *p; p++) {
        size_t len = 0;
        const char *value = *p == '{' ? match(p, words, &len) : NULL;
        const char *comment = xml && !strncmp(p, "<!--", 4) ? strstr(p, "-->") : NULL;

        if (comment)
            p = comment + 2;
        else if (value)
            put(f, value, xml);
        else
            (void)fputc(*p, f);
        if (value)
            p += len - 1;
    }
    if (f && fclose(f)) {
        free(filled);
        filled = NULL;
    }
    if (text && !filled)
        (void)error_set(err, -ENOMEM, "no memory to fill in '%s'", from);
    free(text);
    return filled;
}
