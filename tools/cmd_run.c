#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/command.h"
#include "tools/parse.h"
#include "tools/run_devices.h"
#include "tools/run_memory.h"
#include "vmm/control.h"
#include "vmm/vfio.h"
#include "vmm/vm.h"

#define MEM_DEFAULT (UINT64_C(256) << 20)
#define MEM_MIN     (UINT64_C(2) << 20)

static const char help[] =
    "usage: twofold run [OPTIONS] KERNEL [-- ARGS...]\n"
    "\n"
    "Runs KERNEL, an ELF file with a PVH note or a multiboot-1 kernel, in a VM.\n"
    "The guest's serial line is stdin and stdout, its exit value the exit status.\n"
    "ARGS are appended to the guest's command line.\n"
    "\n"
    "  --initrd FILE         an initial RAM disk (multiboot: a module)\n"
    "  --append TEXT         the guest's command line, before ARGS\n"
    "  --mem SIZE            guest memory, like 512M or 2G (default 256M)\n"
    "  --cpus N              virtual CPUs (default 1)\n"
    "  --name NAME           what ps, stat, stop... call it (default vm-PID)\n"
    "  --console stdio       the serial line is this terminal (default)\n"
    "            pty         ... a new pseudo-terminal, its path on stderr\n"
    "            file:PATH   ... a file, emptied first\n"
    "  --backing KIND        host pages behind guest memory: anon, thp, memfd,\n"
    "                        hugetlb-2m, hugetlb-1g (default thp if the host has it)\n"
    "  --paging nested       translation by KVM (default)\n"
    "           shadow       by shadow page tables of ours; the guest runs de-privileged\n"
    "  --populate POLICY[:RANGE]  when guest memory gets its pages: kernel (on the first touch,\n"
    "                        by the host kernel; default), lazy (on the first touch, by us),\n"
    "                        eager (at the start). RANGE in guest-physical addresses, like\n"
    "                        0-64M or 0x100000+4K, for a part of it; may be repeated\n"
    "  --fault-around SIZE   how much a lazy fault brings in, 4K to 2M (default 64K)\n"
    "  --lock                populate and lock all of guest memory at the start\n"
    "  --numa POLICY[=RANGE] on which nodes: local, bind:NODES, interleave:NODES,\n"
    "                        preferred:NODE, as in bind:0,2-3\n"
    "  --disk FILE[,ro][,direct]  a disk (virtio-blk) on a raw file\n"
    "  --rng                 a source of random numbers (virtio-rng)\n"
    "  --edu                 a device that does DMA on demand, for tests\n"
    "  --iommu               an IOMMU (virtio-iommu) before the devices above\n"
    "  --vfio BDF[,iova=RANGE]  a device of this machine, as in 0000:00:04.0; it reaches\n"
    "                        guest memory, or only RANGE of it. It is taken from its driver\n"
    "                        and given back at the end (after a kill: twofold devices --restore)\n"
    "  --timeout TIME        end the VM after that time, like 10, 500ms, 2m (status 124)\n"
    "  --trace[=FILE]        a line for each exit to the monitor (default stderr)\n"
    "  -h, --help            this text\n"
    "\n"
    "Keys when stdin is a terminal: Ctrl-A x ends the VM, Ctrl-A h lists the keys.\n"
    "\n"
    "Exit status: 0-125 the guest's own, 1 could not be done, 2 wrong usage or file,\n"
    "124 time-out, 126 the tiny guest panicked, 127 the guest crashed, 143 ended from\n"
    "outside.\n";

struct run_options {
    struct vm_config cfg;
    const char *append;
    const char *trace_path; /* NULL: stderr */
    bool trace;
    bool backing_given;
    char name[32];
    char *cmdline;
};

enum {
    OPT_INITRD = 256,
    OPT_APPEND,
    OPT_MEM,
    OPT_CPUS,
    OPT_NAME,
    OPT_CONSOLE,
    OPT_BACKING,
    OPT_PAGING,
    OPT_TIMEOUT,
    OPT_TRACE,
};

static const struct option options[] = {
    { "initrd", required_argument, NULL, OPT_INITRD },
    { "append", required_argument, NULL, OPT_APPEND },
    { "mem", required_argument, NULL, OPT_MEM },
    { "cpus", required_argument, NULL, OPT_CPUS },
    { "name", required_argument, NULL, OPT_NAME },
    { "console", required_argument, NULL, OPT_CONSOLE },
    { "backing", required_argument, NULL, OPT_BACKING },
    { "paging", required_argument, NULL, OPT_PAGING },
    { "populate", required_argument, NULL, OPT_POPULATE },
    { "fault-around", required_argument, NULL, OPT_FAULT_AROUND },
    { "lock", no_argument, NULL, OPT_LOCK },
    { "numa", required_argument, NULL, OPT_NUMA },
    { "disk", required_argument, NULL, OPT_DISK },
    { "rng", no_argument, NULL, OPT_RNG },
    { "edu", no_argument, NULL, OPT_EDU },
    { "iommu", no_argument, NULL, OPT_IOMMU },
    { "vfio", required_argument, NULL, OPT_VFIO },
    { "timeout", required_argument, NULL, OPT_TIMEOUT },
    { "trace", optional_argument, NULL, OPT_TRACE },
    { "help", no_argument, NULL, 'h' },
    { NULL, 0, NULL, 0 },
};

/* --- the command line --------------------------------------------------------- */

static int parse_mem(struct run_options *o, const char *text, struct error *err)
{
    int code = parse_size("--mem", text, &o->cfg.mem_bytes, err);

    if (code)
        return code;
    if (o->cfg.mem_bytes < MEM_MIN)
        return error_set(err, -EINVAL, "--mem: '%s' is too little for any guest; give at least 2M",
                         text);
    if (o->cfg.mem_bytes % 4096)
        return error_set(err, -EINVAL, "--mem: '%s' is not a multiple of 4K pages", text);
    return 0;
}

static int parse_console(struct run_options *o, const char *text, struct error *err)
{
    static const char file[] = "file";
    size_t n = sizeof(file) - 1;

    if (!strcmp(text, "stdio")) {
        o->cfg.console = CONSOLE_STDIO;
    } else if (!strcmp(text, "pty")) {
        o->cfg.console = CONSOLE_PTY;
    } else if (!strncmp(text, file, n) && (text[n] == ':' || text[n] == '=') && text[n + 1]) {
        o->cfg.console = CONSOLE_FILE;
        o->cfg.console_path = text + n + 1;
    } else {
        return error_set(err, -EINVAL, "--console: '%s' is none; use stdio, pty or file:PATH",
                         text);
    }
    return 0;
}

static int set_option(struct run_options *o, int opt, char *value, struct error *err)
{
    uint64_t n;
    int code = 0;

    switch (opt) {
    case OPT_INITRD:
        o->cfg.initrd = value;
        break;
    case OPT_APPEND:
        o->append = value;
        break;
    case OPT_MEM:
        return parse_mem(o, value, err);
    case OPT_CPUS:
        code = parse_number("--cpus", value, 1, VM_CPUS_MAX, &n, err);
        if (!code)
            o->cfg.cpus = (unsigned)n;
        break;
    case OPT_NAME:
        o->cfg.name = value;
        return control_name_check(value, err);
    case OPT_CONSOLE:
        return parse_console(o, value, err);
    case OPT_PAGING:
        return paging_parse(value, &o->cfg.paging, err);
    case OPT_BACKING:
        o->backing_given = true;
        return mem_backing_parse(value, &o->cfg.backing, err);
    case OPT_TIMEOUT:
        return parse_seconds("--timeout", value, &o->cfg.timeout_s, err);
    case OPT_TRACE:
        o->trace = true;
        o->trace_path = value;
        break;
    default:
        code = run_devices_option(&o->cfg.devices, opt, value, err);
        return code == -ENOENT ? run_memory_option(&o->cfg, opt, value, err) : code;
    }
    return code;
}

/*
 * Parses what stands before "--". Returns STATUS_OK with one kernel named, or
 * without one when only help was asked for, or the status to exit with.
 */
static int parse_options(const struct command *cmd, struct run_options *o, int argc, char **argv)
{
    struct error err;
    int opt, code;

    optind = 0;
    while ((opt = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        if (opt == '?' || opt == ':')
            return command_bad_option(cmd, argv, opt);
        if (opt == 'h')
            return command_help(cmd);
        code = set_option(o, opt, optarg, &err);
        if (code)
            return command_fail(command_status(code), "%s", err.text);
    }
    if (optind == argc)
        return command_fail(STATUS_USAGE, "run: no kernel named; see 'twofold run --help'");
    if (optind < argc - 1)
        return command_fail(STATUS_USAGE,
                            "run: '%s' comes after the kernel; arguments of the guest go after --",
                            argv[optind + 1]);
    o->cfg.kernel = argv[optind];
    return STATUS_OK;
}

/* --append and ARGS, with one blank between two parts. NULL when memory is out. */
static char *join_cmdline(const char *append, int argc, char **argv)
{
    size_t size = strlen(append) + 1;
    char *line, *at;

    for (int i = 0; i < argc; i++)
        size += strlen(argv[i]) + 1;
    line = malloc(size);
    if (!line)
        return NULL;
    at = stpcpy(line, append);
    for (int i = 0; i < argc; i++) {
        if (at != line)
            *at++ = ' ';
        at = stpcpy(at, argv[i]);
    }
    return line;
}

/* What is wrong with a file that the command line names is wrong usage: said here, first. */
static int check_file(const char *what, const char *path)
{
    struct stat st;

    if (stat(path, &st) || access(path, R_OK))
        return command_fail(STATUS_USAGE, "%s '%s': %s", what, path, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return command_fail(STATUS_USAGE, "%s '%s': is a folder, not a file", what, path);
    return STATUS_OK;
}

static bool host_has_thp(void)
{
    FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re");
    char line[64] = "";
    bool has;

    if (!f)
        return false;
    has = fgets(line, sizeof(line), f) && !strstr(line, "[never]");
    (void)fclose(f);
    return has;
}

/* --- running --------------------------------------------------------------------- */

/* Says how the VM ended, where the guest's own exit status does not, and gives the status. */
static int report(const struct vm_config *cfg, const struct vm_result *r)
{
    switch (r->end) {
    case VM_END_EXIT:
        if (r->exit_value <= 126)
            return (int)r->exit_value;
        return command_fail(125, "the guest's exit value %" PRIu32 " became status 125",
                            r->exit_value);
    case VM_END_POWEROFF:
        return STATUS_OK;
    case VM_END_RESET:
        return command_fail(STATUS_OK, "the guest asked for a reset; the VM ended");
    case VM_END_TIMEOUT:
        return command_fail(STATUS_TIMEOUT, "time-out: VM '%s' ran for %g s and was ended",
                            cfg->name, cfg->timeout_s);
    case VM_END_STOPPED:
        return command_fail(STATUS_ENDED, "VM '%s' was ended%s%s", cfg->name, r->why[0] ? ": " : "",
                            r->why);
    case VM_END_CRASH:
        return command_fail(STATUS_CRASHED, "the guest crashed%s%s", r->why[0] ? ": " : "", r->why);
    case VM_END_NONE:
    case VM_END_ERROR:
        break;
    }
    return command_fail(STATUS_FAILED, "VM '%s' failed%s%s", cfg->name, r->why[0] ? ": " : "",
                        r->why);
}

/* The status of a VM that is over: `code` of what happened until it ran, `why` its sentence. */
static int over(const struct vm_config *cfg, int code, const struct error *why,
                const struct vm_result *r)
{
    if (code == -EINTR) /* while its memory was populated */
        return command_fail(STATUS_ENDED, "VM '%s' was %s", cfg->name, why->text);
    if (code)
        return command_fail(command_status(code), "%s", why->text);
    return report(cfg, r);
}

static int run_vm(const struct vm_config *cfg)
{
    struct control *control = NULL;
    struct vm_result result = { .end = VM_END_NONE };
    struct run_taken taken = { .count = 0 };
    struct vm *vm = NULL;
    struct error err = { "" }, lost;
    int code, status;

    code = vfio_check(&cfg->devices, cfg->mem_bytes, &err);
    if (!code)
        code = run_devices_take(&taken, &cfg->devices, &err);
    if (!code)
        code = vm_create(&vm, cfg, &err);
    if (!code)
        code = control_create(&control, vm, &err);
    /* Not before the name is ours: it may be the file of a VM that runs. */
    if (!code && cfg->trace && cfg->trace != stderr)
        (void)!ftruncate(fileno(cfg->trace), 0);
    if (!code)
        code = vm_start(vm, &err);
    if (!code)
        vm_wait(vm, &result);
    control_destroy(control);
    vm_destroy(vm);
    status = run_devices_give_back(&taken, &lost) ? STATUS_FAILED : STATUS_OK;
    if (status)
        (void)command_fail(status, "%s", lost.text);
    code = over(cfg, code, &err, &result);
    return code == STATUS_OK ? status : code;
}

static int open_trace(struct run_options *o)
{
    int fd;

    if (!o->trace)
        return STATUS_OK;
    o->cfg.trace = stderr;
    if (!o->trace_path)
        return STATUS_OK;
    /* Not emptied yet; see run_vm(). */
    fd = open(o->trace_path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY, 0666);
    o->cfg.trace = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!o->cfg.trace)
        return command_fail(STATUS_USAGE, "--trace: '%s' can't be written: %s", o->trace_path,
                            strerror(errno));
    return STATUS_OK;
}

static int close_trace(struct run_options *o, int status)
{
    bool lost; /* before the last line: the disk may have room again since */

    if (!o->trace_path || !o->cfg.trace)
        return status;
    lost = ferror(o->cfg.trace);
    if (fclose(o->cfg.trace) == 0 && !lost)
        return status;
    return command_fail(status ? status : STATUS_FAILED, "--trace: '%s' is incomplete: %s",
                        o->trace_path, lost ? "a write failed" : strerror(errno));
}

/* What the command line leaves open. */
static int set_defaults(struct run_options *o)
{
    if (!o->backing_given)
        o->cfg.backing = host_has_thp() ? MEM_THP : MEM_ANON;
    if (!o->cfg.name) {
        (void)snprintf(o->name, sizeof(o->name), "vm-%d", (int)getpid());
        o->cfg.name = o->name;
    }
    if (!o->cmdline)
        return command_fail(STATUS_FAILED, "run: out of memory");
    o->cfg.cmdline = o->cmdline;
    return STATUS_OK;
}

static int run(const struct command *cmd, int argc, char **argv)
{
    struct run_options o = {
        .cfg = { .mem_bytes = MEM_DEFAULT,
                 .cpus = 1,
                 .console = CONSOLE_STDIO,
                 .pages = { .progress = true } },
        .append = "",
    };
    int own = 1, status;

    while (own < argc && strcmp(argv[own], "--") != 0)
        own++;
    status = parse_options(cmd, &o, own, argv);
    if (status || !o.cfg.kernel)
        return status;
    status = check_file("kernel", o.cfg.kernel);
    if (!status && o.cfg.initrd)
        status = check_file("--initrd", o.cfg.initrd);
    if (status)
        return status;
    o.cmdline = join_cmdline(o.append, own < argc ? argc - own - 1 : 0, argv + own + 1);
    status = set_defaults(&o);
    if (!status)
        status = open_trace(&o);
    if (!status) {
        status = run_vm(&o.cfg);
        status = close_trace(&o, status);
    }
    free(o.cmdline);
    return status;
}

const struct command command_run = {
    .name = "run",
    .summary = "run a kernel in a VM",
    .help = help,
    .run = run,
};
