#include "vmm/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* How often an ioctl that says EAGAIN is tried again before that counts as a failure. */
#define PATIENCE 100000

/* Linux 6.1 made a device of it, so that file rights can give it to somebody who is not root. */
static int open_fd(void)
{
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC), dev;

    if (fd >= 0 || errno != EPERM)
        return fd;
    dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    if (dev < 0) {
        errno = EPERM;
        return -1;
    }
    fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC);
    (void)close(dev);
    return fd;
}

static int open_failed(int code, struct error *err)
{
    if (code == -EPERM)
        return error_set(err, code,
                         "userfaultfd is not permitted: be root, or set "
                         "vm.unprivileged_userfaultfd=1, or give this user /dev/userfaultfd");
    if (code == -ENOSYS)
        return error_set(err, code, "this kernel has no userfaultfd: use --populate kernel");
    return error_set(err, code, "userfaultfd: %s", strerror(-code));
}

/* What this kernel has; a descriptor can be asked once only. */
static int features_read(uint64_t *features)
{
    struct uffdio_api api = { .api = UFFD_API };
    int fd = open_fd(), rc = 0;

    if (fd < 0)
        return -errno;
    if (ioctl(fd, UFFDIO_API, &api) < 0)
        rc = -errno;
    (void)close(fd);
    *features = api.features;
    return rc;
}

int uffd_open(struct uffd *u, uint64_t wanted, struct error *err)
{
    struct uffdio_api api = { .api = UFFD_API };
    uint64_t have = 0;
    int rc = features_read(&have);

    u->fd = -1;
    u->features = 0;
    if (rc < 0)
        return open_failed(rc, err);
    u->fd = open_fd();
    if (u->fd < 0)
        return open_failed(-errno, err);
    api.features = wanted & have;
    if (ioctl(u->fd, UFFDIO_API, &api) < 0) {
        rc = open_failed(-errno, err);
        uffd_close(u);
        return rc;
    }
    u->features = wanted & have;
    return 0;
}

void uffd_close(struct uffd *u)
{
    if (u->fd >= 0)
        (void)close(u->fd);
    u->fd = -1;
}

int uffd_register(const struct uffd *u, void *at, uint64_t len, uint64_t modes)
{
    struct uffdio_register reg = {
        .range = { .start = (uintptr_t)at, .len = len },
        .mode = modes,
    };

    return ioctl(u->fd, UFFDIO_REGISTER, &reg) < 0 ? -errno : 0;
}

int uffd_unregister(const struct uffd *u, void *at, uint64_t len)
{
    struct uffdio_range range = { .start = (uintptr_t)at, .len = len };

    return ioctl(u->fd, UFFDIO_UNREGISTER, &range) < 0 ? -errno : 0;
}

/*
 * After an ioctl that installs: `got` is its count, bytes or a negative errno, of `len` that were
 * left. 0: all done; 1: try again from *done on; else an error.
 */
static int progress(int64_t got, uint64_t len, uint64_t *done, unsigned *tries)
{
    int code = errno;

    if (got > 0) {
        *done += (uint64_t)got;
        *tries = 0;
        return (uint64_t)got == len ? 0 : 1;
    }
    if (got < 0)
        code = (int)-got;
    if (code != EAGAIN)
        return -code;
    if (++*tries > PATIENCE)
        return -EAGAIN;
    (void)sched_yield();
    return 1;
}

int uffd_copy(const struct uffd *u, void *to, const void *from, uint64_t len, uint64_t *done)
{
    unsigned tries = 0;
    int rc;

    *done = 0;
    do {
        struct uffdio_copy copy = {
            .dst = (uintptr_t)to + *done,
            .src = (uintptr_t)from + *done,
            .len = len - *done,
        };

        if (ioctl(u->fd, UFFDIO_COPY, &copy) == 0)
            copy.copy = (int64_t)(len - *done);
        rc = progress(copy.copy, len - *done, done, &tries);
    } while (rc > 0);
    return rc;
}

int uffd_zeropage(const struct uffd *u, void *at, uint64_t len, uint64_t *done)
{
    unsigned tries = 0;
    int rc;

    *done = 0;
    do {
        struct uffdio_zeropage zero = {
            .range = { .start = (uintptr_t)at + *done, .len = len - *done },
        };

        if (ioctl(u->fd, UFFDIO_ZEROPAGE, &zero) == 0)
            zero.zeropage = (int64_t)(len - *done);
        rc = progress(zero.zeropage, len - *done, done, &tries);
    } while (rc > 0);
    return rc;
}

int uffd_continue(const struct uffd *u, void *at, uint64_t len, uint64_t *done)
{
    unsigned tries = 0;
    int rc;

    *done = 0;
    do {
        struct uffdio_continue cont = {
            .range = { .start = (uintptr_t)at + *done, .len = len - *done },
        };

        if (ioctl(u->fd, UFFDIO_CONTINUE, &cont) == 0)
            cont.mapped = (int64_t)(len - *done);
        rc = progress(cont.mapped, len - *done, done, &tries);
    } while (rc > 0);
    return rc;
}

int uffd_move(const struct uffd *u, void *to, void *from, uint64_t len, uint64_t *done)
{
    unsigned tries = 0;
    int rc;

    *done = 0;
    do {
        struct uffdio_move move = {
            .dst = (uintptr_t)to + *done,
            .src = (uintptr_t)from + *done,
            .len = len - *done,
        };

        if (ioctl(u->fd, UFFDIO_MOVE, &move) == 0)
            move.move = (int64_t)(len - *done);
        rc = progress(move.move, len - *done, done, &tries);
    } while (rc > 0);
    return rc;
}

int uffd_write_protect(const struct uffd *u, void *at, uint64_t len, bool protect)
{
    struct uffdio_writeprotect wp = {
        .range = { .start = (uintptr_t)at, .len = len },
        .mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
    };
    unsigned tries = 0;
    int rc;

    do {
        rc = ioctl(u->fd, UFFDIO_WRITEPROTECT, &wp) < 0 ? -errno : 0;
        if (rc == -EAGAIN)
            (void)sched_yield();
    } while (rc == -EAGAIN && ++tries < PATIENCE);
    return rc;
}

int uffd_wake(const struct uffd *u, void *at, uint64_t len)
{
    struct uffdio_range range = { .start = (uintptr_t)at, .len = len };

    return ioctl(u->fd, UFFDIO_WAKE, &range) < 0 ? -errno : 0;
}

int uffd_read(const struct uffd *u, struct uffd_msg *out, size_t max)
{
    ssize_t got;

    do
        got = read(u->fd, out, max * sizeof(*out));
    while (got < 0 && (errno == EINTR || errno == EAGAIN));
    if (got < 0)
        return -errno;
    return (int)((size_t)got / sizeof(*out));
}
