/*
 * Transfers of a disk's file, several at a time by io_uring; one after the other where the kernel
 * refuses that. On the I/O thread.
 */
#ifndef TWOFOLD_VMM_DISK_IO_H
#define TWOFOLD_VMM_DISK_IO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/disk_file.h"
#include "vmm/io_loop.h"

enum disk_op { DISK_READ, DISK_WRITE, DISK_FLUSH, DISK_DISCARD, DISK_ZERO };

/* The caller's; stays until it is done. iov is changed meanwhile, and the memory that it names has
 * to stay. */
struct disk_request {
    enum disk_op op;
    bool through; /* DISK_WRITE: on the medium before it is done */
    uint64_t offset, len;
    struct iovec *iov; /* `len` bytes in `count` pieces, for DISK_READ and DISK_WRITE */
    unsigned count;
    int result; /* 0 or -errno, once it is done */
};

struct disk_io_ops {
    void (*done)(void *ctx, struct disk_request *r);
    void (*reaped)(void *ctx); /* after one or more done() */
};

struct disk_io;

/* `depth`: requests at a time. `file`, `loop` and `ops` outlive it. A line on stderr tells when the
 * kernel refuses io_uring. */
int disk_io_create(struct disk_io **out, const struct disk_file *file, struct io_loop *loop,
                   unsigned depth, const struct disk_io_ops *ops, void *ctx, struct error *err);
void disk_io_destroy(struct disk_io *io); /* drains; NULL is fine */

/* Starts a request; it goes out by disk_io_submit() at the latest, and may be done at once. */
void disk_io_start(struct disk_io *io, struct disk_request *r);
void disk_io_submit(struct disk_io *io);

/* Waits until nothing is in flight, calling done() and reaped(). */
void disk_io_drain(struct disk_io *io);

/* One transfer between `buf` and the file, now. 0 or -errno. */
int disk_io_now(struct disk_io *io, enum disk_op op, uint64_t offset, void *buf, uint64_t len);

bool disk_io_async(const struct disk_io *io); /* by io_uring */
unsigned disk_io_in_flight(const struct disk_io *io);

#endif
