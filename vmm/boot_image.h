/*
 * Between the parts of the loader: what was learnt of a kernel file before any of it
 * is written to the guest. Not for others.
 */
#ifndef TWOFOLD_VMM_BOOT_IMAGE_H
#define TWOFOLD_VMM_BOOT_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/boot.h"
#include "vmm/boot_file.h"
#include "vmm/error.h"
#include "vmm/memory.h"

/* The start structures (docs/memory-map.md); no kernel may load over them. */
#define BOOT_INFO_GPA    0x1000u
#define BOOT_NAME_GPA    0x3000u /* the initrd's name */
#define BOOT_NAME_MAX    0x1000u
#define BOOT_CMDLINE_GPA 0x4000u
#define BOOT_CMDLINE_MAX 0x4000u /* with the terminating zero */
#define BOOT_LOW_START   0x8000u
#define BOOT_LOW_END     0x9fc00u
#define BOOT_HIGH_START  0x100000u

/* A run of bytes of the file, and where it goes; the rest up to `size` is zero. */
struct boot_segment {
    uint64_t file_offset, file_size;
    uint64_t at, size; /* gpa */
};

struct boot_image {
    struct boot_file file;
    enum boot_protocol protocol;
    struct boot_segment *segment;
    size_t segments;
    uint64_t entry; /* gpa of the first instruction, below 4 GiB once checked */
};

/* What the start structures tell the kernel. */
struct boot_facts {
    const char *name;    /* of the kernel, without folders */
    const char *cmdline; /* as asked for */
    gpa_t rsdp;
    const char *initrd_name; /* NULL: no initrd */
    uint64_t initrd_at, initrd_size;
};

/* One range of the memory map; the types are those of BIOS call e820. */
struct boot_range {
    uint64_t at, size;
    uint32_t type;
};

#define BOOT_RAM        1
#define BOOT_RESERVED   2
#define BOOT_RANGES_MAX 4

size_t boot_memory_map(const struct memory *mem, struct boot_range out[BOOT_RANGES_MAX]);

/* What an ELF file says of itself. */
struct boot_elf {
    bool is_64bit;
    bool has_pvh;
    uint64_t pvh_entry; /* gpa */
    uint64_t entry;     /* gpa: e_entry, translated by the segment that holds it */
};

/* Fills `elf` and the image's segments, which the caller frees. 0 or -errno. */
int boot_elf_read(struct boot_image *img, struct boot_elf *elf, struct error *err);

/* The header of "Multiboot Specification version 0.6.96", 3.1 OS image format. */
struct boot_multiboot {
    uint32_t offset; /* in the file */
    uint32_t flags;
    uint32_t header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr;
};

/* Searches the file's first 8 KiB. 1: found, 0: there is none, -errno. */
int boot_multiboot_find(const struct boot_file *file, struct boot_multiboot *hdr,
                        struct error *err);

/* True when the header's own addresses are to be used instead of the ELF's. */
bool boot_multiboot_has_addresses(const struct boot_multiboot *hdr);

/* Makes the image's one segment from the header's own addresses. */
int boot_multiboot_addresses(struct boot_image *img, const struct boot_multiboot *hdr,
                             struct error *err);

/* The start structures; both fill eax and ebx of `out`. */
int boot_multiboot_write(struct memory *mem, const struct boot_facts *facts, struct boot_entry *out,
                         struct error *err);
int boot_pvh_write(struct memory *mem, const struct boot_facts *facts, struct boot_entry *out,
                   struct error *err);

/* What both share: puts `text` (`prefix`, a space, `text` when there is a prefix) at its place. */
int boot_cmdline_write(struct memory *mem, const char *prefix, const char *text, struct error *err);

#endif
