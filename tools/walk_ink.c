#include "tools/walk_ink.h"

#include <string.h>

#define INDENT    12u
#define WIDTH_MAX 100u

void walk_put(FILE *f, const struct walk_style *style, enum ink ink, unsigned width,
              const char *text)
{
    static const char *const codes[] = {
        [INK_PLAIN] = "",           [INK_DIM] = "\033[2m",      [INK_HEAD] = "\033[1m",
        [INK_HOST] = "\033[36m",    [INK_GUEST] = "\033[1;32m", [INK_PAGE] = "\033[1;33m",
        [INK_FAULT] = "\033[1;31m", [INK_SHADOW] = "\033[35m",
    };
    bool ink_it = style->colour && ink != INK_PLAIN && *text;
    int pad = (int)width - (int)strlen(text);

    (void)fprintf(f, "%s%s%s%*s", ink_it ? codes[ink] : "", text, ink_it ? "\033[0m" : "",
                  pad > 0 ? pad : 0, "");
}

void walk_put_folded(FILE *f, const struct walk_style *style, enum ink ink, const char *head,
                     const char *s)
{
    size_t width = style->width > INDENT + 20 ? style->width - INDENT - 1 : 20;
    bool first = true;

    if (width > WIDTH_MAX)
        width = WIDTH_MAX;
    while (*s) {
        size_t n = strlen(s);
        char line[WIDTH_MAX + 1];

        if (n > width) {
            for (n = width; n > 0 && s[n] != ' ';)
                n--;
            if (n == 0)
                n = width;
        }
        (void)snprintf(line, sizeof(line), "%.*s", (int)n, s);
        (void)fprintf(f, "  ");
        walk_put(f, style, INK_DIM, INDENT - 2, first ? head : "");
        walk_put(f, style, ink, 0, line);
        (void)fputc('\n', f);
        s += n + strspn(s + n, " ");
        first = false;
    }
}
