#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tools/client.h"
#include "vmm/control.h"

#define STOP_TIMEOUT_S 10.0

static const char help[] =
    "usage: twofold stop [--force] [--timeout TIME] [--json] NAME\n"
    "\n"
    "Ends a VM and returns when its process is gone. A vCPU that spins is stopped too.\n"
    "'run' then exits with status 143.\n"
    "\n"
    "  --timeout TIME how long to wait, like 10, 500ms, 2m (default 10)\n"
    "  --force        kill the monitor (SIGKILL) if it is not gone by then\n"
    "  --json         {\"name\", \"state\": \"gone\", \"killed\"}\n"
    "  -h, --help     this text\n"
    "\n"
    "Exit status: 0 gone; 1 no such VM, or could not be done; 2 wrong usage; 124 still\n"
    "there after the time-out.\n";

/*
 * A handle of the monitor that stays right when its pid is used again; -1 when
 * the kernel can't give one. The connection tells that the process still lives.
 */
static int open_monitor(const struct client *c)
{
    struct pollfd p = { .fd = c->fd, .events = POLLIN };
    pid_t pid = client_monitor_pid(c);
    int fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;

    if (fd >= 0 && poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR))) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Waits for the end of the process, or, without a handle, of the connection. */
static bool wait_gone(const struct client *c, int pidfd, double seconds)
{
    struct pollfd p = { .fd = pidfd >= 0 ? pidfd : c->fd, .events = pidfd >= 0 ? POLLIN : 0 };
    double ms = seconds * 1000;
    int n;

    do
        n = poll(&p, 1, ms > 1e9 ? 1000000000 : (int)ms);
    while (n < 0 && errno == EINTR);
    return n > 0;
}

static int kill_monitor(const struct client *c, int pidfd, struct error *err)
{
    int lock_fd;

    if (pidfd < 0)
        return error_set(err, -ESRCH, "VM '%s': its process can't be found; kill it by hand",
                         c->name);
    if (syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) && errno != ESRCH)
        return error_set(err, -errno, "VM '%s': its process can't be killed: %s", c->name,
                         strerror(errno));
    if (!wait_gone(c, pidfd, STOP_TIMEOUT_S))
        return error_set(err, -EBUSY, "VM '%s' was killed, but its process hangs in the kernel",
                         c->name);
    if (!control_claim(c->name, &lock_fd, NULL))
        control_release(c->name, lock_fd);
    return 0;
}

/* 0, -ETIMEDOUT, or what went wrong. *killed says that it took force. */
static int stop(struct client *c, const struct client_options *o, bool *killed, struct error *err)
{
    int pidfd = open_monitor(c);
    json_t *status = NULL;
    int code = client_ask(c, "stop", NULL, &status, err);

    json_decref(status);
    *killed = false;
    if (code == -ECONNRESET)
        code = 0; /* it was ending already */
    if (!code && !wait_gone(c, pidfd, o->timeout_s))
        code = error_set(err, -ETIMEDOUT, "VM '%s' is still there after %g s; --force kills it",
                         o->name, o->timeout_s);
    if (code && o->force) {
        *killed = true;
        code = kill_monitor(c, pidfd, err);
    }
    if (pidfd >= 0)
        close(pidfd);
    return code;
}

static int run(const struct command *cmd, int argc, char **argv)
{
    struct client_options o = { .timeout_s = STOP_TIMEOUT_S };
    struct client c;
    struct error err;
    bool killed;
    int status, code;

    if (!client_options(cmd, argc, argv, true, &o, &status))
        return status;
    code = client_open(&c, o.name, o.timeout_s < 5 ? (int)(o.timeout_s * 1000) + 1 : 5000, &err);
    if (!code)
        code = stop(&c, &o, &killed, &err);
    client_close(&c);
    if (code == -ETIMEDOUT || code == -EAGAIN)
        return command_fail(STATUS_TIMEOUT, "%s", err.text);
    if (code)
        return command_fail(STATUS_FAILED, "%s", err.text);
    if (o.json) {
        json_t *result =
            json_pack("{s:s, s:s, s:b}", "name", o.name, "state", "gone", "killed", (int)killed);

        client_print_json(result);
        json_decref(result);
    }
    return STATUS_OK;
}

const struct command command_stop = {
    .name = "stop",
    .summary = "end a VM",
    .help = help,
    .run = run,
};
