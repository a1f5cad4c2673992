#include "vmm/io_loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define BATCH 32

/*
 * One watched fd. A watch that is removed is only marked: events that epoll
 * handed out in the same batch still point at it, so it is freed between
 * batches, when no such pointer exists.
 */
struct watch {
    struct watch *next;
    int fd;
    uint32_t events;
    bool dead;
    bool always; /* a file or /dev/null: epoll refuses it because it never blocks */
    io_callback cb;
    void *ctx;
};

struct io_loop {
    int epoll_fd;
    int wake_fd;
    pthread_mutex_t lock; /* guards the list and the fields of each watch */
    struct watch *watches;
    unsigned always; /* live watches of that kind */
    bool stop;
};

int io_loop_create(struct io_loop **out, struct error *err)
{
    struct io_loop *loop = calloc(1, sizeof(*loop));
    struct epoll_event ev = { .events = EPOLLIN, .data.ptr = NULL };
    int code;

    if (!loop)
        return error_set(err, -ENOMEM, "I/O loop: out of memory");
    loop->wake_fd = -1;
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd >= 0)
        loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->wake_fd < 0 || epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake_fd, &ev)) {
        code = error_set(err, -errno, "I/O loop: %s; raise the limit of open files (ulimit -n)",
                         strerror(errno));
        if (loop->wake_fd >= 0)
            close(loop->wake_fd);
        if (loop->epoll_fd >= 0)
            close(loop->epoll_fd);
        free(loop);
        return code;
    }
    pthread_mutex_init(&loop->lock, NULL);
    *out = loop;
    return 0;
}

static void wake(struct io_loop *loop)
{
    uint64_t one = 1;

    /* Full means that a wake-up is pending already. */
    while (write(loop->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

void io_loop_stop(struct io_loop *loop)
{
    __atomic_store_n(&loop->stop, true, __ATOMIC_RELEASE);
    wake(loop);
}

static struct watch *find(struct io_loop *loop, int fd)
{
    struct watch *w = loop->watches;

    while (w && (w->dead || w->fd != fd))
        w = w->next;
    return w;
}

int io_loop_add(struct io_loop *loop, int fd, uint32_t events, io_callback cb, void *ctx)
{
    struct watch *w = calloc(1, sizeof(*w));
    struct epoll_event ev = { .events = events, .data.ptr = w };
    bool always = false;
    int code = 0;

    if (!w)
        return -ENOMEM;
    pthread_mutex_lock(&loop->lock);
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &ev)) {
        code = -errno;
        always = code == -EPERM && !find(loop, fd);
    }
    if (code && !always) {
        pthread_mutex_unlock(&loop->lock);
        free(w);
        return code == -EPERM ? -EEXIST : code;
    }
    *w = (struct watch){ loop->watches, fd, events, false, always, cb, ctx };
    loop->watches = w;
    loop->always += always;
    pthread_mutex_unlock(&loop->lock);
    if (always)
        wake(loop); /* out of a wait that does not know of it */
    return 0;
}

int io_loop_change(struct io_loop *loop, int fd, uint32_t events)
{
    struct watch *w;
    int code = 0;

    pthread_mutex_lock(&loop->lock);
    w = find(loop, fd);
    if (!w) {
        code = -ENOENT;
    } else {
        struct epoll_event ev = { .events = events, .data.ptr = w };

        if (!w->always && epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, fd, &ev))
            code = -errno;
        else
            w->events = events;
    }
    pthread_mutex_unlock(&loop->lock);
    return code;
}

void io_loop_remove(struct io_loop *loop, int fd)
{
    struct watch *w;

    pthread_mutex_lock(&loop->lock);
    w = find(loop, fd);
    if (w) {
        w->dead = true;
        if (w->always)
            loop->always--;
        else
            (void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    }
    pthread_mutex_unlock(&loop->lock);
}

static void bury_dead(struct io_loop *loop)
{
    struct watch **at = &loop->watches;

    pthread_mutex_lock(&loop->lock);
    while (*at) {
        struct watch *w = *at;

        if (!w->dead) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        free(w);
    }
    pthread_mutex_unlock(&loop->lock);
}

/* Calls back without the lock, so that a callback may add and remove watches. */
static void dispatch(struct io_loop *loop, struct watch *w, uint32_t events)
{
    bool live;

    pthread_mutex_lock(&loop->lock);
    live = !w->dead;
    pthread_mutex_unlock(&loop->lock);
    if (live)
        w->cb(w->ctx, w->fd, events);
}

static void dispatch_always(struct io_loop *loop)
{
    struct watch *ready[BATCH];
    size_t n = 0;

    pthread_mutex_lock(&loop->lock);
    for (struct watch *w = loop->watches; w && n < BATCH; w = w->next) {
        if (w->always && !w->dead && (w->events & (EPOLLIN | EPOLLOUT)))
            ready[n++] = w;
    }
    pthread_mutex_unlock(&loop->lock);
    for (size_t i = 0; i < n; i++)
        dispatch(loop, ready[i], ready[i]->events & (EPOLLIN | EPOLLOUT));
}

static bool anything_always(struct io_loop *loop)
{
    bool any = false;

    pthread_mutex_lock(&loop->lock);
    for (struct watch *w = loop->always ? loop->watches : NULL; w && !any; w = w->next)
        any = w->always && !w->dead && (w->events & (EPOLLIN | EPOLLOUT));
    pthread_mutex_unlock(&loop->lock);
    return any;
}

void io_loop_run(struct io_loop *loop)
{
    struct epoll_event ev[BATCH];

    while (!__atomic_load_n(&loop->stop, __ATOMIC_ACQUIRE)) {
        int n = epoll_wait(loop->epoll_fd, ev, BATCH, anything_always(loop) ? 0 : -1);

        for (int i = 0; i < n; i++) {
            uint64_t count;

            if (ev[i].data.ptr)
                dispatch(loop, ev[i].data.ptr, ev[i].events);
            else
                (void)!read(loop->wake_fd, &count, sizeof(count));
        }
        dispatch_always(loop);
        bury_dead(loop);
    }
}

void io_loop_destroy(struct io_loop *loop)
{
    if (!loop)
        return;
    while (loop->watches) {
        struct watch *w = loop->watches;

        loop->watches = w->next;
        free(w);
    }
    close(loop->wake_fd);
    close(loop->epoll_fd);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}
