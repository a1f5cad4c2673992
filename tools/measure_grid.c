/*
 * The references of a nested walk as a grid: a row for each level of the guest's tables and one
 * for the page, a column for each level of the host's and one for the guest's own entry. Numbers
 * are the order in which a CPU reads. walk_svg.c draws one walk with its entries; here no entry
 * is known, only page sizes are.
 */
#include <string.h>

#include "tools/measure_html.h"

#define BOX_W  34u
#define BOX_H  26u
#define GAP    4u
#define LEFT   44u
#define TOP    24u
#define LEVELS 5u

struct shape {
    unsigned guest, host;           /* levels */
    unsigned guest_last, host_last; /* the number of the last one: 1 is that of 4 KiB pages */
};

static unsigned references(struct shape s)
{
    return (s.guest + 1) * (s.host + 1) - 1;
}

/* By the page sizes; where the formula's figure is another one, with five levels on one side or
 * both. */
static bool shape_of(const struct measure_cell *c, struct shape *out)
{
    unsigned guest = measure_levels(c->guest_page), host = measure_levels(c->host_page);

    for (unsigned i = 0; i < 4; i++) {
        *out = (struct shape){ guest + (i >> 1), host + (i & 1), 5 - guest, 5 - host };
        if (c->formula < 0 || (unsigned)c->formula == references(*out))
            return true;
    }
    return false;
}

static void put_box(FILE *f, unsigned row, unsigned column, unsigned number, bool guest)
{
    unsigned x = LEFT + column * (BOX_W + GAP), y = TOP + row * (BOX_H + GAP);

    (void)fprintf(f,
                  "<rect class=\"%s\" x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\" rx=\"4\"/>"
                  "<text x=\"%u\" y=\"%u\" text-anchor=\"middle\">%u</text>\n",
                  guest ? "guest" : "host", x, y, BOX_W, BOX_H, x + BOX_W / 2, y + 18, number);
}

static void put_grid(FILE *f, struct shape s)
{
    unsigned number = 0;

    for (unsigned c = 0; c <= s.host; c++) {
        (void)fprintf(f, "<text class=\"dim\" x=\"%u\" y=\"16\" text-anchor=\"middle\">",
                      LEFT + c * (BOX_W + GAP) + BOX_W / 2);
        if (c < s.host)
            (void)fprintf(f, "h%u</text>\n", s.host_last + s.host - 1 - c);
        else
            (void)fputs("guest</text>\n", f);
    }
    for (unsigned r = 0; r <= s.guest; r++) {
        (void)fprintf(f, "<text class=\"dim\" x=\"%u\" y=\"%u\" text-anchor=\"end\">", LEFT - 8,
                      TOP + r * (BOX_H + GAP) + 18);
        if (r < s.guest)
            (void)fprintf(f, "g%u</text>\n", s.guest_last + s.guest - 1 - r);
        else
            (void)fputs("page</text>\n", f);
        for (unsigned c = 0; c < s.host + (r < s.guest); c++)
            put_box(f, r, c, ++number, c == s.host);
    }
}

static void put_figure(FILE *f, const struct measure_cell *c, struct shape s, unsigned index)
{
    struct measure_combo combo = { c->guest_page, c->host_page };
    char id[24], title[80], desc[160], name[40];
    struct html_picture picture = {
        .id = id,
        .title = title,
        .desc = desc,
        .width = LEFT + (LEVELS + 1) * (BOX_W + GAP),
        .height = TOP + (s.guest + 1) * (BOX_H + GAP),
    };

    (void)snprintf(id, sizeof(id), "g-%u", index);
    (void)snprintf(title, sizeof(title), "a walk of %s",
                   measure_combo_name(combo, name, sizeof(name)));
    (void)snprintf(desc, sizeof(desc),
                   "%u references: for each of %u entries of the guest %u of the host's tables and "
                   "the entry, then %u of the host's for the page",
                   references(s), s.guest, s.host, s.host);
    (void)fputs("<figure class=\"grid\">\n", f);
    html_svg_begin(f, &picture);
    put_grid(f, s);
    (void)fprintf(f,
                  "</svg>\n<figcaption><strong>%s</strong>: (%u + 1) &#215; (%u + 1) &#8722; 1 = "
                  "<strong>%u</strong>; ",
                  name, s.guest, s.host, references(s));
    if (c->references < 0)
        (void)fputs("not seen in the live VM", f);
    else if ((unsigned)c->references == references(s))
        (void)fputs("found in the live VM: the same", f);
    else
        (void)fprintf(f, "<span class=\"badge bad\">found in the live VM: %d</span>",
                      c->references);
    (void)fputs("</figcaption>\n</figure>\n", f);
}

/* The cell of these sizes that knows most of its walk. */
static bool best_of(const json_t *result, struct measure_combo combo, struct measure_cell *best)
{
    uint64_t footprints[MEASURE_FOOTPRINTS_MAX];
    size_t n = measure_footprints(result, footprints);
    struct measure_cell c;

    best->json = NULL;
    for (size_t i = 0; i < n; i++) {
        if (measure_find_cell(result, "nested", combo, footprints[i], &c) &&
            (!best->json || (best->references < 0 && c.references >= 0)))
            *best = c;
    }
    return best->json != NULL;
}

void html_grids(FILE *f, const json_t *result)
{
    struct measure_combo combos[MEASURE_COMBOS_MAX];
    size_t n = measure_combos(result, combos);
    struct measure_cell c;
    struct shape s;

    (void)fputs("<div class=\"grids\">\n", f);
    for (size_t i = 0; i < n; i++)
        if (combos[i].guest_page && best_of(result, combos[i], &c) && shape_of(&c, &s))
            put_figure(f, &c, s, (unsigned)i);
    (void)fputs("</div>\n", f);
}
