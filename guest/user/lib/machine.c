/*
 * What machine this is, for people.
 */
#include "guest/user/lib/lib.h"

static const struct {
    uint32_t bit;
    const char *name;
} features[] = {
    { SYS_FEATURE_SMEP, "smep" },       { SYS_FEATURE_SMAP, "smap" },
    { SYS_FEATURE_UMIP, "umip" },       { SYS_FEATURE_PCID, "pcid" },
    { SYS_FEATURE_INVPCID, "invpcid" }, { SYS_FEATURE_FSGSBASE, "fsgsbase" },
    { SYS_FEATURE_1G, "1g-pages" },     { SYS_FEATURE_X2APIC, "x2apic" },
    { SYS_FEATURE_CONSOLE, "console" }, { SYS_FEATURE_ZEROED, "zeroed-ram" },
};

static const char *memory_type(uint32_t type)
{
    static const char *const names[] = {
        "?", "usable", "reserved", "ACPI", "ACPI NVS", "unusable"
    };

    return type < sizeof names / sizeof names[0] ? names[type] : "?";
}

static void print_cpu(const struct sys_info *info)
{
    const char *name = info->cpu_name;

    while (*name == ' ')
        name++;
    printf("twofold guest, %u CPU%s, %lu MiB\n", info->cpus, info->cpus == 1 ? "" : "s",
           info->ram_bytes >> 20);
    printf("cpu: %s %s, TSC %lu MHz\n", info->cpu_vendor, name, info->tsc_hz / 1000000);
    if (info->hypervisor[0] != '\0')
        printf("hypervisor: %s\n", info->hypervisor);
    printf("uses: nx");
    for (size_t i = 0; i < sizeof features / sizeof features[0]; i++)
        if (info->features & features[i].bit)
            printf(" %s", features[i].name);
    printf("\n");
}

static void print_memory(const struct sys_info *info)
{
    struct sys_memory m = { 0 };

    printf("memory map:\n");
    for (unsigned i = 0; sys_info(SYS_INFO_MEMORY, i, &m, sizeof m) > 0; i++)
        printf("  %012lx-%012lx %s\n", m.start, m.end - 1, memory_type(m.type));
    printf("initrd: %012lx, %lu KiB%s\n", info->initrd_gpa, info->initrd_bytes >> 10,
           info->initrd_builtin ? ", built in" : "");
    printf("page allocator: %lu of %lu KiB free\n", info->mem_free >> 10, info->mem_total >> 10);
}

static void print_times(void)
{
    struct sys_time t = { 0 };

    printf("start-up:");
    for (unsigned i = 0; sys_info(SYS_INFO_TIME, i, &t, sizeof t) > 0; i++)
        printf("%s %s %lu us", i > 0 ? "," : "", t.stage, t.ns / 1000);
    printf("\n");
}

void print_machine(void)
{
    struct sys_info info = info_general();

    print_cpu(&info);
    print_memory(&info);
    print_times();
}
