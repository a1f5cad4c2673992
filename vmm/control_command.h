/*
 * The commands of the control socket: a line of JSON in, a line of JSON out.
 * Knows nothing of sockets; control.c carries the lines.
 */
#ifndef TWOFOLD_VMM_CONTROL_COMMAND_H
#define TWOFOLD_VMM_CONTROL_COMMAND_H

#include <stddef.h>

#include <jansson.h>

#include "vmm/vm.h"

/* What the connection is after the reply. */
enum control_next {
    CONTROL_NEXT_REQUEST,
    CONTROL_NEXT_CONSOLE, /* raw bytes of the console */
};

/*
 * Decodes and checks the request in line[0..len), performs it, and gives the
 * reply without a newline, for the caller to free(); NULL when memory is out.
 * Runs on the I/O thread.
 */
char *control_answer(struct vm *vm, const char *line, size_t len, enum control_next *next);

/* The reply to something that is no request. `code` is an errno's name. */
char *control_refusal(const char *code, const char *text);

/* `s` as JSON; bytes that are no UTF-8 (in a path, say) become '?'. */
json_t *control_text(const char *s);

/* The results of `status` and `stat` (control_stat.c); NULL when memory is out. */
json_t *control_status(struct vm *vm);
json_t *control_stat(struct vm *vm);

#endif
