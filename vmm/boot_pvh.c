/*
 * The PVH start: "x86/HVM direct boot ABI" (Xen's docs/misc/pvh.pandoc), with the
 * structures of Xen's public header arch-x86/hvm/start_info.h, version 1.
 */
#include "vmm/boot_image.h"

#include <errno.h>

#define START_MAGIC   0x336ec578u
#define START_VERSION 1 /* has the memory map */

struct start_info {
    uint32_t magic, version, flags, nr_modules;
    uint64_t modlist, cmdline, rsdp, memmap;
    uint32_t memmap_entries, reserved;
};

struct modlist_entry {
    uint64_t at, size, cmdline, reserved;
};

struct memmap_entry {
    uint64_t at, size;
    uint32_t type, reserved;
};

/* All of it lies in one page at BOOT_INFO_GPA. */
struct page {
    struct start_info start;
    struct modlist_entry module;
    struct memmap_entry map[BOOT_RANGES_MAX];
};

_Static_assert(sizeof(struct start_info) == 56, "start_info.h, version 1");
_Static_assert(sizeof(struct modlist_entry) == 32, "start_info.h, version 1");
_Static_assert(sizeof(struct memmap_entry) == 24, "start_info.h, version 1");

int boot_pvh_write(struct memory *mem, const struct boot_facts *facts, struct boot_entry *out,
                   struct error *err)
{
    struct boot_range range[BOOT_RANGES_MAX];
    size_t count = boot_memory_map(mem, range);
    struct page page = {
        .start = {
            .magic = START_MAGIC,
            .version = START_VERSION,
            .cmdline = BOOT_CMDLINE_GPA,
            .rsdp = facts->rsdp.v,
            .memmap = BOOT_INFO_GPA + offsetof(struct page, map),
            .memmap_entries = (uint32_t)count,
        },
    };
    int rc;

    for (size_t i = 0; i < count; i++) {
        page.map[i].at = range[i].at;
        page.map[i].size = range[i].size;
        page.map[i].type = range[i].type;
    }
    if (facts->initrd_name) {
        page.start.nr_modules = 1;
        page.start.modlist = BOOT_INFO_GPA + offsetof(struct page, module);
        page.module.at = facts->initrd_at;
        page.module.size = facts->initrd_size;
        page.module.cmdline = BOOT_NAME_GPA;
    }
    rc = boot_cmdline_write(mem, NULL, facts->cmdline, err);
    if (rc < 0)
        return rc;
    if (memory_write(mem, gpa(BOOT_INFO_GPA), &page, sizeof(page)) < 0)
        return error_set(err, -EFAULT, "no RAM at 0x%x for the PVH start information",
                         BOOT_INFO_GPA);
    out->eax = 0;
    out->ebx = BOOT_INFO_GPA;
    return 0;
}
