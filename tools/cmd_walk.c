#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/parse.h"
#include "tools/walk_command.h"
#include "tools/walk_view.h"
#include "vmm/control.h"
#include "vmm/vm.h"

#define WATCH_DEFAULT_S 0.1

static const char help[] =
    "usage: twofold walk [OPTIONS] NAME GVA\n"
    "\n"
    "Shows the two-dimensional walk of one address in a running VM, which stands still for\n"
    "the moment of the look; nothing in it changes by that. Rows are the guest's levels,\n"
    "columns the host's, numbers the order in which a CPU reads the entries. With --paging\n"
    "shadow, the monitor's own tables are shown beside the guest's.\n"
    "\n"
    "GVA is hexadecimal with 0x or when it has a letter a to f, else decimal; underscores\n"
    "may stand between digits; or a register of the vCPU: rip, rsp, cr2. An address that\n"
    "would fault is no failure: the picture says where it would, why, and with which error\n"
    "code.\n"
    "\n"
    "  --cpu N        vCPU whose control registers, and CR3, are used (default: 0)\n"
    "  --pid P        the tables of process P, if the guest tells its processes\n"
    "  --cr3 GPA      the tables whose root is at GPA\n"
    "  --access A     r, w or x (default: r)\n"
    "  --user         as from ring 3; --supervisor: as from ring 0 (default: as the vCPU is\n"
    "                 at the first look; with --pid and an address, from ring 3)\n"
    "  --json         one object, as docs/control.md describes it\n"
    "  --svg[=FILE]   a picture for a browser, on stdout or into FILE\n"
    "  --watch[=TIME] a line at the start and whenever gpa, hva, hpa, a page size or the shadow\n"
    "                 changes, looked at every TIME (default: 100ms), until the VM ends\n"
    "  -h, --help     this text\n"
    "\n"
    "Exit status: 0; 1 no such VM or process, no answer; 2 wrong usage.\n";

struct options {
    const char *name, *svg; /* svg: "" for stdout */
    bool json, watch;
    bool user, supervisor; /* as asked for */
    double period_s;
    json_t *arguments;
};

/* Above the letters, as command_bad_option() wants it. */
enum {
    OPT_CPU = 256,
    OPT_PID,
    OPT_CR3,
    OPT_ACCESS,
    OPT_USER,
    OPT_SUPERVISOR,
    OPT_JSON,
    OPT_SVG,
    OPT_WATCH,
};

static const struct option long_options[] = {
    { "cpu", required_argument, NULL, OPT_CPU },
    { "pid", required_argument, NULL, OPT_PID },
    { "cr3", required_argument, NULL, OPT_CR3 },
    { "access", required_argument, NULL, OPT_ACCESS },
    { "user", no_argument, NULL, OPT_USER },
    { "supervisor", no_argument, NULL, OPT_SUPERVISOR },
    { "json", no_argument, NULL, OPT_JSON },
    { "svg", optional_argument, NULL, OPT_SVG },
    { "watch", optional_argument, NULL, OPT_WATCH },
    { "help", no_argument, NULL, 'h' },
    { NULL, 0, NULL, 0 },
};

static int set_access(json_t *arguments, const char *text, struct error *err)
{
    if (strlen(text) != 1 || !strchr("rwx", *text))
        return error_set(err, -EINVAL, "--access '%s': it is one of r, w and x", text);
    return json_object_set_new(arguments, "access", json_string(text));
}

/* Where the vCPU is: the monitor puts the register's value in. */
static int set_gva(json_t *arguments, const char *text, struct error *err)
{
    static const char *const registers[] = { "rip", "rsp", "cr2" };

    for (size_t i = 0; i < sizeof(registers) / sizeof(registers[0]); i++)
        if (!strcmp(text, registers[i]))
            return json_object_set_new(arguments, "gva", json_string(text));
    return walk_add_address(arguments, "gva", "GVA", text, err);
}

static int set_option(void *ctx, int opt, const char *value, struct error *err)
{
    struct options *o = ctx;

    switch (opt) {
    case OPT_CPU:
        return walk_add_number(o->arguments, "cpu", "--cpu", value, VM_CPUS_MAX - 1, err);
    case OPT_PID:
        return walk_add_number(o->arguments, "pid", "--pid", value, INT32_MAX, err);
    case OPT_CR3:
        return walk_add_address(o->arguments, "cr3", "--cr3", value, err);
    case OPT_ACCESS:
        return set_access(o->arguments, value, err);
    case OPT_USER:
        o->user = true;
        return 0;
    case OPT_SUPERVISOR:
        o->supervisor = true;
        return 0;
    case OPT_JSON:
        o->json = true;
        return 0;
    case OPT_SVG:
        o->svg = value ? value : "";
        return 0;
    default:
        o->watch = true;
        return value ? parse_seconds("--watch", value, &o->period_s, err) : 0;
    }
}

static int check(const struct options *o, struct error *err)
{
    if (json_object_get(o->arguments, "pid") && json_object_get(o->arguments, "cr3"))
        return error_set(err, -EINVAL, "walk: --pid and --cr3 both name tables; give one of them");
    if (o->user && o->supervisor)
        return error_set(err, -EINVAL, "walk: --user and --supervisor: give one of them");
    if (o->svg && (o->json || o->watch))
        return error_set(err, -EINVAL, "walk: --svg goes with neither --json nor --watch");
    if (o->period_s > 86400)
        return error_set(err, -EINVAL, "--watch: look at least once a day");
    return control_name_check(o->name, err);
}

/*
 * A process's address is used from ring 3, whatever ring the vCPU happens to be in at this moment.
 * A register is where the vCPU is, so its ring goes with it.
 */
static void set_ring(const struct options *o)
{
    bool process = json_object_get(o->arguments, "pid") &&
                   !strncmp(json_string_value(json_object_get(o->arguments, "gva")), "0x", 2);

    if (o->user || o->supervisor || process)
        (void)json_object_set_new(o->arguments, "user", json_boolean(!o->supervisor));
}

/* Fills *o. True when the command goes on, else *status is what to exit with. */
static bool parse(const struct command *cmd, int argc, char **argv, struct options *o, int *status)
{
    struct error err;

    if (!client_parse(cmd, argc, argv, long_options, set_option, o, 2,
                      "walk: name one VM and one address; see 'twofold walk --help'", status))
        return false;
    *status = STATUS_USAGE;
    o->name = argv[optind];
    if (check(o, &err) < 0 || set_gva(o->arguments, argv[optind + 1], &err) < 0) {
        (void)command_fail(STATUS_USAGE, "%s", err.text);
        return false;
    }
    set_ring(o);
    return true;
}

static int print_svg(const json_t *walk, const char *path)
{
    FILE *f = *path ? fopen(path, "we") : stdout;
    bool failed;

    if (!f)
        return command_fail(STATUS_FAILED, "walk: '%s' can't be written: %s", path,
                            strerror(errno));
    walk_print_svg(walk, f);
    if (!*path)
        return STATUS_OK;
    failed = ferror(f);
    failed = fclose(f) || failed;
    return failed ? command_fail(STATUS_FAILED, "walk: '%s' can't be written: %s", path,
                                 strerror(errno))
                  : STATUS_OK;
}

static int print_walk(const struct options *o, const json_t *walk)
{
    struct walk_style style;

    if (o->svg)
        return print_svg(walk, o->svg);
    if (o->json) {
        client_print_json(walk);
        return STATUS_OK;
    }
    walk_style_of(stdout, &style);
    walk_print_text(walk, &style, stdout);
    return STATUS_OK;
}

static int ask(struct options *o)
{
    struct client c;
    struct error err;
    json_t *walk = NULL;
    int status = STATUS_OK, code = client_open(&c, o->name, CLIENT_TIMEOUT_MS, &err);

    if (!code && o->watch) {
        status = walk_watch(&c, o->arguments, o->period_s, o->json);
    } else {
        if (!code)
            code = client_ask(&c, "walk", json_incref(o->arguments), &walk, &err);
        status = code ? command_fail(walk_status(code), "%s", err.text) : print_walk(o, walk);
    }
    json_decref(walk);
    client_close(&c);
    return status;
}

static int run(const struct command *cmd, int argc, char **argv)
{
    struct options o = { .period_s = WATCH_DEFAULT_S, .arguments = json_object() };
    int status = STATUS_OK;

    if (parse(cmd, argc, argv, &o, &status))
        status = ask(&o);
    json_decref(o.arguments);
    return status;
}

const struct command command_walk = {
    .name = "walk",
    .summary = "show the two-dimensional walk of an address",
    .help = help,
    .run = run,
};
