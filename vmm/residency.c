#include "vmm/residency.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* The fields of one mapping in smaps that we look at, in KiB as the kernel gives them. */
struct mapping {
    uint64_t rss, swap, page;
    uint64_t huge;    /* anonymous, shared memory or file, mapped by a PMD */
    uint64_t hugetlb; /* not part of rss */
};

static void read_field(struct mapping *m, const char *line)
{
    static const struct {
        const char *name;
        size_t at;
    } fields[] = {
        { "Rss:", offsetof(struct mapping, rss) },
        { "Swap:", offsetof(struct mapping, swap) },
        { "KernelPageSize:", offsetof(struct mapping, page) },
        { "AnonHugePages:", offsetof(struct mapping, huge) },
        { "ShmemPmdMapped:", offsetof(struct mapping, huge) },
        { "FilePmdMapped:", offsetof(struct mapping, huge) },
        { "Shared_Hugetlb:", offsetof(struct mapping, hugetlb) },
        { "Private_Hugetlb:", offsetof(struct mapping, hugetlb) },
    };

    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        size_t n = strlen(fields[i].name);
        uint64_t kib;

        if (!strncmp(line, fields[i].name, n) && sscanf(line + n, "%" SCNu64, &kib) == 1)
            *(uint64_t *)((char *)m + fields[i].at) += kib;
    }
}

static bool is_guest(const struct memory *mem, uintptr_t start, uintptr_t end)
{
    size_t count;
    const struct mem_slot *slot = memory_slots(mem, &count);

    for (size_t i = 0; i < count; i++) {
        uintptr_t host = (uintptr_t)slot[i].host;

        if (start < host + slot[i].size && host < end)
            return true;
    }
    return false;
}

static void account(struct residency *r, const struct mapping *m, bool guest)
{
    if (!guest) {
        r->monitor += (m->rss + m->hugetlb) << 10;
        return;
    }
    r->swapped += m->swap << 10;
    r->mapped_2m += m->huge << 10;
    r->mapped_4k += (m->rss > m->huge ? m->rss - m->huge : 0) << 10;
    if (m->page << 10 == PAGE_SIZE_1G)
        r->mapped_1g += m->hugetlb << 10;
    else
        r->mapped_2m += m->hugetlb << 10;
}

void residency_read(const struct memory *mem, struct residency *out)
{
    FILE *f = fopen("/proc/self/smaps", "re");
    struct mapping m = { 0 };
    bool guest = false, any = false;
    char line[512];

    *out = (struct residency){ 0 };
    if (!f)
        return;
    while (fgets(line, sizeof(line), f)) {
        uintptr_t start, end;

        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &start, &end) == 2) {
            if (any)
                account(out, &m, guest);
            m = (struct mapping){ 0 };
            guest = is_guest(mem, start, end);
            any = true;
        } else {
            read_field(&m, line);
        }
    }
    if (any)
        account(out, &m, guest);
    (void)fclose(f);
}
