#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

#include "tools/client.h"
#include "tools/parse.h"
#include "vmm/control_command.h"

static const char help[] =
    "usage: twofold guard [--json] NAME RANGE off|nodump|access\n"
    "\n"
    "Guards a range of a VM's memory. Its content is kept.\n"
    "\n"
    "  RANGE          guest-physical: FIRST-END or FIRST+SIZE, like 0-64M or 0x100000+4K\n"
    "  off            as any other memory\n"
    "  nodump         left out of core dumps of the monitor\n"
    "  access         nobody may touch it, and it is left out of core dumps: an access by the\n"
    "                 guest ends the VM with a line that names it (status 127)\n"
    "\n"
    "  --json         the guarded ranges afterwards\n"
    "  -h, --help     this text\n"
    "\n"
    "Exit status: 0; 1 no such VM or no answer; 2 wrong usage, or the range is no RAM.\n";

/* Above the letters, as command_bad_option() wants it. */
enum {
    OPT_JSON = 256,
};

static const struct option options[] = {
    { "json", no_argument, NULL, OPT_JSON },
    { "help", no_argument, NULL, 'h' },
    { NULL, 0, NULL, 0 },
};

static int guard(const char *name, const char *range, const char *mode, bool json)
{
    uint64_t first = 0, size = 0;
    json_t *result = NULL;
    struct error err;
    int rc = parse_range("guard", range, &first, &size, &err);

    if (rc == 0)
        rc = client_once(name, "guard",
                         json_pack("{s:o, s:o, s:o}", "base", json_sprintf("0x%" PRIx64, first),
                                   "size", json_sprintf("0x%" PRIx64, size), "mode",
                                   control_text(mode)),
                         &result, &err);
    if (rc < 0)
        return command_fail(command_status(rc), "%s", err.text);
    if (json)
        client_print_json(result);
    json_decref(result);
    return STATUS_OK;
}

static int run(const struct command *cmd, int argc, char **argv)
{
    bool json = false;
    int opt;

    optind = 0;
    while ((opt = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        if (opt == '?' || opt == ':')
            return command_bad_option(cmd, argv, opt);
        if (opt == 'h')
            return command_help(cmd);
        json = true;
    }
    if (argc - optind != 3)
        return command_fail(STATUS_USAGE,
                            "guard: a VM, a range, and off, nodump or access are needed; see "
                            "'twofold guard --help'");
    return guard(argv[optind], argv[optind + 1], argv[optind + 2], json);
}

const struct command command_guard = {
    .name = "guard",
    .summary = "keep a range of a VM's memory from dumps or from access",
    .help = help,
    .run = run,
};
