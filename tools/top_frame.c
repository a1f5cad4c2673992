#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "tools/top.h"

bool top_frame_size(struct top_frame *f, int rows, int cols)
{
    if (f->text && f->rows == rows && f->cols == cols)
        return true;
    top_frame_free(f);
    f->text = malloc((size_t)rows * (size_t)cols);
    f->look = malloc((size_t)rows * (size_t)cols);
    if (!f->text || !f->look) {
        top_frame_free(f);
        return false;
    }
    f->rows = rows;
    f->cols = cols;
    top_frame_clear(f);
    return true;
}

void top_frame_clear(struct top_frame *f)
{
    memset(f->text, ' ', (size_t)f->rows * (size_t)f->cols);
    memset(f->look, LOOK_PLAIN, (size_t)f->rows * (size_t)f->cols);
    f->used = 0;
}

void top_frame_free(struct top_frame *f)
{
    free(f->text);
    free(f->look);
    *f = (struct top_frame){ 0 };
}

static void put_char(struct top_frame *f, int row, int col, enum top_look look, char c)
{
    size_t i = (size_t)row * (size_t)f->cols + (size_t)col;

    if (row < 0 || row >= f->rows || col < 0 || col >= f->cols)
        return;
    /* Names of a VM and what its guest says are anybody's text. */
    f->text[i] = c >= ' ' && c < 0x7f ? c : '?';
    f->look[i] = (unsigned char)look;
    if (f->used <= row)
        f->used = row + 1;
}

int top_put(struct top_frame *f, int row, int col, enum top_look look, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    for (const char *c = text; *c; c++)
        put_char(f, row, col++, look, *c);
    return col;
}

int top_bar(struct top_frame *f, int row, int col, int width, double part)
{
    int full;

    part = part < 0 ? 0 : part > 1 ? 1 : part;
    full = (int)(part * (width - 2) + 0.5);
    put_char(f, row, col, LOOK_PLAIN, '[');
    for (int i = 0; i < width - 2; i++)
        put_char(f, row, col + 1 + i, i < full ? LOOK_BAR : LOOK_DIM, i < full ? '#' : ' ');
    put_char(f, row, col + width - 1, LOOK_PLAIN, ']');
    return col + width;
}

void top_frame_print(const struct top_frame *f, FILE *out)
{
    for (int row = 0; row < f->used; row++) {
        const char *line = f->text + (size_t)row * (size_t)f->cols;
        int len = f->cols;

        while (len && line[len - 1] == ' ')
            len--;
        (void)fprintf(out, "%.*s\n", len, line);
    }
}
