#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/lab.h"
#include "tools/lab_cpio.h"
#include "tools/lab_link.h"

#define GUARDED_MAX 8
#define HOME        "/root" /* the command's working directory in the appliance */

/* --- the guard ------------------------------------------------------------------ */

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    (void)remove(path);
    return 0;
}

static void kill_all(const pid_t *pids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        (void)kill(pids[i], SIGKILL);
    /* They may still write into the folder while they die. */
    for (int ms = 0; ms < 2000; ms += 10) {
        bool left = false;

        for (size_t i = 0; i < n; i++)
            left |= kill(pids[i], 0) == 0;
        if (!left)
            return;
        usleep(10000);
    }
}

/* Messages: a pid to kill in the end, 0 to keep the folder. The end is the pipe's end. */
_Noreturn static void guard(int fd, const char *dir)
{
    pid_t pids[GUARDED_MAX];
    size_t n = 0;
    bool keep = false;
    pid_t message;
    sigset_t all;
    int null = open("/dev/null", O_RDWR);

    sigfillset(&all);
    (void)sigprocmask(SIG_BLOCK, &all, NULL);
    (void)setsid();
    for (int i = 0; i < 3 && null >= 0; i++)
        (void)dup2(null, i);
    while (read(fd, &message, sizeof(message)) == (ssize_t)sizeof(message)) {
        if (message == 0)
            keep = true;
        else if (n < GUARDED_MAX)
            pids[n++] = message;
    }
    kill_all(pids, n);
    if (!keep)
        (void)nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    _exit(0);
}

static int start_guard(struct lab_work *work, struct error *err)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC))
        return error_set(err, -errno, "no pipe for the lab's guard: %s", strerror(errno));
    work->guard = fork();
    if (work->guard == 0) {
        close(fds[1]);
        guard(fds[0], work->dir);
    }
    close(fds[0]);
    work->guard_pipe = fds[1];
    if (work->guard < 0) {
        close(fds[1]);
        return error_set(err, -errno, "the lab's guard can't be started: %s", strerror(errno));
    }
    return 0;
}

void lab_work_guard(struct lab_work *work, pid_t pid)
{
    (void)lab_write_all(work->guard_pipe, &pid, sizeof(pid));
}

void lab_work_destroy(struct lab_work *work, bool keep)
{
    if (work->guard <= 0)
        return;
    if (keep)
        lab_work_guard(work, 0);
    close(work->guard_pipe);
    (void)waitpid(work->guard, NULL, 0);
    work->guard = 0;
}

/* --- the folder ------------------------------------------------------------------- */

/* The appliance is built beside the program, and installed to ../share/twofold. */
static int find_appliance(struct lab_work *work, const struct lab_options *opt, struct error *err)
{
    static const char *const places[] = { "appliance", "../share/twofold" };
    char exe[PATH_MAX - 64];
    char file[PATH_MAX + 16];
    ssize_t n;

    if (opt->appliance) {
        if (snprintf(file, sizeof(file), "%s/initramfs.cpio", opt->appliance) < PATH_MAX &&
            access(file, R_OK) == 0) {
            (void)snprintf(work->appliance, sizeof(work->appliance), "%s", opt->appliance);
            return 0;
        }
        return error_set(err, -EINVAL, "--appliance: there is no initramfs.cpio in '%s'",
                         opt->appliance);
    }
    n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    if (n > 0) {
        exe[n] = 0;
        *strrchr(exe, '/') = 0;
    }
    for (size_t i = 0; n > 0 && i < sizeof(places) / sizeof(places[0]); i++) {
        (void)snprintf(work->appliance, sizeof(work->appliance), "%s/%s", exe, places[i]);
        (void)snprintf(file, sizeof(file), "%s/initramfs.cpio", work->appliance);
        if (access(file, R_OK) == 0)
            return 0;
    }
    return error_set(err, -ENOENT,
                     "there is no appliance beside this program: build it with `make appliance`, "
                     "or name its folder with --appliance");
}

int lab_work_create(struct lab_work *work, const struct lab_options *opt, struct error *err)
{
    const char *tmp = getenv("TMPDIR");
    int rc = find_appliance(work, opt, err);

    work->guard = 0;
    if (rc < 0)
        return rc;
    if (!tmp || !*tmp)
        tmp = "/tmp";
    /* The longest socket path that libvirt makes in it has to fit into 108 bytes. */
    if (strlen(tmp) > 40)
        return error_set(err, -ENAMETOOLONG,
                         "TMPDIR '%s' is too long for sockets: set it to a shorter folder", tmp);
    (void)snprintf(work->dir, sizeof(work->dir), "%s/twofold-lab-XXXXXX", tmp);
    if (!mkdtemp(work->dir))
        return error_set(err, -errno, "no work folder in '%s': %s", tmp, strerror(errno));
    rc = start_guard(work, err);
    if (rc < 0)
        (void)rmdir(work->dir);
    return rc;
}

/* --- what goes in -------------------------------------------------------------------- */

/* A list of strings with a NUL behind each. */
static int add_strings(struct cpio *cpio, const char *path, char *const *strings, size_t n,
                       struct error *err)
{
    size_t len = 0;
    char *buf;
    int rc;

    for (size_t i = 0; i < n; i++)
        len += strlen(strings[i]) + 1;
    buf = malloc(len + 1);
    if (!buf)
        return error_set(err, -ENOMEM, "no memory for the lab's command");
    len = 0;
    for (size_t i = 0; i < n; i++) {
        size_t size = strlen(strings[i]) + 1;

        memcpy(buf + len, strings[i], size);
        len += size;
    }
    rc = cpio_add_bytes(cpio, path, 0600, buf, len, err);
    free(buf);
    return rc;
}

static int add_files(struct cpio *cpio, const struct lab_options *opt, struct error *err)
{
    char *outs[LAB_FILES_MAX];
    char path[PATH_MAX];
    int rc = 0;

    for (unsigned int i = 0; i < opt->ins && rc == 0; i++) {
        const char *target = opt->in[i].target;

        if (snprintf(path, sizeof(path), "%s%s", *target == '/' ? "" : HOME "/", target) >=
            PATH_MAX)
            return error_set(err, -ENAMETOOLONG, "the path '%.60s...' is too long", target);
        rc = cpio_add_host(cpio, path, opt->in[i].source, err);
    }
    for (unsigned int i = 0; i < opt->outs; i++)
        outs[i] = opt->out[i].source;
    if (rc == 0)
        rc = add_strings(cpio, LAB_OUT_FILE, outs, opt->outs, err);
    if (rc == 0 && opt->command)
        rc = add_strings(cpio, LAB_COMMAND_FILE, opt->command, (size_t)opt->command_len, err);
    return rc;
}

int lab_work_initrd(struct lab_work *work, const struct lab_options *opt, struct error *err)
{
    char base[PATH_MAX + 16];
    char path[sizeof(work->dir) + 16];
    struct cpio *cpio;
    struct error late;
    int rc;
    int finish;

    (void)snprintf(base, sizeof(base), "%s/initramfs.cpio", work->appliance);
    (void)snprintf(path, sizeof(path), "%s/initrd", work->dir);
    rc = cpio_create(&cpio, path, base, err);
    if (rc < 0)
        return rc;
    rc = add_files(cpio, opt, err);
    finish = cpio_finish(cpio, &late);
    if (rc == 0 && finish < 0)
        return error_set(err, finish, "%s", late.text);
    return rc;
}

int lab_find_program(const char *program, const char *package, char path[PATH_MAX],
                     struct error *err)
{
    const char *env = getenv("PATH");

    for (const char *p = env ? env : "/usr/bin:/bin"; *p;) {
        size_t len = strcspn(p, ":");

        if (snprintf(path, PATH_MAX, "%.*s/%s", (int)len, p, program) < PATH_MAX &&
            access(path, X_OK) == 0)
            return 0;
        p += len + (p[len] == ':');
    }
    return error_set(err, -ENOENT, "the lab needs %s: install the Debian package %s", program,
                     package);
}
