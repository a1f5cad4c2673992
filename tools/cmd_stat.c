#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "tools/client.h"
#include "tools/parse.h"
#include "tools/stat_iommu.h"
#include "tools/stat_pages.h"
#include "tools/stat_pci.h"
#include "tools/stat_shadow.h"
#include "tools/table.h"
#include "vmm/control.h"

static const char help[] =
    "usage: twofold stat [OPTIONS] NAME\n"
    "\n"
    "Shows a VM's state, its exits by vCPU and reason, the accesses to each device, PCI\n"
    "devices with their interrupts, and how much memory is resident, by the page size\n"
    "that the host really mapped.\n"
    "\n"
    "  --json         one object, as docs/control.md describes it\n"
    "  --pages        instead: the pages by state and size, by range, by node, and which\n"
    "                 of them are accessed and dirty (the options below imply it)\n"
    "  --track WHAT   from now on accessed, dirty, or accessed,dirty; off ends both\n"
    "  --interval TIME  forget what was seen, wait, and show what came: the working set\n"
    "  --range RANGE  a part of RAM only, FIRST-END or FIRST+SIZE\n"
    "  -h, --help     this text\n"
    "\n"
    "Exit status: 0; 1 no such VM or no answer; 2 wrong usage.\n";

static json_int_t integer(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static const char *string(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));

    return s ? s : "";
}

static void print_general(const json_t *stat)
{
    const json_t *times = json_object_get(stat, "times");
    const char *cmdline = string(stat, "cmdline");
    char up[32], start[32];

    (void)printf(
        "%s: %s, pid %" JSON_INTEGER_FORMAT ", paging %s, up %s\n", string(stat, "name"),
        string(stat, "state"), integer(stat, "pid"), string(stat, "paging"),
        format_seconds(json_number_value(json_object_get(stat, "uptime_s")), up, sizeof(up)));
    (void)printf("  kernel    %s\n", string(stat, "kernel"));
    if (*cmdline)
        (void)printf("  cmdline   %s\n", cmdline);
    (void)printf("  start     %s to the first instruction\n",
                 format_seconds((double)integer(times, "create_ns") / 1e9, start, sizeof(start)));
}

static const char *bytes(const json_t *object, const char *key, char *buf, size_t size)
{
    return format_bytes((uint64_t)integer(object, key), buf, size);
}

/* What is unusual only: faults that we served, locked and guarded memory. */
static void print_pages(const json_t *pages)
{
    const json_t *faults = json_object_get(pages, "faults");
    const json_t *guards = json_object_get(pages, "guards"), *range;
    json_int_t served =
        integer(faults, "missing") + integer(faults, "minor") + integer(faults, "write_protect");
    char a[32], b[32];
    size_t i;

    if (served)
        (void)printf(
            "  faults    %" JSON_INTEGER_FORMAT " served (%" JSON_INTEGER_FORMAT
            " by huge pages), fault-around %s, %s each\n",
            served, integer(faults, "huge"), bytes(faults, "around_bytes", a, sizeof(a)),
            format_seconds((double)integer(faults, "ns") / 1e9 / (double)served, b, sizeof(b)));
    if (integer(pages, "locked_bytes"))
        (void)printf("  locked    %s\n", bytes(pages, "locked_bytes", a, sizeof(a)));
    json_array_foreach(guards, i, range)(void) printf(
        "  guarded   %s at gpa %s\n", bytes(range, "size", a, sizeof(a)), string(range, "base"));
}

static void print_memory(const json_t *memory)
{
    const json_t *mapped = json_object_get(memory, "mapped_bytes");
    char a[32], b[32], c[32], d[32];

    (void)printf("\nmemory\n");
    (void)printf("  size      %s, backing %s\n", bytes(memory, "bytes", a, sizeof(a)),
                 string(memory, "backing"));
    (void)printf("  resident  %s: 4K pages %s, 2M pages %s, 1G pages %s\n",
                 bytes(memory, "resident_bytes", a, sizeof(a)), bytes(mapped, "4K", b, sizeof(b)),
                 bytes(mapped, "2M", c, sizeof(c)), bytes(mapped, "1G", d, sizeof(d)));
    if (integer(memory, "swapped_bytes"))
        (void)printf("  swapped   %s\n", bytes(memory, "swapped_bytes", a, sizeof(a)));
    stat_print_nodes(json_object_get(memory, "nodes"));
    print_pages(json_object_get(memory, "pages"));
    (void)printf("  monitor   %s besides\n", bytes(memory, "monitor_bytes", a, sizeof(a)));
}

static void print_vcpus(const json_t *vcpus)
{
    static const char *const reasons[] = {
        "total", "pio", "mmio", "hlt", "intr", "traps", "other"
    };
    struct table *t =
        table_create(">vCPU >EXITS >PIO >MMIO >HLT >INTR >TRAPS >OTHER >IN-GUEST >HOST-FAULTS");
    size_t i;
    json_t *cpu;

    json_array_foreach(vcpus, i, cpu)
    {
        const json_t *exits = json_object_get(cpu, "exits");
        const json_t *faults = json_object_get(cpu, "host_faults");
        char time[32];

        table_cell(t, "%" JSON_INTEGER_FORMAT, integer(cpu, "cpu"));
        for (size_t r = 0; r < sizeof(reasons) / sizeof(reasons[0]); r++)
            table_cell(t, "%" JSON_INTEGER_FORMAT, integer(exits, reasons[r]));
        table_cell(t, "%s",
                   format_seconds((double)integer(cpu, "run_ns") / 1e9, time, sizeof(time)));
        table_cell(t, "%" JSON_INTEGER_FORMAT, integer(faults, "minor") + integer(faults, "major"));
    }
    (void)printf("\nvCPUs: exits to the monitor\n");
    table_print(t, "  ", stdout);
}

static void print_devices(const json_t *stat)
{
    struct table *t = table_create("DEVICE SPACE ADDRESS >READS >WRITES");
    size_t i;
    json_t *device;

    json_array_foreach(json_object_get(stat, "devices"), i, device)
    {
        json_int_t base = integer(device, "base");

        table_cell(t, "%s", string(device, "name"));
        table_cell(t, "%s", string(device, "space"));
        table_cell(t, "0x%llx-0x%llx", (unsigned long long)base,
                   (unsigned long long)(base + integer(device, "length") - 1));
        table_cell(t, "%" JSON_INTEGER_FORMAT, integer(device, "reads"));
        table_cell(t, "%" JSON_INTEGER_FORMAT, integer(device, "writes"));
    }
    (void)printf("\ndevices: accesses by the guest\n");
    table_print(t, "  ", stdout);
    (void)printf("  accesses that no device claimed: %" JSON_INTEGER_FORMAT "\n",
                 integer(stat, "unclaimed_accesses"));
}

/* Above the letters, as command_bad_option() wants it. */
enum {
    OPT_JSON = 256,
    OPT_PAGES,
    OPT_TRACK,
    OPT_INTERVAL,
    OPT_RANGE,
};

static const struct option options[] = {
    { "json", no_argument, NULL, OPT_JSON },
    { "pages", no_argument, NULL, OPT_PAGES },
    { "track", required_argument, NULL, OPT_TRACK },
    { "interval", required_argument, NULL, OPT_INTERVAL },
    { "range", required_argument, NULL, OPT_RANGE },
    { "help", no_argument, NULL, 'h' },
    { NULL, 0, NULL, 0 },
};

static int set_option(struct stat_pages_options *o, bool *pages, int opt, struct error *err)
{
    *pages = *pages || opt != OPT_JSON;
    switch (opt) {
    case OPT_JSON:
        o->json = true;
        break;
    case OPT_TRACK:
        if (!*optarg)
            return error_set(err, -EINVAL, "--track: say what: accessed, dirty, both, or off");
        o->track = optarg;
        break;
    case OPT_INTERVAL:
        return parse_seconds("--interval", optarg, &o->interval_s, err);
    case OPT_RANGE:
        return parse_range("--range", optarg, &o->base, &o->size, err);
    default:
        break;
    }
    return 0;
}

static int run(const struct command *cmd, int argc, char **argv)
{
    struct stat_pages_options o = { .name = NULL };
    bool pages = false;
    json_t *stat = NULL;
    struct error err;
    int opt;

    optind = 0;
    while ((opt = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        if (opt == 'h')
            return command_help(cmd);
        if (opt == '?' || opt == ':')
            return command_bad_option(cmd, argv, opt);
        if (set_option(&o, &pages, opt, &err))
            return command_fail(STATUS_USAGE, "%s", err.text);
    }
    if (argc - optind != 1)
        return command_fail(STATUS_USAGE, "%s: name one VM; see 'twofold ps'", cmd->name);
    o.name = argv[optind];
    if (control_name_check(o.name, &err))
        return command_fail(STATUS_USAGE, "%s", err.text);
    if (pages)
        return stat_pages(&o);
    if (client_once(o.name, "stat", NULL, &stat, &err))
        return command_fail(STATUS_FAILED, "%s", err.text);
    if (o.json) {
        client_print_json(stat);
    } else {
        print_general(stat);
        print_memory(json_object_get(stat, "memory"));
        print_vcpus(json_object_get(stat, "vcpus"));
        stat_print_shadow(json_object_get(stat, "shadow"));
        print_devices(stat);
        stat_print_pci(json_object_get(stat, "pci"));
        stat_print_iommu(json_object_get(stat, "iommu"));
    }
    json_decref(stat);
    return STATUS_OK;
}

const struct command command_stat = {
    .name = "stat",
    .summary = "show a VM's exits, devices and memory",
    .help = help,
    .run = run,
};
