#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/client.h"
#include "tools/table.h"
#include "vmm/control.h"

/* One hung monitor must not hold up the whole list for long. */
#define PS_TIMEOUT_MS 1000

static const char help[] =
    "usage: twofold ps [--json]\n"
    "\n"
    "Lists the VMs of this user. States: created, running, paused; starting (no answer\n"
    "yet), stuck (its monitor does not answer), gone (its monitor was killed; what it\n"
    "left is removed, and the next list does not show it).\n"
    "\n"
    "  --json         an array of objects, as docs/control.md describes them\n"
    "  -h, --help     this text\n"
    "\n"
    "Exit status: 0, also when there is none; 1 could not be done; 2 wrong usage.\n";

static int is_socket(const struct dirent *entry)
{
    const char *dot = strrchr(entry->d_name, '.');

    return dot && dot != entry->d_name && !strcmp(dot, ".sock");
}

/* A monitor that was killed left its socket: take the name and leave it properly. */
static const char *clean_up(const char *name)
{
    int lock_fd;

    if (control_claim(name, &lock_fd, NULL))
        return "starting"; /* somebody holds the name, but does not listen yet */
    control_release(name, lock_fd);
    return "gone";
}

/* What `ps` says of one VM; NULL when it ended while we looked. */
static json_t *look_at(const char *name)
{
    struct client c;
    json_t *status = NULL;
    const char *state;
    int code = client_open(&c, name, PS_TIMEOUT_MS, NULL);

    if (!code)
        code = client_ask(&c, "status", NULL, &status, NULL);
    client_close(&c);
    switch (code) {
    case 0:
        return status;
    case -ENOENT:
    case -ECONNRESET:
        return NULL;
    case -ECONNREFUSED:
        state = clean_up(name);
        break;
    default:
        state = "stuck";
        break;
    }
    return json_pack("{s:s, s:s}", "name", name, "state", state);
}

int client_vms(json_t *list, struct error *err)
{
    struct dirent **entries = NULL;
    char dir[256];
    int code = control_dir(dir, sizeof(dir), err);
    int n;

    if (code)
        return code;
    n = scandir(dir, &entries, is_socket, alphasort);
    if (n < 0)
        return error_set(err, -errno, "ps: '%s' can't be read: %s", dir, strerror(errno));
    for (int i = 0; i < n; i++) {
        char *name = entries[i]->d_name;
        json_t *vm;

        *strrchr(name, '.') = 0;
        vm = control_name_check(name, NULL) ? NULL : look_at(name);
        if (vm)
            (void)json_array_append_new(list, vm);
        free(entries[i]);
    }
    free((void *)entries);
    return 0;
}

static const char *string_of(const json_t *vm, const char *key)
{
    const char *s = json_string_value(json_object_get(vm, key));

    return s ? s : "-";
}

static void print_table(const json_t *list)
{
    struct table *t = table_create("NAME >PID STATE >CPUS >MEM PAGING >UPTIME KERNEL");
    size_t i;
    json_t *vm;

    json_array_foreach(list, i, vm)
    {
        const json_t *pid = json_object_get(vm, "pid");
        char mem[32], up[32];

        table_cell(t, "%s", string_of(vm, "name"));
        if (!pid) {
            table_cell(t, "-");
            table_cell(t, "%s", string_of(vm, "state"));
            for (int column = 3; column < 8; column++)
                table_cell(t, "-");
            continue;
        }
        table_cell(t, "%" JSON_INTEGER_FORMAT, json_integer_value(pid));
        table_cell(t, "%s", string_of(vm, "state"));
        table_cell(t, "%" JSON_INTEGER_FORMAT, json_integer_value(json_object_get(vm, "cpus")));
        table_cell(t, "%s",
                   format_bytes((uint64_t)json_integer_value(json_object_get(vm, "mem_bytes")), mem,
                                sizeof(mem)));
        table_cell(t, "%s", string_of(vm, "paging"));
        table_cell(
            t, "%s",
            format_seconds(json_number_value(json_object_get(vm, "uptime_s")), up, sizeof(up)));
        table_cell(t, "%s", string_of(vm, "kernel"));
    }
    table_print(t, "", stdout);
}

static int run(const struct command *cmd, int argc, char **argv)
{
    struct client_options o = { 0 };
    struct error err;
    json_t *list;
    int status, code;

    if (!client_options(cmd, argc, argv, false, &o, &status))
        return status;
    list = json_array();
    code = client_vms(list, &err);
    if (code)
        status = command_fail(STATUS_FAILED, "%s", err.text);
    else if (o.json)
        client_print_json(list);
    else
        print_table(list);
    json_decref(list);
    return status;
}

const struct command command_ps = {
    .name = "ps",
    .summary = "list the VMs that run",
    .help = help,
    .run = run,
};
