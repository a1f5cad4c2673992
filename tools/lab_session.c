#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tools/lab.h"
#include "tools/lab_link.h"
#include "vmm/escape.h"
#include "vmm/terminal.h"

#define HELLO_WAIT     45  /* seconds: five times what a boot takes on a busy machine */
#define HELLO_WAIT_EPT 900 /* a CPU emulated by Bochs */
#define FILE_TICK      50  /* ms between looks at growing files */
#define SETTLE         200 /* ms for the rest of a file after its writer ended */

struct session {
    struct lab_machine *m;
    const struct lab_options *opt;
    struct error *err;
    struct lab_parser parser;
    int log;       /* console.log, or -1 when the machine writes it itself */
    int signals;   /* signalfd */
    int file;      /* the file that comes out now, or -1 */
    char *partial; /* its name while it is incomplete */
    bool hello, raw, stdin_open, ended, files_failed;
    enum lab_end end;
    int status;
    struct escape escape;
    unsigned char out[8 + LAB_FRAME_MAX]; /* for the machine, not written yet */
    size_t out_at, out_len;
};

static double now(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static void finish(struct session *s, enum lab_end end, int status)
{
    if (s->ended)
        return;
    s->ended = true;
    s->end = end;
    s->status = status;
}

/* --- frames from the agent ----------------------------------------------------------- */

static void drop_partial(struct session *s)
{
    if (s->file >= 0)
        close(s->file);
    s->file = -1;
    if (s->partial)
        (void)unlink(s->partial);
    free(s->partial);
    s->partial = NULL;
}

static int begin_file(struct session *s, const unsigned char *payload, size_t len)
{
    uint32_t index = len == 8 ? lab_get32(payload) : UINT32_MAX;
    const char *target;

    if (index >= s->opt->outs)
        return error_set(s->err, -EPROTO, "the lab sends a file that nobody asked for");
    target = s->opt->out[index].target;
    drop_partial(s);
    if (asprintf(&s->partial, "%s.part", target) < 0) {
        s->partial = NULL;
        return error_set(s->err, -ENOMEM, "no memory for the name of '%s'", target);
    }
    s->file = open(s->partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (s->file < 0) {
        int code = -errno;

        free(s->partial);
        s->partial = NULL;
        return error_set(s->err, code, "--out: '%s' can't be written: %s", target, strerror(-code));
    }
    (void)fchmod(s->file, (mode_t)(lab_get32(payload + 4) & 0777) & ~022u);
    return 0;
}

static int end_file(struct session *s, const unsigned char *payload, size_t len)
{
    uint32_t index = len == 8 ? lab_get32(payload) : UINT32_MAX;
    const struct lab_file *f;
    int code;

    if (index >= s->opt->outs)
        return error_set(s->err, -EPROTO, "the lab ends a file that nobody asked for");
    f = &s->opt->out[index];
    code = (int)lab_get32(payload + 4);
    if (code) {
        drop_partial(s);
        return error_set(s->err, -EIO, "--out: '%s' can't be read in the lab: %s", f->source,
                         strerror(code));
    }
    if (s->file < 0)
        return 0;
    close(s->file);
    s->file = -1;
    if (rename(s->partial, f->target))
        code = errno;
    drop_partial(s);
    return code ? error_set(s->err, -code, "--out: '%s' can't be written: %s", f->target,
                            strerror(code))
                : 0;
}

/* A file that is missing or too much doesn't keep the others and the status from us. */
static int keep_going(struct session *s, int rc)
{
    if (rc == 0)
        return 0;
    terminal_message("lab: %s", s->err->text);
    s->err->text[0] = 0;
    s->files_failed = true;
    return 0;
}

static int file_data(struct session *s, const unsigned char *payload, size_t len)
{
    int rc;

    if (s->file < 0)
        return 0; /* its name could not be opened: said already */
    rc = lab_write_all(s->file, payload, len);
    if (rc == 0)
        return 0;
    (void)error_set(s->err, rc, "--out: '%s' can't be written: %s", s->partial, strerror(-rc));
    drop_partial(s);
    return keep_going(s, rc);
}

static int on_frame(void *ctx, enum lab_frame type, const unsigned char *payload, size_t len)
{
    struct session *s = ctx;
    int rc = 0;

    switch (type) {
    case LAB_HELLO:
        if (len != 4 || lab_get32(payload) != LAB_LINK_VERSION)
            return error_set(s->err, -EPROTO,
                             "the appliance belongs to another version of twofold: build it again");
        s->hello = true;
        return 0;
    case LAB_STDOUT:
    case LAB_STDERR:
        rc = lab_write_all(type == LAB_STDOUT ? STDOUT_FILENO : STDERR_FILENO, payload, len);
        if (rc == -EPIPE) {
            finish(s, LAB_UNREAD, 0);
            return 0;
        }
        return rc < 0 ? error_set(s->err, rc, "the command's output can't be written: %s",
                                  strerror(-rc))
                      : 0;
    case LAB_FILE:
        rc = begin_file(s, payload, len);
        return rc == -EPROTO ? rc : keep_going(s, rc);
    case LAB_FILE_DATA:
        return file_data(s, payload, len);
    case LAB_FILE_END:
        rc = end_file(s, payload, len);
        return rc == -EPROTO ? rc : keep_going(s, rc);
    case LAB_STATUS:
        rc = len == 4 ? (int)(lab_get32(payload) & 255) : 1;
        finish(s, LAB_ENDED, rc == 0 && s->files_failed ? 1 : rc);
        return 0;
    default:
        return error_set(s->err, -EPROTO, "the lab's link carries what is no message");
    }
}

/* --- bytes to and from the machine ------------------------------------------------------ */

/* False at the end of the file or socket, or when it has nothing now. */
static bool read_link(struct session *s)
{
    unsigned char buf[LAB_FRAME_MAX];
    ssize_t n = read(s->m->link, buf, sizeof(buf));

    if (n > 0) {
        if (lab_parser_feed(&s->parser, buf, (size_t)n, on_frame, s) < 0) {
            if (!s->err->text[0])
                (void)error_set(s->err, -EPROTO, "the lab's link carries what is no message");
            finish(s, LAB_FAILED, 1);
        }
        return true;
    }
    if (!s->m->files && (n == 0 || (errno != EAGAIN && errno != EINTR)))
        finish(s, LAB_DIED, 1);
    return false;
}

static void read_console(struct session *s)
{
    unsigned char buf[4096];
    ssize_t n = read(s->m->console, buf, sizeof(buf));

    if (n > 0) {
        if (s->log >= 0)
            (void)lab_write_all(s->log, buf, (size_t)n);
        if (!s->opt->command)
            (void)lab_write_all(STDOUT_FILENO, buf, (size_t)n);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        close(s->m->console);
        s->m->console = -1;
    }
}

/* What comes on a terminal that nobody looks at. */
static void drop_input(int *fd)
{
    char buf[4096];
    ssize_t n = read(*fd, buf, sizeof(buf));

    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        close(*fd);
        *fd = -1;
    }
}

/* What a person types goes to the console, less the Ctrl-A keys. */
static void feed_console(struct session *s, const unsigned char *buf, size_t len)
{
    size_t used = 0;
    size_t n = 0;

    while (len && !s->ended) {
        switch (escape_feed(&s->escape, buf, len, &used, s->out + s->out_len,
                            sizeof(s->out) - s->out_len, &n)) {
        case ESCAPE_LEAVE:
            finish(s, LAB_LEFT, 0);
            break;
        case ESCAPE_HELP:
            terminal_help("end the lab");
            break;
        case ESCAPE_NONE:
            break;
        }
        s->out_len += n;
        buf += used;
        len -= used;
    }
}

static void read_stdin(struct session *s)
{
    unsigned char buf[4096];
    ssize_t n = read(STDIN_FILENO, buf, sizeof(buf));

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0)
        s->stdin_open = false;
    s->out_at = s->out_len = 0;
    if (!s->opt->command) {
        if (n > 0)
            feed_console(s, buf, (size_t)n);
        return;
    }
    /* An empty frame says that this was all. */
    n = n < 0 ? 0 : n;
    lab_frame_header(s->out, LAB_STDIN, (size_t)n);
    memcpy(s->out + 8, buf, (size_t)n);
    s->out_len = 8 + (size_t)n;
}

static void write_out(struct session *s)
{
    int fd = s->opt->command ? s->m->link : s->m->console;
    ssize_t n = write(fd, s->out + s->out_at, s->out_len);

    if (n > 0) {
        s->out_at += (size_t)n;
        s->out_len -= (size_t)n;
    } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
        s->out_len = 0;
        s->stdin_open = false;
    }
}

/* --- the loop ------------------------------------------------------------------------------ */

static void read_signal(struct session *s)
{
    struct signalfd_siginfo info;

    if (read(s->signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
        finish(s, LAB_SIGNALED, (int)info.ssi_signo);
}

/* Growing files don't wake poll(): read what came, and see whether the writer is still there. */
static void look_at_files(struct session *s)
{
    bool gone = s->m->pid > 0 && waitpid(s->m->pid, NULL, WNOHANG) == s->m->pid;

    if (gone)
        s->m->pid = 0;
    while (!s->ended && read_link(s))
        ;
    if (gone) {
        (void)poll(NULL, 0, SETTLE);
        while (!s->ended && read_link(s))
            ;
        finish(s, LAB_DIED, 1);
    }
}

static void look_at_clock(struct session *s, double started)
{
    double elapsed = now() - started;
    double hello = s->opt->ept ? HELLO_WAIT_EPT : HELLO_WAIT;

    if (s->opt->timeout > 0 && elapsed >= s->opt->timeout)
        finish(s, LAB_TIMEOUT, 0);
    else if (!s->hello && elapsed >= hello)
        finish(s, LAB_HUNG, 0);
}

static void serve(struct session *s)
{
    double started = now();

    while (!s->ended) {
        bool files = s->m->files;
        int target = s->opt->command ? s->m->link : s->m->console;
        bool listen = s->stdin_open && s->hello && !s->out_len;
        struct pollfd fds[] = {
            { .fd = s->signals, .events = POLLIN },
            { .fd = files ? -1 : s->m->link, .events = POLLIN },
            { .fd = s->m->console, .events = POLLIN },
            { .fd = s->m->display, .events = POLLIN },
            { .fd = listen ? STDIN_FILENO : -1, .events = POLLIN },
            { .fd = s->out_len ? target : -1, .events = POLLOUT },
            { .fd = s->m->screen, .events = POLLIN },
        };

        if (poll(fds, sizeof(fds) / sizeof(fds[0]), files ? FILE_TICK : 500) < 0)
            continue;
        if (fds[0].revents)
            read_signal(s);
        if (fds[2].revents)
            read_console(s);
        if (fds[3].revents)
            drop_input(&s->m->display);
        if (fds[6].revents)
            drop_input(&s->m->screen);
        if (fds[1].revents)
            (void)read_link(s);
        if (files)
            look_at_files(s);
        if (files)
            lab_bochs_find_screen(s->m);
        if (fds[4].revents)
            read_stdin(s);
        if (s->out_len && fds[5].revents)
            write_out(s);
        look_at_clock(s, started);
    }
}

static sigset_t ending_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGQUIT);
    return set;
}

void lab_block_signals(void)
{
    sigset_t set = ending_signals();

    (void)sigprocmask(SIG_BLOCK, &set, NULL);
}

/* Bochs takes no input. A terminal that somebody else uses now would stop us. */
static bool may_read_stdin(const struct lab_machine *m)
{
    if (m->files)
        return false;
    return !isatty(STDIN_FILENO) || tcgetpgrp(STDIN_FILENO) == getpgrp();
}

enum lab_end lab_session(struct lab_machine *m, const struct lab_work *work,
                         const struct lab_options *opt, int *status, struct error *err)
{
    struct session *s = calloc(1, sizeof(*s));
    sigset_t set = ending_signals();
    char path[128];
    enum lab_end end;

    err->text[0] = 0;
    if (!s) {
        (void)error_set(err, -ENOMEM, "no memory for the lab");
        return LAB_FAILED;
    }
    s->m = m;
    s->opt = opt;
    s->err = err;
    s->file = s->log = -1;
    s->stdin_open = may_read_stdin(m);
    lab_parser_init(&s->parser);
    (void)snprintf(path, sizeof(path), "%s/console.log", work->dir);
    if (!m->files)
        s->log = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    s->signals = signalfd(-1, &set, SFD_CLOEXEC);
    if (!opt->command && isatty(STDIN_FILENO))
        s->raw = terminal_raw(STDIN_FILENO) == 0;
    serve(s);
    if (s->raw)
        terminal_restore();
    drop_partial(s);
    if (s->signals >= 0)
        close(s->signals);
    if (s->log >= 0)
        close(s->log);
    *status = s->status;
    end = s->end == LAB_DIED && !s->hello ? LAB_HUNG : s->end;
    free(s);
    return end;
}

void lab_console_tail(const struct lab_work *work)
{
    char path[128];
    char buf[4096]; /* a whole panic: its first line says what it is about */
    FILE *f;
    size_t n;

    (void)snprintf(path, sizeof(path), "%s/console.log", work->dir);
    f = fopen(path, "re");
    if (!f)
        return;
    if (fseek(f, -(long)sizeof(buf), SEEK_END))
        rewind(f);
    n = fread(buf, 1, sizeof(buf), f);
    (void)fclose(f);
    (void)fputs(n ? "twofold: the end of the lab's console:\n"
                  : "twofold: the lab's console is empty\n",
                stderr);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)buf[i];

        if (c == '\n' || c == '\t' || (c >= ' ' && c < 127))
            (void)fputc(c, stderr);
    }
    if (n && buf[n - 1] != '\n')
        (void)fputc('\n', stderr);
}
