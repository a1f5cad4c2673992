/*
 * The terminal that a person sits at: raw mode that is always undone, and
 * lines for that person on stderr. Used by the console of a running VM and by
 * `twofold console`.
 */
#ifndef TWOFOLD_VMM_TERMINAL_H
#define TWOFOLD_VMM_TERMINAL_H

/*
 * Puts the terminal `fd` in raw mode: every key goes to the reader, Ctrl-C
 * included. Output processing stays on, so that "\n" still starts a new line.
 * Handlers of the fatal signals give the terminal back before the process
 * dies of one. One terminal at a time. 0 or -errno.
 */
int terminal_raw(int fd);

/* Undoes terminal_raw(); does nothing when there is nothing to undo. */
void terminal_restore(void);

/* One line on stderr, "twofold: ...\n"; control characters in it, a file name's say, become '?'. */
void terminal_message(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The list of Ctrl-A keys on stderr; `leave` says what Ctrl-A x does. */
void terminal_help(const char *leave);

#endif
