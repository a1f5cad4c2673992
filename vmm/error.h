/*
 * One error: the negative errno travels as the return value, the sentence a
 * person reads travels here. The sentence names what was asked, what is wrong
 * and what to do, on one line, without a trailing full stop or newline.
 */
#ifndef TWOFOLD_VMM_ERROR_H
#define TWOFOLD_VMM_ERROR_H

#include <stdbool.h>

struct error {
    char text[512];
};

/*
 * Writes the sentence and returns `code`, so that a caller can say
 * `return error_set(err, -EINVAL, "...")`. `err` may be NULL. A `code` that
 * is not negative is turned into -EIO: an error never looks like success.
 */
int error_set(struct error *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* True when `code`, a negative errno, blames what the user asked for: exit status 2. */
bool error_is_usage(int code);

/*
 * What the kernel said of a call whose arguments are ours, as a code to return: -EINVAL and the
 * like, which would blame what the user asked for, become -EIO. `code` is a negative errno.
 */
int error_of_kernel(int code);

#endif
