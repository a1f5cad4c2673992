/*
 * The parts of a result's page: measure_html.c puts them together.
 */
#ifndef TWOFOLD_TOOLS_MEASURE_HTML_H
#define TWOFOLD_TOOLS_MEASURE_HTML_H

#include "tools/measure_view.h"

/* Text as HTML and XML have it; control characters are left out. */
void html_text(FILE *f, const char *s);

/* `open`, the text, `close`. */
void html_put(FILE *f, const char *open, const char *s, const char *close);

/* An element that says the state, unless that is `measured`; `why` shows where a pointer rests. */
void html_badge(FILE *f, const char *state, const char *why);

/* --- tables (measure_html_tables.c) --- */

void html_matrix(FILE *f, const json_t *result, const char *paging);
void html_costs(FILE *f, const json_t *result);
void html_loads(FILE *f, const json_t *result);
void html_figures(FILE *f, const json_t *result);
/* Cells and loads that are not `measured`; false, and nothing written, when there is none. */
bool html_unmeasured(FILE *f, const json_t *result);

/* --- pictures --- */

/* What a picture says to those who do not see it. The id is unique on the page. */
struct html_picture {
    const char *id, *title, *desc;
    unsigned width, height;
};

/* The begin of an inline SVG with its title and description. */
void html_svg_begin(FILE *f, const struct html_picture *picture);

/* The reference grids of nested walks, as far as nested cells are in the result
 * (measure_grid.c). */
void html_grids(FILE *f, const json_t *result);

/*
 * Runs gnuplot with a script, which sets no terminal, and writes its picture into `f` as an inline
 * SVG (measure_gnuplot.c). The grey levels #010101 to #090909 become the page's colours --p1 to
 * --p9. -ENOENT when there is no gnuplot; in any error nothing is written.
 */
int html_gnuplot(FILE *f, const struct html_picture *picture, const char *script, size_t size,
                 struct error *err);

/*
 * A plot (measure_plot.c): ns an access of a paging by its name, "costs" or "loads". 0, also when
 * there is nothing to plot; else as html_gnuplot().
 */
int html_plot(FILE *f, const json_t *result, const char *what, struct error *err);

#endif
