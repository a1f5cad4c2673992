#include "tools/iova_layout.h"

#include <stdlib.h>
#include <string.h>

#define INTERVAL_MIN 26u /* so that the addresses at its ends don't touch */
#define GAP_HEIGHT   40u
#define REGION_WRAP  24u
#define PADDING      10u

uint64_t layout_end(uint64_t iova, uint64_t len)
{
    return len > UINT64_MAX - iova ? UINT64_MAX : iova + len;
}

const struct isolate_region *layout_region(const struct isolate_report *r, bool contrast,
                                           uint64_t iova)
{
    for (size_t i = 0; i < r->regions; i++) {
        const struct isolate_region *g = &r->region[i];

        if (g->contrast == contrast && iova >= g->iova && iova - g->iova < g->len)
            return g;
    }
    return NULL;
}

size_t layout_line(const char **text, size_t width, const char **line)
{
    size_t len, cut;

    while (**text == ' ')
        (*text)++;
    *line = *text;
    len = strlen(*text);
    if (len > width) {
        for (cut = width; cut > 0 && (*text)[cut] != ' '; cut--)
            ;
        len = cut ? cut : width;
    }
    *text += len;
    return len;
}

unsigned layout_lines(const char *text, size_t width)
{
    const char *line;
    unsigned n = 0;

    while (n < LAYOUT_LABELS && layout_line(&text, width, &line))
        n++;
    return n ? n : 1;
}

/* --- points ------------------------------------------------------------------------------------
 */

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* Of an attempt the end counts only where it is not in the region that it began in. */
static size_t collect(const struct isolate_report *r, uint64_t *point)
{
    size_t n = 0, unique = 0;

    for (size_t i = 0; i < r->regions; i++) {
        point[n++] = r->region[i].iova;
        point[n++] = layout_end(r->region[i].iova, r->region[i].len);
    }
    for (size_t i = 0; i < r->attempts; i++) {
        const struct isolate_attempt *a = &r->attempt[i];
        const struct isolate_region *g = layout_region(r, false, a->iova);
        uint64_t end = layout_end(a->iova, a->len);

        point[n++] = a->iova;
        if (!g || end > layout_end(g->iova, g->len))
            point[n++] = end;
    }
    qsort(point, n, sizeof(*point), by_value);
    for (size_t i = 0; i < n; i++)
        if (!unique || point[unique - 1] != point[i])
            point[unique++] = point[i];
    return unique;
}

unsigned layout_y(const struct layout *l, uint64_t point)
{
    for (size_t i = 0; i < l->count; i++)
        if (l->interval[i].from == point)
            return l->interval[i].y;
    return l->bottom;
}

/* --- heights -----------------------------------------------------------------------------------
 */

/* Above the arrow goes its text; below it, some air. */
static unsigned attempt_height(const struct layout *l, const struct isolate_attempt *a)
{
    return LAYOUT_LINE * layout_lines(a->what, l->wrap) + LAYOUT_LINE + 9;
}

/* What the attempts of one lane need that begin in the interval; their arrows are placed. */
static unsigned lane_height(struct layout *l, const struct isolate_report *r, bool contrast,
                            const struct layout_interval *in)
{
    unsigned y = in->y + PADDING;

    for (size_t i = 0; i < r->attempts; i++) {
        const struct isolate_attempt *a = &r->attempt[i];

        if (a->contrast != contrast || a->iova != in->from)
            continue;
        y += attempt_height(l, a);
        l->attempt_y[i] = y - 12;
    }
    return y == in->y + PADDING ? 0 : y - in->y;
}

static unsigned region_height(const struct isolate_report *r, const struct layout_interval *in)
{
    unsigned height = 0;

    for (size_t i = 0; i < r->regions; i++) {
        const struct isolate_region *g = &r->region[i];
        unsigned h = LAYOUT_LINE * (layout_lines(g->label, REGION_WRAP) + 2) + PADDING;

        if (g->iova == in->from && g->len && h > height)
            height = h;
    }
    return height;
}

static unsigned interval_height(struct layout *l, const struct isolate_report *r,
                                const struct layout_interval *in)
{
    unsigned height = layout_region(r, false, in->from) ? INTERVAL_MIN : GAP_HEIGHT, h;

    for (int lane = 0; lane < LAYOUT_LANES; lane++) {
        h = lane_height(l, r, lane == 1, in);
        height = h > height ? h : height;
    }
    h = region_height(r, in);
    return h > height ? h : height;
}

void layout_make(struct layout *l, const struct isolate_report *r, unsigned top)
{
    uint64_t point[LAYOUT_POINTS_MAX];

    memset(l, 0, sizeof(*l));
    for (size_t i = 0; i < r->regions; i++)
        l->contrast |= r->region[i].contrast;
    for (size_t i = 0; i < r->attempts; i++)
        l->contrast |= r->attempt[i].contrast;
    l->wrap = l->contrast ? 42 : 84;
    l->count = collect(r, point);
    l->bottom = top;
    for (size_t i = 0; i < l->count; i++) {
        struct layout_interval *in = &l->interval[i];
        bool last = i + 1 == l->count;

        *in = (struct layout_interval){ .from = point[i],
                                        .to = last ? point[i] : point[i + 1],
                                        .y = l->bottom };
        in->height = interval_height(l, r, in);
        /* Behind the last end nothing begins, unless it is an attempt at no bytes. */
        if (last && layout_region(r, false, in->from) == NULL && in->height == GAP_HEIGHT)
            in->height = 0;
        l->bottom += in->height;
    }
}
