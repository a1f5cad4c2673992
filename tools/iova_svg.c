/*
 * The map of a device's addresses: the axis goes down, regions are blocks on it, attempts are
 * arrows at their address. What was done with an identity mapping stands beside it, on the same
 * axis. Colours are the page's (iova_picture.c); each also has a form of its own.
 */
#include <inttypes.h>
#include <string.h>

#include "tools/iova_layout.h"
#include "tools/iova_picture.h"

#define WIDTH  1152u
#define TOP    64u
#define LEGEND 70u

/* One run: blocks, and what the device did, from `far` (the device) to `edge` (memory). */
struct lane {
    unsigned block, edge, far;
    bool contrast;
};

struct svg {
    FILE *f;
    const struct isolate_report *r;
    struct layout l;
    struct lane lane[LAYOUT_LANES];
};

static void put_lines(const struct svg *s, const char *class, unsigned x, unsigned y,
                      const char *text, size_t width, unsigned max)
{
    const char *line;
    size_t len;

    for (unsigned n = 0; n < max && (len = layout_line(&text, width, &line)) > 0; n++) {
        (void)fprintf(s->f, "<text class=\"%s\" x=\"%u\" y=\"%u\">", class, x, y + n * LAYOUT_LINE);
        picture_escape(s->f, line, len);
        (void)fputs(n + 1 == max && *text ? "…</text>\n" : "</text>\n", s->f);
    }
}

static void put_text(const struct svg *s, const char *class, unsigned x, unsigned y,
                     const char *text)
{
    put_lines(s, class, x, y, text, strlen(text), 1);
}

static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };

#define UNIT_LAST (sizeof(units) / sizeof(units[0]) - 1)

/* Rounded: for what is exact in the addresses at its ends. */
static const char *about_text(uint64_t bytes, char *buf, size_t size)
{
    double value = (double)bytes;
    unsigned u = 0;

    for (; value >= 1024 && u < UNIT_LAST; u++)
        value /= 1024;
    (void)snprintf(buf, size, "%.4g %s", value, units[u]);
    return buf;
}

/* "2 KiB" where that is exact and short. */
static const char *size_text(uint64_t bytes, char *buf, size_t size)
{
    uint64_t value = bytes;
    unsigned u = 0;

    for (; value && value % 1024 == 0 && u < UNIT_LAST; u++)
        value /= 1024;
    if (value >= 10000) {
        (void)snprintf(buf, size, "about ");
        (void)about_text(bytes, buf + strlen(buf), size - strlen(buf));
        return buf;
    }
    (void)snprintf(buf, size, "%" PRIu64 " %s", value, units[u]);
    return buf;
}

/* --- the axis ----------------------------------------------------------------------------------
 */

static void put_axis(const struct svg *s)
{
    unsigned right = s->l.contrast ? s->lane[1].edge : s->lane[0].edge;

    for (size_t i = 0; i < s->l.count; i++) {
        const struct layout_interval *in = &s->l.interval[i];
        char text[24];

        (void)fprintf(s->f, "<path class=\"tick\" d=\"M132 %uH%u\"/>\n", in->y, right);
        put_text(s, "address", 126, in->y + 4, isolate_address(in->from, text, sizeof(text)));
    }
}

/* Where nothing was given: how much that is, and a break, as heights are no measure. */
static void put_gaps(const struct svg *s, const struct lane *lane)
{
    for (size_t i = 0; i + 1 < s->l.count; i++) {
        const struct layout_interval *in = &s->l.interval[i];
        unsigned x = lane->block, w = lane->edge - lane->block, y = in->y + in->height / 2;
        char about[24], text[48];

        if (layout_region(s->r, lane->contrast, in->from))
            continue;
        (void)fprintf(s->f,
                      "<path class=\"gap\" d=\"M%u %uV%ul-5 4l10 4l-5 4V%uM%u %uV%ul-5 4l10 4l-5 "
                      "4V%u\"/>\n",
                      x, in->y, y - 6, in->y + in->height, x + w, in->y, y - 6, in->y + in->height);
        (void)snprintf(text, sizeof(text), "not mapped: %s",
                       about_text(in->to - in->from, about, sizeof(about)));
        put_text(s, "dim middle", x + w / 2, y + 4, text);
    }
}

static void put_region(const struct svg *s, const struct lane *lane, const struct isolate_region *g)
{
    unsigned y = layout_y(&s->l, g->iova), x = lane->block;
    unsigned end = layout_y(&s->l, layout_end(g->iova, g->len)), w = lane->edge - x;
    const char *class = g->write ? (g->read ? "rw" : "wo") : (g->read ? "ro" : "no");
    char size[32], text[64];

    if (!g->len)
        return;
    (void)fprintf(
        s->f,
        "<rect class=\"block %s\" x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\" rx=\"3\"/>\n"
        "<rect class=\"plate\" x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\" rx=\"3\"/>\n",
        class, x, y, w, end - y, x + 6, y + 6, w - 12,
        LAYOUT_LINE * (layout_lines(g->label, 24) + 1) + 6);
    put_lines(s, "label", x + 12, y + 19, g->label, 24, LAYOUT_LABELS);
    (void)snprintf(text, sizeof(text), "%s, %s", isolate_rights(g),
                   size_text(g->len, size, sizeof(size)));
    put_text(s, "dim", x + 12, y + 19 + LAYOUT_LINE * layout_lines(g->label, 24), text);
}

/* --- attempts ----------------------------------------------------------------------------------
 */

/* The bytes aimed at, along the block's edge. */
static void put_extent(const struct svg *s, const struct lane *lane,
                       const struct isolate_attempt *a)
{
    unsigned y = layout_y(&s->l, a->iova);
    unsigned end = layout_y(&s->l, layout_end(a->iova, a->len));

    for (size_t i = 0; i < s->l.count; i++)
        if (s->l.interval[i].from == layout_end(a->iova, a->len) && end > y + 4)
            (void)fprintf(s->f, "<path class=\"extent\" d=\"M%u %uV%u\"/>\n", lane->edge + 4, y + 2,
                          end - 2);
}

/* Going through, the line ends in a head inside of the block (a write) or at the device (a read);
 * blocked, it is broken and ends before the block, at a cross. */
static void put_line(const struct svg *s, const struct lane *lane, const struct isolate_attempt *a,
                     unsigned y)
{
    const char *class = a->went ? "through" : "blocked";
    unsigned near = a->went ? lane->edge - 10 : lane->edge + 22, x = lane->edge + 16;

    if (a->went && a->write)
        (void)fprintf(s->f, "<path class=\"arrow %s\" d=\"M%u %uH%u\" marker-end=\"url(#%s)\"/>\n",
                      class, lane->far - 22, y, near, class);
    else
        (void)fprintf(s->f, "<path class=\"arrow %s\" d=\"M%u %uH%u\"%s/>\n", class, near, y,
                      lane->far - 22 - (a->write ? 0 : 6),
                      a->write ? ""
                               : (a->went ? " marker-end=\"url(#through)\""
                                          : " marker-end=\"url(#blocked)\""));
    if (!a->went)
        (void)fprintf(s->f, "<path class=\"cross\" d=\"M%u %ul12 12m0 -12l-12 12\"/>\n", x - 6,
                      y - 6);
}

static void put_attempt(const struct svg *s, const struct lane *lane, size_t i)
{
    const struct isolate_attempt *a = &s->r->attempt[i];
    unsigned y = s->l.attempt_y[i], lines = layout_lines(a->what, s->l.wrap);
    char size[32], text[96];

    (void)fprintf(s->f, "<g class=\"attempt\"><title>%zu: ", i + 1);
    picture_escape(s->f, a->what, strlen(a->what));
    (void)fprintf(s->f, ": %s</title>\n", isolate_outcome(a));
    put_lines(s, "label", lane->edge + 34, y - 6 - LAYOUT_LINE * lines, a->what, s->l.wrap,
              LAYOUT_LABELS);
    (void)snprintf(text, sizeof(text), "%s %s: %s%s", a->write ? "write" : "read",
                   size_text(a->len, size, sizeof(size)), isolate_outcome(a),
                   isolate_as_expected(a) ? "" : " - NOT AS EXPECTED");
    put_text(s,
             !isolate_as_expected(a) ? "small wrong"
             : a->went               ? "small through"
                                     : "small blocked",
             lane->edge + 34, y - 6, text);
    put_extent(s, lane, a);
    put_line(s, lane, a, y);
    (void)fprintf(s->f, "<circle class=\"badge%s\" cx=\"%u\" cy=\"%u\" r=\"11\"/>\n",
                  isolate_as_expected(a) ? "" : " wrong", lane->far - 11, y);
    (void)snprintf(text, sizeof(text), "%zu", i + 1);
    put_text(s, "badge", lane->far - 11, y + 4, text);
    (void)fputs("</g>\n", s->f);
}

static void put_lane(const struct svg *s, const struct lane *lane)
{
    put_text(s, "head", lane->block, 22, lane->contrast ? "Contrast" : "What the device was given");
    put_text(s, "dim", lane->block, 40,
             lane->contrast ? "the same attempts, with an identity mapping"
                            : "and what it tried; numbers are rows of the table");
    put_gaps(s, lane);
    for (size_t i = 0; i < s->r->regions; i++)
        if (s->r->region[i].contrast == lane->contrast)
            put_region(s, lane, &s->r->region[i]);
    for (size_t i = 0; i < s->r->attempts; i++)
        if (s->r->attempt[i].contrast == lane->contrast)
            put_attempt(s, lane, i);
}

static void put_legend(const struct svg *s)
{
    unsigned y = s->l.bottom + 24;

    (void)fprintf(
        s->f,
        "<g class=\"legend\">"
        "<rect class=\"block rw\" x=\"136\" y=\"%u\" width=\"30\" height=\"18\" rx=\"3\"/>"
        "<text x=\"174\" y=\"%u\">read and write</text>"
        "<rect class=\"block ro\" x=\"290\" y=\"%u\" width=\"30\" height=\"18\" rx=\"3\"/>"
        "<text x=\"328\" y=\"%u\">read only</text>"
        "<path class=\"arrow through\" d=\"M470 %uH420\" marker-end=\"url(#through)\"/>"
        "<text x=\"480\" y=\"%u\">went through</text>"
        "<path class=\"arrow blocked\" d=\"M650 %uH606\"/>"
        "<path class=\"cross\" d=\"M594 %ul12 12m0 -12l-12 12\"/>"
        "<text x=\"660\" y=\"%u\">blocked</text>"
        "<text class=\"dim\" x=\"760\" y=\"%u\">Addresses go down; heights are not to scale.</text>"
        "</g>\n",
        y, y + 14, y, y + 14, y + 9, y + 14, y + 9, y + 3, y + 14, y + 14);
}

static void put_definitions(const struct svg *s)
{
    (void)fputs(
        "<defs>\n"
        "<pattern id=\"hatch\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\" "
        "patternTransform=\"rotate(45)\"><rect class=\"hatch-ground\" width=\"8\" height=\"8\"/>"
        "<rect class=\"hatch-line\" width=\"3\" height=\"8\"/></pattern>\n"
        "<pattern id=\"dots\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\">"
        "<rect class=\"hatch-ground\" width=\"8\" height=\"8\"/>"
        "<circle class=\"hatch-line\" cx=\"4\" cy=\"4\" r=\"2\"/></pattern>\n"
        "<marker id=\"through\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" markerWidth=\"7\" "
        "markerHeight=\"7\" orient=\"auto\"><path class=\"tip through\" d=\"M0 0L10 5L0 10z\"/>"
        "</marker>\n"
        "<marker id=\"blocked\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" markerWidth=\"7\" "
        "markerHeight=\"7\" orient=\"auto\"><path class=\"tip blocked\" d=\"M0 0L10 5L0 10z\"/>"
        "</marker>\n</defs>\n",
        s->f);
}

void picture_svg(FILE *f, const struct isolate_report *r)
{
    struct svg s = { .f = f, .r = r };
    unsigned height;

    layout_make(&s.l, r, TOP);
    s.lane[0] = (struct lane){ 136, 320, s.l.contrast ? 650 : WIDTH, false };
    s.lane[1] = (struct lane){ 668, 852, WIDTH, true };
    height = s.l.bottom + LEGEND;
    (void)fprintf(f,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %u %u\" role=\"img\" "
                  "aria-label=\"Map of the device's addresses with %zu attempts\">\n",
                  WIDTH, height, r->attempts);
    put_definitions(&s);
    put_axis(&s);
    put_lane(&s, &s.lane[0]);
    if (s.l.contrast)
        put_lane(&s, &s.lane[1]);
    put_legend(&s);
    (void)fputs("</svg>\n", f);
}
