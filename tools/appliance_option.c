#include <string.h>

#include "tools/appliance.h"

/* One word of a kernel command line: quotes keep blanks, and go. NULL at the end. */
static const char *next_word(const char *p, char *word, size_t size)
{
    bool quoted = false;
    size_t n = 0;

    while (*p == ' ' || *p == '\n')
        p++;
    if (!*p)
        return NULL;
    for (; *p && (quoted || (*p != ' ' && *p != '\n')); p++) {
        if (*p == '"')
            quoted = !quoted;
        else if (n + 1 < size)
            word[n++] = *p;
        else
            n = size; /* too long: no match below */
    }
    word[n < size ? n : 0] = 0;
    return p;
}

bool appliance_option(const char *cmdline, const char *name, char *value, size_t size)
{
    size_t len = strlen(name);
    char word[4096];
    bool found = false;

    for (const char *p = next_word(cmdline, word, sizeof(word)); p;
         p = next_word(p, word, sizeof(word))) {
        if (strncmp(word, name, len) != 0 || word[len] != '=')
            continue;
        size_t n = strlen(word + len + 1);

        if (n >= size)
            continue;
        memcpy(value, word + len + 1, n + 1);
        found = true;
    }
    return found;
}
