/*
 * gnuplot as a child: the script goes in by a file without a name, the picture comes out by
 * another, so that neither side can wait for the other.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/measure_html.h"

#define PICTURE_MAX (16 << 20)
#define TIMEOUT_MS  30000
#define CANVAS      "<g id=\"gnuplot_canvas\">"

extern char **environ;

/* A file with that content, at its begin; -1 when memory is out. */
static int file_of(const char *name, const char *text, size_t size)
{
    int fd = memfd_create(name, MFD_CLOEXEC);

    for (size_t done = 0; fd >= 0 && done < size;) {
        ssize_t n = write(fd, text + done, size - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            close(fd);
            return -1;
        }
        done += (size_t)n;
    }
    if (fd >= 0)
        (void)lseek(fd, 0, SEEK_SET);
    return fd;
}

static int start(pid_t *pid, int in, int out)
{
    static char name[] = "gnuplot", defaults[] = "-d"; /* nobody's own settings */
    char *const argv[] = { name, defaults, NULL };
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int rc = posix_spawn_file_actions_init(&actions);

    if (rc)
        return -rc;
    rc = posix_spawnattr_init(&attributes);
    if (rc) {
        (void)posix_spawn_file_actions_destroy(&actions);
        return -rc;
    }
    /* Out of the terminal's group: Ctrl-C is for us, and does not take plots out of a report. */
    (void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
    rc = posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
    if (!rc)
        rc = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    if (!rc)
        rc = posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    if (!rc)
        rc = posix_spawnp(pid, name, &actions, &attributes, argv, environ);
    (void)posix_spawnattr_destroy(&attributes);
    (void)posix_spawn_file_actions_destroy(&actions);
    return -rc;
}

/* True when it ended by itself, and well. */
static bool wait_for(pid_t pid)
{
    struct pollfd p = { .fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN };
    int n = 1, status;

    if (p.fd >= 0) {
        do
            n = poll(&p, 1, TIMEOUT_MS);
        while (n < 0 && errno == EINTR);
        close(p.fd);
    }
    if (n <= 0)
        (void)kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return false;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* All of it with a NUL behind; NULL when it is too large, or memory is out. */
static char *content(int fd)
{
    struct stat st;
    char *text;

    if (fstat(fd, &st) || st.st_size <= 0 || st.st_size > PICTURE_MAX)
        return NULL;
    text = malloc((size_t)st.st_size + 1);
    if (!text)
        return NULL;
    if (pread(fd, text, (size_t)st.st_size, 0) != st.st_size) {
        free(text);
        return NULL;
    }
    text[st.st_size] = '\0';
    return text;
}

/* A colour that is one of the page's: how long it is in the text, else 0. */
static size_t page_colour(const char *at, unsigned *colour)
{
    unsigned r, g, b;
    int n = 0;

    if (sscanf(at, "rgb( %u, %u, %u)%n", &r, &g, &b, &n) != 3 || n == 0 || r < 1 || r > 9 ||
        r != g || g != b)
        return 0;
    *colour = r;
    return (size_t)n;
}

/*
 * What a page with several pictures, light or dark, needs otherwise: names that occur once, and
 * colours that are the page's.
 */
static void put_adapted(FILE *f, const char *at, const char *id)
{
    static const char *const names[] = { " id='", " id=\"", "href='#" };
    static const char *const inks[] = { "color=\"black\"", "color=\"gray\"" };

    while (*at) {
        size_t n = 0;
        unsigned colour;

        for (size_t i = 0; i < 3 && !n; i++)
            if (!strncmp(at, names[i], strlen(names[i]))) {
                n = strlen(names[i]);
                (void)fprintf(f, "%s%s-", names[i], id);
            }
        for (size_t i = 0; i < 2 && !n; i++)
            if (!strncmp(at, inks[i], strlen(inks[i]))) {
                n = strlen(inks[i]);
                (void)fputs("color=\"var(--p1)\"", f);
            }
        if (!n && *at == 'r' && (n = page_colour(at, &colour)) > 0)
            (void)fprintf(f, "var(--p%u)", colour);
        if (!n)
            (void)fputc(*at, f);
        at += n ? n : 1;
    }
}

int html_gnuplot(FILE *f, const struct html_picture *picture, const char *script, size_t size,
                 struct error *err)
{
    int in = file_of("script", script, size), out = file_of("picture", "", 0), rc = -EIO;
    char *text = NULL;
    const char *canvas;
    pid_t pid = -1;

    if (in >= 0 && out >= 0)
        rc = start(&pid, in, out);
    if (rc == -ENOENT || rc == -EACCES)
        rc = error_set(err, -ENOENT, "gnuplot is not installed here (on Debian: gnuplot-nox)");
    else if (rc)
        rc = error_set(err, rc, "gnuplot can't be started: %s", strerror(-rc));
    else if (!wait_for(pid))
        rc = error_set(err, -EIO, "gnuplot failed, or took longer than %d s", TIMEOUT_MS / 1000);
    if (rc)
        goto out;
    text = content(out);
    canvas = text ? strstr(text, CANVAS) : NULL;
    if (!canvas || !strstr(canvas, "</svg>")) {
        rc = error_set(err, -EIO, "gnuplot made no picture");
        goto out;
    }
    html_svg_begin(f, picture);
    put_adapted(f, canvas, picture->id);
out:
    free(text);
    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
    return rc;
}
