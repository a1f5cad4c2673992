/*
 * What the files of `twofold top` share: numbers of a VM, a frame of characters, and the two
 * ways in which a frame is shown.
 */
#ifndef TWOFOLD_TOOLS_TOP_H
#define TWOFOLD_TOOLS_TOP_H

#include <stdbool.h>
#include <stdio.h>

#include "tools/client.h"

/* --- a frame: text with an attribute for each character (top_frame.c) --- */

enum top_look { LOOK_PLAIN, LOOK_HEAD, LOOK_DIM, LOOK_BAR, LOOK_HEAT, LOOK_WARN, LOOK_CHOSEN };

struct top_frame {
    int rows, cols, used; /* `used` rows have something in them */
    char *text;           /* rows * cols, blanks where nothing is; ASCII */
    unsigned char *look;
};

/* False when out of memory. An old frame of another size is replaced. */
bool top_frame_size(struct top_frame *f, int rows, int cols);
void top_frame_clear(struct top_frame *f);
void top_frame_free(struct top_frame *f);

/* Text at a place; what doesn't fit the frame is cut. Returns the column behind it. */
int top_put(struct top_frame *f, int row, int col, enum top_look look, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

/* A bar of `width` columns, filled to `part` (0 to 1). Returns the column behind it. */
int top_bar(struct top_frame *f, int row, int col, int width, double part);

/* As lines, without blanks at their ends and without empty rows at the end. */
void top_frame_print(const struct top_frame *f, FILE *out);

/* --- numbers (top_sample.c) --- */

/* Two answers of the monitor, and the time between. */
struct top_sample {
    json_t *stat, *cells; /* "stat"; "cells" of "track" */
    json_t *before;       /* the earlier "stat" */
    double at, seconds;   /* of the clock; between the two. 0: since the VM started */
};

/* Asks; what was asked last becomes `before`. */
int top_sample_take(struct top_sample *s, struct client *c, unsigned cells, struct error *err);
void top_sample_free(struct top_sample *s);

/* A number of "stat" by a path like "memory.pages.faults.missing"; 0 when it is not there. */
double top_number(const json_t *of, const char *path);

/* How fast it grows, a second; for vCPU `cpu` with cpu >= 0, where `path` begins at that. */
double top_rate(const struct top_sample *s, int cpu, const char *path);

/* --- what a frame says (top_draw.c) --- */

struct top_view {
    double interval_s;
    int scroll;          /* of the processes */
    const char *message; /* NULL: none; in place of the keys */
};
void top_draw(struct top_frame *f, const struct top_sample *s, const struct top_view *v);
void top_draw_menu(struct top_frame *f, const json_t *vms, int chosen);

/* --- the terminal (top_screen.c) --- */

/* Cells of the heat strip for a frame of so many columns. */
unsigned top_cells(int cols);

/* True when the terminal can show a full screen; else frames are printed one after the other. */
bool top_screen_able(void);
bool top_screen_open(void);
void top_screen_close(void);
void top_screen_show(const struct top_frame *f);
void top_screen_size(int *rows, int *cols);

enum top_key {
    KEY_IS_NONE,
    KEY_IS_QUIT,
    KEY_IS_PAUSE,
    KEY_IS_UP,
    KEY_IS_DOWN,
    KEY_IS_FASTER,
    KEY_IS_SLOWER,
    KEY_IS_CHOICE,
    KEY_IS_RESIZE
};

/* Waits for a key, at most so long. Signals that end the program are KEY_IS_QUIT. */
enum top_key top_screen_key(double wait_s);

#endif
