/*
 * The control socket of a running VM: one JSON object a line in, one out
 * (docs/control.md). Lives in $XDG_RUNTIME_DIR/twofold/NAME.sock.
 */
#ifndef TWOFOLD_VMM_CONTROL_H
#define TWOFOLD_VMM_CONTROL_H

#include <stddef.h>

#include "vmm/error.h"
#include "vmm/vm.h"

/* Grows when a client of an older protocol could misunderstand a newer one. */
#define CONTROL_PROTOCOL 1

/* The longest request, its newline included. Replies may be longer. */
#define CONTROL_LINE_MAX 65536

struct control;

/*
 * Opens the VM's socket and serves it on the VM's I/O loop. What a dead monitor
 * left is replaced; a VM of this name that lives is -EEXIST.
 */
int control_create(struct control **out, struct vm *vm, struct error *err);

/* Closes all connections and removes the socket. NULL is fine; the loop must have stopped. */
void control_destroy(struct control *c);

/* --- where the sockets are (control_dir.c) ---------------------------------------- */

/* 0 when a VM may be called so, else -EINVAL. */
int control_name_check(const char *name, struct error *err);

/*
 * The folder of the sockets, made if it is missing (mode 0700). Checks that it
 * is a folder of ours that nobody else can write.
 */
int control_dir(char *buf, size_t size, struct error *err);

/* The socket path of a VM; -EINVAL when `name` can't be one. */
int control_path(const char *name, char *buf, size_t size, struct error *err);

/*
 * Connects to a VM's socket; reads and writes on *fd give up (EAGAIN) after
 * `timeout_ms`. -ENOENT: no VM of that name. -ECONNREFUSED: its monitor is dead.
 * -EAGAIN: it does not answer.
 */
int control_connect(const char *name, int timeout_ms, int *fd, struct error *err);

/*
 * Makes the name ours: holds NAME.lock for as long as *lock_fd is open, which
 * the kernel ends also when we are killed, and removes a stale socket.
 * -EEXIST when a living monitor has the name.
 */
int control_claim(const char *name, int *lock_fd, struct error *err);

/* Removes socket and lock of a name that is ours and closes `lock_fd`. */
void control_release(const char *name, int lock_fd);

#endif
