#include "vmm/disk_io.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/terminal.h"

#define ZEROES (64u << 10) /* written at a time where the file can't be told to read as zeros */

struct disk_io {
    const struct disk_file *file;
    struct io_loop *loop;
    const struct disk_io_ops *ops;
    void *ctx;
    struct io_uring ring;
    bool async;
    int event_fd; /* completions */
    unsigned in_flight;
};

/* --- one transfer --------------------------------------------------------------------- */

static int fallocate_mode(enum disk_op op)
{
    return FALLOC_FL_KEEP_SIZE | (op == DISK_DISCARD ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
}

/* `n` bytes were transferred; true when some are left. */
static bool advance(struct disk_request *r, uint64_t n)
{
    r->offset += n;
    r->len -= n;
    while (r->count > 0 && n >= r->iov->iov_len) {
        n -= r->iov->iov_len;
        r->iov++;
        r->count--;
    }
    if (r->count > 0) {
        r->iov->iov_base = (uint8_t *)r->iov->iov_base + n;
        r->iov->iov_len -= n;
    }
    return r->len > 0;
}

static bool transfers(const struct disk_request *r)
{
    return r->op == DISK_READ || r->op == DISK_WRITE;
}

static int64_t perform(const struct disk_io *io, const struct disk_request *r)
{
    int fd = io->file->fd, flags = r->through ? RWF_DSYNC : 0;
    ssize_t n = 0;

    switch (r->op) {
    case DISK_READ:
        n = preadv(fd, r->iov, (int)r->count, (off_t)r->offset);
        break;
    case DISK_WRITE:
        n = pwritev2(fd, r->iov, (int)r->count, (off_t)r->offset, flags);
        break;
    case DISK_FLUSH:
        n = fdatasync(fd);
        break;
    case DISK_DISCARD:
    case DISK_ZERO:
        n = fallocate(fd, fallocate_mode(r->op), (off_t)r->offset, (off_t)r->len);
        break;
    }
    return n < 0 ? -errno : n;
}

/* Zeros by writing them; for a file that can't do better. */
static int write_zeroes(struct disk_io *io, uint64_t offset, uint64_t len)
{
    void *zeroes = NULL;
    int rc = 0;

    if (posix_memalign(&zeroes, 4096, ZEROES) != 0)
        return -ENOMEM;
    memset(zeroes, 0, ZEROES);
    while (rc == 0 && len > 0) {
        uint64_t n = len < ZEROES ? len : ZEROES;

        rc = disk_io_now(io, DISK_WRITE, offset, zeroes, n);
        offset += n;
        len -= n;
    }
    free(zeroes);
    return rc;
}

/* What the kernel gave for `r`; true when it is to go on. */
static bool took(struct disk_io *io, struct disk_request *r, int64_t n)
{
    if (n == -EINTR || n == -EAGAIN)
        return true;
    if (n > 0 && transfers(r) && (uint64_t)n < r->len)
        return advance(r, (uint64_t)n);
    r->result = n < 0 ? (int)n : 0;
    if (n == 0 && transfers(r) && r->len > 0) /* the file has become shorter */
        r->result = -EIO;
    if (n == -EOPNOTSUPP && r->op == DISK_ZERO)
        r->result = write_zeroes(io, r->offset, r->len);
    return false;
}

int disk_io_now(struct disk_io *io, enum disk_op op, uint64_t offset, void *buf, uint64_t len)
{
    struct iovec iov = { .iov_base = buf, .iov_len = len };
    struct disk_request r = { .op = op, .offset = offset, .len = len, .iov = &iov, .count = 1 };

    while (took(io, &r, perform(io, &r)))
        ;
    return r.result;
}

/* --- several at a time ------------------------------------------------------------------ */

/* The kernel may be short of memory for a moment; what is in flight frees some. */
static void submit(struct disk_io *io)
{
    while (io_uring_submit(&io->ring) < 0)
        (void)usleep(100);
}

static void queue(struct disk_io *io, struct disk_request *r)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&io->ring);
    int fd = io->file->fd;

    while (!sqe) { /* more than `depth`, by retries */
        submit(io);
        sqe = io_uring_get_sqe(&io->ring);
    }
    switch (r->op) {
    case DISK_READ:
        io_uring_prep_readv(sqe, fd, r->iov, r->count, r->offset);
        break;
    case DISK_WRITE:
        io_uring_prep_writev2(sqe, fd, r->iov, r->count, r->offset, r->through ? RWF_DSYNC : 0);
        break;
    case DISK_FLUSH:
        io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
        break;
    case DISK_DISCARD:
    case DISK_ZERO:
        io_uring_prep_fallocate(sqe, fd, fallocate_mode(r->op), (off_t)r->offset, (off_t)r->len);
        break;
    }
    io_uring_sqe_set_data(sqe, r);
}

/* True when something was done. */
static bool reap(struct disk_io *io)
{
    struct io_uring_cqe *cqe;
    bool any = false, again = false;

    while (io_uring_peek_cqe(&io->ring, &cqe) == 0) {
        struct disk_request *r = io_uring_cqe_get_data(cqe);
        int n = cqe->res;

        io_uring_cqe_seen(&io->ring, cqe);
        if (took(io, r, n)) {
            queue(io, r);
            again = true;
            continue;
        }
        io->in_flight--;
        any = true;
        io->ops->done(io->ctx, r);
    }
    if (again)
        submit(io);
    return any;
}

static void on_event(void *ctx, int fd, uint32_t events)
{
    struct disk_io *io = ctx;
    uint64_t count;

    (void)events;
    (void)!read(fd, &count, sizeof(count));
    if (reap(io))
        io->ops->reaped(io->ctx);
}

void disk_io_start(struct disk_io *io, struct disk_request *r)
{
    r->result = 0;
    if (io->async) {
        queue(io, r);
        io->in_flight++;
        return;
    }
    while (took(io, r, perform(io, r)))
        ;
    io->ops->done(io->ctx, r);
}

void disk_io_submit(struct disk_io *io)
{
    if (io->async && io_uring_sq_ready(&io->ring))
        submit(io);
}

void disk_io_drain(struct disk_io *io)
{
    bool any = false;

    if (!io->async)
        return;
    submit(io);
    while (io->in_flight > 0) {
        struct io_uring_cqe *cqe;

        (void)io_uring_wait_cqe(&io->ring, &cqe); /* a signal: once more */
        any |= reap(io);
    }
    if (any)
        io->ops->reaped(io->ctx);
}

/* --- life ----------------------------------------------------------------------------------- */

/* -errno when the kernel has no io_uring for us: a sysctl, a seccomp filter, a limit. */
static int go_async(struct disk_io *io, unsigned depth)
{
    int rc = io_uring_queue_init(depth, &io->ring, 0);

    if (rc < 0)
        return rc;
    io->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rc = io->event_fd < 0 ? -errno : io_uring_register_eventfd(&io->ring, io->event_fd);
    if (rc == 0)
        rc = io_loop_add(io->loop, io->event_fd, EPOLLIN, on_event, io);
    if (rc == 0) {
        io->async = true;
        return 0;
    }
    if (io->event_fd >= 0)
        (void)close(io->event_fd);
    io_uring_queue_exit(&io->ring);
    return rc;
}

int disk_io_create(struct disk_io **out, const struct disk_file *file, struct io_loop *loop,
                   unsigned depth, const struct disk_io_ops *ops, void *ctx, struct error *err)
{
    struct disk_io *io = calloc(1, sizeof(*io));
    int rc;

    *out = io;
    if (!io)
        return error_set(err, -ENOMEM, "--disk: no memory");
    io->file = file;
    io->loop = loop;
    io->ops = ops;
    io->ctx = ctx;
    rc = go_async(io, depth);
    if (rc < 0)
        terminal_message("--disk: io_uring is not to be had here (%s; see kernel.io_uring_disabled "
                         "and seccomp): requests are served one after the other",
                         strerror(-rc));
    return 0;
}

void disk_io_destroy(struct disk_io *io)
{
    if (!io)
        return;
    if (io->async) {
        disk_io_drain(io);
        io_loop_remove(io->loop, io->event_fd);
        io_uring_queue_exit(&io->ring);
        (void)close(io->event_fd);
    }
    free(io);
}

bool disk_io_async(const struct disk_io *io)
{
    return io->async;
}

unsigned disk_io_in_flight(const struct disk_io *io)
{
    return io->in_flight;
}
