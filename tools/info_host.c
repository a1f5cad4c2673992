#include "tools/info.h"

#include <cpuid.h>
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "vmm/control_command.h"

char *info_line(const char *path, char *buf, size_t size)
{
    FILE *f = fopen(path, "re");

    buf[0] = 0;
    if (!f)
        return buf;
    if (!fgets(buf, (int)size, f))
        buf[0] = 0;
    buf[strcspn(buf, "\n")] = 0;
    (void)fclose(f);
    return buf;
}

long long info_number(const char *path)
{
    char line[64], *end;
    long long n;

    (void)info_line(path, line, sizeof(line));
    n = strtoll(line, &end, 10);
    return end == line ? -1 : n;
}

/* A field of the first CPU in /proc/cpuinfo. */
static void cpuinfo_field(const char *name, char *buf, size_t size)
{
    FILE *f = fopen("/proc/cpuinfo", "re");
    char line[1024];
    size_t n = strlen(name);

    buf[0] = 0;
    while (f && !buf[0] && fgets(line, sizeof(line), f)) {
        const char *colon = strchr(line, ':');

        if (colon && !strncmp(line, name, n) &&
            strspn(line + n, " \t") + n == (size_t)(colon - line))
            (void)snprintf(buf, size, "%s", colon + 1 + strspn(colon + 1, " \t"));
    }
    buf[strcspn(buf, "\n")] = 0;
    if (f)
        (void)fclose(f);
}

/* Folders called PREFIXnumber in `path`: NUMA nodes, for one. */
static int count_numbered(const char *path, const char *prefix)
{
    DIR *dir = opendir(path);
    size_t n = strlen(prefix);
    const struct dirent *entry;
    int count = 0;

    while (dir && (entry = readdir(dir))) {
        const char *digits = entry->d_name + n;

        if (!strncmp(entry->d_name, prefix, n) && *digits &&
            strspn(digits, "0123456789") == strlen(digits))
            count++;
    }
    if (dir)
        closedir(dir);
    return count;
}

static json_t *cpu_json(void)
{
    char model[128], microcode[32], bits[64];

    cpuinfo_field("model name", model, sizeof(model));
    cpuinfo_field("microcode", microcode, sizeof(microcode));
    cpuinfo_field("address sizes", bits, sizeof(bits));
    return json_pack("{s:o, s:s, s:s, s:i}", "model", control_text(model), "microcode", microcode,
                     "address_sizes", bits, "online", (int)sysconf(_SC_NPROCESSORS_ONLN));
}

/* --- is this host a guest? ----------------------------------------------------------- */

/* What CPUID leaf 0x40000000 calls itself, and what people call that. */
static const struct {
    const char *signature, *name;
} hypervisors[] = {
    { "KVMKVMKVM", "KVM" },           { "Linux KVM Hv", "KVM" },
    { "TCGTCGTCGTCG", "QEMU (TCG)" }, { "Microsoft Hv", "Hyper-V" },
    { "VMwareVMware", "VMware" },     { "XenVMMXenVMM", "Xen" },
    { "VBoxVBoxVBox", "VirtualBox" }, { "bhyve bhyve ", "bhyve" },
    { "ACRNACRNACRN", "ACRN" },       { " lrpepyh  vr", "Parallels" },
    { "SRESRESRESRE", "LMHS" },       { "QNXQVMBSQG", "QNX" },
    { "EVMMEVMMEVMM", "Intel TDX" },  { "TwoFoldTwoFo", "twofold" },
};

static const char *hypervisor_name(const char *signature)
{
    for (size_t i = 0; i < sizeof(hypervisors) / sizeof(hypervisors[0]); i++) {
        if (!strcmp(hypervisors[i].signature, signature))
            return hypervisors[i].name;
    }
    return "unknown";
}

/* The signature at one base of the hypervisor leaves; "" when nothing readable is there. */
static void read_signature(unsigned base, char sig[13])
{
    unsigned max, r[3];

    __cpuid(base, max, r[0], r[1], r[2]);
    memcpy(sig, r, sizeof(r));
    sig[12] = 0;
    if (max < base || max > base + 0xffff)
        sig[0] = 0;
    for (size_t i = 0; sig[i]; i++) {
        if (sig[i] < ' ' || sig[i] > '~')
            sig[i] = '?';
    }
}

/*
 * A hypervisor may show Hyper-V's leaves first, for Windows, and its own 0x100
 * further on; the later one is what it really is.
 */
static void find_signature(char sig[13])
{
    char other[13];

    read_signature(0x40000000, sig);
    for (unsigned base = 0x40000100; base <= 0x40000400; base += 0x100) {
        read_signature(base, other);
        if (strcmp(other, "TwoFoldTwoFo") == 0 || (!strcmp(sig, "Microsoft Hv") && other[0]))
            memcpy(sig, other, sizeof(other));
    }
}

/* An emulator may hide the CPUID bit; its firmware tells all the same. NULL when it does not. */
static const char *emulator_of_dmi(const char *vendor, const char *product)
{
    if (strstr(vendor, "Bochs") || strstr(product, "Bochs"))
        return "Bochs";
    return strstr(vendor, "QEMU") ? "QEMU" : NULL;
}

static json_t *guest_json(void)
{
    unsigned a = 0, b = 0, c = 0, d = 0;
    char sig[13] = "", vendor[128], product[128], type[32];
    const char *name;

    (void)info_line("/sys/class/dmi/id/sys_vendor", vendor, sizeof(vendor));
    (void)info_line("/sys/class/dmi/id/product_name", product, sizeof(product));
    (void)info_line("/sys/hypervisor/type", type, sizeof(type));
    name = emulator_of_dmi(vendor, product);
    if (__get_cpuid(1, &a, &b, &c, &d) && (c & (1u << 31))) {
        find_signature(sig);
        if (sig[0])
            name = hypervisor_name(sig);
        else if (!name)
            name = type[0] ? type : "unknown";
    }
    return json_pack("{s:b, s:s, s:s, s:o, s:o}", "is_guest", name != NULL, "hypervisor",
                     name ? name : "", "signature", sig, "dmi_vendor", control_text(vendor),
                     "dmi_product", control_text(product));
}

static json_t *limit_json(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_MEMLOCK, &r) || r.rlim_cur == RLIM_INFINITY)
        return json_null();
    return json_integer((json_int_t)r.rlim_cur);
}

json_t *info_host(void)
{
    int nodes = count_numbered("/sys/devices/system/node", "node");
    struct utsname uts = { 0 };
    struct sysinfo si = { 0 };

    (void)uname(&uts);
    (void)sysinfo(&si);
    return json_pack("{s:s, s:o, s:o, s:I, s:i, s:o}", "kernel", uts.release, "cpu", cpu_json(),
                     "guest", guest_json(), "memory_bytes",
                     (json_int_t)si.totalram * (json_int_t)si.mem_unit, "numa_nodes",
                     nodes ? nodes : 1, "memlock_bytes", limit_json());
}
