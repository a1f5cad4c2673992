#include "vmm/terminal.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

static const int fatal_signals[] = {
    SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV,
};
#define FATAL_COUNT (sizeof(fatal_signals) / sizeof(fatal_signals[0]))

static struct termios saved;
static volatile sig_atomic_t raw_fd = -1;
static struct sigaction old_actions[FATAL_COUNT];

/* SA_RESETHAND made the default action current again: raise() dies of it. */
static void on_fatal_signal(int sig)
{
    if (raw_fd >= 0)
        (void)tcsetattr(raw_fd, TCSANOW, &saved);
    (void)raise(sig);
}

/* Takes over signals that would kill; one that somebody handles or ignores stays theirs. */
static void guard_signals(void)
{
    struct sigaction sa = { .sa_handler = on_fatal_signal, .sa_flags = (int)SA_RESETHAND };

    sigemptyset(&sa.sa_mask);
    for (size_t i = 0; i < FATAL_COUNT; i++) {
        if (sigaction(fatal_signals[i], NULL, &old_actions[i]) == 0 &&
            old_actions[i].sa_handler == SIG_DFL)
            (void)sigaction(fatal_signals[i], &sa, NULL);
    }
}

static void unguard_signals(void)
{
    for (size_t i = 0; i < FATAL_COUNT; i++) {
        if (old_actions[i].sa_handler == SIG_DFL)
            (void)sigaction(fatal_signals[i], &old_actions[i], NULL);
    }
}

int terminal_raw(int fd)
{
    struct termios raw;

    if (raw_fd >= 0)
        return -EBUSY;
    if (tcgetattr(fd, &saved))
        return -errno;
    raw = saved;
    raw.c_iflag &= ~(tcflag_t)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    raw.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    raw_fd = fd;
    guard_signals();
    if (tcsetattr(fd, TCSANOW, &raw)) {
        int code = -errno;

        raw_fd = -1;
        unguard_signals();
        return code;
    }
    return 0;
}

void terminal_restore(void)
{
    if (raw_fd < 0)
        return;
    (void)tcsetattr(raw_fd, TCSADRAIN, &saved);
    raw_fd = -1;
    unguard_signals();
}

void terminal_message(const char *fmt, ...)
{
    char line[640];
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    if (n < 0)
        return;
    for (char *c = line; *c; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '?';
    }
    (void)fprintf(stderr, "twofold: %s\n", line);
}

void terminal_help(const char *leave)
{
    (void)fprintf(stderr,
                  "\ntwofold: keys after Ctrl-A:\n"
                  "  x       %s\n"
                  "  h       this list\n"
                  "  Ctrl-A  send Ctrl-A itself\n",
                  leave);
}
