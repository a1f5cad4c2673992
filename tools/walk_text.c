/*
 * A walk for a terminal: the grid with all four lines of each cell where there is room, else
 * numbers in a small grid and the entries as a list.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tools/walk_ink.h"
#include "tools/walk_shadow.h"

#define LABEL_WIDTH   14
#define CELL_MIN      16 /* the digits of an entry */
#define CELL_MAX      21
#define SMALL_CELL    7
#define WIDTH_DEFAULT 100 /* of no terminal */

struct page {
    const json_t *walk;
    struct walk_grid grid;
    const struct walk_style *style;
    unsigned cell; /* width; from 17 on the first is a blank */
    FILE *f;
};

void walk_style_of(FILE *f, struct walk_style *style)
{
    static const char *const names[] = { "LC_ALL", "LC_CTYPE", "LANG" };
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM"), *columns = getenv("COLUMNS");
    bool terminal = isatty(fileno(f));
    struct winsize size = { 0 };
    const char *locale = NULL;
    unsigned long width = columns ? strtoul(columns, NULL, 10) : 0;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && (!locale || !*locale); i++)
        locale = getenv(names[i]);
    *style = (struct walk_style){ .width = WIDTH_DEFAULT };
    style->utf8 = locale && (strcasestr(locale, "UTF-8") || strcasestr(locale, "utf8"));
    style->colour = terminal && !(no_color && *no_color) && !(term && !strcmp(term, "dumb"));
    if (width > 0 && width < 10000)
        style->width = (unsigned)width;
    else if (terminal && ioctl(fileno(f), TIOCGWINSZ, &size) == 0 && size.ws_col)
        style->width = size.ws_col;
}

static void put(const struct page *p, enum ink ink, unsigned width, const char *text)
{
    walk_put(p->f, p->style, ink, width, text);
}

static void repeat(const struct page *p, const char *ascii, const char *utf8, unsigned count)
{
    while (count--)
        (void)fputs(p->style->utf8 ? utf8 : ascii, p->f);
}

/* --- above and below the grid --------------------------------------------------------- */

static void put_folded(const struct page *p, enum ink ink, const char *head, const char *text)
{
    walk_put_folded(p->f, p->style, ink, head, text);
}

static void put_address(const struct page *p, const char *key, const char *note)
{
    const char *text = walk_string(p->walk, key);
    char padded[24];

    (void)snprintf(padded, sizeof(padded), "0x%016" PRIx64, walk_u64(p->walk, key));
    (void)fprintf(p->f, "  ");
    put(p, INK_DIM, 8, key);
    put(p,
        !*text                ? INK_DIM
        : !strcmp(key, "hpa") ? INK_PAGE
                              : INK_HEAD,
        *note ? 20 : 0, *text ? padded : "-");
    put(p, INK_PLAIN, 0, note);
    (void)fputc('\n', p->f);
}

/* "PML4 0x0ff, PDPT 0x1f4, PD 0x091, PT 0x145": where the gva goes in each table. */
static void index_note(const struct page *p, char *buf, size_t size)
{
    size_t n = 0;

    buf[0] = '\0';
    for (unsigned r = 0; r < p->grid.rows && n < size; r++) {
        const struct walk_row *row = &p->grid.row[r];
        size_t name = strlen(row->of);

        if (row->index >= 0 && name)
            n += (size_t)snprintf(buf + n, size - n, "%s%.*s 0x%03x", n ? ", " : "",
                                  (int)(name - 1), row->of, (unsigned)row->index);
    }
}

static void put_addresses(const struct page *p)
{
    const char *state = p->grid.rows ? p->grid.row[p->grid.rows - 1].state : "";
    bool mapped = *walk_string(p->walk, "gpa");
    char note[160], size[16];

    index_note(p, note, sizeof(note));
    put_address(p, "gva", note);
    note[0] = '\0';
    if (json_is_integer(json_object_get(p->walk, "guest_page")))
        (void)snprintf(note, sizeof(note), "guest page %s, rights %s",
                       walk_size(p->walk, "guest_page", size, sizeof(size)),
                       walk_string(p->walk, "rights"));
    else if (mapped && !json_integer_value(json_object_get(p->walk, "guest_levels")))
        (void)snprintf(note, sizeof(note), "the same: paging is off");
    put_address(p, "gpa", note);
    note[0] = '\0';
    if (json_is_integer(json_object_get(p->walk, "host_page")))
        (void)snprintf(note, sizeof(note), "host page %s, %s",
                       walk_size(p->walk, "host_page", size, sizeof(size)), state);
    put_address(p, "hva", note);
    put_address(p, "hpa", walk_string(p->walk, "hpa_why"));
}

static void put_below(const struct page *p)
{
    const json_t *hardware = json_object_get(p->walk, "hardware");
    const json_t *fault = json_object_get(p->walk, "fault");
    const json_t *made = json_object_get(hardware, "references");
    char text[600], bits[200], number[64] = "";

    (void)fputc('\n', p->f);
    put_folded(p, INK_HEAD, "count", walk_count(p->walk, &p->grid, text, sizeof(text)));
    if (json_is_object(fault)) {
        (void)walk_words(json_object_get(fault, "error_bits"), ", ", bits, sizeof(bits));
        /* What the guest would get says its own error code; what the host would, does not. */
        if (!strcmp(walk_string(fault, "dimension"), "host"))
            (void)snprintf(number, sizeof(number), "%s %s: ", walk_string(fault, "event"),
                           walk_string(fault, "error_code"));
        (void)snprintf(text, sizeof(text), "%s%s%s%s%s", walk_string(fault, "text"),
                       *bits ? " (" : "", *bits ? number : "", bits, *bits ? ")" : "");
        put_folded(p, INK_FAULT, "fault", text);
    }
    (void)snprintf(text, sizeof(text), "%s", walk_string(hardware, "text"));
    if (json_is_integer(made))
        (void)snprintf(text + strlen(text), sizeof(text) - strlen(text),
                       ": %" JSON_INTEGER_FORMAT " references", json_integer_value(made));
    if (json_is_true(json_object_get(hardware, "host_is_guest")))
        (void)snprintf(
            text + strlen(text), sizeof(text) - strlen(text),
            "; this host is itself a guest: the dimension below its hpa can't be seen from here");
    put_folded(p, INK_PLAIN, "hardware", text);
    if (p->grid.columns) {
        (void)snprintf(text, sizeof(text),
                       "host: entries of the VM's guest-physical map, whose leaves hold hvas; "
                       "guest: entries of its own tables%s%s",
                       *p->grid.legend ? "; " : "", p->grid.legend);
        put_folded(p, INK_DIM, "legend", text);
    }
}

/* --- the grid ------------------------------------------------------------------------------ */

static enum ink cell_ink(const struct page *p, const struct walk_cell *cell, unsigned column)
{
    if (cell->fault)
        return INK_FAULT;
    return column + 1 == p->grid.columns ? INK_GUEST : INK_HOST;
}

static void put_rule(const struct page *p)
{
    repeat(p, "-", "─", LABEL_WIDTH);
    for (unsigned c = 0; c < p->grid.columns; c++) {
        repeat(p, "+", "┼", 1);
        repeat(p, "-", "─", p->cell);
    }
    (void)fputc('\n', p->f);
}

/* The page row's last cell says where the byte is in the end. */
static void end_line(const struct page *p, unsigned line, char *buf, size_t size)
{
    char page[16];

    buf[0] = '\0';
    if (line == 0)
        (void)snprintf(buf, size, "= the byte (%s)",
                       walk_size(p->walk, "host_page", page, sizeof(page)));
    else if (line == 1)
        (void)snprintf(buf, size, "hva %s", walk_string(p->walk, "hva") + 2);
    else if (line == 2 && *walk_string(p->walk, "hpa"))
        (void)snprintf(buf, size, "hpa %s", walk_string(p->walk, "hpa") + 2);
}

static void put_cell(const struct page *p, unsigned r, unsigned c, unsigned line)
{
    const struct walk_cell *cell = &p->grid.row[r].cell[c];
    bool last = c + 1 == p->grid.columns;
    bool ended = last && json_is_null(json_object_get(p->walk, "fault"));
    enum ink ink = cell_ink(p, cell, c);
    unsigned width = p->cell - (p->cell > CELL_MIN);
    char text[64] = "";

    if (!last || cell->number)
        put(p, INK_PLAIN, p->cell - width, "");
    if (!cell->number) {
        if (ended && r + 1 == p->grid.rows)
            end_line(p, line, text, sizeof(text));
        else if (line == 0)
            (void)snprintf(text, sizeof(text), ".");
        if (last && *text)
            put(p, INK_PLAIN, p->cell - width, "");
        put(p, *text == '.' ? INK_DIM : INK_PAGE, last ? 0 : width, text);
        return;
    }
    switch (line) {
    case 0:
        (void)snprintf(text, sizeof(text), "%u%s", cell->number, cell->fault ? " FAULT" : "");
        break;
    case 1:
        ink = INK_DIM;
        (void)snprintf(text, sizeof(text), "@%" PRIx64, cell->address);
        break;
    case 2:
        ink = cell->fault ? INK_FAULT : INK_PLAIN;
        (void)snprintf(text, sizeof(text), "%016" PRIx64, cell->value);
        break;
    default:
        (void)snprintf(text, sizeof(text), "%s%s%s", cell->letters,
                       *cell->letters && *cell->words ? " " : "", cell->words);
        while (strlen(text) > width && strrchr(text, ' '))
            *strrchr(text, ' ') = '\0'; /* whole words only */
        break;
    }
    put(p, ink, last ? 0 : width, text);
}

static void put_label(const struct page *p, unsigned r, unsigned line, unsigned width)
{
    const struct walk_row *row = &p->grid.row[r];
    char text[40] = "";

    if (line == 0 && row->index >= 0)
        (void)snprintf(text, sizeof(text), "%s [%03x]", row->of, (unsigned)row->index);
    else if (line == 0)
        (void)snprintf(text, sizeof(text), "%s", row->of);
    else if (line == 1 && row->mapped)
        (void)snprintf(text, sizeof(text), "gpa");
    else if (line == 2 && row->mapped)
        (void)snprintf(text, sizeof(text), "%" PRIx64, row->gpa);
    else if (line == 3 && strcmp(row->state, "present") != 0)
        (void)snprintf(text, sizeof(text), "%s", row->state);
    put(p, line == 0 ? INK_HEAD : INK_DIM, width, text);
}

static void put_heads(const struct page *p)
{
    put(p, INK_PLAIN, LABEL_WIDTH, "");
    for (unsigned c = 0; c < p->grid.columns; c++) {
        char head[32];

        (void)snprintf(head, sizeof(head), "%s%s", c + 1 < p->grid.columns ? "host " : "",
                       p->grid.column[c]);
        repeat(p, " ", " ", 1 + (p->cell > CELL_MIN));
        put(p, c + 1 < p->grid.columns ? INK_HOST : INK_GUEST,
            c + 1 < p->grid.columns ? p->cell - (p->cell > CELL_MIN) : 0, head);
    }
    (void)fputc('\n', p->f);
}

static void put_grid(const struct page *p)
{
    put_heads(p);
    for (unsigned r = 0; r < p->grid.rows; r++) {
        put_rule(p);
        for (unsigned line = 0; line < 4; line++) {
            put_label(p, r, line, LABEL_WIDTH);
            for (unsigned c = 0; c < p->grid.columns; c++) {
                repeat(p, "|", "│", 1);
                put_cell(p, r, c, line);
            }
            (void)fputc('\n', p->f);
        }
    }
    put_rule(p);
}

/* --- the same for narrow terminals ---------------------------------------------------------- */

static void put_small_grid(const struct page *p)
{
    unsigned last = p->grid.columns - 1;

    put(p, INK_PLAIN, LABEL_WIDTH, "");
    for (unsigned c = 0; c <= last; c++)
        put(p, c < last ? INK_HOST : INK_GUEST, c < last ? SMALL_CELL : 0, p->grid.column[c]);
    (void)fputc('\n', p->f);
    for (unsigned r = 0; r < p->grid.rows; r++) {
        put_label(p, r, 0, LABEL_WIDTH);
        for (unsigned c = 0; c <= last; c++) {
            const struct walk_cell *cell = &p->grid.row[r].cell[c];
            bool end = c == last && r + 1 == p->grid.rows && cell->number == 0;
            char text[16] = ".";

            if (cell->number)
                (void)snprintf(text, sizeof(text), "%u%s", cell->number, cell->fault ? "!" : "");
            else if (end && json_is_null(json_object_get(p->walk, "fault")))
                (void)snprintf(text, sizeof(text), "= hva");
            put(p, cell->number ? cell_ink(p, cell, c) : INK_DIM, c < last ? SMALL_CELL : 0, text);
        }
        (void)fputc('\n', p->f);
    }
}

static void put_list(const struct page *p)
{
    for (unsigned r = 0; r < p->grid.rows; r++) {
        const struct walk_row *row = &p->grid.row[r];
        char text[96];

        (void)fputc('\n', p->f);
        put_label(p, r, 0, 12);
        if (row->mapped) {
            (void)snprintf(text, sizeof(text), "at gpa 0x%" PRIx64 ", %s", row->gpa, row->state);
            put(p, INK_DIM, 0, text);
        }
        (void)fputc('\n', p->f);
        for (unsigned c = 0; c < p->grid.columns; c++) {
            const struct walk_cell *cell = &row->cell[c];
            bool host = c + 1 < p->grid.columns;

            if (!cell->number)
                continue;
            (void)snprintf(text, sizeof(text), "%4u %-5s %-5s ", cell->number,
                           host ? "host" : "guest", host ? p->grid.column[c] : row->of);
            put(p, cell_ink(p, cell, c), 0, text);
            (void)snprintf(text, sizeof(text), "@%-12" PRIx64 " ", cell->address);
            put(p, INK_DIM, 0, text);
            (void)fprintf(p->f, "%016" PRIx64 " %s%s%s%s\n", cell->value, cell->letters,
                          *cell->letters && *cell->words ? " " : "", cell->words,
                          cell->fault ? " FAULT" : "");
        }
    }
}

void walk_print_text(const json_t *walk, const struct walk_style *style, FILE *f)
{
    struct page p = { .walk = walk, .style = style, .f = f };
    char title[256];
    unsigned room;

    walk_grid(&p.grid, walk);
    room = p.grid.columns && style->width > LABEL_WIDTH
               ? (style->width - LABEL_WIDTH) / p.grid.columns - 1
               : 0;
    p.cell = room < CELL_MAX ? room : CELL_MAX;
    put(&p, INK_HEAD, 0, walk_string(walk, "name"));
    (void)fprintf(f, ": %s\n\n", walk_title(walk, title, sizeof(title)));
    put_addresses(&p);
    if (p.grid.columns)
        (void)fputc('\n', f);
    if (p.grid.columns && p.cell >= CELL_MIN)
        put_grid(&p);
    else if (p.grid.columns) {
        put_small_grid(&p);
        put_list(&p);
    }
    walk_print_shadow(walk, style, f);
    put_below(&p);
}
