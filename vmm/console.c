#include "vmm/console.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "vmm/escape.h"
#include "vmm/terminal.h"

#define CLIENTS_MAX 16

/* Never more in one write(): a pipe that polls writable takes this much without blocking. */
#define CHUNK 4096

/* What an attached client may be behind before it loses output. */
#define CLIENT_BACKLOG (1 << 20)

struct client {
    int fd; /* -1: free */
    bool behind;
};

struct console {
    enum console_kind kind;
    struct io_loop *loop;
    int in_fd, out_fd; /* -1: none */
    int pty_slave_fd;  /* held open, so that the master never reports a hang-up */
    int release_fd;    /* readable once console_release() was called */
    bool out_failed;   /* reported once */
    bool own_out;      /* out_fd is ours to close */
    bool raw;          /* the terminal is in raw mode, and Ctrl-A is ours */
    bool held, more;   /* atomic: stdin waits for console_take_more(); it was called */
    char pty_name[64];
    struct escape escape;
    pthread_mutex_t out_lock; /* keeps the bytes of one console_write() together; held for long */
    pthread_mutex_t lock;     /* guards clients; never held while something blocks */
    struct client clients[CLIENTS_MAX];
    console_input input;
    console_quit quit;
    void *ctx;
};

/* --- output --------------------------------------------------------------- */

/* Waits until `fd` takes bytes; false once the VM is ending. */
static bool wait_writable(struct console *con, int fd)
{
    struct pollfd p[2] = {
        { .fd = fd, .events = POLLOUT },
        { .fd = con->release_fd, .events = POLLIN },
    };

    for (;;) {
        int n = poll(p, 2, -1);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 || p[0].revents)
            return true; /* write() reports what is wrong */
        return false;
    }
}

static void output_failed(struct console *con, int code)
{
    if (con->out_failed)
        return;
    con->out_failed = true;
    if (con->kind == CONSOLE_FILE) {
        terminal_message("the console's file can't be written: %s; its output is lost from here on",
                         strerror(code));
        return;
    }
    if (code != EPIPE)
        terminal_message("stdout can't be written: %s", strerror(code));
    if (con->quit)
        con->quit(con->ctx, code == EPIPE ? "the reader of stdout is gone" : "stdout failed");
}

static void write_blocking(struct console *con, const unsigned char *buf, size_t len)
{
    while (len && !con->out_failed && wait_writable(con, con->out_fd)) {
        ssize_t n = write(con->out_fd, buf, len < CHUNK ? len : CHUNK);

        if (n >= 0) {
            buf += n;
            len -= (size_t)n;
        } else if (errno != EINTR && errno != EAGAIN) {
            output_failed(con, errno);
        }
    }
}

static void write_dropping(int fd, const unsigned char *buf, size_t len)
{
    while (len) {
        ssize_t n = write(fd, buf, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        buf += n;
        len -= (size_t)n;
    }
}

/* A client's end is noticed and handled by the I/O thread; here its output is only lost. */
static void write_client(struct client *c, const unsigned char *buf, size_t len)
{
    static const char lost[] = "\r\n[twofold: output lost here]\r\n";

    if (c->behind) {
        if (send(c->fd, lost, sizeof(lost) - 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
            return;
        c->behind = false;
    }
    while (len) {
        ssize_t n = send(c->fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            c->behind = true;
            return;
        }
        buf += n;
        len -= (size_t)n;
    }
}

void console_write(struct console *con, const unsigned char *buf, size_t len)
{
    pthread_mutex_lock(&con->out_lock);
    pthread_mutex_lock(&con->lock);
    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        if (con->clients[i].fd >= 0)
            write_client(&con->clients[i], buf, len);
    }
    pthread_mutex_unlock(&con->lock);
    if (con->kind == CONSOLE_PTY)
        write_dropping(con->out_fd, buf, len);
    else if (con->out_fd >= 0)
        write_blocking(con, buf, len);
    pthread_mutex_unlock(&con->out_lock);
}

void console_release(struct console *con)
{
    uint64_t one = 1;

    (void)!write(con->release_fd, &one, sizeof(one));
}

/* --- input ------------------------------------------------------------------ */

/* False when the guest has enough for now. */
static bool to_guest(struct console *con, const unsigned char *buf, size_t len)
{
    return !len || !con->input || con->input(con->ctx, buf, len);
}

static void from_keyboard(struct console *con, const unsigned char *buf, size_t len)
{
    unsigned char pass[512];

    for (size_t i = 0; i < len;) {
        enum escape_action what;
        size_t used, n;

        what = escape_feed(&con->escape, buf + i, len - i, &used, pass, sizeof(pass), &n);
        i += used;
        (void)to_guest(con, pass, n);
        if (what == ESCAPE_HELP)
            terminal_help("end the VM");
        if (what == ESCAPE_LEAVE && con->quit) {
            (void)fputc('\n', stderr); /* the guest's last line may have no end */
            con->quit(con->ctx, "Ctrl-A x");
        }
    }
}

static void input_ready(void *ctx, int fd, uint32_t events);

void console_take_more(struct console *con)
{
    __atomic_store_n(&con->more, true, __ATOMIC_SEQ_CST);
    if (__atomic_exchange_n(&con->held, false, __ATOMIC_SEQ_CST))
        (void)io_loop_add(con->loop, con->in_fd, EPOLLIN, input_ready, con);
}

/*
 * Stops reading stdin. Taken off the loop rather than watched for nothing: a
 * pipe without a writer would report its hang-up for ever. The guest may ask
 * for more at any moment, also between the lines below: `more` tells, and
 * whoever turns `held` off puts stdin back.
 */
static void hold_input(struct console *con)
{
    io_loop_remove(con->loop, con->in_fd);
    __atomic_store_n(&con->held, true, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&con->more, __ATOMIC_SEQ_CST))
        console_take_more(con);
}

static void input_ready(void *ctx, int fd, uint32_t events)
{
    struct console *con = ctx;
    unsigned char buf[512];
    ssize_t n = read(fd, buf, sizeof(buf));

    (void)events;
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0) {
        io_loop_remove(con->loop, fd); /* at its end: the guest hears no more */
        return;
    }
    if (con->raw) {
        from_keyboard(con, buf, (size_t)n);
        return;
    }
    __atomic_store_n(&con->more, false, __ATOMIC_SEQ_CST);
    if (!to_guest(con, buf, (size_t)n))
        hold_input(con);
}

static void drop_client(struct console *con, int fd)
{
    io_loop_remove(con->loop, fd);
    pthread_mutex_lock(&con->lock);
    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        if (con->clients[i].fd == fd)
            con->clients[i].fd = -1;
    }
    close(fd);
    pthread_mutex_unlock(&con->lock);
}

static void client_ready(void *ctx, int fd, uint32_t events)
{
    struct console *con = ctx;
    unsigned char buf[512];
    ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);

    if (n > 0)
        (void)to_guest(con, buf, (size_t)n);
    else if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    else if (n == 0 && !(events & (EPOLLHUP | EPOLLERR)))
        (void)io_loop_change(con->loop, fd, 0); /* types no more, but still listens */
    else
        drop_client(con, fd);
}

bool console_has_room(struct console *con)
{
    bool room = false;

    pthread_mutex_lock(&con->lock);
    for (size_t i = 0; i < CLIENTS_MAX && !room; i++)
        room = con->clients[i].fd < 0;
    pthread_mutex_unlock(&con->lock);
    return room;
}

int console_attach(struct console *con, int fd, const void *early, size_t len)
{
    int backlog = CLIENT_BACKLOG;
    int code = -EBUSY;

    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &backlog, sizeof(backlog));
    pthread_mutex_lock(&con->lock);
    for (size_t i = 0; i < CLIENTS_MAX && code; i++) {
        if (con->clients[i].fd >= 0)
            continue;
        con->clients[i] = (struct client){ .fd = fd };
        code = 0;
    }
    pthread_mutex_unlock(&con->lock);
    if (code) {
        close(fd);
        return code;
    }
    code = io_loop_add(con->loop, fd, EPOLLIN, client_ready, con);
    if (code) {
        drop_client(con, fd);
        return code;
    }
    (void)to_guest(con, early, len);
    return 0;
}

/* --- life ------------------------------------------------------------------- */

static int open_stdio(struct console *con, struct error *err)
{
    int code;

    con->in_fd = STDIN_FILENO;
    con->out_fd = STDOUT_FILENO;
    if (isatty(STDIN_FILENO)) {
        /* In the background, reading would stop the whole process (SIGTTIN). */
        if (tcgetpgrp(STDIN_FILENO) != getpgrp()) {
            con->in_fd = -1;
            return 0;
        }
        code = terminal_raw(STDIN_FILENO);
        if (code)
            return error_set(err, code, "--console stdio: the terminal can't be set up: %s",
                             strerror(-code));
        con->raw = true;
    }
    return 0;
}

static int open_pty(struct console *con, struct error *err)
{
    struct termios t;
    int fd;

    con->own_out = true;
    con->out_fd = fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || grantpt(fd) || unlockpt(fd) ||
        ptsname_r(fd, con->pty_name, sizeof(con->pty_name)))
        return error_set(err, -errno, "--console pty: no pseudo-terminal: %s; is /dev/pts mounted?",
                         strerror(errno));
    con->pty_slave_fd = open(con->pty_name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (con->pty_slave_fd < 0 || tcgetattr(con->pty_slave_fd, &t))
        return error_set(err, -errno, "--console pty: %s: %s", con->pty_name, strerror(errno));
    cfmakeraw(&t);
    if (tcsetattr(con->pty_slave_fd, TCSANOW, &t))
        return error_set(err, -errno, "--console pty: %s: %s", con->pty_name, strerror(errno));
    con->in_fd = fd;
    terminal_message("console on %s", con->pty_name);
    return 0;
}

static int open_file(struct console *con, const char *path, struct error *err)
{
    con->own_out = true;
    /* Emptied by console_start(): until then it may be the file of a VM that runs. */
    con->out_fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY, 0666);
    if (con->out_fd < 0)
        return error_set(err, -EINVAL, "--console file: '%s' can't be written: %s", path,
                         strerror(errno));
    return 0;
}

static int open_kind(struct console *con, const char *path, struct error *err)
{
    con->release_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (con->release_fd < 0)
        return error_set(err, -errno, "console: %s", strerror(errno));
    switch (con->kind) {
    case CONSOLE_STDIO:
        return open_stdio(con, err);
    case CONSOLE_PTY:
        return open_pty(con, err);
    case CONSOLE_FILE:
        return open_file(con, path, err);
    }
    return error_set(err, -EINVAL, "console: unknown kind %d", (int)con->kind);
}

int console_create(struct console **out, enum console_kind kind, const char *path,
                   struct io_loop *loop, struct error *err)
{
    struct console *con = calloc(1, sizeof(*con));
    int code;

    if (!con)
        return error_set(err, -ENOMEM, "console: out of memory");
    con->kind = kind;
    con->loop = loop;
    con->in_fd = con->out_fd = con->pty_slave_fd = con->release_fd = -1;
    for (size_t i = 0; i < CLIENTS_MAX; i++)
        con->clients[i].fd = -1;
    pthread_mutex_init(&con->out_lock, NULL);
    pthread_mutex_init(&con->lock, NULL);
    code = open_kind(con, path, err);
    if (!code && con->in_fd >= 0) {
        code = io_loop_add(loop, con->in_fd, EPOLLIN, input_ready, con);
        if (code == -EBADF)
            code = 0; /* a closed stdin is an empty one */
        else if (code)
            code = error_set(err, code, "console: input can't be watched: %s", strerror(-code));
    }
    if (code) {
        console_destroy(con);
        return code;
    }
    *out = con;
    return 0;
}

void console_on_input(struct console *con, console_input fn, console_quit quit, void *ctx)
{
    con->input = fn;
    con->quit = quit;
    con->ctx = ctx;
}

void console_start(struct console *con)
{
    /* A device or a FIFO can't be emptied, nor need it be. */
    if (con->kind == CONSOLE_FILE)
        (void)!ftruncate(con->out_fd, 0);
}

const char *console_pty_name(const struct console *con)
{
    return con->kind == CONSOLE_PTY ? con->pty_name : NULL;
}

void console_destroy(struct console *con)
{
    if (!con)
        return;
    if (con->raw)
        terminal_restore();
    if (con->in_fd >= 0)
        io_loop_remove(con->loop, con->in_fd);
    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        if (con->clients[i].fd >= 0)
            drop_client(con, con->clients[i].fd);
    }
    if (con->own_out && con->out_fd >= 0)
        close(con->out_fd);
    if (con->pty_slave_fd >= 0)
        close(con->pty_slave_fd);
    if (con->release_fd >= 0)
        close(con->release_fd);
    pthread_mutex_destroy(&con->lock);
    pthread_mutex_destroy(&con->out_lock);
    free(con);
}
