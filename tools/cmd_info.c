#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "tools/client.h"
#include "tools/info.h"
#include "tools/table.h"

static const char help[] =
    "usage: twofold info [--json]\n"
    "\n"
    "Says what this host offers: KVM and its back end, whether the hardware walks both\n"
    "dimensions of translation, the capabilities that twofold uses, page sizes,\n"
    "userfaultfd, IOMMU, performance counters. Works without KVM too.\n"
    "\n"
    "  --json         one object\n"
    "  -h, --help     this text\n"
    "\n"
    "Exit status: 0; 2 wrong usage.\n";

static const json_t *get(const json_t *object, const char *path)
{
    char key[64];

    while (object && *path) {
        size_t n = strcspn(path, ".");

        (void)snprintf(key, sizeof(key), "%.*s", (int)n, path);
        object = json_object_get(object, key);
        path += n + (path[n] == '.');
    }
    return object;
}

static const char *text(const json_t *object, const char *path)
{
    const char *s = json_string_value(get(object, path));

    return s && *s ? s : "unknown";
}

static bool yes(const json_t *object, const char *path)
{
    return json_is_true(get(object, path));
}

static json_int_t number(const json_t *object, const char *path)
{
    return json_integer_value(get(object, path));
}

/* --- what it means ------------------------------------------------------------------- */

/* One plain sentence on who translates gpa to hpa here, and what lies below it. */
static void explain(const json_t *info, char *buf, size_t size)
{
    const char *nested = text(info, "kvm.backend.nested_paging");
    const char *hypervisor = text(info, "host.guest.hypervisor");
    const char *how;

    if (!yes(info, "kvm.available"))
        how = "no VM can run here, so there is no second dimension to look at";
    else if (!strcmp(nested, "yes"))
        how = "the processor walks both dimensions: the guest's tables and, for each step of "
              "them, the nested tables that KVM keeps";
    else if (!strcmp(nested, "no"))
        how = "KVM composes both dimensions into shadow tables, and the processor walks only "
              "those: one dimension";
    else
        how = "KVM does not say whether the processor walks both dimensions";
    if (!yes(info, "host.guest.is_guest"))
        (void)snprintf(buf, size, "%s", how);
    else if (!strcmp(hypervisor, "QEMU (TCG)") || !strcmp(hypervisor, "Bochs"))
        (void)snprintf(buf, size,
                       "%s; this host is emulated in software (%s), so what is translated to what "
                       "is right, but how long it takes is the emulator's",
                       how, hypervisor);
    else
        (void)snprintf(buf, size,
                       "%s; this host is itself a guest (of %s), so below what it calls physical "
                       "lies a further dimension that it can't see, and every measurement here, "
                       "native ones included, pays for it",
                       how, hypervisor);
}

/* --- text ------------------------------------------------------------------------------ */

static void line(const char *what, const char *value)
{
    (void)printf("  %-18s %s\n", what, value);
}

/* Folds a long sentence at blanks. */
static void print_folded(const char *s)
{
    const size_t width = 86;

    while (*s) {
        size_t n = strlen(s);

        if (n > width) {
            for (n = width; n > 0 && s[n] != ' ';)
                n--;
            if (n == 0)
                n = strcspn(s, " ");
        }
        (void)printf("  %.*s\n", (int)n, s);
        s += n + strspn(s + n, " ");
    }
}

static void print_host(const json_t *info)
{
    const json_t *memlock = get(info, "host.memlock_bytes");
    const char *product = json_string_value(get(info, "host.guest.dmi_product"));
    char buf[32];

    (void)printf("host\n");
    (void)printf("  %-18s %s, %" JSON_INTEGER_FORMAT " online\n", "CPU",
                 text(info, "host.cpu.model"), number(info, "host.cpu.online"));
    line("microcode", text(info, "host.cpu.microcode"));
    line("addresses", text(info, "host.cpu.address_sizes"));
    line("kernel", text(info, "host.kernel"));
    (void)printf("  %-18s %s, %" JSON_INTEGER_FORMAT " NUMA node%s\n", "memory",
                 format_bytes((uint64_t)number(info, "host.memory_bytes"), buf, sizeof(buf)),
                 number(info, "host.numa_nodes"), number(info, "host.numa_nodes") == 1 ? "" : "s");
    line("lockable memory",
         json_is_null(memlock)
             ? "unlimited"
             : format_bytes((uint64_t)json_integer_value(memlock), buf, sizeof(buf)));
    if (yes(info, "host.guest.is_guest"))
        (void)printf("  %-18s yes: %s%s%s\n", "itself a guest", text(info, "host.guest.hypervisor"),
                     *product ? ", on " : "", product);
    else
        line("itself a guest", "no");
}

/* A property of the back end that only some have. */
static void print_property(const json_t *info, const char *what, const char *path)
{
    if (strcmp(text(info, path), "unknown") != 0)
        line(what, text(info, path));
}

/* What `run --paging` takes here. */
static void print_paging(const json_t *info)
{
    bool shadow = yes(info, "kvm.paging.shadow.available");

    (void)printf("  %-18s nested: yes, by %s\n", "run --paging",
                 text(info, "kvm.paging.nested.by"));
    (void)printf("  %-18s shadow: %s%s%s\n", "", shadow ? "yes" : "no, as it needs ",
                 shadow ? "" : text(info, "kvm.paging.shadow.needs"),
                 shadow ? ", by the monitor's shadow tables" : "");
}

static void print_kvm(const json_t *info)
{
    const json_t *cap;
    size_t i;

    (void)printf("\nKVM\n");
    if (!yes(info, "kvm.available")) {
        line("/dev/kvm", text(info, "kvm.why"));
        return;
    }
    (void)printf("  %-18s version %" JSON_INTEGER_FORMAT "\n", "API", number(info, "kvm.api"));
    (void)printf("  %-18s %s, module %s\n", "back end", text(info, "kvm.backend.name"),
                 text(info, "kvm.backend.module"));
    line("nested paging", text(info, "kvm.backend.nested_paging"));
    print_property(info, "tagged TLB", "kvm.backend.tagged_tlb");
    print_property(info, "A/D bits", "kvm.backend.accessed_dirty_bits");
    print_property(info, "VMs in VMs", "kvm.backend.nested_virt");
    (void)printf("  %-18s at most %" JSON_INTEGER_FORMAT ", recommended %" JSON_INTEGER_FORMAT "\n",
                 "vCPUs", number(info, "kvm.limits.vcpus_max"),
                 number(info, "kvm.limits.vcpus_recommended"));
    (void)printf("  %-18s %" JSON_INTEGER_FORMAT "\n", "memory slots",
                 number(info, "kvm.limits.memory_slots"));
    print_paging(info);
    json_array_foreach(get(info, "kvm.capabilities"), i, cap)(void)
        printf("  %-18s %-3s  %s\n", text(cap, "name"), yes(cap, "available") ? "yes" : "no",
               text(cap, "use"));
}

static void print_pools(const json_t *pools)
{
    const json_t *pool;
    char buf[32];
    size_t i;

    json_array_foreach(pools, i, pool)(void)
        printf("  hugetlb %-10s %" JSON_INTEGER_FORMAT " pages, %" JSON_INTEGER_FORMAT " free\n",
               format_bytes((uint64_t)number(pool, "page_bytes"), buf, sizeof(buf)),
               number(pool, "total"), number(pool, "free"));
}

static void print_memory(const json_t *info)
{
    const json_t *feature;
    char buf[32];
    size_t i;

    (void)printf("\npages\n");
    line("base", format_bytes((uint64_t)number(info, "memory.page_bytes"), buf, sizeof(buf)));
    (void)printf("  %-18s %s, defrag %s\n", "transparent huge", text(info, "memory.thp.enabled"),
                 text(info, "memory.thp.defrag"));
    print_pools(get(info, "memory.hugetlb"));
    line("idle tracking", yes(info, "memory.idle_page_tracking") ? "yes" : "no");
    (void)printf("  %-18s %s: %s", "userfaultfd",
                 yes(info, "memory.userfaultfd.available") ? "yes" : "no",
                 text(info, "memory.userfaultfd.mode"));
    json_array_foreach(get(info, "memory.userfaultfd.features"), i, feature)
    {
        if (i % 5 == 0)
            (void)printf("\n%21s", "");
        (void)printf("%s%s", i % 5 ? ", " : "", json_string_value(feature));
    }
    (void)putchar('\n');
}

static void print_devices(const json_t *info)
{
    const char *why = json_string_value(get(info, "devices.pmu.why"));
    json_int_t groups = number(info, "devices.iommu_groups");

    (void)printf("\ndevices and counters\n");
    if (groups)
        (void)printf("  %-18s %" JSON_INTEGER_FORMAT " group%s\n", "IOMMU", groups,
                     groups == 1 ? "" : "s");
    else
        line("IOMMU", "none in use");
    line("VFIO", yes(info, "devices.vfio") ? "yes" : "no");
    line("iommufd", yes(info, "devices.iommufd") ? "yes" : "no");
    line("PMU cycles", yes(info, "devices.pmu.cycles") ? "yes" : why);
    line("PMU TLB misses", yes(info, "devices.pmu.dtlb_misses") ? "yes" : why);
}

static int run(const struct command *cmd, int argc, char **argv)
{
    struct client_options o = { 0 };
    char sentence[512];
    json_t *info;
    int status;

    if (!client_options(cmd, argc, argv, false, &o, &status))
        return status;
    info = json_pack("{s:o, s:o, s:o, s:o}", "host", info_host(), "kvm", info_kvm(), "memory",
                     info_memory(), "devices", info_devices());
    explain(info, sentence, sizeof(sentence));
    (void)json_object_set_new(info, "translation", json_string(sentence));
    if (o.json) {
        client_print_json(info);
    } else {
        print_host(info);
        print_kvm(info);
        (void)printf("\ntranslation\n");
        print_folded(sentence);
        print_memory(info);
        print_devices(info);
    }
    json_decref(info);
    return STATUS_OK;
}

const struct command command_info = {
    .name = "info",
    .summary = "say what this host offers",
    .help = help,
    .run = run,
};
