#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/lab.h"

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    (void)remove(path);
    return 0;
}

void lab_remove_folder(const char *dir)
{
    (void)nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* The parent of a process, from field 4 of /proc/PID/stat (proc(5)); the name before it may hold
 * anything. 0 when it is gone. */
static pid_t parent_of(const char *pid)
{
    char path[300];
    char line[512];
    char *paren;
    pid_t parent = 0;
    FILE *f;

    (void)snprintf(path, sizeof(path), "/proc/%s/stat", pid);
    f = fopen(path, "re");
    if (!f)
        return 0;
    if (fgets(line, sizeof(line), f)) {
        paren = strrchr(line, ')');
        if (paren && strlen(paren) > 4)
            parent = (pid_t)strtol(paren + 4, NULL, 10);
    }
    (void)fclose(f);
    return parent;
}

/* Whatever the lab started and lost became our child. */
static void kill_children(void)
{
    struct dirent *e;
    DIR *dir = opendir("/proc");

    while (dir && (e = readdir(dir)) != NULL) {
        if (e->d_name[0] >= '1' && e->d_name[0] <= '9' && parent_of(e->d_name) == getpid())
            (void)kill((pid_t)strtol(e->d_name, NULL, 10), SIGKILL);
    }
    if (dir)
        closedir(dir);
}

/* A signal from a terminal reached the child too; one that was sent to us alone did not. */
static void forward_signal(const siginfo_t *info, pid_t child)
{
    if (info->si_signo != SIGCHLD && info->si_code <= 0)
        (void)kill(child, info->si_signo);
}

/* Reaps everything until the child ends; its wait status. */
static int reap_until(pid_t child, const sigset_t *set)
{
    for (;;) {
        siginfo_t info;
        int wstatus;
        pid_t pid = waitpid(-1, &wstatus, WNOHANG);

        if (pid == child)
            return wstatus;
        if (pid == 0 && sigwaitinfo(set, &info) > 0)
            forward_signal(&info, child);
        if (pid < 0)
            return 0;
    }
}

int lab_guard(int (*fn)(void *ctx), void *ctx, const char *dir, bool keep)
{
    pid_t self = getpid();
    sigset_t set;
    pid_t child;
    int wstatus;

    lab_block_signals();
    (void)sigprocmask(SIG_BLOCK, NULL, &set);
    sigaddset(&set, SIGCHLD);
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    (void)fflush(NULL);
    child = fork();
    if (child < 0)
        return -errno;
    if (child == 0) {
        int status;

        (void)prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
        status = getppid() == self ? fn(ctx) : 1;
        if (!keep)
            lab_remove_folder(dir);
        (void)fflush(NULL);
        _exit(status);
    }
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    wstatus = reap_until(child, &set);
    kill_children();
    while (waitpid(-1, NULL, 0) > 0)
        kill_children();
    if (!keep)
        lab_remove_folder(dir);
    return WIFSIGNALED(wstatus) ? -ECANCELED : WEXITSTATUS(wstatus);
}
