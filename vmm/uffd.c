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

/* No page is smaller. */
#define SMALLEST 4096u

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
 * Pages on their way in. The kernel takes what lies in one of its mappings, or nothing; and the
 * cuts that a guard makes in guest memory may outlive it (pieces that got their first pages while
 * they were apart are not joined again). So what is refused as a whole is tried in smaller pieces.
 */
struct way {
    uint64_t len, some;
    uint64_t *done;
    unsigned tries;
    int refusal; /* the errno that may mean this */
};

static struct way way_of(uint64_t len, uint64_t *done, int refusal)
{
    *done = 0;
    return (struct way){ .len = len, .some = len, .done = done, .refusal = refusal };
}

/*
 * After an ioctl for `some`, which returned `rc` with `got`: bytes, or a negative errno. 0: all
 * done; 1: go on from *done; else an error.
 */
static int way_on(struct way *w, int rc, int64_t got)
{
    int code = errno;

    if (rc == 0)
        got = (int64_t)w->some;
    if (got > 0) {
        *w->done += (uint64_t)got;
        w->some = w->len - *w->done;
        w->tries = 0;
        return w->some > 0;
    }
    if (got < 0)
        code = (int)-got;
    if (code == w->refusal && w->some > SMALLEST) {
        w->some = UINT64_C(1) << (63 - __builtin_clzll(w->some - 1));
        return 1;
    }
    if (code != EAGAIN)
        return -code;
    if (++w->tries > PATIENCE)
        return -EAGAIN;
    (void)sched_yield();
    return 1;
}

int uffd_copy(const struct uffd *u, void *to, const void *from, uint64_t len, uint64_t *done)
{
    struct way w = way_of(len, done, ENOENT);
    int rc;

    do {
        struct uffdio_copy copy = {
            .dst = (uintptr_t)to + *done,
            .src = (uintptr_t)from + *done,
            .len = w.some,
        };

        rc = ioctl(u->fd, UFFDIO_COPY, &copy);
        rc = way_on(&w, rc, copy.copy);
    } while (rc > 0);
    return rc;
}

int uffd_zeropage(const struct uffd *u, void *at, uint64_t len, uint64_t *done)
{
    struct way w = way_of(len, done, ENOENT);
    int rc;

    do {
        struct uffdio_zeropage zero = {
            .range = { .start = (uintptr_t)at + *done, .len = w.some },
        };

        rc = ioctl(u->fd, UFFDIO_ZEROPAGE, &zero);
        rc = way_on(&w, rc, zero.zeropage);
    } while (rc > 0);
    return rc;
}

int uffd_continue(const struct uffd *u, void *at, uint64_t len, uint64_t *done)
{
    struct way w = way_of(len, done, ENOENT);
    int rc;

    do {
        struct uffdio_continue cont = {
            .range = { .start = (uintptr_t)at + *done, .len = w.some },
        };

        rc = ioctl(u->fd, UFFDIO_CONTINUE, &cont);
        rc = way_on(&w, rc, cont.mapped);
    } while (rc > 0);
    return rc;
}

int uffd_move(const struct uffd *u, void *to, void *from, uint64_t len, uint64_t *done)
{
    struct way w = way_of(len, done, EINVAL);
    int rc;

    do {
        struct uffdio_move move = {
            .dst = (uintptr_t)to + *done,
            .src = (uintptr_t)from + *done,
            .len = w.some,
        };

        rc = ioctl(u->fd, UFFDIO_MOVE, &move);
        rc = way_on(&w, rc, move.move);
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
