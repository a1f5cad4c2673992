/*
 * The Ctrl-A keys of a console. Pure: bytes in, bytes and one action out, so
 * that both ends (a VM's own terminal, `twofold console`) understand the same.
 */
#ifndef TWOFOLD_VMM_ESCAPE_H
#define TWOFOLD_VMM_ESCAPE_H

#include <stdbool.h>
#include <stddef.h>

/* Zeroed is ready to use. */
struct escape {
    bool pending; /* the last byte was a Ctrl-A, its key has not come yet */
};

enum escape_action {
    ESCAPE_NONE,
    ESCAPE_HELP,  /* Ctrl-A h */
    ESCAPE_LEAVE, /* Ctrl-A x */
};

/*
 * Takes bytes until the first action, the end of `in` or a full `out`.
 * *used is how many were taken, *n how many were put into `out` for the guest,
 * of at most `size` (at least 2). An unknown key passes, together with its
 * Ctrl-A.
 */
enum escape_action escape_feed(struct escape *e, const unsigned char *in, size_t len, size_t *used,
                               unsigned char *out, size_t size, size_t *n);

#endif
