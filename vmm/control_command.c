#include "vmm/control_command.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/console.h"
#include "vmm/control.h"
#include "vmm/control_impl.h"
#include "vmm/control_iommu.h"
#include "vmm/control_migrate.h"
#include "vmm/control_pages.h"
#include "vmm/control_walk.h"
#include "vmm/control_track.h"

struct command {
    const char *name;
    const char *const *arguments; /* the names that it knows, NULL at the end */
    control_perform perform;
};

static int perform_status(struct vm *vm, const json_t *arguments, struct control_outcome *out)
{
    (void)arguments;
    out->result = control_status(vm);
    return 0;
}

static int perform_stat(struct vm *vm, const json_t *arguments, struct control_outcome *out)
{
    (void)arguments;
    out->result = control_stat(vm);
    return 0;
}

static int perform_pause(struct vm *vm, const json_t *arguments, struct control_outcome *out)
{
    int code = vm_pause(vm);

    (void)arguments;
    if (code)
        return error_set(&out->err, code, "the VM can't be paused: %s",
                         code == -EBUSY ? "a vCPU waits in a device, as for a stalled reader of "
                                          "its output; try again when that reads"
                                        : "it has ended");
    out->result = control_status(vm);
    return 0;
}

static int perform_resume(struct vm *vm, const json_t *arguments, struct control_outcome *out)
{
    int code = vm_resume(vm);

    (void)arguments;
    if (code)
        return error_set(&out->err, code, "the VM can't be resumed: it has ended");
    out->result = control_status(vm);
    return 0;
}

static int perform_stop(struct vm *vm, const json_t *arguments, struct control_outcome *out)
{
    (void)arguments;
    out->result = control_status(vm);
    vm_end(vm, VM_END_STOPPED, 0, "twofold stop");
    return 0;
}

static int perform_console(struct vm *vm, const json_t *arguments, struct control_outcome *out)
{
    (void)arguments;
    if (!console_has_room(vm_console(vm)))
        return error_set(&out->err, -EBUSY, "the console has as many clients as it takes");
    out->result = control_status(vm);
    out->next = CONTROL_NEXT_CONSOLE;
    return 0;
}

static int perform_version(struct vm *vm, const json_t *arguments, struct control_outcome *out);

static const char *const no_arguments[] = { NULL };
static const char *const guard_arguments[] = { "base", "size", "mode", NULL };

static const char *const track_arguments[] = { "what", "base", "size", "clear", "cells", NULL };

static const char *const migrate_arguments[] = { "base", "size", "whole", "hold", NULL };
static const char *const move_arguments[] = { "gpa", "size", NULL };

static const char *const walk_arguments[] = { "gva", "cpu", "pid", "cr3", "access", "user", NULL };
static const char *const iommu_arguments[] = { "mappings", NULL };
static const char *const map_arguments[] = {
    "of", "first", "last", "ad", "cpu", "pid", "cr3", NULL
};

static const struct command commands[] = {
    { "version", no_arguments, perform_version },
    { "status", no_arguments, perform_status },
    { "stat", no_arguments, perform_stat },
    { "pause", no_arguments, perform_pause },
    { "resume", no_arguments, perform_resume },
    { "stop", no_arguments, perform_stop },
    { "console", no_arguments, perform_console },
    { "guard", guard_arguments, control_guard },
    { "walk", walk_arguments, control_walk },
    { "map", map_arguments, control_map },
    { "track", track_arguments, control_track },
    { "iommu", iommu_arguments, control_iommu },
    { "migrate-pages", migrate_arguments, control_migrate_pages },
    { "move-page", move_arguments, control_move_page },
};
#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

static int perform_version(struct vm *vm, const json_t *arguments, struct control_outcome *out)
{
    json_t *names = json_array();

    (void)vm;
    (void)arguments;
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        (void)json_array_append_new(names, json_string(commands[i].name));
    out->result = json_pack("{s:s, s:i, s:o}", "version", TWOFOLD_VERSION, "protocol",
                            CONTROL_PROTOCOL, "commands", names);
    return 0;
}

static bool known(const char *name, const char *const *list)
{
    while (*list && strcmp(*list, name) != 0)
        list++;
    return *list != NULL;
}

static int check_arguments(const struct command *cmd, json_t *arguments, struct error *err)
{
    const char *key;
    json_t *value;

    json_object_foreach(arguments, key, value)
    {
        if (!known(key, cmd->arguments))
            return error_set(err, -EINVAL, "'%s' takes no argument '%.40s'", cmd->name, key);
    }
    return 0;
}

/* Everything about the request that can be wrong without looking at the VM. */
static int decode(json_t *request, const struct command **cmd, json_t **arguments,
                  struct error *err)
{
    static const char *const keys[] = { "command", "arguments", "id", NULL };
    const char *name, *key;
    json_t *value;

    if (!json_is_object(request))
        return error_set(err, -EINVAL, "a request is a JSON object");
    json_object_foreach(request, key, value)
    {
        if (!known(key, keys))
            return error_set(err, -EINVAL, "a request has no field '%.40s'", key);
    }
    name = json_string_value(json_object_get(request, "command"));
    if (!name)
        return error_set(err, -EINVAL, "a request names its \"command\", a string");
    *arguments = json_object_get(request, "arguments");
    if (*arguments && !json_is_object(*arguments))
        return error_set(err, -EINVAL, "\"arguments\" is an object");
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (!strcmp(commands[i].name, name)) {
            *cmd = &commands[i];
            return check_arguments(*cmd, *arguments, err);
        }
    }
    return error_set(err, -ENOTSUP, "there is no command '%.40s'; 'version' lists them", name);
}

static char *dump(json_t *reply, json_t *id)
{
    char *line;

    if (id)
        (void)json_object_set(reply, "id", id);
    line = json_dumps(reply, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(reply);
    return line;
}

json_t *control_text(const char *s)
{
    json_t *text = json_string(s);
    char *copy = text ? NULL : strdup(s);

    if (!copy)
        return text;
    for (char *c = copy; *c; c++)
        *c = (signed char)*c < 0 ? '?' : *c;
    text = json_string(copy);
    free(copy);
    return text;
}

static char *refuse(json_t *id, const char *code, const char *text)
{
    return dump(json_pack("{s:b, s:{s:s, s:o}}", "ok", 0, "error", "code", code, "text",
                          control_text(text)),
                id);
}

char *control_refusal(const char *code, const char *text)
{
    return refuse(NULL, code, text);
}

static const char *errno_name(int code)
{
    const char *name = strerrorname_np(-code);

    return name ? name : "EIO";
}

char *control_answer(struct vm *vm, const char *line, size_t len, enum control_next *next)
{
    struct control_outcome out = { .result = NULL, .next = CONTROL_NEXT_REQUEST };
    const struct command *cmd = NULL;
    json_error_t bad;
    json_t *request = json_loadb(line, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &bad);
    json_t *arguments = NULL;
    json_t *id = json_object_get(request, "id");
    char *reply;
    int code;

    *next = CONTROL_NEXT_REQUEST;
    if (!request)
        return control_refusal("EINVAL", bad.text);
    code = decode(request, &cmd, &arguments, &out.err);
    if (!code && cmd)
        code = cmd->perform(vm, arguments, &out);
    if (!code && !out.result)
        code = error_set(&out.err, -ENOMEM, "out of memory");
    if (code) {
        reply = refuse(id, errno_name(code), out.err.text);
    } else {
        *next = out.next;
        reply = dump(json_pack("{s:b, s:o}", "ok", 1, "result", out.result), id);
    }
    json_decref(request);
    return reply;
}
