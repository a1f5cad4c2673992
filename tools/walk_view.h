/*
 * Drawing a walk: the result of the control command `walk` (docs/control.md) as a grid, in
 * text and as SVG. Nothing here asks a VM; all is in the JSON.
 */
#ifndef TWOFOLD_TOOLS_WALK_VIEW_H
#define TWOFOLD_TOOLS_WALK_VIEW_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

#define WALK_ROWS    6 /* five levels of the guest, and the page */
#define WALK_COLUMNS 6 /* five levels of the host, and the guest's entry */

/* One reference. */
struct walk_cell {
    unsigned number; /* 0: the walk did not come here */
    bool fault;      /* it ended here */
    uint64_t address, value;
    char letters[16]; /* flags that one letter tells, "PWUAD" */
    char words[48];   /* the others, "PS NX" */
};

struct walk_row {
    char of[8];     /* "PML4E"... of the guest, or "page" */
    char state[16]; /* of the host's page that the gpa is in */
    int index;      /* in the guest's table; -1: none */
    bool mapped;    /* `gpa` is known */
    uint64_t gpa;
    struct walk_cell cell[WALK_COLUMNS];
};

/* Rows are the guest's entries and the page; the last column is the guest's entry itself. */
struct walk_grid {
    unsigned rows, columns; /* columns 0: nothing was read at all */
    char column[WALK_COLUMNS][8];
    struct walk_row row[WALK_ROWS];
    unsigned host_count[WALK_ROWS]; /* references of the host in each row */
    char legend[256];               /* what the short flags mean that occur */
};

/* Never fails: what is missing in the JSON, or too large, is left out. */
void walk_grid(struct walk_grid *out, const json_t *walk);

/* A string or a hex string of the object: "" and 0 when there is none. */
const char *walk_string(const json_t *object, const char *key);
uint64_t walk_u64(const json_t *object, const char *key);

/* "4K", "2M", "1G", "4M"; "?" for null. Returns buf. */
char *walk_size(const json_t *object, const char *key, char *buf, size_t size);

/* The strings of an array, with `separator` between them. Returns buf. */
char *walk_words(const json_t *list, const char *separator, char *buf, size_t size);

/* "read by the supervisor, tables of vCPU 0 (root 0x1000)". Returns buf. */
char *walk_title(const json_t *walk, char *buf, size_t size);

/* "24 references = (4 + 1) x (4 + 1) - 1", or the sum where rows differ. Returns buf. */
char *walk_count(const json_t *walk, const struct walk_grid *grid, char *buf, size_t size);

struct walk_style {
    unsigned width; /* of the terminal, in characters */
    bool colour;
    bool utf8;
};

/* By the terminal that `f` is, NO_COLOR, COLUMNS and the locale. */
void walk_style_of(FILE *f, struct walk_style *style);

void walk_print_text(const json_t *walk, const struct walk_style *style, FILE *f);
void walk_print_svg(const json_t *walk, FILE *f);

#endif
