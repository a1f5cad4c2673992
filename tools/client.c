#include "tools/client.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tools/parse.h"
#include "vmm/control.h"

/* A monitor that sends more than this in one reply is none of ours. */
#define REPLY_MAX (16u << 20)

int client_open(struct client *c, const char *name, int timeout_ms, struct error *err)
{
    *c = (struct client){ .fd = -1, .name = name };
    return control_connect(name, timeout_ms, &c->fd, err);
}

void client_close(struct client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    free(c->buf);
    *c = (struct client){ .fd = -1 };
}

static int lost(const struct client *c, int code, struct error *err)
{
    if (code == -EAGAIN)
        return error_set(err, code, "VM '%s' does not answer", c->name);
    return error_set(err, -ECONNRESET, "VM '%s' ended before it answered", c->name);
}

static int send_all(const struct client *c, const char *text, size_t len, struct error *err)
{
    while (len) {
        ssize_t n = send(c->fd, text, len, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return lost(c, -errno, err);
        text += n;
        len -= (size_t)n;
    }
    return 0;
}

static int receive_more(struct client *c, struct error *err)
{
    ssize_t n;

    if (c->len == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 4096;
        char *grown;

        if (cap > REPLY_MAX)
            return error_set(err, -EPROTO, "VM '%s' sent a reply without an end", c->name);
        grown = realloc(c->buf, cap);
        if (!grown)
            return error_set(err, -ENOMEM, "out of memory for the reply of VM '%s'", c->name);
        c->buf = grown;
        c->cap = cap;
    }
    do
        n = recv(c->fd, c->buf + c->len, c->cap - c->len, 0);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return lost(c, n ? -errno : -ECONNRESET, err);
    c->len += (size_t)n;
    return 0;
}

/* Takes one line off the connection and parses it. */
static int receive_reply(struct client *c, json_t **reply, struct error *err)
{
    size_t seen = 0;
    char *end;

    while (!c->len || !(end = memchr(c->buf + seen, '\n', c->len - seen))) {
        int code;

        seen = c->len;
        code = receive_more(c, err);
        if (code)
            return code;
    }
    *reply = json_loadb(c->buf, (size_t)(end - c->buf), JSON_REJECT_DUPLICATES, NULL);
    c->len -= (size_t)(end + 1 - c->buf);
    memmove(c->buf, end + 1, c->len);
    if (!*reply)
        return error_set(err, -EPROTO, "VM '%s' sent what is not JSON; is it an older twofold?",
                         c->name);
    return 0;
}

/* Sends a request as one line; takes the reference of `arguments`. */
static int send_request(struct client *c, const char *command, json_t *arguments, struct error *err)
{
    json_t *request = arguments
                          ? json_pack("{s:s, s:o}", "command", command, "arguments", arguments)
                          : json_pack("{s:s}", "command", command);
    char *line = request ? json_dumps(request, JSON_COMPACT) : NULL;
    int code = line ? send_all(c, line, strlen(line), err)
                    : error_set(err, -ENOMEM, "out of memory for a request");

    if (!code)
        code = send_all(c, "\n", 1, err);
    free(line);
    json_decref(request);
    return code;
}

/* The error of a refusal: of those that the asker caused, the status is another. */
static int refused(const struct client *c, const json_t *reply, struct error *err)
{
    const json_t *error = json_object_get(reply, "error");
    const char *text = json_string_value(json_object_get(error, "text"));
    const char *name = json_string_value(json_object_get(error, "code"));

    return error_set(err, name && !strcmp(name, "EINVAL") ? -EINVAL : -EREMOTEIO, "VM '%s': %s",
                     c->name, text ? text : "refused");
}

int client_ask(struct client *c, const char *command, json_t *arguments, json_t **result,
               struct error *err)
{
    json_t *reply = NULL;
    int code = send_request(c, command, arguments, err);

    if (!code)
        code = receive_reply(c, &reply, err);
    if (code)
        return code;
    if (json_is_true(json_object_get(reply, "ok")))
        *result = json_incref(json_object_get(reply, "result"));
    else
        code = refused(c, reply, err);
    json_decref(reply);
    return code;
}

int client_once(const char *name, const char *command, json_t *arguments, json_t **result,
                struct error *err)
{
    struct client c;
    int code = client_open(&c, name, CLIENT_TIMEOUT_MS, err);

    if (!code)
        code = client_ask(&c, command, arguments, result, err);
    else
        json_decref(arguments);
    client_close(&c);
    return code;
}

pid_t client_monitor_pid(const struct client *c)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);

    return getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) ? 0 : cred.pid;
}

void client_print_json(const json_t *value)
{
    (void)json_dumpf(value, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    (void)putchar('\n');
}

/* Above the letters, as command_bad_option() wants it. */
enum {
    OPT_JSON = 256,
    OPT_FORCE,
    OPT_TIMEOUT,
};

bool client_options(const struct command *cmd, int argc, char **argv, bool wants_name,
                    struct client_options *o, int *status)
{
    static const struct option all[] = {
        { "json", no_argument, NULL, OPT_JSON },
        { "help", no_argument, NULL, 'h' },
        { "force", no_argument, NULL, OPT_FORCE },
        { "timeout", required_argument, NULL, OPT_TIMEOUT },
        { NULL, 0, NULL, 0 },
    };
    static const struct option common[] = {
        { "json", no_argument, NULL, OPT_JSON },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    const struct option *options = strcmp(cmd->name, "stop") ? common : all;
    struct error err;
    int opt;

    optind = 0;
    *status = STATUS_OK;
    while ((opt = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        if (opt == OPT_JSON) {
            o->json = true;
        } else if (opt == OPT_FORCE) {
            o->force = true;
        } else if (opt == 'h') {
            *status = command_help(cmd);
            return false;
        } else if (opt != OPT_TIMEOUT) {
            *status = command_bad_option(cmd, argv, opt);
            return false;
        } else if (parse_seconds("--timeout", optarg, &o->timeout_s, &err)) {
            *status = command_fail(STATUS_USAGE, "%s", err.text);
            return false;
        }
    }
    if (argc - optind != (wants_name ? 1 : 0)) {
        *status = command_fail(
            STATUS_USAGE, wants_name ? "%s: name one VM; see 'twofold ps'" : "%s: takes no name",
            cmd->name);
        return false;
    }
    o->name = argv[optind];
    if (wants_name && control_name_check(o->name, &err)) {
        *status = command_fail(STATUS_USAGE, "%s", err.text);
        return false;
    }
    return true;
}

bool client_parse(const struct command *cmd, int argc, char **argv, const struct option *options,
                  int (*set)(void *ctx, int opt, const char *value, struct error *err), void *ctx,
                  int names, const char *usage, int *status)
{
    struct error err;
    int opt;

    optind = 0;
    while ((opt = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        if (opt == 'h') {
            *status = command_help(cmd);
            return false;
        }
        if (opt == '?' || opt == ':') {
            *status = command_bad_option(cmd, argv, opt);
            return false;
        }
        if (set(ctx, opt, optarg, &err) < 0) {
            *status = command_fail(STATUS_USAGE, "%s", err.text);
            return false;
        }
    }
    if (argc - optind == names)
        return true;
    *status = command_fail(STATUS_USAGE, "%s", usage);
    return false;
}
