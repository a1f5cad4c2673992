#include "tools/command.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/appliance.h"
#include "vmm/error.h"
#include "vmm/terminal.h"

/* The order is the one that --help shows; one line each. */
/* clang-format off */
static const struct command *const commands[] = {
    &command_run,
    &command_ps,
    &command_stat,
    &command_top,
    &command_pause,
    &command_resume,
    &command_stop,
    &command_walk,
    &command_map,
    &command_iommu,
    &command_guard,
    &command_migrate,
    &command_console,
    &command_devices,
    &command_isolate,
    &command_info,
    &command_measure,
    &command_compare,
    &command_lab,
    &command_version,
};
/* clang-format on */
#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

int command_fail(int status, const char *fmt, ...)
{
    char line[640];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    terminal_message("%s", line);
    return status;
}

int command_bad_option(const struct command *cmd, char **argv, int opt)
{
    const char *arg = argv[optind - 1];
    const char *what = "is no option of it";
    char letter[3] = { '-', (char)optopt, '\0' };

    if (opt == ':')
        what = "needs a value";
    else if (optopt == 'h' || optopt > UCHAR_MAX) /* one that exists, given as --NAME=VALUE */
        what = "takes no value";
    else if (optopt) /* of -m64, say, which optind has not passed yet */
        arg = letter;
    return command_fail(STATUS_USAGE, "%s: %s %s; see 'twofold %s --help'", cmd->name, arg, what,
                        cmd->name);
}

int command_status(int code)
{
    return error_is_usage(code) ? STATUS_USAGE : STATUS_FAILED;
}

int command_help(const struct command *cmd)
{
    (void)fputs(cmd->help, stdout);
    return STATUS_OK;
}

static int run_version(const struct command *cmd, int argc, char **argv)
{
    if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")))
        return command_help(cmd);
    if (argc > 1)
        return command_fail(STATUS_USAGE, "version: '%s' is not understood; it takes nothing",
                            argv[1]);
    (void)printf("twofold " TWOFOLD_VERSION "\n");
    return STATUS_OK;
}

const struct command command_version = {
    .name = "version",
    .summary = "print the version",
    .help = "usage: twofold version\n\nPrints the version of twofold.\n",
    .run = run_version,
};

static const struct command *find(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (!strcmp(commands[i]->name, name))
            return commands[i];
    }
    return NULL;
}

static void usage(FILE *f)
{
    (void)fputs(
        "usage: twofold COMMAND [OPTIONS...]\n"
        "\n"
        "Runs virtual machines on KVM and shows both dimensions of their address translation.\n"
        "\n",
        f);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        (void)fprintf(f, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
    (void)fputs("\n'twofold COMMAND --help' says more of each.\n", f);
}

static int help(int argc, char **argv)
{
    const struct command *cmd;

    if (argc < 2) {
        usage(stdout);
        return STATUS_OK;
    }
    cmd = find(argv[1]);
    if (!cmd)
        return command_fail(STATUS_USAGE, "help: '%s' is no command; see 'twofold --help'",
                            argv[1]);
    return command_help(cmd);
}

/* So that no file we open becomes stdin, stdout or stderr by accident. */
static bool fill_standard_fds(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd > STDERR_FILENO)
        close(fd);
    return fd >= 0;
}

static int dispatch(int argc, char **argv)
{
    const struct command *cmd;

    if (argc < 2) {
        usage(stderr);
        return STATUS_USAGE;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help"))
        return help(argc - 1, argv + 1);
    if (!strcmp(argv[1], "--version"))
        return run_version(&command_version, 1, argv);
    cmd = find(argv[1]);
    if (!cmd)
        return command_fail(STATUS_USAGE, "'%s' is no command; see 'twofold --help'", argv[1]);
    return cmd->run(cmd, argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
    int status;

    if (appliance_is_init(argv[0]))
        appliance_init();
    if (!fill_standard_fds())
        return STATUS_FAILED;
    /* A reader that is gone is an error of write(), not a death. */
    (void)signal(SIGPIPE, SIG_IGN);
    /* Ignored by who started us, and inherited: children would be gone before they are waited for.
     */
    (void)signal(SIGCHLD, SIG_DFL);
    opterr = 0;
    status = dispatch(argc, argv);
    if ((fflush(stdout) || ferror(stdout)) && status == STATUS_OK) {
        if (errno != EPIPE)
            (void)fprintf(stderr, "twofold: stdout can't be written: %s\n", strerror(errno));
        status = STATUS_FAILED;
    }
    return status;
}
