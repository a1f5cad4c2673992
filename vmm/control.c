#include "vmm/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/console.h"
#include "vmm/control_command.h"
#include "vmm/io_loop.h"

#define CONNECTIONS_MAX 64

/* Above this many unsent bytes a client is not read from until it takes its replies. */
#define BACKLOG_MAX (1 << 18)

struct connection {
    struct connection *next;
    struct control *control;
    int fd;
    uint64_t last_used; /* on the control's clock */
    size_t in_len;      /* bytes of an unfinished line in `in` */
    char *out;          /* unsent bytes of replies */
    size_t out_len, out_cap;
    uint32_t watched; /* what the loop watches for */
    bool eof;         /* the client sends no more; what it asked is still answered */
    bool closing;     /* closes once `out` is sent */
    bool handover;    /* becomes a console once `out` is sent */
    char in[CONTROL_LINE_MAX];
};

struct control {
    struct vm *vm;
    int listen_fd;
    int lock_fd;
    int spare_fd; /* given up to refuse a connection when there is no fd left */
    uint64_t clock;
    unsigned count;
    struct connection *connections;
};

/* Frees a connection that is in no list any more; its fd is the caller's. */
static void release(struct connection *conn)
{
    io_loop_remove(vm_loop(conn->control->vm), conn->fd);
    free(conn->out);
    free(conn);
}

/* Takes the connection off the list and frees it; gives its fd. */
static int forget(struct connection *conn)
{
    struct connection **at = &conn->control->connections;
    int fd = conn->fd;

    while (*at != conn)
        at = &(*at)->next;
    *at = conn->next;
    conn->control->count--;
    release(conn);
    return fd;
}

static void drop(struct connection *conn)
{
    close(forget(conn));
}

/* --- replies ------------------------------------------------------------------- */

static bool make_room_for(struct connection *conn, size_t len)
{
    size_t cap = conn->out_len + len;
    char *grown;

    if (cap <= conn->out_cap)
        return true;
    grown = realloc(conn->out, cap);
    if (!grown)
        return false;
    conn->out = grown;
    conn->out_cap = cap;
    return true;
}

/* Takes `line` over. False when memory is out. */
static bool queue_line(struct connection *conn, char *line)
{
    size_t len = line ? strlen(line) : 0;
    bool ok = line && make_room_for(conn, len + 1);

    if (ok) {
        memcpy(conn->out + conn->out_len, line, len);
        conn->out[conn->out_len + len] = '\n';
        conn->out_len += len + 1;
    }
    free(line);
    return ok;
}

static bool has_line(const struct connection *conn)
{
    return memchr(conn->in, '\n', conn->in_len) != NULL;
}

static bool throttled(const struct connection *conn)
{
    return conn->closing || conn->handover || conn->out_len >= BACKLOG_MAX;
}

/*
 * One request is answered each time the loop comes by, so that one client can't
 * keep the others waiting. While whole lines wait here, "writable" is what makes
 * the loop come by again.
 */
static void watch(struct connection *conn)
{
    uint32_t events = 0;

    if (conn->out_len || (has_line(conn) && !throttled(conn)))
        events |= EPOLLOUT;
    if (!conn->eof && !throttled(conn) && conn->in_len < sizeof(conn->in))
        events |= EPOLLIN;
    if (events == conn->watched)
        return;
    conn->watched = events;
    (void)io_loop_change(vm_loop(conn->control->vm), conn->fd, events);
}

static void become_console(struct connection *conn)
{
    struct console *con = vm_console(conn->control->vm);
    size_t len = conn->in_len;
    char *early = len ? malloc(len) : NULL;
    int fd;

    if (early)
        memcpy(early, conn->in, len);
    else
        len = 0;
    fd = forget(conn);
    (void)console_attach(con, fd, early, len);
    free(early);
}

/* Sends what the socket takes. False when the connection is gone (or no longer ours). */
static bool flush(struct connection *conn)
{
    size_t sent = 0;

    while (sent < conn->out_len) {
        ssize_t n =
            send(conn->fd, conn->out + sent, conn->out_len - sent, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n >= 0)
            sent += (size_t)n;
        else if (errno == EAGAIN)
            break;
        else if (errno != EINTR) {
            drop(conn);
            return false;
        }
    }
    conn->out_len -= sent;
    if (conn->out_len)
        memmove(conn->out, conn->out + sent, conn->out_len);
    if (conn->out_len == 0 && conn->handover) {
        become_console(conn);
        return false;
    }
    if (conn->out_len == 0 && (conn->closing || (conn->eof && !has_line(conn)))) {
        drop(conn);
        return false;
    }
    return true;
}

/* --- requests -------------------------------------------------------------------- */

/* Answers the first request in `in`, if a whole one is there. False when memory is out. */
static bool answer_one(struct connection *conn)
{
    enum control_next next = CONTROL_NEXT_REQUEST;
    size_t at = 0;
    bool ok = true, answered = false;
    char *end;

    while (!answered && (end = memchr(conn->in + at, '\n', conn->in_len - at))) {
        const char *line = conn->in + at;
        size_t len = (size_t)(end - line);

        at += len + 1;
        answered = strspn(line, " \t\r\n") < len; /* a blank line asks nothing */
        if (answered)
            ok = queue_line(conn, control_answer(conn->control->vm, line, len, &next));
    }
    conn->handover = next == CONTROL_NEXT_CONSOLE;
    conn->in_len -= at;
    memmove(conn->in, conn->in + at, conn->in_len);
    return ok;
}

static void serve(struct connection *conn)
{
    bool ok = true;

    if (!throttled(conn))
        ok = answer_one(conn);
    if (ok && !throttled(conn) && conn->in_len == sizeof(conn->in) && !has_line(conn)) {
        ok = queue_line(conn, control_refusal("E2BIG", "the request is too long"));
        conn->closing = true;
    }
    if (!ok)
        drop(conn);
    else if (flush(conn))
        watch(conn);
}

static void connection_ready(void *ctx, int fd, uint32_t events)
{
    struct connection *conn = ctx;
    size_t room = sizeof(conn->in) - conn->in_len;

    conn->last_used = ++conn->control->clock;
    if ((events & EPOLLOUT) && !flush(conn))
        return;
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && room && !conn->eof && !throttled(conn)) {
        ssize_t n = recv(fd, conn->in + conn->in_len, room, MSG_DONTWAIT);

        if (n > 0)
            conn->in_len += (size_t)n;
        else if (n == 0 || (errno != EAGAIN && errno != EINTR))
            conn->eof = true;
    } else if (events & (EPOLLHUP | EPOLLERR)) {
        drop(conn); /* nobody is left to take the replies */
        return;
    }
    serve(conn);
}

/* --- connections ------------------------------------------------------------------- */

/* Many idle clients must not keep `twofold stop` out: the one idle for longest goes. */
static void drop_idlest(struct control *c)
{
    struct connection *oldest = c->connections;

    for (struct connection *conn = c->connections; conn; conn = conn->next) {
        if (conn->last_used < oldest->last_used)
            oldest = conn;
    }
    if (oldest)
        drop(oldest);
}

static void add_connection(struct control *c, int fd)
{
    struct connection *conn;

    if (c->count >= CONNECTIONS_MAX)
        drop_idlest(c);
    conn = malloc(sizeof(*conn));
    if (!conn) {
        close(fd);
        return;
    }
    /* Not calloc: the pages of `in` are touched only as far as a client writes. */
    memset(conn, 0, offsetof(struct connection, in));
    conn->control = c;
    conn->fd = fd;
    conn->last_used = ++c->clock;
    conn->watched = EPOLLIN;
    if (io_loop_add(vm_loop(c->vm), fd, EPOLLIN, connection_ready, conn)) {
        close(fd);
        free(conn);
        return;
    }
    conn->next = c->connections;
    c->connections = conn;
    c->count++;
}

static void listener_ready(void *ctx, int fd, uint32_t events)
{
    struct control *c = ctx;
    int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)events;
    if (client >= 0) {
        add_connection(c, client);
    } else if (errno == EMFILE || errno == ENFILE) {
        close(c->spare_fd);
        client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        if (client >= 0)
            close(client);
        c->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
}

/* --- life ---------------------------------------------------------------------------- */

static int listen_on(struct control *c, struct error *err)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int code = control_path(vm_config(c->vm)->name, addr.sun_path, sizeof(addr.sun_path), err);

    if (code)
        return code;
    c->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    c->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /*
     * Mode 0600 whatever the umask: the folder may be one that others can look into.
     * Before bind(), so that there is no moment with another mode.
     */
    if (c->listen_fd < 0 || fchmod(c->listen_fd, 0600) ||
        bind(c->listen_fd, (struct sockaddr *)&addr, sizeof(addr)) ||
        listen(c->listen_fd, SOMAXCONN))
        return error_set(err, -errno, "the control socket '%s' can't be opened: %s", addr.sun_path,
                         strerror(errno));
    code = io_loop_add(vm_loop(c->vm), c->listen_fd, EPOLLIN, listener_ready, c);
    if (code)
        return error_set(err, code, "the control socket can't be watched: %s", strerror(-code));
    return 0;
}

int control_create(struct control **out, struct vm *vm, struct error *err)
{
    struct control *c = calloc(1, sizeof(*c));
    int code;

    if (!c)
        return error_set(err, -ENOMEM, "control socket: out of memory");
    c->vm = vm;
    c->listen_fd = c->spare_fd = -1;
    code = control_claim(vm_config(vm)->name, &c->lock_fd, err);
    if (code) {
        free(c);
        return code;
    }
    code = listen_on(c, err);
    if (code) {
        control_destroy(c);
        return code;
    }
    *out = c;
    return 0;
}

void control_destroy(struct control *c)
{
    if (!c)
        return;
    for (struct connection *conn = c->connections, *next; conn; conn = next) {
        int fd = conn->fd;

        next = conn->next;
        release(conn);
        close(fd);
    }
    if (c->listen_fd >= 0) {
        io_loop_remove(vm_loop(c->vm), c->listen_fd);
        close(c->listen_fd);
    }
    if (c->spare_fd >= 0)
        close(c->spare_fd);
    control_release(vm_config(c->vm)->name, c->lock_fd);
    free(c);
}
