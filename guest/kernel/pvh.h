/*
 * What a PVH loader hands over (Xen's arch-x86/hvm/start_info.h, "Start of day
 * structure passed to PVH guests"). All addresses are gpas.
 */
#ifndef GUEST_KERNEL_PVH_H
#define GUEST_KERNEL_PVH_H

#include <stdint.h>

#define PVH_MAGIC 0x336ec578u

struct pvh_start_info {
    uint32_t magic, version, flags, n_modules;
    uint64_t modules, cmdline, rsdp;
    uint64_t memmap; /* from version 1 on */
    uint32_t n_memmap, reserved;
};

struct pvh_module {
    uint64_t gpa, size, cmdline, reserved;
};

struct pvh_memmap {
    uint64_t gpa, size;
    uint32_t type, reserved;
};

_Static_assert(sizeof(struct pvh_start_info) == 56, "pvh_start_info");
_Static_assert(sizeof(struct pvh_module) == 32, "pvh_module");
_Static_assert(sizeof(struct pvh_memmap) == 24, "pvh_memmap");

#endif
