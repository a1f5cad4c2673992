#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "tools/appliance.h"
#include "tools/appliance_agent.h"

#define CONSOLES_MAX 4

/* What init is asked by signals; the numbers are those that busybox's poweroff, halt... send. */
static const int requests[] = { SIGUSR1, SIGUSR2, SIGTERM, SIGINT };

bool appliance_is_init(const char *argv0)
{
    const char *slash = argv0 ? strrchr(argv0, '/') : NULL;

    return argv0 && getpid() == 1 && !strcmp(slash ? slash + 1 : argv0, "init");
}

static bool kernel_option(const char *name, char *value, size_t size)
{
    char cmdline[4096];
    int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, cmdline, sizeof(cmdline) - 1);

    if (fd >= 0)
        close(fd);
    if (n < 0)
        return false;
    cmdline[n] = 0;
    return appliance_option(cmdline, name, value, size);
}

/* Waits for a child's end (returns SIGCHLD) or a request (returns its signal). */
static int next_event(const sigset_t *set, pid_t *pid, int *status)
{
    for (;;) {
        int wstatus;
        int sig;

        *pid = waitpid(-1, &wstatus, WNOHANG);
        if (*pid > 0) {
            *status = appliance_status(wstatus);
            return SIGCHLD;
        }
        sig = sigwaitinfo(set, NULL);
        if (sig > 0 && sig != SIGCHLD)
            return sig;
    }
}

/* The terminals behind /dev/console, as the kernel lists them; tty0 is the first screen. */
static int consoles(char names[CONSOLES_MAX][32])
{
    char line[128] = "console";
    int fd = open("/sys/class/tty/console/active", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, line, sizeof(line) - 1);
    char *state = NULL;
    int count = 0;

    if (fd >= 0)
        close(fd);
    if (n > 0)
        line[n] = 0;
    for (const char *name = strtok_r(line, " \n", &state); name && count < CONSOLES_MAX;
         name = strtok_r(NULL, " \n", &state)) {
        if (!strcmp(name, "tty0"))
            name = "tty1";
        (void)snprintf(names[count++], sizeof(names[0]), "/dev/%.20s", name);
    }
    return count;
}

/*
 * Leads a session on `tty` in which argv runs; returns its status. The leader's end hangs
 * the terminal up, which discards what it has not sent: it waits for that first.
 */
static int lead(const char *tty, const char *const argv[])
{
    static const int from_terminal[] = { SIGINT, SIGQUIT, SIGTSTP, SIGTTOU, SIGHUP };
    const size_t count = sizeof(from_terminal) / sizeof(from_terminal[0]);
    int wstatus = 0, status = appliance_session(tty);
    pid_t child;

    if (status)
        return status;
    for (size_t i = 0; i < count; i++)
        (void)signal(from_terminal[i], SIG_IGN);
    child = fork();
    if (child < 0)
        return 126;
    if (child == 0) {
        for (size_t i = 0; i < count; i++)
            (void)signal(from_terminal[i], SIG_DFL);
        _exit(appliance_exec(argv));
    }
    while (waitpid(child, &wstatus, 0) < 0 && errno == EINTR)
        ;
    (void)tcdrain(STDOUT_FILENO);
    return appliance_status(wstatus);
}

static pid_t start(const char *tty, const char *const argv[])
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(lead(tty, argv));
    return pid;
}

/* A shell on each console, until one of them is left or somebody asks for the end. */
static int run_shells(const sigset_t *set, int *status)
{
    const char *const shell[] = { "sh", NULL };
    char names[CONSOLES_MAX][32];
    pid_t pids[CONSOLES_MAX];
    int count = consoles(names);

    for (int i = 0; i < count; i++) {
        int fd = open(names[i], O_WRONLY | O_NOCTTY | O_CLOEXEC);

        if (fd >= 0) {
            appliance_welcome(fd);
            close(fd);
        }
        pids[i] = start(names[i], shell);
    }
    for (;;) {
        pid_t pid;
        int sig = next_event(set, &pid, status);

        if (sig != SIGCHLD)
            return sig;
        for (int i = 0; i < count; i++) {
            if (pids[i] != pid)
                continue;
            if (*status < 126)
                return 0;
            pids[i] = start(names[i], shell); /* it was killed, nobody left it */
        }
    }
}

/* `twofold.run` of the kernel command line, on the first console. */
static int run_script(const sigset_t *set, const char *script, int *status)
{
    const char *const argv[] = { "sh", "-c", script, NULL };
    pid_t child = start("/dev/console", argv);

    for (;;) {
        pid_t pid;
        int sig = next_event(set, &pid, status);

        if (sig != SIGCHLD)
            return sig;
        if (pid == child)
            return 0;
    }
}

_Noreturn static void end(int request)
{
    (void)kill(-1, SIGKILL);
    sync();
    (void)reboot(request == SIGTERM || request == SIGINT ? RB_AUTOBOOT : RB_POWER_OFF);
    /* No way to power off, as on some machines: stay, for a panic would hide what was said. */
    for (;;)
        pause();
}

_Noreturn void appliance_init(void)
{
    char script[2048];
    char serial[16];
    char hold[8];
    struct agent *agent = NULL;
    struct error err;
    int status = 0;
    int request = 0;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
        sigaddset(&set, requests[i]);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)reboot(RB_DISABLE_CAD); /* Ctrl-Alt-Del is a SIGINT for us */
    appliance_setup();
    if (!kernel_option("twofold.hold", hold, sizeof(hold)) || strcmp(hold, "off") != 0)
        appliance_hold_keys();

    bool have_serial = kernel_option("twofold.link", serial, sizeof(serial));

    if (agent_open(&agent, have_serial ? serial : NULL, &err) < 0)
        (void)fprintf(stderr, "init: %s\n", err.text);
    if (agent && agent_has_command(agent)) {
        int signals = signalfd(-1, &set, SFD_CLOEXEC);

        status = signals < 0 ? 1 : agent_run(agent, signals);
    } else if (kernel_option("twofold.run", script, sizeof(script))) {
        request = run_script(&set, script, &status);
        (void)printf("twofold: exit status %d\n", status);
        (void)fflush(stdout);
    } else {
        request = run_shells(&set, &status);
    }
    if (agent)
        agent_finish(agent, request ? 0 : status);
    end(request);
}
