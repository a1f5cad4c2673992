/*
 * Boot images: what is loaded where, and what the first vCPU starts with.
 * PVH and multiboot 1 both start in 32-bit protected mode with flat segments,
 * paging off, and a pointer in EBX.
 */
#ifndef TWOFOLD_VMM_BOOT_H
#define TWOFOLD_VMM_BOOT_H

#include <stdint.h>

#include "vmm/error.h"
#include "vmm/memory.h"

enum boot_protocol {
    BOOT_PVH,
    BOOT_MULTIBOOT,
};

struct boot_request {
    const char *kernel;  /* path */
    const char *initrd;  /* path, or NULL */
    const char *cmdline; /* never NULL */
    gpa_t rsdp;          /* ACPI root pointer, as acpi_build() gave it */
};

struct boot_entry {
    enum boot_protocol protocol;
    uint32_t eip, eax, ebx;
    gpa_t image_end; /* first byte after the kernel, for messages */
};

/*
 * Loads the kernel and the initrd into `mem` and writes the start structures.
 * Every field of the file is checked before the first byte is written to the
 * guest. Returns 0, or -errno with one line that says what is wrong with the file.
 */
int boot_load(struct memory *mem, const struct boot_request *req, struct boot_entry *out,
              struct error *err);

#endif
