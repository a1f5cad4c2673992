/*
 * Attempts by a device of a VM: the VM is started as a person would start it, and the tiny guest's
 * program `isolate` tells what it did on the console.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <unistd.h>

#include "tools/command.h"
#include "tools/isolate_guest.h"
#include "tools/isolate_vfio.h"

#define LINE_MAX_BYTES 1024u      /* the longest line that may be one of ours */
#define CONSOLE_MAX    (1u << 20) /* a guest that says more than this is another one */
#define LOG_MAX        (8u << 10) /* of the rest: the end of it */
#define KERNEL_LINES   64u
#define GUEST_STATUS   3                    /* the program's own are up to this */
#define TIMEOUT        "120"                /* seconds */
#define VFIO_RANGE     "0x1000000+0x100000" /* of guest memory: the passed-through device's */

/* A program whose output is read. */
struct console {
    const struct isolate_program *program;
    struct isolate_report *r;
    pid_t pid;
    int fd;
    char line[LINE_MAX_BYTES];
    size_t len; /* may be more than fits: the line is too long to be one of ours */
    char log[LOG_MAX];
    size_t logged;
    bool done;
};

/* The last of what was on the console, at least half of what fits. */
static void keep(struct console *c, const char *text, size_t len)
{
    if (len > sizeof(c->log) - c->logged) {
        c->logged = sizeof(c->log) / 2;
        memmove(c->log, c->log + sizeof(c->log) - c->logged, c->logged);
    }
    memcpy(c->log + c->logged, text, len);
    c->logged += len;
}

static void end_attempt(const struct isolate_program *p, struct isolate_attempt *a)
{
    if (p->listen && !a->went && !a->said[0])
        p->listen(p->ctx, a);
    isolate_print_attempt(p->to, a);
}

static int end_line(struct console *c, struct error *err)
{
    int kind = ISOLATE_OTHER;

    if (c->len < sizeof(c->line)) {
        if (c->len && c->line[c->len - 1] == '\r')
            c->len--;
        c->line[c->len] = '\0';
        kind = isolate_take_line(c->line, c->r, err);
    } else {
        c->len = sizeof(c->line) - 1;
    }
    if (kind == ISOLATE_ATTEMPT)
        end_attempt(c->program, &c->r->attempt[c->r->attempts - 1]);
    if (kind == ISOLATE_OTHER) {
        keep(c, c->line, c->len);
        keep(c, "\n", 1);
    }
    c->done = c->done || kind == ISOLATE_DONE;
    c->len = 0;
    return kind < 0 ? kind : 0;
}

static int take_bytes(struct console *c, const char *text, size_t len, struct error *err)
{
    int rc = 0;

    for (size_t i = 0; i < len && rc == 0; i++) {
        if (text[i] == '\n') {
            rc = end_line(c, err);
        } else {
            if (c->len < sizeof(c->line))
                c->line[c->len] = text[i] ? text[i] : '?';
            c->len += c->len < sizeof(c->line);
        }
    }
    return rc;
}

static int read_all(struct console *c, struct error *err)
{
    size_t total = 0;
    char buf[4096];
    int rc = 0;

    while (rc == 0) {
        ssize_t n = read(c->fd, buf, sizeof(buf));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set(err, -errno, "the VM's console can't be read: %s", strerror(errno));
        if (n == 0)
            return c->len ? end_line(c, err) : 0;
        total += (size_t)n;
        if (total > CONSOLE_MAX)
            return error_set(err, -EPROTO,
                             "the guest says more than 1 MiB; is that the tiny guest?");
        rc = take_bytes(c, buf, (size_t)n, err);
    }
    return rc;
}

/* --- the child ---------------------------------------------------------------------------------
 */

static _Noreturn void become(const char *const argv[], int out, pid_t parent)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    /* It ends with us, however we end. */
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() == parent && null >= 0 && dup2(null, STDIN_FILENO) >= 0 &&
        dup2(out, STDOUT_FILENO) >= 0)
        (void)execv(argv[0], (char *const *)argv);
    _exit(STATUS_FAILED);
}

static int spawn(struct console *c, const char *const argv[], struct error *err)
{
    pid_t parent = getpid();
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0)
        return error_set(err, -errno, "no pipe for the VM's console: %s", strerror(errno));
    (void)fflush(NULL);
    c->pid = fork();
    if (c->pid == 0)
        become(argv, fds[1], parent);
    (void)close(fds[1]);
    c->fd = fds[0];
    if (c->pid > 0)
        return 0;
    (void)close(c->fd);
    return error_set(err, -errno, "no process for the VM: %s", strerror(errno));
}

/* 0 with *status, or -errno. */
static int wait_for(pid_t pid, int *status)
{
    while (waitpid(pid, status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

/* What the end of the program means. A small status is the guest's word that not all was as it
 * should be, which the attempts say, too. */
static int judge(const struct console *c, int status, struct error *err)
{
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);

    if (c->done && code <= GUEST_STATUS)
        return 0;
    if (code == STATUS_TIMEOUT)
        return error_set(err, -ETIMEDOUT, "the guest was not through after " TIMEOUT " s");
    if (code == STATUS_CRASHED || code == 126)
        return error_set(err, -EIO, "the guest crashed after %zu attempts", c->r->attempts);
    return error_set(err, -EIO,
                     "the VM ended with status %d after %zu attempts, before the guest said that "
                     "it is done",
                     code, c->r->attempts);
}

int isolate_collect(const struct isolate_program *program, struct isolate_report *r,
                    struct error *err)
{
    struct console *c = calloc(1, sizeof(*c));
    int rc, code, status = 0;

    if (!c)
        return error_set(err, -ENOMEM, "out of memory");
    c->program = program;
    c->r = r;
    rc = spawn(c, program->argv, err);
    if (rc == 0) {
        rc = read_all(c, err);
        (void)close(c->fd);
        if (rc < 0)
            (void)kill(c->pid, SIGTERM);
        code = wait_for(c->pid, &status);
        if (rc == 0 && code < 0)
            rc = error_set(err, code, "can't wait for the VM: %s", strerror(-code));
        if (rc == 0)
            rc = judge(c, status, err);
        if (rc < 0)
            (void)fwrite(c->log, 1, c->logged, program->log);
    }
    free(c);
    return rc;
}

/* --- the two VMs -------------------------------------------------------------------------------
 */

/* What this machine's kernel said of the device: the guest goes on meanwhile, so that lines of its
 * next attempts may come while those of the last one are looked for. */
struct kernel_log {
    struct isolate_log log;
    char line[KERNEL_LINES][sizeof(((struct isolate_attempt *)NULL)->said)];
    size_t lines;
};

/* VT-d says which access it was. */
static bool is_of(const char *line, const struct isolate_attempt *a)
{
    char page[24];

    (void)snprintf(page, sizeof(page), "0x%llx", (unsigned long long)a->iova & ~0xfffull);
    return strstr(line, page) && !strstr(line, a->write ? "DMA Read" : "DMA Write");
}

static void ask_kernel(void *ctx, struct isolate_attempt *a)
{
    struct kernel_log *k = ctx;

    for (size_t i = 0; i < k->lines || k->lines < KERNEL_LINES; i++) {
        if (i == k->lines && !isolate_log_fault(&k->log, k->line[i], sizeof(k->line[i])))
            return;
        k->lines += i == k->lines;
        if (is_of(k->line[i], a)) {
            memcpy(a->said, k->line[i], sizeof(a->said));
            return;
        }
    }
}

static int run_passed(const char *const *argv, const char *bdf, struct isolate_report *out,
                      struct error *err)
{
    struct kernel_log *k = calloc(1, sizeof(*k));
    struct isolate_program program = {
        .argv = argv, .to = stdout, .log = stderr, .listen = ask_kernel, .ctx = k
    };
    int rc;

    if (!k)
        return error_set(err, -ENOMEM, "out of memory");
    isolate_log_open(&k->log, bdf);
    rc = isolate_collect(&program, out, err);
    isolate_log_close(&k->log);
    free(k);
    return rc;
}

int isolate_vm(const char *kernel, const char *bdf, struct isolate_report *out, struct error *err)
{
    char name[32], vfio[96], file[4096];
    const char *const emulated[] = { "/proc/self/exe", "run",   "--name", name,      "--mem", "64M",
                                     "--timeout",      TIMEOUT, "--edu",  "--iommu", file,    "--",
                                     "isolate",        NULL };
    const char *const passed[] = { "/proc/self/exe", "run",      "--name",   name, "--mem", "64M",
                                   "--timeout",      TIMEOUT,    "--vfio",   vfio, file,    "--",
                                   "isolate",        "--window", VFIO_RANGE, NULL };

    const struct isolate_program program = { .argv = emulated, .to = stdout, .log = stderr };

    *out = (struct isolate_report){ .regions = 0 };
    (void)snprintf(name, sizeof(name), "isolate-%d", (int)getpid());
    if ((size_t)snprintf(file, sizeof(file), "%s%s", *kernel == '-' ? "./" : "", kernel) >=
        sizeof(file))
        return error_set(err, -ENAMETOOLONG, "the kernel's path is too long");
    if (!bdf) {
        (void)snprintf(out->device, sizeof(out->device), "edu 1234:11e8, emulated, in VM '%s'",
                       name);
        (void)snprintf(out->iommu, sizeof(out->iommu), "virtio-iommu of the VM");
        return isolate_collect(&program, out, err);
    }
    if ((size_t)snprintf(vfio, sizeof(vfio), "%s,iova=" VFIO_RANGE, bdf) >= sizeof(vfio))
        return error_set(err, -EINVAL, "'%s' is no PCI device: give DOMAIN:BUS:DEVICE.FUNCTION",
                         bdf);
    (void)snprintf(out->device, sizeof(out->device), "%s, passed through to VM '%s'", bdf, name);
    (void)snprintf(out->iommu, sizeof(out->iommu), "of this machine, through VFIO type 1");
    return run_passed(passed, bdf, out, err);
}
