#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "tools/client.h"
#include "vmm/escape.h"
#include "vmm/terminal.h"

static const char help[] =
    "usage: twofold console [--json] NAME\n"
    "\n"
    "Connects this terminal to the serial line of a VM, beside what it is connected to\n"
    "already. Shows the output from now on. When stdin is no terminal, its bytes are sent\n"
    "as they are, and after its end the output still comes until the VM ends.\n"
    "\n"
    "  --json         don't connect; say where the console is\n"
    "  -h, --help     this text\n"
    "\n"
    "Keys: Ctrl-A x detaches (the VM goes on), Ctrl-A h lists the keys.\n"
    "\n"
    "Exit status: 0 detached or the VM ended; 1 no such VM, or could not be done; 2 wrong\n"
    "usage.\n";

struct session {
    int fd;
    bool terminal;
    bool detached;
    struct escape escape;
};

/* 0 or -errno. */
static int write_all(int fd, const void *buf, size_t len)
{
    const char *at = buf;

    while (len) {
        ssize_t n = write(fd, at, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

static int send_keys(struct session *s, const unsigned char *buf, size_t len)
{
    unsigned char pass[512];
    int code = 0;

    if (!s->terminal)
        return write_all(s->fd, buf, len);
    while (len && !code && !s->detached) {
        size_t used, n;
        enum escape_action what = escape_feed(&s->escape, buf, len, &used, pass, sizeof(pass), &n);

        buf += used;
        len -= used;
        code = write_all(s->fd, pass, n);
        if (what == ESCAPE_HELP)
            terminal_help("detach; the VM goes on");
        s->detached = what == ESCAPE_LEAVE;
    }
    return code;
}

/* Carries bytes both ways. 0 when the VM ended or the person left, else -errno. */
static int carry(struct session *s)
{
    struct pollfd p[2] = {
        { .fd = s->fd, .events = POLLIN },
        { .fd = STDIN_FILENO, .events = POLLIN },
    };
    unsigned char buf[4096];
    int code = 0;

    while (!code && !s->detached) {
        ssize_t n;

        if (poll(p, 2, -1) < 0) {
            code = errno == EINTR ? 0 : -errno;
            continue;
        }
        if (p[0].revents) {
            n = recv(s->fd, buf, sizeof(buf), MSG_DONTWAIT);
            if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
                return 0;
            if (n > 0)
                code = write_all(STDOUT_FILENO, buf, (size_t)n);
        }
        if (!code && p[1].revents) {
            n = read(STDIN_FILENO, buf, sizeof(buf));
            if (n > 0 && send_keys(s, buf, (size_t)n))
                return 0; /* the VM ended */
            if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
                p[1].fd = -1;
        }
    }
    return code;
}

static int attach(struct client *c)
{
    struct session s = { .fd = c->fd, .terminal = isatty(STDIN_FILENO) };
    struct timeval forever = { 0 };
    int code;

    (void)setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &forever, sizeof(forever));
    if (s.terminal) {
        terminal_message("connected to '%s'; Ctrl-A x detaches", c->name);
        code = terminal_raw(STDIN_FILENO);
        if (code)
            return command_fail(STATUS_FAILED, "console: the terminal can't be set up: %s",
                                strerror(-code));
    }
    code = write_all(STDOUT_FILENO, c->buf, c->len);
    if (!code)
        code = carry(&s);
    if (s.terminal) {
        terminal_restore();
        (void)fputc('\n', stderr); /* the guest's last line may have no end */
        terminal_message(s.detached ? "detached from '%s'" : "VM '%s' ended", c->name);
    }
    if (code && code != -EPIPE)
        return command_fail(STATUS_FAILED, "console: stdout can't be written: %s", strerror(-code));
    return code ? STATUS_FAILED : STATUS_OK;
}

static int show_place(const char *name)
{
    json_t *vm = NULL, *place;
    struct error err;

    if (client_once(name, "status", NULL, &vm, &err))
        return command_fail(STATUS_FAILED, "%s", err.text);
    place = json_pack("{s:s, s:O?}", "name", name, "console", json_object_get(vm, "console"));
    client_print_json(place);
    json_decref(place);
    json_decref(vm);
    return STATUS_OK;
}

static int run(const struct command *cmd, int argc, char **argv)
{
    struct client_options o = { 0 };
    json_t *vm = NULL;
    struct client c;
    struct error err;
    int status;

    if (!client_options(cmd, argc, argv, true, &o, &status))
        return status;
    if (o.json)
        return show_place(o.name);
    if (client_open(&c, o.name, CLIENT_TIMEOUT_MS, &err) ||
        client_ask(&c, "console", NULL, &vm, &err))
        status = command_fail(STATUS_FAILED, "%s", err.text);
    else
        status = attach(&c);
    json_decref(vm);
    client_close(&c);
    return status;
}

const struct command command_console = {
    .name = "console",
    .summary = "connect to a VM's serial line",
    .help = help,
    .run = run,
};
