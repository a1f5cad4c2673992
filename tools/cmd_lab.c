#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/command.h"
#include "tools/lab.h"
#include "tools/parse.h"
#include "vmm/terminal.h"

#define MEM_DEFAULT     (UINT64_C(2) << 30)
#define MEM_DEFAULT_EPT (UINT64_C(512) << 20)
#define MEM_MIN         (UINT64_C(256) << 20)
#define MEM_MAX         (UINT64_C(64) << 30)
#define MEM_MAX_EPT     (UINT64_C(2) << 30)
#define TIMEOUT         300
#define TIMEOUT_EPT     1800
#define ATTEMPTS        2

static const char help[] =
    "usage: twofold lab [OPTIONS] [-- COMMAND [ARGS...]]\n"
    "\n"
    "Starts the appliance (Linux with KVM and twofold) in an emulated machine that has\n"
    "nested paging, an IOMMU and a DMA device, and runs COMMAND in it: its input, output\n"
    "and exit status are COMMAND's. Without COMMAND: a prompt.\n"
    "\n"
    "  --ept               the machine is Bochs, an Intel CPU with EPT: minutes, not\n"
    "                      seconds; one CPU, no IOMMU, no input\n"
    "  --npt off           no nested paging: KVM's shadow paging (with --ept: ept=0)\n"
    "  --cpus N            processors (default 2)\n"
    "  --mem SIZE          memory (default 2G; with --ept 512M)\n"
    "  --in FILE[:PATH]    put a file or folder in, at PATH (default: its name);\n"
    "                      a relative PATH starts in /root, where COMMAND runs\n"
    "  --out PATH[:FILE]   when COMMAND has ended, bring a file out (default: its name)\n"
    "  --timeout TIME      end it after that time (default 300s, with --ept 30m, none\n"
    "                      for a prompt; 0 is none)\n"
    "  --append TEXT       more kernel parameters\n"
    "  --domain FILE       the machine's libvirt XML (default lab-domain.xml beside the\n"
    "                      appliance)\n"
    "  --appliance DIR     the folder that `make appliance` made\n"
    "  --keep              keep the work folder with its logs, and say where it is\n"
    "  -h, --help          this text\n"
    "\n"
    "Keys at the prompt: Ctrl-A x ends the lab, Ctrl-A h lists the keys.\n"
    "\n"
    "Exit status: COMMAND's; 1 could not be done, 2 wrong usage or file, 124 time-out,\n"
    "143 ended from outside.\n";

enum {
    OPT_EPT = 256,
    OPT_NPT,
    OPT_CPUS,
    OPT_MEM,
    OPT_IN,
    OPT_OUT,
    OPT_TIMEOUT,
    OPT_APPEND,
    OPT_DOMAIN,
    OPT_APPLIANCE,
    OPT_KEEP,
};

static const struct option options[] = {
    { "ept", no_argument, NULL, OPT_EPT },
    { "npt", required_argument, NULL, OPT_NPT },
    { "cpus", required_argument, NULL, OPT_CPUS },
    { "mem", required_argument, NULL, OPT_MEM },
    { "in", required_argument, NULL, OPT_IN },
    { "out", required_argument, NULL, OPT_OUT },
    { "timeout", required_argument, NULL, OPT_TIMEOUT },
    { "append", required_argument, NULL, OPT_APPEND },
    { "domain", required_argument, NULL, OPT_DOMAIN },
    { "appliance", required_argument, NULL, OPT_APPLIANCE },
    { "keep", no_argument, NULL, OPT_KEEP },
    { "help", no_argument, NULL, 'h' },
    { NULL, 0, NULL, 0 },
};

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* SOURCE[:TARGET], cut at the colon in place. */
static int add_file(const char *what, struct lab_file *files, unsigned int *n, char *arg,
                    struct error *err)
{
    struct lab_file *f = &files[*n];
    char *colon = strchr(arg, ':');

    if (*n == LAB_FILES_MAX)
        return error_set(err, -E2BIG, "%s: at most %d are possible: use a folder", what,
                         LAB_FILES_MAX);
    if (colon)
        *colon = 0;
    f->source = arg;
    f->target = colon ? colon + 1 : (char *)base_name(arg);
    if (!*f->source || !*f->target)
        return error_set(err, -EINVAL, "%s: '%s' names no file: write it as FILE or FILE:PATH",
                         what, arg);
    (*n)++;
    return 0;
}

static int parse_timeout(struct lab_options *opt, const char *text, struct error *err)
{
    if (!strcmp(text, "0")) {
        opt->timeout = 0;
        return 0;
    }
    return parse_seconds("--timeout", text, &opt->timeout, err);
}

static int take_npt(struct lab_options *opt, const char *text, struct error *err)
{
    if (strcmp(text, "on") != 0 && strcmp(text, "off") != 0)
        return error_set(err, -EINVAL, "--npt: '%s' is neither on nor off", text);
    opt->npt_off = !strcmp(text, "off");
    return 0;
}

static int take_option(struct lab_options *opt, int c, struct error *err)
{
    uint64_t number = 0;
    int rc = 0;

    switch (c) {
    case OPT_EPT:
        opt->ept = true;
        return 0;
    case OPT_NPT:
        return take_npt(opt, optarg, err);
    case OPT_CPUS:
        rc = parse_number("--cpus", optarg, 1, 64, &number, err);
        opt->cpus = (unsigned int)number;
        return rc;
    case OPT_MEM:
        return parse_size("--mem", optarg, &opt->mem, err);
    case OPT_IN:
        return add_file("--in", opt->in, &opt->ins, optarg, err);
    case OPT_OUT:
        return add_file("--out", opt->out, &opt->outs, optarg, err);
    case OPT_TIMEOUT:
        return parse_timeout(opt, optarg, err);
    case OPT_APPEND:
        opt->append = optarg;
        return 0;
    case OPT_DOMAIN:
        opt->domain = optarg;
        return 0;
    case OPT_APPLIANCE:
        opt->appliance = optarg;
        return 0;
    default:
        opt->keep = true;
        return 0;
    }
}

/* What depends on more than one option. */
static int complete(struct lab_options *opt, struct error *err)
{
    uint64_t max = opt->ept ? MEM_MAX_EPT : MEM_MAX;
    static const char *const shell[] = { "sh", NULL };

    if (!opt->mem)
        opt->mem = opt->ept ? MEM_DEFAULT_EPT : MEM_DEFAULT;
    if (opt->mem < MEM_MIN || opt->mem > max)
        return error_set(err, -EINVAL, "--mem: the lab takes 256M to %lluG%s",
                         (unsigned long long)(max >> 30), opt->ept ? " with --ept" : "");
    if (opt->ept && opt->cpus > 1)
        return error_set(err, -EINVAL, "--cpus: the EPT lab has one CPU");
    if (opt->ept && opt->domain)
        return error_set(err, -EINVAL, "--domain: the EPT lab is no libvirt machine");
    if (opt->ept && !opt->command)
        return error_set(err, -EINVAL, "--ept needs a COMMAND: Bochs takes no input");
    if (!opt->cpus)
        opt->cpus = opt->ept ? 1 : 2;
    if (!opt->command && !isatty(STDIN_FILENO)) {
        opt->command = shell;
        opt->command_len = 1;
    }
    if (opt->timeout < 0)
        opt->timeout = opt->ept ? TIMEOUT_EPT : opt->command ? TIMEOUT : 0;
    return 0;
}

static int attempt(const struct command *cmd, struct lab_machine *m, struct lab_work *work,
                   const struct lab_options *opt, enum lab_end *end)
{
    struct error err;
    int status = 0;
    int rc;

    err.text[0] = 0;
    rc = opt->ept ? lab_bochs_start(m, work, opt, &err) : lab_qemu_start(m, work, opt, &err);
    if (rc < 0) {
        *end = LAB_FAILED;
        return command_fail(command_status(rc), "%s: %s", cmd->name, err.text);
    }
    *end = lab_session(m, work, opt, &status, &err);
    switch (*end) {
    case LAB_ENDED:
        return status;
    case LAB_SIGNALED:
        return command_fail(STATUS_ENDED, "%s: ended by %s", cmd->name, strsignal(status));
    case LAB_LEFT:
        return STATUS_ENDED;
    case LAB_UNREAD:
        return STATUS_FAILED; /* silent, as in any pipe */
    case LAB_TIMEOUT:
        terminal_message("%s: --timeout of %g s ran out", cmd->name, opt->timeout);
        lab_console_tail(work);
        return STATUS_TIMEOUT;
    case LAB_HUNG:
        terminal_message("%s: the appliance did not come up", cmd->name);
        lab_console_tail(work);
        return STATUS_FAILED;
    case LAB_DIED:
        terminal_message("%s: the machine ended without a status", cmd->name);
        lab_console_tail(work);
        return STATUS_FAILED;
    case LAB_FAILED:
        break;
    }
    return command_fail(STATUS_FAILED, "%s: %s", cmd->name, err.text);
}

struct lab {
    const struct command *cmd;
    struct lab_work work;
    struct lab_options opt;
};

/* The guarded child: one machine, and another one if the first doesn't come up. */
static int run_machine(void *ctx)
{
    struct lab *lab = ctx;
    struct lab_machine m = { .link = -1, .console = -1, .display = -1, .screen = -1 };
    enum lab_end end = LAB_FAILED;
    int status = STATUS_FAILED;
    struct error err;
    int rc = lab_work_initrd(&lab->work, &lab->opt, &err);

    if (rc < 0)
        return command_fail(command_status(rc), "%s: %s", lab->cmd->name, err.text);
    for (int i = 1; i <= ATTEMPTS; i++) {
        status = attempt(lab->cmd, &m, &lab->work, &lab->opt, &end);
        if (lab->opt.ept)
            lab_bochs_stop(&m);
        else
            lab_qemu_stop(&m);
        if (end != LAB_HUNG || i == ATTEMPTS)
            break;
        terminal_message("%s: starting it once more", lab->cmd->name);
    }
    if (!lab->opt.ept)
        lab_qemu_close(&m);
    return status;
}

static int run_lab(const struct command *cmd, int argc, char **argv)
{
    struct lab lab = { .cmd = cmd, .opt.timeout = -1 };
    struct error err;
    int status;
    int rc;
    int c;

    optind = 1;
    while ((c = getopt_long(argc, argv, "+:h", options, NULL)) != -1) {
        if (c == 'h')
            return command_help(cmd);
        if (c == '?' || c == ':')
            return command_bad_option(cmd, argv, c);
        if (take_option(&lab.opt, c, &err) < 0)
            return command_fail(STATUS_USAGE, "%s: %s", cmd->name, err.text);
    }
    if (optind < argc) {
        lab.opt.command = (const char *const *)argv + optind;
        lab.opt.command_len = argc - optind;
    }
    if (complete(&lab.opt, &err) < 0)
        return command_fail(STATUS_USAGE, "%s: %s", cmd->name, err.text);
    rc = lab_work_create(&lab.work, &lab.opt, &err);
    if (rc < 0)
        return command_fail(command_status(rc), "%s: %s", cmd->name, err.text);
    status = lab_guard(run_machine, &lab, lab.work.dir, lab.opt.keep);
    if (lab.opt.keep)
        terminal_message("%s: its work folder is %s", cmd->name, lab.work.dir);
    if (status < 0)
        return command_fail(STATUS_FAILED, "%s: its process died: %s", cmd->name,
                            strerror(-status));
    return status;
}

const struct command command_lab = {
    .name = "lab",
    .summary = "run a command in an emulated machine with nested paging",
    .help = help,
    .run = run_lab,
};
