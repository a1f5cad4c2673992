#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/lab.h"

/* Instructions in an emulated second: what a common machine emulates, and twice. */
#define IPS 100000000u

/*
 * quiet, cryptomgr.notests, rodata=off, initcall_blacklist: self-tests and keys that take half of
 * an emulated boot. mitigations=off: no CPU here speculates. tsc_early_khz: see lab-bochsrc.
 */
#define CMDLINE                                                                              \
    "console=ttyS0,115200 panic=-1 quiet mitigations=off nokaslr no_timer_check rodata=off " \
    "cryptomgr.notests=1 initcall_blacklist=load_system_certificate_list tsc=reliable "      \
    "tsc_early_khz=%u twofold.link=ttyS1%s%s%s"

static int write_text(const char *dir, const char *name, const char *text, struct error *err)
{
    char path[128];
    FILE *f;

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    f = fopen(path, "we");
    if (!f || fputs(text, f) < 0 || fclose(f))
        return error_set(err, -EIO, "'%s' can't be written: %s", path, strerror(errno));
    return 0;
}

/* Runs the script that makes ISOs; it belongs to the appliance. Its messages are on stderr. */
static int make_iso(const struct lab_work *work, struct error *err)
{
    char script[PATH_MAX + 16];
    char kernel[PATH_MAX + 16];
    int wstatus = -1;
    pid_t pid;

    (void)snprintf(script, sizeof(script), "%s/iso", work->appliance);
    (void)snprintf(kernel, sizeof(kernel), "%s/vmlinuz-flat", work->appliance);
    if (access(script, X_OK) || access(kernel, R_OK))
        return error_set(err, -ENOENT,
                         "the appliance in '%s' has no vmlinuz-flat and no iso script: build it "
                         "again with `make appliance`",
                         work->appliance);
    pid = fork();
    if (pid == 0) {
        sigset_t none;

        sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        if (chdir(work->dir) == 0)
            (void)execl(script, script, "--config", "grub.cfg", "--out", "lab.iso", kernel,
                        "initrd", NULL);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &wstatus, 0) < 0 || !WIFEXITED(wstatus) || WEXITSTATUS(wstatus))
        return error_set(err, -EIO, "the lab's ISO can't be made");
    return 0;
}

static int write_grub(const struct lab_work *work, const struct lab_options *opt, struct error *err)
{
    char cmdline[2048];
    char text[2304];

    if (snprintf(cmdline, sizeof(cmdline), CMDLINE, IPS / 1000,
                 opt->npt_off ? " kvm_intel.ept=0" : "", opt->append ? " " : "",
                 opt->append ? opt->append : "") >= (int)sizeof(cmdline) ||
        strpbrk(cmdline, "\n'\"\\;{}"))
        return error_set(err, -EINVAL,
                         "--append: with --ept it takes no quotes, no ; and no { }, and is short");
    (void)snprintf(text, sizeof(text),
                   "set timeout=0\n"
                   "menuentry lab {\n"
                   "    linux /boot/vmlinuz-flat %s\n"
                   "    initrd /boot/initrd\n"
                   "}\n",
                   cmdline);
    return write_text(work->dir, "grub.cfg", text, err);
}

static int write_bochsrc(const struct lab_work *work, const struct lab_options *opt,
                         struct error *err)
{
    char template[PATH_MAX + 16];
    char memory[32];
    char ips[16];
    const char *const words[][2] = {
        { "BIOS", "/usr/share/bochs/BIOS-bochs-latest" },
        { "VGABIOS", "/usr/share/bochs/VGABIOS-lgpl-latest" },
        { "MEMORY", memory },
        { "IPS", ips },
        { NULL, NULL },
    };
    char *text;
    int rc;

    for (int i = 0; i < 2; i++) {
        if (access(words[i][1], R_OK))
            return error_set(err, -ENOENT,
                             "the EPT lab needs %s: install the Debian packages bochsbios and "
                             "vgabios",
                             words[i][1]);
    }
    (void)snprintf(memory, sizeof(memory), "%llu", (unsigned long long)(opt->mem >> 20));
    (void)snprintf(ips, sizeof(ips), "%u", IPS);
    (void)snprintf(template, sizeof(template), "%s/lab-bochsrc", work->appliance);
    text = lab_fill(template, words, false, err);
    if (!text)
        return -EINVAL;
    rc = write_text(work->dir, "bochsrc", text, err);
    free(text);
    return rc;
}

/* Bochs wants a terminal of a sane size for its screen, and its debugger a first command. */
static int spawn(struct lab_machine *m, const struct lab_work *work, const char *bochs,
                 struct error *err)
{
    struct winsize size = { .ws_row = 50, .ws_col = 100 };

    m->pid = forkpty(&m->display, NULL, NULL, &size);
    if (m->pid < 0) {
        m->pid = 0;
        m->display = -1;
        return error_set(err, -errno, "no terminal for Bochs: %s", strerror(errno));
    }
    if (m->pid == 0) {
        sigset_t none;

        sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        (void)setenv("TERM", "linux", 1);
        if (chdir(work->dir) == 0)
            (void)execl(bochs, bochs, "-q", "-f", "bochsrc", "-rc", "commands", NULL);
        _exit(127);
    }
    (void)fcntl(m->display, F_SETFL, O_NONBLOCK);
    (void)fcntl(m->display, F_SETFD, FD_CLOEXEC);
    return 0;
}

int lab_bochs_start(struct lab_machine *m, struct lab_work *work, const struct lab_options *opt,
                    struct error *err)
{
    char bochs[PATH_MAX];
    char path[128];
    int rc = lab_find_program("bochs", "bochs and bochs-term", bochs, err);

    m->link = m->console = m->display = m->screen = -1;
    m->files = true;
    m->pid = 0;
    if (rc == 0)
        rc = write_bochsrc(work, opt, err);
    if (rc == 0)
        rc = write_grub(work, opt, err);
    if (rc == 0)
        rc = make_iso(work, err);
    if (rc == 0)
        rc = write_text(work->dir, "commands", "c\n", err);
    if (rc == 0)
        rc = write_text(work->dir, "link", "", err);
    if (rc < 0)
        return rc;
    (void)snprintf(path, sizeof(path), "%s/link", work->dir);
    m->link = open(path, O_RDONLY | O_CLOEXEC);
    if (m->link < 0)
        return error_set(err, -errno, "'%s' can't be read: %s", path, strerror(errno));
    return spawn(m, work, bochs, err);
}

/* The number of the terminal behind a pty's master, file `fd` of the machine; -1: it is none. */
static int tty_index(const struct lab_machine *m, const char *fd)
{
    char path[64], line[64], target[32] = "";
    int index = -1;
    FILE *f;

    (void)snprintf(path, sizeof(path), "/proc/%d/fd/%.16s", (int)m->pid, fd);
    if (readlink(path, target, sizeof(target) - 1) < 0 || !strstr(target, "ptmx"))
        return -1;
    (void)snprintf(path, sizeof(path), "/proc/%d/fdinfo/%.16s", (int)m->pid, fd);
    f = fopen(path, "re");
    while (f && index < 0 && fgets(line, sizeof(line), f))
        (void)sscanf(line, "tty-index: %d", &index);
    if (f)
        (void)fclose(f);
    return index;
}

/*
 * With its debugger compiled in, Bochs shows the guest's screen on a pty that it makes, for a
 * person to look at. When that is full (a long run's worth of a blinking cursor), Bochs waits for
 * ever.
 */
void lab_bochs_find_screen(struct lab_machine *m)
{
    char path[64];
    struct dirent *entry;
    DIR *dir;

    if (m->screen >= 0 || m->pid <= 0)
        return;
    (void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)m->pid);
    dir = opendir(path);
    while (dir && m->screen < 0 && (entry = readdir(dir)) != NULL) {
        int index = entry->d_name[0] == '.' ? -1 : tty_index(m, entry->d_name);

        (void)snprintf(path, sizeof(path), "/dev/pts/%d", index);
        if (index >= 0)
            m->screen = open(path, O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    }
    if (dir)
        (void)closedir(dir);
}

void lab_bochs_stop(struct lab_machine *m)
{
    if (m->pid > 0) {
        (void)kill(m->pid, SIGKILL);
        (void)waitpid(m->pid, NULL, 0);
    }
    if (m->link >= 0)
        close(m->link);
    if (m->display >= 0)
        close(m->display);
    if (m->screen >= 0)
        close(m->screen);
    m->link = m->display = m->screen = -1;
    m->pid = 0;
}
