/*
 * The control socket of a running VM: one JSON object a line in, one out
 * (docs/control.md). Lives in $XDG_RUNTIME_DIR/twofold/NAME.sock.
 */
#ifndef TWOFOLD_VMM_CONTROL_H
#define TWOFOLD_VMM_CONTROL_H

#include <stddef.h>

#include "vmm/error.h"
#include "vmm/vm.h"

struct control;

/*
 * Opens the VM's socket and serves it on the VM's I/O loop. A socket that a
 * dead monitor left is replaced; one that answers is -EEXIST.
 */
int control_create(struct control **out, struct vm *vm, struct error *err);

/* Closes all connections and removes the socket. */
void control_destroy(struct control *c);

/*
 * The folder of the sockets, made if it is missing (mode 0700). Checks that it
 * is a folder of ours that nobody else can write.
 */
int control_dir(char *buf, size_t size, struct error *err);

/* The socket path of a VM; -EINVAL when `name` can't be one. */
int control_path(const char *name, char *buf, size_t size, struct error *err);

#endif
