/*
 * The host end of the guest's serial line: stdio, a pty or a file, plus any
 * number of `twofold console` clients that are attached to the control socket.
 */
#ifndef TWOFOLD_VMM_CONSOLE_H
#define TWOFOLD_VMM_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/error.h"
#include "vmm/io_loop.h"
#include "vmm/vm.h"

struct console;

/*
 * What the guest's side is told: bytes that a person typed. Runs on the I/O
 * thread. False says that all were taken, but enough wait now: a stdin that is
 * no terminal is then left alone until console_take_more().
 */
typedef bool (*console_input)(void *ctx, const unsigned char *buf, size_t len);

/*
 * The VM should end: a person asked for it (Ctrl-A x), or stdout has no reader
 * any more. `why` is one line for a person, a constant. From any thread; must
 * not call back into the console, other than console_release().
 */
typedef void (*console_quit)(void *ctx, const char *why);

/*
 * Opens the host end. With CONSOLE_STDIO and a terminal in the foreground, the
 * terminal is put in raw mode until console_destroy(), also when the process is
 * killed by a catchable signal. Other kinds of stdin are read until their end.
 * `path` is for CONSOLE_FILE, which console_start() empties.
 */
int console_create(struct console **out, enum console_kind kind, const char *path,
                   struct io_loop *loop, struct error *err);
void console_on_input(struct console *con, console_input fn, console_quit quit, void *ctx);

/* The VM starts: nothing stands against it any more, and the console's file is emptied. */
void console_start(struct console *con);

/*
 * Bytes from the guest, from any thread. A slow reader of stdout slows the
 * guest down, as in any pipe; a reader that is gone ends the VM through the
 * quit callback. A pty that nobody reads and a slow attached client lose output
 * instead.
 */
void console_write(struct console *con, const unsigned char *buf, size_t len);

/* The guest has read most of what waited: stdin may go on. From any thread. */
void console_take_more(struct console *con);

/*
 * The VM is ending: console_write() blocks no more, neither now nor later, and
 * drops what can't be written at once. From any thread, safe in signal handlers.
 */
void console_release(struct console *con);

/*
 * Adds a connected socket as a second screen and keyboard. `early` is what was
 * read from it already. Owns `fd` from here on, also on failure.
 */
int console_attach(struct console *con, int fd, const void *early, size_t len);

/* Whether console_attach() has room for one more. */
bool console_has_room(struct console *con);

/* The pty's device path for CONSOLE_PTY, else NULL. */
const char *console_pty_name(const struct console *con);

/* Closes all clients and gives the terminal back. NULL is fine; the loop must have stopped. */
void console_destroy(struct console *con);

#endif
