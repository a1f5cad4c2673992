/*
 * Where things are on the picture of an iova map: the axis goes down, cut at each address where
 * something begins or ends; how high an interval is drawn follows from what is written in it.
 */
#ifndef TWOFOLD_TOOLS_IOVA_LAYOUT_H
#define TWOFOLD_TOOLS_IOVA_LAYOUT_H

#include "tools/isolate.h"

#define LAYOUT_POINTS_MAX (2 * (ISOLATE_REGIONS_MAX + ISOLATE_ATTEMPTS_MAX))
#define LAYOUT_LANES      2 /* the device's own run, and the contrast */

/* From `from` to the next interval's, or nothing but a point if it is the last. */
struct layout_interval {
    uint64_t from, to;
    unsigned y, height;
};

struct layout {
    struct layout_interval interval[LAYOUT_POINTS_MAX];
    size_t count;
    unsigned attempt_y[ISOLATE_ATTEMPTS_MAX]; /* of the arrow */
    unsigned bottom;
    bool contrast; /* the second lane has something */
    unsigned wrap; /* characters of a line beside an arrow */
};

/* Lays out `r` from `top` down. */
void layout_make(struct layout *l, const struct isolate_report *r, unsigned top);

/* The first address behind [iova, iova + len); the last one there is when it would wrap. */
uint64_t layout_end(uint64_t iova, uint64_t len);

/* The y of an address that is a point. */
unsigned layout_y(const struct layout *l, uint64_t point);

/* The region of that lane that `iova` lies in, or NULL. */
const struct isolate_region *layout_region(const struct isolate_report *r, bool contrast,
                                           uint64_t iova);

/*
 * The next line of at most `width` characters, cut at a blank where there is one; *text moves on.
 * Its length; 0 at the end.
 */
size_t layout_line(const char **text, size_t width, const char **line);

#define LAYOUT_LINE   15u /* from one line of text to the next */
#define LAYOUT_LABELS 3u  /* lines of an attempt's label, or a region's, at most */

/* How many lines `text` takes, at most LAYOUT_LABELS. */
unsigned layout_lines(const char *text, size_t width);

#endif
