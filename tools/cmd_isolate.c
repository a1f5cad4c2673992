#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>

#include "tools/bind.h"
#include "tools/client.h"
#include "tools/command.h"
#include "tools/guest_file.h"
#include "tools/isolate.h"
#include "vmm/vm.h"

static const char help[] =
    "usage: twofold isolate [--device BDF] [--vm] [--kernel FILE] [-o FILE] [--json]\n"
    "\n"
    "Shows that an IOMMU keeps a device to the memory that it was given: the device tries\n"
    "what it may and what it may not, each attempt is printed with what became of it, and\n"
    "the same with an identity mapping shows that it is the IOMMU that makes the difference.\n"
    "\n"
    "Without --device: the tiny guest, with an emulated device behind virtio-iommu.\n"
    "\n"
    "  --device BDF   a PCI device of this machine (00:04.0 is short for 0000:00:04.0), from\n"
    "                 this machine's side. It is taken from its driver and given back at the\n"
    "                 end. DMA is tried with QEMU's edu (1234:11e8) alone; any other device\n"
    "                 is only looked at\n"
    "  --vm           with --device: the tiny guest drives the device\n"
    "  --kernel FILE  the tiny guest (default: the one that was built or installed with this\n"
    "                 program)\n"
    "  -o, --output FILE  a picture of it, an HTML page\n"
    "  --json         an object on stdout; the attempts go to stderr\n"
    "  -h, --help     this text\n"
    "\n"
    "Exit status: 0 all was as it should be; 1 something was not isolated, or it could not\n"
    "be shown; 2 wrong usage.\n";

enum { OPT_DEVICE = 256, OPT_VM, OPT_KERNEL, OPT_JSON, OPT_OUTPUT };

static const struct option options[] = {
    { "device", required_argument, NULL, OPT_DEVICE },
    { "vm", no_argument, NULL, OPT_VM },
    { "kernel", required_argument, NULL, OPT_KERNEL },
    { "json", no_argument, NULL, OPT_JSON },
    { "output", required_argument, NULL, OPT_OUTPUT },
    { "help", no_argument, NULL, 'h' },
    { NULL, 0, NULL, 0 },
};

struct isolate_options {
    char bdf[BDF_SIZE]; /* "": none */
    char kernel[PATH_MAX];
    const char *picture;
    bool vm, json;
};

/* --- as JSON -------------------------------------------------------------------------- */

static json_t *hex(uint64_t value)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "0x%" PRIx64, value);
    return json_string(text);
}

static json_t *attempt_json(const struct isolate_attempt *a)
{
    return json_pack("{s:s, s:o, s:i, s:b, s:b, s:b, s:b, s:b, s:o, s:o, s:o}", "what", a->what,
                     "iova", hex(a->iova), "bytes", (int)a->len, "write", a->write, "contrast",
                     a->contrast, "allowed", a->allowed, "went", a->went, "as_expected",
                     isolate_as_expected(a), "before", a->sums ? hex(a->before) : json_null(),
                     "after", a->sums ? hex(a->after) : json_null(), "said",
                     a->said[0] ? json_string(a->said) : json_null());
}

static void print_json(const struct isolate_report *r)
{
    json_t *regions = json_array(), *attempts = json_array(), *all;

    for (size_t i = 0; i < r->regions; i++) {
        const struct isolate_region *g = &r->region[i];

        (void)json_array_append_new(regions, json_pack("{s:o, s:o, s:b, s:b, s:b, s:s}", "iova",
                                                       hex(g->iova), "bytes", hex(g->len), "read",
                                                       g->read, "write", g->write, "contrast",
                                                       g->contrast, "label", g->label));
    }
    for (size_t i = 0; i < r->attempts; i++)
        (void)json_array_append_new(attempts, attempt_json(&r->attempt[i]));
    all = json_pack("{s:s, s:s, s:b, s:o, s:o}", "device", r->device, "iommu", r->iommu, "isolated",
                    isolate_passed(r), "regions", regions, "attempts", attempts);
    client_print_json(all);
    json_decref(all);
}

/* --- the demonstration ------------------------------------------------------------------- */

/* While it runs, stdout is what attempts are printed on; that is stderr with --json. */
static int demonstrate(const struct isolate_options *o, struct isolate_report *r)
{
    struct error err;
    int out = -1, rc;

    (void)fflush(stdout);
    if (o->json) {
        out = dup(STDOUT_FILENO);
        (void)dup2(STDERR_FILENO, STDOUT_FILENO);
    }
    if (o->bdf[0] && !o->vm)
        rc = isolate_vfio(o->bdf, r, &err);
    else
        rc = isolate_vm(o->kernel, o->bdf[0] ? o->bdf : NULL, r, &err);
    if (rc == 0 && r->attempts > 0)
        isolate_print_end(stdout, r);
    (void)fflush(stdout);
    if (out >= 0) {
        (void)dup2(out, STDOUT_FILENO);
        close(out);
    }
    return rc ? command_fail(command_status(rc), "isolate: %s", err.text) : STATUS_OK;
}

static int show(const struct isolate_options *o)
{
    struct isolate_report *r = calloc(1, sizeof(*r));
    struct error err;
    int status;

    if (!r)
        return command_fail(STATUS_FAILED, "isolate: out of memory");
    status = demonstrate(o, r);
    if (status == STATUS_OK && o->json)
        print_json(r);
    if (status == STATUS_OK && o->picture && r->attempts > 0 &&
        isolate_picture(r, o->picture, &err))
        status = command_fail(STATUS_FAILED, "isolate: %s", err.text);
    if (status == STATUS_OK && r->attempts == 0)
        status = command_fail(STATUS_FAILED, "isolate: nothing was tried, so nothing is shown");
    else if (status == STATUS_OK && !isolate_passed(r))
        status = command_fail(STATUS_FAILED, "isolate: NOT ISOLATED: see the attempts above");
    free(r);
    return status;
}

/*
 * In a child, so that the device goes back whatever becomes of it. Signals that end us end the
 * child first: a device that is open can't be given back.
 */
static int show_apart(const struct isolate_options *o, const sigset_t *end, const sigset_t *old)
{
    pid_t self = getpid(), child;
    sigset_t set = *end;
    int status;

    sigaddset(&set, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    (void)fflush(NULL);
    child = fork();
    if (child < 0)
        return command_fail(STATUS_FAILED, "isolate: no process: %s", strerror(errno));
    if (child == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        (void)sigprocmask(SIG_SETMASK, old, NULL);
        status = getppid() == self ? show(o) : STATUS_FAILED;
        if (fflush(stdout))
            status = command_fail(STATUS_FAILED, "stdout: %s", strerror(errno));
        _exit(status);
    }
    for (;;) {
        siginfo_t info;
        pid_t pid = waitpid(child, &status, WNOHANG);

        if (pid == child)
            break;
        if (pid < 0 && errno != EINTR)
            return command_fail(STATUS_FAILED, "isolate: can't wait for the process: %s",
                                strerror(errno));
        if (sigwaitinfo(&set, &info) > 0 && info.si_signo != SIGCHLD)
            (void)kill(child, SIGKILL);
    }
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    return command_fail(STATUS_ENDED, "isolate: was ended before it was over");
}

static int with_device(const struct isolate_options *o)
{
    const char *bdf = o->bdf;
    struct binding binding;
    struct error err;
    sigset_t end, old;
    int status, rc;

    vm_end_signals(&end);
    (void)sigprocmask(SIG_BLOCK, &end, &old);
    rc = bind_take_all(&binding, &host_machine, &bdf, 1, &err);
    if (rc) {
        (void)sigprocmask(SIG_SETMASK, &old, NULL);
        return command_fail(command_status(rc), "isolate: %s", err.text);
    }
    status = show_apart(o, &end, &old);
    if (bind_give_back(&binding, &host_machine, &err))
        status = command_fail(STATUS_FAILED, "isolate: %s", err.text);
    return status;
}

/* --- the command line ------------------------------------------------------------------- */

static int check(struct isolate_options *o, const char *kernel)
{
    bool guest = !o->bdf[0] || o->vm;
    struct host_device device;
    struct error err;

    if (o->vm && !o->bdf[0])
        return command_fail(STATUS_USAGE, "isolate: --vm is for --device; without that it is a VM");
    /* Before a VM says it, whose status is its own. */
    if (o->vm && host_device_read(&host_machine, o->bdf, &device, &err))
        return command_fail(STATUS_USAGE, "isolate: %s", err.text);
    if (kernel && !guest)
        return command_fail(STATUS_USAGE, "isolate: --kernel: no guest runs without --vm");
    if (kernel && access(kernel, R_OK))
        return command_fail(STATUS_USAGE, "isolate: --kernel '%s': %s", kernel, strerror(errno));
    if (kernel)
        (void)snprintf(o->kernel, sizeof(o->kernel), "%s", kernel);
    else if (guest && !guest_file_find(o->kernel, sizeof(o->kernel)))
        return command_fail(STATUS_USAGE, "isolate: the tiny guest (guest.elf) is neither beside "
                                          "this program nor in /usr/lib/twofold; name it with "
                                          "--kernel");
    return STATUS_OK;
}

static int run(const struct command *cmd, int argc, char **argv)
{
    struct isolate_options o = { .vm = false };
    const char *kernel = NULL;
    struct error err;
    int c, status;

    optind = 0;
    while ((c = getopt_long(argc, argv, ":ho:", options, NULL)) != -1) {
        if (c == '?' || c == ':')
            return command_bad_option(cmd, argv, c);
        if (c == 'h')
            return command_help(cmd);
        if (c == OPT_DEVICE && bdf_parse("isolate --device", optarg, o.bdf, &err))
            return command_fail(STATUS_USAGE, "%s", err.text);
        if (c == OPT_KERNEL)
            kernel = optarg;
        if (c == 'o' || c == OPT_OUTPUT)
            o.picture = optarg;
        o.vm = o.vm || c == OPT_VM;
        o.json = o.json || c == OPT_JSON;
    }
    if (optind < argc)
        return command_fail(STATUS_USAGE, "isolate: '%s' is no option of it", argv[optind]);
    status = check(&o, kernel);
    if (status)
        return status;
    /* With --vm `twofold run` takes the device, and gives it back. */
    return o.bdf[0] && !o.vm ? with_device(&o) : show(&o);
}

const struct command command_isolate = {
    .name = "isolate",
    .summary = "show that an IOMMU keeps a device to its memory",
    .help = help,
    .run = run,
};
