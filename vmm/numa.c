#include "vmm/numa.h"

#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <numa.h>
#include <numaif.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/hugepages.h"

static const struct {
    const char *name;
    int mode;
} policies[] = {
    [NUMA_LOCAL] = { "local", MPOL_PREFERRED }, /* with no node */
    [NUMA_BIND] = { "bind", MPOL_BIND },
    [NUMA_INTERLEAVE] = { "interleave", MPOL_INTERLEAVE },
    [NUMA_PREFERRED] = { "preferred", MPOL_PREFERRED },
};
#define POLICIES (sizeof(policies) / sizeof(policies[0]))

/* --- text ------------------------------------------------------------------------------ */

/* A number below NUMA_NODES_MAX at *text, which moves behind it; -1: none. */
static int parse_node(const char **text)
{
    char *end;
    unsigned long n;

    if (**text < '0' || **text > '9')
        return -1;
    n = strtoul(*text, &end, 10);
    *text = end;
    return n < NUMA_NODES_MAX ? (int)n : -1;
}

/* "0,2-3" */
static bool parse_nodes(const char *text, uint64_t *nodes)
{
    *nodes = 0;
    for (;; text++) {
        int first = parse_node(&text), last = first;

        if (first >= 0 && *text == '-') {
            text++;
            last = parse_node(&text);
        }
        if (first < 0 || last < first)
            return false;
        for (int n = first; n <= last; n++)
            *nodes |= UINT64_C(1) << n;
        if (*text == '\0')
            return true;
        if (*text != ',')
            return false;
    }
}

int numa_parse(const char *text, struct numa_place *out, struct error *err)
{
    size_t len = strcspn(text, ":");
    uint64_t nodes = 0;

    for (size_t i = 0; i < POLICIES; i++) {
        if (strlen(policies[i].name) != len || strncmp(text, policies[i].name, len) != 0)
            continue;
        if ((i == NUMA_LOCAL) != (text[len] == '\0'))
            return error_set(err, -EINVAL,
                             i == NUMA_LOCAL ? "--numa: '%s': local takes no nodes"
                                             : "--numa: '%s' names no nodes, as in bind:0 or "
                                               "interleave:0-1",
                             text);
        if (i != NUMA_LOCAL && !parse_nodes(text + len + 1, &nodes))
            return error_set(err, -EINVAL, "--numa: '%s': nodes are numbers below %d, as in 0,2-3",
                             text, NUMA_NODES_MAX);
        if (i == NUMA_PREFERRED && nodes & (nodes - 1))
            return error_set(err, -EINVAL, "--numa: '%s': only one node can be preferred", text);
        out->policy = (enum numa_policy)i;
        out->nodes = nodes;
        return 0;
    }
    return error_set(err, -EINVAL,
                     "--numa: '%s' is none; use local, bind:NODES, interleave:NODES or "
                     "preferred:NODE",
                     text);
}

char *numa_nodes_name(uint64_t nodes, char *buf, size_t size)
{
    size_t used = 0;

    if (size)
        buf[0] = '\0';
    for (unsigned n = 0; n < NUMA_NODES_MAX && used < size; n++) {
        unsigned last = n;

        if (!(nodes >> n & 1))
            continue;
        while (last + 1 < NUMA_NODES_MAX && nodes >> (last + 1) & 1)
            last++;
        used += (size_t)snprintf(buf + used, size - used, last > n ? "%s%u-%u" : "%s%u",
                                 used ? "," : "", n, last);
        n = last;
    }
    return buf;
}

/* --- placing ---------------------------------------------------------------------------- */

/* The calls that we make, as numa.h and numaif.h declare them. */
struct libnuma {
    __typeof__(&numa_available) available;
    __typeof__(&mbind) mbind;
};

static bool libnuma_symbol(void *handle, const char *name, void *where)
{
    void *symbol = dlsym(handle, name);

    memcpy(where, &symbol, sizeof(symbol)); /* ISO C casts no pointer to data into one to code */
    return symbol;
}

/* Loaded where memory is to be placed and nowhere else: its constructor makes dozens of system
 * calls, which each start of a VM would pay for. It stays until the process ends. */
static bool libnuma_load(struct libnuma *lib, struct error *err)
{
    void *handle = dlopen("libnuma.so.1", RTLD_NOW | RTLD_LOCAL);

    if (!handle || !libnuma_symbol(handle, "numa_available", &lib->available) ||
        !libnuma_symbol(handle, "mbind", &lib->mbind)) {
        (void)error_set(err, -ENOSYS,
                        "--numa needs libnuma.so.1, which can't be loaded: install the Debian "
                        "package libnuma1");
        return false;
    }
    if (lib->available() < 0)
        (void)error_set(err, -ENOTSUP, "--numa: this kernel knows no NUMA nodes");
    return lib->available() >= 0;
}

/* "0,2-3" of the kernel's; nodes that we have no bit for are left out. */
static uint64_t kernel_list(const char *text)
{
    uint64_t nodes = 0;
    unsigned first, last;
    int used;

    while (sscanf(text, "%u%n", &first, &used) == 1) {
        text += used;
        last = first;
        if (sscanf(text, "-%u%n", &last, &used) == 1)
            text += used;
        for (unsigned n = first; n <= last && n < NUMA_NODES_MAX; n++)
            nodes |= UINT64_C(1) << n;
        if (*text++ != ',')
            break;
    }
    return nodes;
}

/* The list in the line of a file that begins with `key`; `otherwise` when there is none. */
static uint64_t kernel_nodes(const char *path, const char *key, uint64_t otherwise)
{
    FILE *f = fopen(path, "re");
    char *line = NULL;
    size_t size = 0;

    if (!f)
        return otherwise;
    while (getline(&line, &size, f) > 0)
        if (strncmp(line, key, strlen(key)) == 0) {
            otherwise = kernel_list(line + strlen(key));
            break;
        }
    free(line);
    (void)fclose(f);
    return otherwise;
}

uint64_t numa_nodes(void)
{
    /* What a cpuset keeps from us is as good as not there. */
    return kernel_nodes("/sys/devices/system/node/has_memory", "", 0) &
           kernel_nodes("/proc/self/status", "Mems_allowed_list:", UINT64_MAX);
}

/* Huge pages of `page` bytes that the nodes have free. */
static uint64_t free_huge(uint64_t nodes, uint64_t page)
{
    uint64_t sum = 0;

    for (unsigned n = 0; n < NUMA_NODES_MAX; n++) {
        char path[128];
        uint64_t free_pages = 0;
        FILE *f;

        if (!(nodes >> n & 1))
            continue;
        (void)snprintf(path, sizeof(path),
                       "/sys/devices/system/node/node%u/hugepages/hugepages-%" PRIu64
                       "kB/free_hugepages",
                       n, page >> 10);
        f = fopen(path, "re");
        if (!f)
            continue;
        if (fscanf(f, "%" SCNu64, &free_pages) == 1)
            sum += free_pages;
        (void)fclose(f);
    }
    return sum;
}

/* Reserved pages are the host's as a whole: bound to a node that lacks them, a touch would be
 * SIGBUS. */
static int huge_check(const struct mem_slot *slot, const struct numa_place *place, uint64_t len,
                      struct error *err)
{
    uint64_t page = mem_backing_page(slot->backing), have;
    char names[64];

    if (page == PAGE_SIZE_4K || place->policy != NUMA_BIND)
        return 0;
    have = free_huge(place->nodes, page);
    if (have >= len / page)
        return 0;
    return error_set(err, -ENOMEM,
                     "--numa bind:%s needs %" PRIu64 " huge pages of %s there, and %" PRIu64
                     " are free: see /sys/devices/system/node/node*/hugepages",
                     numa_nodes_name(place->nodes, names, sizeof(names)), len / page,
                     hugepages_size_name(page), have);
}

static int place_run(const struct libnuma *lib, const struct mem_slot *slot, uint64_t offset,
                     uint64_t len, const struct numa_place *place, struct error *err)
{
    unsigned long mask = place->nodes;
    int rc = huge_check(slot, place, len, err);

    if (rc < 0)
        return rc;
    if (lib->mbind(slot->host + offset, len, policies[place->policy].mode, mask ? &mask : NULL,
                   mask ? sizeof(mask) * 8 + 1 : 0, 0) == 0)
        return 0;
    return error_set(err, -errno, "--numa %s: the kernel refuses it: %s",
                     policies[place->policy].name, strerror(errno));
}

static int place_check(struct memory *mem, const struct numa_place *place, uint64_t have,
                       struct error *err)
{
    uint64_t page;
    size_t count;
    const struct mem_slot *slot = memory_slots(mem, &count);
    char asked[64], names[64];

    if (place->nodes & ~have)
        return error_set(err, -EINVAL, "--numa: there is no node %s: this host has %s %s",
                         numa_nodes_name(place->nodes & ~have, asked, sizeof(asked)),
                         have & (have - 1) ? "nodes" : "one node,",
                         numa_nodes_name(have, names, sizeof(names)));
    page = mem_backing_page(slot->backing);
    if (place->size && (place->base.v % page || place->size % page))
        return error_set(err, -EINVAL,
                         "--numa: 0x%" PRIx64 "-0x%" PRIx64 " are no pages of %s each",
                         place->base.v, place->base.v + place->size, hugepages_size_name(page));
    return 0;
}

static int place_one(const struct libnuma *lib, struct memory *mem, const struct numa_place *place,
                     struct error *err)
{
    size_t count;
    const struct mem_slot *slot = memory_slots(mem, &count);
    uint64_t covered = 0;
    int rc = 0;

    for (size_t i = 0; i < count && rc == 0; i++) {
        uint64_t first = slot[i].base.v, end = first + slot[i].size;

        if (place->size && place->base.v > first)
            first = place->base.v;
        if (place->size && place->base.v + place->size < end)
            end = place->base.v + place->size;
        if (first >= end)
            continue;
        covered += end - first;
        rc = place_run(lib, &slot[i], first - slot[i].base.v, end - first, place, err);
    }
    if (rc == 0 && place->size && covered != place->size)
        rc = error_set(err, -EINVAL, "--numa: 0x%" PRIx64 "-0x%" PRIx64 " is not RAM as a whole",
                       place->base.v, place->base.v + place->size);
    return rc;
}

int numa_place(struct memory *mem, const struct numa_config *cfg, struct error *err)
{
    struct libnuma lib = { NULL, NULL };
    uint64_t have;
    int rc = 0;

    if (cfg->places == 0)
        return 0;
    have = numa_nodes();
    if (!have)
        return error_set(err, -ENOTSUP, "--numa: this kernel knows no NUMA nodes");
    if (!libnuma_load(&lib, err))
        return -ENOSYS;
    for (size_t i = 0; i < cfg->places && rc == 0; i++) {
        rc = place_check(mem, &cfg->place[i], have, err);
        if (rc == 0)
            rc = place_one(&lib, mem, &cfg->place[i], err);
    }
    return rc;
}

/* --- where it is -------------------------------------------------------------------------- */

/* "7f0000000000 bind:0 anon=5 N0=3 N1=2 kernelpagesize_kB=4" */
static void count_line(char *line, uint64_t bytes[NUMA_NODES_MAX])
{
    uint64_t pages[NUMA_NODES_MAX] = { 0 }, kib = 4;
    char *save = NULL;

    for (char *word = strtok_r(line, " \n", &save); word; word = strtok_r(NULL, " \n", &save)) {
        unsigned node;
        uint64_t n;

        if (sscanf(word, "N%u=%" SCNu64, &node, &n) == 2 && node < NUMA_NODES_MAX)
            pages[node] = n;
        else
            (void)sscanf(word, "kernelpagesize_kB=%" SCNu64, &kib);
    }
    for (size_t n = 0; n < NUMA_NODES_MAX; n++)
        bytes[n] += pages[n] * kib << 10;
}

int numa_usage(const struct memory *mem, uint64_t bytes[NUMA_NODES_MAX])
{
    size_t count;
    const struct mem_slot *slot = memory_slots(mem, &count);
    FILE *f = fopen("/proc/self/numa_maps", "re");
    char line[4096];

    memset(bytes, 0, NUMA_NODES_MAX * sizeof(*bytes));
    if (!f)
        return -errno;
    while (fgets(line, sizeof(line), f)) {
        uint64_t at = strtoull(line, NULL, 16);

        /* RAM is one range of hva. */
        if (at - (uintptr_t)slot[0].host < memory_size(mem))
            count_line(line, bytes);
    }
    (void)fclose(f);
    return 0;
}
