/*
 * The I/O thread: one epoll loop that serves the console, the control socket
 * and timers. Callbacks run on that thread only.
 */
#ifndef TWOFOLD_VMM_IO_LOOP_H
#define TWOFOLD_VMM_IO_LOOP_H

#include <stdint.h>

#include "vmm/error.h"

struct io_loop;

/* `events` are EPOLLIN, EPOLLOUT... as epoll_wait gives them. */
typedef void (*io_callback)(void *ctx, int fd, uint32_t events);

int io_loop_create(struct io_loop **out, struct error *err);

/* Runs callbacks until io_loop_stop(); called on a thread of its own. */
void io_loop_run(struct io_loop *loop);

/* Makes io_loop_run() return; from any thread or signal-safe context. */
void io_loop_stop(struct io_loop *loop);
void io_loop_destroy(struct io_loop *loop);

/* Watches `fd`, which stays the caller's. Callable from any thread. 0 or -errno. */
int io_loop_add(struct io_loop *loop, int fd, uint32_t events, io_callback cb, void *ctx);
int io_loop_change(struct io_loop *loop, int fd, uint32_t events);

/* No callback for `fd` starts after this returns, if it is called on the loop's thread. */
void io_loop_remove(struct io_loop *loop, int fd);

#endif
