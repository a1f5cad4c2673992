#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "tools/bind.h"
#include "tools/client.h"
#include "tools/command.h"
#include "tools/host_device.h"
#include "tools/host_names.h"

static const char help[] =
    "usage: twofold devices [--json]\n"
    "       twofold devices --restore [BDF...]\n"
    "\n"
    "Lists the PCI devices of this machine: driver, IOMMU group, whether the device is\n"
    "isolated from others, why not, and what to do to give it to a VM.\n"
    "\n"
    "  --json         an array of objects\n"
    "  --restore      gives devices back to the drivers that a killed 'run' or 'isolate'\n"
    "                 took them from; all of them, or those named (00:04.0 is short for\n"
    "                 0000:00:04.0)\n"
    "  -h, --help     this text\n"
    "\n"
    "Exit status: 0, also when there is no device; 1 could not be done; 2 wrong usage.\n";

enum { OPT_JSON = 256, OPT_RESTORE };

static const struct option options[] = {
    { "json", no_argument, NULL, OPT_JSON },
    { "restore", no_argument, NULL, OPT_RESTORE },
    { "help", no_argument, NULL, 'h' },
    { NULL, 0, NULL, 0 },
};

/* --- listing ------------------------------------------------------------------------- */

static json_t *string_or_null(const char *text)
{
    return text[0] ? json_string(text) : json_null();
}

static json_t *describe(const struct host_device *d, const struct host_verdict *v, const char *name)
{
    char id[16], class_code[16];

    (void)snprintf(id, sizeof(id), "%04x:%04x", d->vendor, d->device);
    (void)snprintf(class_code, sizeof(class_code), "%06x", d->class_code);
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:o, s:o, s:b, s:b, s:b, s:o, s:o, s:s, s:s}", "bdf", d->bdf, "id",
        id, "class", class_code, "name", name, "driver", string_or_null(d->driver), "group",
        d->group < 0 ? json_null() : json_integer(d->group), "bridge", d->bridge, "isolated",
        v->isolated, "usable", v->usable, "reset", string_or_null(d->reset), "use",
        string_or_null(d->use), "why", v->why, "advice", v->advice);
}

static void print_device(const struct host_device *d, const struct host_verdict *v,
                         const char *name)
{
    char group[24] = "no IOMMU group";

    if (d->group >= 0)
        (void)snprintf(group, sizeof(group), "group %d", d->group);
    printf("%s  %s [%04x:%04x]\n", d->bdf, name, d->vendor, d->device);
    if (d->driver[0])
        printf("    driver %s, %s", d->driver, group);
    else
        printf("    no driver, %s", group);
    if (d->bridge)
        printf("; %s\n", v->why);
    else
        printf("; %s: %s\n", v->isolated ? "isolated" : "not isolated", v->why);
    if (d->use[0])
        printf("    in use: it %s\n", d->use);
    if (v->advice[0] && d->group >= 0)
        printf("    -> %s\n", v->advice);
}

/* What concerns all of them is said once. */
static void print_end(const struct host *h, const struct host_device *list, size_t n)
{
    struct host_verdict v;

    if (n == 0)
        printf("this machine shows no PCI devices\n");
    for (size_t i = 0; i < n; i++) {
        if (list[i].bridge || list[i].group >= 0)
            continue;
        host_device_judge(h, list, n, &list[i], &v);
        printf("-> %s\n", v.advice);
        return;
    }
}

static int list_devices(const struct host *h, bool json)
{
    struct host_names *names = host_names_open();
    struct host_device *list;
    json_t *array = json_array();
    struct error err;
    size_t n;
    int rc = host_devices(h, &list, &n, &err);

    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct host_verdict v;
        char name[260];

        host_device_judge(h, list, n, &list[i], &v);
        (void)host_name(names, list[i].vendor, list[i].device, list[i].class_code, name,
                        sizeof(name));
        if (json)
            (void)json_array_append_new(array, describe(&list[i], &v, name));
        else
            print_device(&list[i], &v, name);
    }
    if (rc == 0 && json)
        client_print_json(array);
    else if (rc == 0)
        print_end(h, list, n);
    json_decref(array);
    host_names_close(names);
    free(list);
    return rc ? command_fail(STATUS_FAILED, "devices: %s", err.text) : STATUS_OK;
}

/* --- giving back ----------------------------------------------------------------------- */

struct restoring {
    int status;
    unsigned records;
};

static void on_record(void *ctx, enum bind_restored what, const struct binding *b,
                      const struct error *why)
{
    struct restoring *r = ctx;

    r->records++;
    switch (what) {
    case BIND_RESTORED:
        if (b->kept)
            printf("%s: nothing had been changed\n", b->bdf);
        else
            printf("%s: back on %s%s\n", b->bdf, b->driver[0] ? "driver " : "no driver", b->driver);
        break;
    case BIND_HELD:
        printf("%s: stays; %s\n", b->bdf, why->text);
        break;
    case BIND_GONE:
        printf("%s: is there no more; its record was removed\n", b->bdf);
        break;
    case BIND_MOVED:
        printf("%s: somebody gave it to driver %s; its record was removed\n", b->bdf, b->driver);
        break;
    case BIND_FAILED:
        r->status = command_fail(STATUS_FAILED, "devices: %s", why->text);
        break;
    }
}

static int restore(const struct host *h, int n, char **names)
{
    struct restoring r = { .status = STATUS_OK };
    char bdf[BDF_SIZE];
    struct error err;

    for (int i = 0; i < n; i++) /* all of them, before anything is done */
        if (bdf_parse("devices --restore", names[i], bdf, &err))
            return command_fail(STATUS_USAGE, "%s", err.text);
    for (int i = 0; i < n; i++) {
        (void)bdf_parse("", names[i], bdf, NULL);
        if (bind_restore(h, bdf, on_record, &r, &err))
            r.status = command_fail(STATUS_FAILED, "devices: %s", err.text);
    }
    if (n == 0 && bind_restore(h, NULL, on_record, &r, &err))
        return command_fail(STATUS_FAILED, "devices: %s", err.text);
    if (n == 0 && r.records == 0)
        printf("no device is away from its driver\n");
    return r.status;
}

static int run(const struct command *cmd, int argc, char **argv)
{
    bool json = false, give_back = false;
    int c;

    optind = 0;
    while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        if (c == '?' || c == ':')
            return command_bad_option(cmd, argv, c);
        if (c == 'h')
            return command_help(cmd);
        json = json || c == OPT_JSON;
        give_back = give_back || c == OPT_RESTORE;
    }
    if (json && give_back)
        return command_fail(STATUS_USAGE, "devices: --json and --restore don't go together");
    if (give_back)
        return restore(&host_machine, argc - optind, argv + optind);
    if (optind < argc)
        return command_fail(STATUS_USAGE,
                            "devices: '%s' is no option of it; names are for --restore",
                            argv[optind]);
    return list_devices(&host_machine, json);
}

const struct command command_devices = {
    .name = "devices",
    .summary = "list PCI devices, and what isolates them",
    .help = help,
    .run = run,
};
