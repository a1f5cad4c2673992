#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

pid_t spawn(const char *const argv[], int *out)
{
    posix_spawn_file_actions_t act;
    int fds[2], rc;
    pid_t pid = -1;

    if (pipe2(fds, O_CLOEXEC))
        return -1;
    posix_spawn_file_actions_init(&act);
    posix_spawn_file_actions_addopen(&act, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&act, fds[1], 1);
    posix_spawn_file_actions_addopen(&act, 2, "/dev/null", O_WRONLY, 0);
    rc = posix_spawnp(&pid, argv[0], &act, NULL, (char *const *)argv, environ);
    posix_spawn_file_actions_destroy(&act);
    close(fds[1]);
    if (rc) {
        close(fds[0]);
        return -1;
    }
    *out = fds[0];
    return pid;
}

int reap(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

double timed_run(const char *const argv[], int expected, const char *text)
{
    char buf[65536];
    uint64_t t0 = now_ns(), t1;
    size_t have = 0;
    ssize_t got;
    int out, status;
    pid_t pid = spawn(argv, &out);

    if (pid < 0)
        return -1;
    while (have < sizeof(buf) - 1 && (got = read(out, buf + have, sizeof(buf) - 1 - have)) > 0)
        have += (size_t)got;
    close(out);
    status = reap(pid);
    t1 = now_ns();
    buf[have] = '\0';
    return status == expected && strstr(buf, text) ? (double)(t1 - t0) : -1;
}
