/*
 * The commands of `twofold`. Each has a file tools/cmd_NAME.c and one line in
 * the table of main.c.
 */
#ifndef TWOFOLD_TOOLS_COMMAND_H
#define TWOFOLD_TOOLS_COMMAND_H

#include "vmm/error.h"

/* Exit statuses (docs/running.md). */
enum {
    STATUS_OK = 0,
    STATUS_FAILED = 1, /* it was right, but could not be done */
    STATUS_USAGE = 2,  /* the command line, or a file that it names, is wrong */
    STATUS_TIMEOUT = 124,
    STATUS_CRASHED = 127,
    STATUS_ENDED = 143,
};

struct command {
    const char *name;
    const char *summary; /* one line, for the list of commands */
    const char *help;    /* all of --help */

    /* argv[0] is the command's name. Returns the exit status. */
    int (*run)(const struct command *cmd, int argc, char **argv);
};

extern const struct command command_run;
extern const struct command command_ps;
extern const struct command command_stat;
extern const struct command command_top;
extern const struct command command_pause;
extern const struct command command_resume;
extern const struct command command_stop;
extern const struct command command_walk;
extern const struct command command_map;
extern const struct command command_iommu;
extern const struct command command_guard;
extern const struct command command_migrate;
extern const struct command command_console;
extern const struct command command_devices;
extern const struct command command_isolate;
extern const struct command command_info;
extern const struct command command_measure;
extern const struct command command_compare;
extern const struct command command_lab;
extern const struct command command_version;

/* Prints one line, "twofold: ...", on stderr and returns `status`. */
int command_fail(int status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/*
 * The exit status for an error: STATUS_USAGE when `code` says that what was
 * asked is wrong (-EINVAL, -ENOENT, -ENOEXEC, -E2BIG, -ERANGE...), else
 * STATUS_FAILED.
 */
int command_status(int code);

/* Prints the command's help on stdout. Returns STATUS_OK. */
int command_help(const struct command *cmd);

/*
 * For getopt_long's '?' and ':': names the option of argv that is wrong. The table's values, but
 * for --help's 'h', are above UCHAR_MAX, which tells them from letters.
 */
int command_bad_option(const struct command *cmd, char **argv, int opt);

#endif
