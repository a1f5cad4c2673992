/*
 * Coloured and folded text, for those that draw a walk on a terminal.
 */
#ifndef TWOFOLD_TOOLS_WALK_INK_H
#define TWOFOLD_TOOLS_WALK_INK_H

#include "tools/walk_view.h"

enum ink {
    INK_PLAIN,
    INK_DIM,
    INK_HEAD,
    INK_HOST,
    INK_GUEST,
    INK_PAGE,
    INK_FAULT,
    INK_SHADOW,
};

/* Prints `text`, filled with blanks up to `width`; nothing is cut. */
void walk_put(FILE *f, const struct walk_style *style, enum ink ink, unsigned width,
              const char *text);

/* A line with a head; folded at blanks, further lines are indented as the first one is. */
void walk_put_folded(FILE *f, const struct walk_style *style, enum ink ink, const char *head,
                     const char *text);

#endif
