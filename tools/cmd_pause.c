#include <string.h>

#include "tools/client.h"

/* `pause` and `resume`: the command's name is the request's. */
static int run(const struct command *cmd, int argc, char **argv)
{
    struct client_options o = { 0 };
    json_t *vm = NULL;
    struct error err;
    int status;

    if (!client_options(cmd, argc, argv, true, &o, &status))
        return status;
    if (client_once(o.name, cmd->name, NULL, &vm, &err))
        return command_fail(STATUS_FAILED, "%s", err.text);
    if (o.json)
        client_print_json(vm);
    json_decref(vm);
    return STATUS_OK;
}

const struct command command_pause = {
    .name = "pause",
    .summary = "stop a VM's vCPUs until resume",
    .help = "usage: twofold pause [--json] NAME\n"
            "\n"
            "Stops all vCPUs of a VM and returns once they stand still; its console and\n"
            "control socket go on. Pausing a paused VM changes nothing. --timeout of 'run'\n"
            "goes on counting.\n"
            "\n"
            "  --json         the VM's status afterwards\n"
            "  -h, --help     this text\n"
            "\n"
            "Exit status: 0; 1 no such VM or no answer; 2 wrong usage.\n",
    .run = run,
};

const struct command command_resume = {
    .name = "resume",
    .summary = "let a paused VM go on",
    .help = "usage: twofold resume [--json] NAME\n"
            "\n"
            "Lets the vCPUs of a paused VM go on. Does nothing when the VM runs.\n"
            "\n"
            "  --json         the VM's status afterwards\n"
            "  -h, --help     this text\n"
            "\n"
            "Exit status: 0; 1 no such VM or no answer; 2 wrong usage.\n",
    .run = run,
};
