/*
 * The parts of the page that isolate_picture() writes.
 */
#ifndef TWOFOLD_TOOLS_IOVA_PICTURE_H
#define TWOFOLD_TOOLS_IOVA_PICTURE_H

#include "tools/isolate.h"

/* Text that is XML: a device or a guest chose some of it. Control characters and what is no UTF-8
 * become '?'. */
void picture_escape(FILE *f, const char *text, size_t len);

/* The map with the attempts, an <svg> element. */
void picture_svg(FILE *f, const struct isolate_report *r);

#endif
