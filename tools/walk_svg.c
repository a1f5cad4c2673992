/*
 * A walk as a picture of its own: SVG without scripts, fonts or files besides. Boxes are the
 * references, arrows go in the order in which a CPU makes them.
 */
#include <inttypes.h>
#include <string.h>

#include "tools/walk_shadow.h"

#define BOX_W       168u
#define BOX_H       74u
#define GAP_X       26u
#define GAP_Y       34u
#define LEFT        150u
#define TOP         150u
#define BELOW       150u
#define MARGIN      28u
#define COLUMNS_MIN 5u /* of width, for the text */

struct svg {
    const json_t *walk;
    struct walk_grid grid;
    struct walk_shadow_view shadow;
    unsigned width, height;
    FILE *f;
};

struct colours {
    const char *fill, *edge, *ink;
};

static const struct colours host_colours = { "#eaf3fb", "#4a90c4", "#1d5f91" };
static const struct colours guest_colours = { "#e9f7ec", "#3c9d55", "#1f6e35" };
static const struct colours page_colours = { "#fff6db", "#c99a1b", "#7d5d05" };
static const struct colours shadow_colours = { "#f4ecfa", "#8a5bb5", "#5f3489" };
static const struct colours fault_colours = { "#fde8e8", "#d02f2f", "#a31515" };

static unsigned x_of(unsigned column)
{
    return LEFT + column * (BOX_W + GAP_X);
}

static unsigned y_of(unsigned row)
{
    return TOP + row * (BOX_H + GAP_Y);
}

/* Text that is XML: what a guest chose (a process's name) is in it, too. */
static void put_escaped(FILE *f, const char *s)
{
    for (; *s; s++) {
        if (*s == '<')
            (void)fputs("&lt;", f);
        else if (*s == '>')
            (void)fputs("&gt;", f);
        else if (*s == '&')
            (void)fputs("&amp;", f);
        else if (*s == '"')
            (void)fputs("&quot;", f);
        else if ((unsigned char)*s >= 0x20)
            (void)fputc(*s, f);
    }
}

static void put_text(const struct svg *s, unsigned x, unsigned y, const char *class,
                     const char *ink, const char *text)
{
    (void)fprintf(s->f, "<text class=\"%s\" x=\"%u\" y=\"%u\"", class, x, y);
    if (ink)
        (void)fprintf(s->f, " style=\"fill:%s\"", ink);
    (void)fputc('>', s->f);
    put_escaped(s->f, text);
    (void)fputs("</text>\n", s->f);
}

static void put_box(const struct svg *s, unsigned x, unsigned y, const struct colours *c)
{
    (void)fprintf(s->f,
                  "<rect x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\" rx=\"6\" fill=\"%s\" "
                  "stroke=\"%s\" stroke-width=\"1.5\"/>\n",
                  x, y, BOX_W, BOX_H, c->fill, c->edge);
}

static void put_cell(const struct svg *s, unsigned r, unsigned c)
{
    const struct walk_cell *cell = &s->grid.row[r].cell[c];
    bool guest = c + 1 == s->grid.columns;
    const struct colours *colours = cell->fault ? &fault_colours
                                    : guest     ? &guest_colours
                                                : &host_colours;
    unsigned x = x_of(c), y = y_of(r);
    char text[96];

    put_box(s, x, y, colours);
    (void)snprintf(text, sizeof(text), "%u", cell->number);
    put_text(s, x + 9, y + 20, "number", colours->ink, text);
    (void)snprintf(text, sizeof(text), "%s %s", guest ? "guest" : "host",
                   guest ? s->grid.row[r].of : s->grid.column[c]);
    put_text(s, x + 38, y + 19, "name", colours->ink, text);
    (void)snprintf(text, sizeof(text), "at %" PRIx64, cell->address);
    put_text(s, x + 9, y + 35, "mono dim", NULL, text);
    (void)snprintf(text, sizeof(text), "%016" PRIx64, cell->value);
    put_text(s, x + 9, y + 50, "mono", NULL, text);
    (void)snprintf(text, sizeof(text), "%s%s%.20s", cell->letters,
                   *cell->letters && *cell->words ? " " : "", cell->words);
    put_text(s, x + 9, y + 66, "mono", colours->ink, text);
}

/* What the walk is for: the page, at the end of the last row. */
static void put_page(const struct svg *s)
{
    unsigned r = s->grid.rows - 1, c = s->grid.columns - 1;
    unsigned x = x_of(c), y = y_of(r);
    char text[96], size[16];

    put_box(s, x, y, &page_colours);
    (void)snprintf(text, sizeof(text), "the byte, host page %s",
                   walk_size(s->walk, "host_page", size, sizeof(size)));
    put_text(s, x + 9, y + 20, "name", page_colours.ink, text);
    (void)snprintf(text, sizeof(text), "hva %s", walk_string(s->walk, "hva"));
    put_text(s, x + 9, y + 40, "mono", NULL, text);
    (void)snprintf(text, sizeof(text), "hpa %s",
                   *walk_string(s->walk, "hpa") ? walk_string(s->walk, "hpa") : "-");
    put_text(s, x + 9, y + 58, "mono", NULL, text);
}

static void put_path(const struct svg *s, const char *d)
{
    (void)fprintf(s->f, "<path class=\"arrow\" d=\"%s\" marker-end=\"url(#head)\"/>\n", d);
}

/* To the right in a row; from a row's end to the next one's begin. */
static void put_arrow(const struct svg *s, unsigned r, unsigned c, unsigned to_r, unsigned to_c)
{
    unsigned x = x_of(c) + BOX_W, y = y_of(r) + BOX_H / 2;
    unsigned to_x = x_of(to_c), to_y = y_of(to_r) + BOX_H / 2;
    char d[200];

    if (r == to_r)
        (void)snprintf(d, sizeof(d), "M%u %uH%u", x, y, to_x - 3);
    else
        (void)snprintf(d, sizeof(d), "M%u %uV%uH%uV%uH%u", x_of(c) + BOX_W / 2, y_of(r) + BOX_H,
                       y_of(r) + BOX_H + GAP_Y / 2, to_x - GAP_X / 2 - 4, to_y, to_x - 3);
    put_path(s, d);
}

/* Draws the boxes in walk order, with an arrow from each to the next. */
static void put_grid(const struct svg *s)
{
    const json_t *fault = json_object_get(s->walk, "fault");
    unsigned from_r = 0, from_c = 0, count = 0;

    for (unsigned r = 0; r < s->grid.rows; r++) {
        for (unsigned c = 0; c < s->grid.columns; c++) {
            if (!s->grid.row[r].cell[c].number)
                continue;
            put_cell(s, r, c);
            if (count++)
                put_arrow(s, from_r, from_c, r, c);
            from_r = r;
            from_c = c;
        }
    }
    if (!json_is_object(fault) && s->grid.rows) {
        put_page(s);
        if (count)
            put_arrow(s, from_r, from_c, s->grid.rows - 1, s->grid.columns - 1);
    }
}

/* --- the monitor's own tables: a strip below the grid ------------------------------------- */

static void put_shadow_entry(const struct svg *s, unsigned i, unsigned y)
{
    const struct walk_shadow_entry *e = &s->shadow.entry[i];
    const struct colours *colours = e->lies ? &fault_colours : &shadow_colours;
    unsigned x = x_of(i);
    char text[96];

    put_box(s, x, y, colours);
    (void)snprintf(text, sizeof(text), "%s [%03x]%s", e->name, e->index,
                   e->lies ? " out of sync" : "");
    put_text(s, x + 9, y + 19, "name", colours->ink, text);
    (void)snprintf(text, sizeof(text), "at %" PRIx64, e->address);
    put_text(s, x + 9, y + 35, "mono dim", NULL, text);
    (void)snprintf(text, sizeof(text), "%016" PRIx64, e->value);
    put_text(s, x + 9, y + 50, "mono", NULL, text);
    (void)snprintf(text, sizeof(text), "%.22s", *e->flags ? e->flags : "not filled yet");
    put_text(s, x + 9, y + 66, "mono", colours->ink, text);
}

static void put_strip_arrow(const struct svg *s, unsigned from, unsigned y)
{
    char d[64];

    (void)snprintf(d, sizeof(d), "M%u %uH%u", x_of(from) + BOX_W, y + BOX_H / 2,
                   x_of(from + 1) - 3);
    put_path(s, d);
}

static void put_shadow(const struct svg *s)
{
    const struct walk_shadow_view *v = &s->shadow;
    unsigned y = y_of(s->grid.rows) + GAP_Y;

    if (!v->there)
        return;
    put_text(s, MARGIN, y - 12, "label", shadow_colours.ink, "shadow");
    put_text(s, x_of(0) + 4, y - 12, "plain", v->good ? NULL : fault_colours.ink, v->text);
    put_text(s, MARGIN, y + 20, "mono dim", NULL,
             walk_string(json_object_get(s->walk, "shadow"), "state"));
    for (unsigned i = 0; i < v->count; i++) {
        const struct walk_shadow_entry *e = &v->entry[i];

        if (i)
            put_strip_arrow(s, i - 1, y);
        put_shadow_entry(s, i, y);
        if (!e->leaf)
            continue;
        put_strip_arrow(s, i, y);
        put_box(s, x_of(i + 1), y, &page_colours);
        put_text(s, x_of(i + 1) + 9, y + 20, "name", page_colours.ink, e->leads);
    }
}

static void put_labels(const struct svg *s)
{
    char text[64];

    for (unsigned r = 0; r < s->grid.rows; r++) {
        const struct walk_row *row = &s->grid.row[r];
        unsigned y = y_of(r);

        put_text(s, MARGIN, y + 20, "label", NULL, row->of);
        if (row->index >= 0) {
            (void)snprintf(text, sizeof(text), "index 0x%03x", (unsigned)row->index);
            put_text(s, MARGIN, y + 36, "mono dim", NULL, text);
        }
        if (row->mapped) {
            (void)snprintf(text, sizeof(text), "gpa %" PRIx64, row->gpa);
            put_text(s, MARGIN, y + 51, "mono dim", NULL, text);
        }
        put_text(s, MARGIN, y + 66, "mono dim", NULL, row->state);
    }
    for (unsigned c = 0; c < s->grid.columns; c++) {
        bool guest = c + 1 == s->grid.columns;

        (void)snprintf(text, sizeof(text), "%s%s", guest ? "" : "host ", s->grid.column[c]);
        put_text(s, x_of(c) + 4, TOP - 12, "label", guest ? guest_colours.ink : host_colours.ink,
                 text);
    }
}

static void put_head(const struct svg *s)
{
    static const char *const keys[] = { "gva", "gpa", "hva", "hpa" };
    char text[400], title[256];

    (void)snprintf(text, sizeof(text), "The walk of %s in %s", walk_string(s->walk, "gva"),
                   walk_string(s->walk, "name"));
    put_text(s, MARGIN, 40, "title", NULL, text);
    put_text(s, MARGIN, 63, "plain", NULL, walk_title(s->walk, title, sizeof(title)));
    for (unsigned i = 0; i < 4; i++) {
        const char *value = walk_string(s->walk, keys[i]);
        unsigned x = MARGIN + i * 228;

        put_text(s, x, 98, "label", NULL, keys[i]);
        put_text(s, x + 36, 98, "big", NULL, *value ? value : "-");
        if (i)
            put_text(s, x - 24, 98, "plain", "#888888", "\xe2\x86\x92");
    }
}

/* Sentences below the grid, folded by a rough width of the letters. */
static unsigned put_folded(const struct svg *s, unsigned y, const char *ink, const char *text)
{
    size_t width = (s->width - 2 * MARGIN) / 8;

    while (*text) {
        size_t n = strlen(text);
        char line[256];

        if (n > width) {
            for (n = width; n > 0 && text[n] != ' ';)
                n--;
            if (n == 0)
                n = width;
        }
        (void)snprintf(line, sizeof(line), "%.*s", (int)n, text);
        put_text(s, MARGIN, y, "plain", ink, line);
        y += 20;
        text += n + strspn(text + n, " ");
    }
    return y;
}

static void put_below(const struct svg *s)
{
    const json_t *hardware = json_object_get(s->walk, "hardware");
    const json_t *fault = json_object_get(s->walk, "fault");
    const json_t *made = json_object_get(hardware, "references");
    unsigned y = s->height - BELOW + 12;
    char text[512];

    y = put_folded(s, y, NULL, walk_count(s->walk, &s->grid, text, sizeof(text)));
    if (json_is_object(fault))
        y = put_folded(s, y, fault_colours.ink, walk_string(fault, "text"));
    (void)snprintf(text, sizeof(text), "%s", walk_string(hardware, "text"));
    if (json_is_integer(made))
        (void)snprintf(text + strlen(text), sizeof(text) - strlen(text),
                       ": %" JSON_INTEGER_FORMAT " references", json_integer_value(made));
    if (json_is_true(json_object_get(hardware, "host_is_guest")))
        (void)snprintf(text + strlen(text), sizeof(text) - strlen(text),
                       "; the host is itself a guest: what lies below its hpa can't be seen");
    y = put_folded(s, y, "#555555", text);
    (void)put_folded(s, y, "#777777", s->grid.legend);
}

void walk_print_svg(const json_t *walk, FILE *f)
{
    struct svg s = { .walk = walk, .f = f };
    unsigned columns;

    walk_grid(&s.grid, walk);
    walk_shadow_view(&s.shadow, walk);
    columns = s.grid.columns > COLUMNS_MIN ? s.grid.columns : COLUMNS_MIN;
    s.width = LEFT + columns * (BOX_W + GAP_X) - GAP_X + MARGIN;
    s.height = TOP + s.grid.rows * (BOX_H + GAP_Y) + BELOW;
    if (s.shadow.there)
        s.height += BOX_H + 2 * GAP_Y;
    (void)fprintf(f,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %u %u\" width=\"%u\" "
                  "height=\"%u\">\n"
                  "<style>text{font-family:'DejaVu Sans','Segoe UI',Helvetica,Arial,sans-serif;"
                  "fill:#222}.mono,.big{font-family:'DejaVu Sans Mono',Consolas,Menlo,monospace;"
                  "font-size:12px}.big{font-size:14px}.dim{fill:#777}.number{font-size:16px;"
                  "font-weight:bold}.name{font-size:13px}.label{font-size:14px;font-weight:bold}"
                  ".plain{font-size:13.5px}.title{font-size:21px;font-weight:bold}"
                  ".arrow{fill:none;stroke:#666;stroke-width:1.6}</style>\n"
                  "<defs><marker id=\"head\" viewBox=\"0 0 8 8\" refX=\"6\" refY=\"4\" "
                  "markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" "
                  "fill=\"#666\"/></marker></defs>\n"
                  "<rect width=\"%u\" height=\"%u\" fill=\"#ffffff\"/>\n",
                  s.width, s.height, s.width, s.height, s.width, s.height);
    put_head(&s);
    put_labels(&s);
    put_grid(&s);
    put_shadow(&s);
    put_below(&s);
    (void)fputs("</svg>\n", f);
}
