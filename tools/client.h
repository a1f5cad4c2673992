/*
 * The other end of the control socket (docs/control.md), and what the commands
 * that use it share.
 */
#ifndef TWOFOLD_TOOLS_CLIENT_H
#define TWOFOLD_TOOLS_CLIENT_H

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <jansson.h>

#include "tools/command.h"
#include "vmm/error.h"

/* How long a monitor may take for an answer before it counts as hung. */
#define CLIENT_TIMEOUT_MS 5000

/* Zeroed with fd -1 is closed. */
struct client {
    int fd;
    const char *name; /* the caller's */
    char *buf;        /* bytes that came after the last reply */
    size_t len, cap;
};

/* Connects to VM `name`; errors as control_connect(). Close with client_close(). */
int client_open(struct client *c, const char *name, int timeout_ms, struct error *err);
void client_close(struct client *c);

/*
 * Sends one command with `arguments` (whose reference it takes; NULL: none) and waits for its
 * reply. On success *result is a new reference to the reply's "result". An error that the monitor
 * replied is -EINVAL (the request was wrong) or -EREMOTEIO with its text, -EAGAIN means no answer
 * in time.
 */
int client_ask(struct client *c, const char *command, json_t *arguments, json_t **result,
               struct error *err);

/* The monitor's process id as the kernel knows it; 0 when it can't be told. */
pid_t client_monitor_pid(const struct client *c);

/* The options that all of these commands take. */
struct client_options {
    const char *name;
    bool json;
    bool force;       /* stop only */
    double timeout_s; /* stop only */
};

/*
 * Parses "[--json] NAME", and --force and --timeout for `stop`. Returns true
 * when the command goes on, else *status is what to exit with.
 */
bool client_options(const struct command *cmd, int argc, char **argv, bool wants_name,
                    struct client_options *o, int *status);

/*
 * Reads the options: set() gets each one but -h, with the caller's `ctx`, and says what is
 * wrong with it. `names` words have to be left, from argv[optind] on; else `usage` is what a person
 * is told. True when the command goes on, else *status is what to exit with.
 */
bool client_parse(const struct command *cmd, int argc, char **argv, const struct option *options,
                  int (*set)(void *ctx, int opt, const char *value, struct error *err), void *ctx,
                  int names, const char *usage, int *status);

/* Opens, asks, closes: for a command of one question. Takes the reference of `arguments`. */
int client_once(const char *name, const char *command, json_t *arguments, json_t **result,
                struct error *err);

/* Adds what `ps` says of each VM of this user to `list`. 0 or -errno. */
int client_vms(json_t *list, struct error *err);

/* Prints JSON for programs: indented, sorted as the monitor sent it, one newline. */
void client_print_json(const json_t *value);

#endif
