#include "vmm/escape.h"

#define CTRL_A 0x01

enum escape_action escape_feed(struct escape *e, const unsigned char *in, size_t len, size_t *used,
                               unsigned char *out, size_t size, size_t *n)
{
    size_t i = 0;

    *n = 0;
    while (i < len && size - *n >= 2) {
        unsigned char c = in[i++];

        if (!e->pending) {
            e->pending = c == CTRL_A;
            if (!e->pending)
                out[(*n)++] = c;
            continue;
        }
        e->pending = false;
        if (c == 'x' || c == 'h') {
            *used = i;
            return c == 'x' ? ESCAPE_LEAVE : ESCAPE_HELP;
        }
        out[(*n)++] = CTRL_A;
        if (c != CTRL_A)
            out[(*n)++] = c;
    }
    *used = i;
    return ESCAPE_NONE;
}
