/*
 * What the tiny guest's program `isolate` says, as it comes from a VM's console. A guest may say
 * anything: lines are bounded and checked.
 *
 *   isolate: region iova=0x.. len=N read=0|1 write=0|1 contrast=0|1 label=TEXT
 *   isolate: attempt what=TEXT|iova=0x..|len=N|write=0|1|contrast=0|1|allowed=0|1|went=0|1|
 *            before=HEX|after=HEX|said=TEXT     (one line; empty sums: not known)
 *   isolate: done attempts=N
 */
#ifndef TWOFOLD_TOOLS_ISOLATE_GUEST_H
#define TWOFOLD_TOOLS_ISOLATE_GUEST_H

#include "tools/isolate.h"

enum isolate_line {
    ISOLATE_OTHER, /* the console's own */
    ISOLATE_REGION,
    ISOLATE_ATTEMPT,
    ISOLATE_DONE,
};

/*
 * Takes one line without its end: what it says is added to *r. An enum isolate_line; -EPROTO with a
 * sentence when it begins as one of these but is none; -E2BIG: more than a report holds.
 */
int isolate_take_line(const char *line, struct isolate_report *r, struct error *err);

/* A program whose standard output is a console with such lines. */
struct isolate_program {
    const char *const *argv; /* argv[0]: its path */
    FILE *to;                /* attempts, as they come */
    FILE *log;               /* the end of what else was on the console, if it fails */
    /* May complete an attempt that was blocked and of which the guest heard nothing. NULL: none. */
    void (*listen)(void *ctx, struct isolate_attempt *a);
    void *ctx;
};

/* Runs it and fills *r. 0 once all was said and the program ended, else -errno with a sentence. */
int isolate_collect(const struct isolate_program *program, struct isolate_report *r,
                    struct error *err);

#endif
