/*
 * The host end of the guest's serial line: stdio, a pty or a file, plus any
 * number of `twofold console` clients that are attached to the control socket.
 */
#ifndef TWOFOLD_VMM_CONSOLE_H
#define TWOFOLD_VMM_CONSOLE_H

#include <stddef.h>

#include "vmm/error.h"
#include "vmm/io_loop.h"
#include "vmm/vm.h"

struct console;

/* What the guest's side is told: bytes that a person typed. Runs on the I/O thread. */
typedef void (*console_input)(void *ctx, const unsigned char *buf, size_t len);

/* A person asked to leave (Ctrl-A x). Runs on the I/O thread. */
typedef void (*console_quit)(void *ctx);

/*
 * Opens the host end. With CONSOLE_STDIO and a terminal, the terminal is put
 * in raw mode until console_destroy(), also when the process is killed by a
 * catchable signal. `path` is for CONSOLE_FILE.
 */
int console_create(struct console **out, enum console_kind kind, const char *path,
                   struct io_loop *loop, struct error *err);
void console_on_input(struct console *con, console_input fn, console_quit quit, void *ctx);

/* Bytes from the guest, from any thread. Never blocks for ever on a reader that is gone. */
void console_write(struct console *con, const unsigned char *buf, size_t len);

/* Adds a connected socket as a second screen and keyboard; closes it when it ends. */
int console_attach(struct console *con, int fd);

/* The pty's device path for CONSOLE_PTY, else NULL. */
const char *console_pty_name(const struct console *con);
void console_destroy(struct console *con);

#endif
