/*
 * Values of options, from text.
 */
#ifndef TWOFOLD_TOOLS_PARSE_H
#define TWOFOLD_TOOLS_PARSE_H

#include <stdint.h>

#include "vmm/error.h"

/*
 * A size: digits and an optional unit K, M, G or T (powers of 1024; "MiB", "MB" and lower case
 * are the same). Without a unit it is MiB. `what` names the option in the error.
 * 0, or -EINVAL.
 */
int parse_size(const char *what, const char *text, uint64_t *bytes, struct error *err);

/*
 * An address or an amount of bytes: 0x1000, 4096, 64K, 3G. Unlike parse_size(), without a unit it
 * is bytes. *end receives what follows it; NULL: nothing may. 0, or -EINVAL.
 */
int parse_address(const char *what, const char *text, uint64_t *value, const char **end,
                  struct error *err);

/*
 * A range, "FIRST-END" (END is the first byte behind it) or "FIRST+SIZE", of parse_address()es. Not
 * empty, and it doesn't wrap around. 0, or -EINVAL.
 */
int parse_range(const char *what, const char *text, uint64_t *first, uint64_t *size,
                struct error *err);

/* A decimal number within [min, max]. 0, or -EINVAL. */
int parse_number(const char *what, const char *text, uint64_t min, uint64_t max, uint64_t *out,
                 struct error *err);

/* A time span: a decimal number of seconds, or with a unit ms, s, m or h. More than 0. */
int parse_seconds(const char *what, const char *text, double *seconds, struct error *err);

#endif
