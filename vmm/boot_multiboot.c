/*
 * "Multiboot Specification version 0.6.96": chapter 3.1 OS image format, 3.2 Machine
 * state, 3.3 Boot information format.
 */
#include "vmm/boot_image.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_MAGIC  0x1badb002u
#define LOADER_MAGIC  0x2badb002u
#define SEARCH_BYTES  8192u
#define HEADER_BYTES  12u /* magic, flags, checksum */
#define ADDRESS_BYTES 20u

#define FLAG_MEMORY    (1u << 1)
#define FLAG_VIDEO     (1u << 2)
#define FLAG_ALIGN     (1u << 0)
#define FLAG_ADDRESSES (1u << 16)
#define FLAGS_REQUIRED 0xffffu /* a loader that doesn't know one of these must give up */

#define INFO_MEMORY  (1u << 0)
#define INFO_CMDLINE (1u << 2)
#define INFO_MODULES (1u << 3)
#define INFO_MMAP    (1u << 6)
#define INFO_LOADER  (1u << 9)

struct module {
    uint32_t start, end, string, reserved;
};

/* An entry's `size` doesn't count itself. */
struct mmap_entry {
    uint32_t size;
    uint64_t at, length;
    uint32_t type;
} __attribute__((packed));

/* 3.3, up to the boot loader's name, and what its pointers point at. */
struct page {
    struct {
        uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr;
        uint32_t syms[4];
        uint32_t mmap_length, mmap_addr, drives_length, drives_addr, config_table;
        uint32_t boot_loader_name;
    } info;
    uint32_t pad;
    struct module module;
    struct mmap_entry map[BOOT_RANGES_MAX];
    char loader[24];
};

_Static_assert(offsetof(struct page, info.mmap_length) == 44, "3.3 Boot information format");
_Static_assert(sizeof(struct mmap_entry) == 24, "3.3 Boot information format");

/* --- the header ----------------------------------------------------------------------- */

static int read_fields(const struct boot_file *file, const uint8_t *at, uint32_t room,
                       struct boot_multiboot *hdr, struct error *err)
{
    uint32_t unknown = hdr->flags & FLAGS_REQUIRED & ~(FLAG_ALIGN | FLAG_MEMORY | FLAG_VIDEO);

    if (unknown)
        return error_set(err, -ENOEXEC,
                         "kernel '%s': its multiboot header requires features (flags 0x%x) that "
                         "multiboot 1 does not define",
                         file->path, unknown);
    if (!boot_multiboot_has_addresses(hdr))
        return 1;
    if (room < HEADER_BYTES + ADDRESS_BYTES)
        return error_set(err, -EINVAL,
                         "kernel '%s': its multiboot header is cut off, or runs over the first "
                         "8 KiB of the file",
                         file->path);
    memcpy(&hdr->header_addr, at + 12, 4);
    memcpy(&hdr->load_addr, at + 16, 4);
    memcpy(&hdr->load_end_addr, at + 20, 4);
    memcpy(&hdr->bss_end_addr, at + 24, 4);
    memcpy(&hdr->entry_addr, at + 28, 4);
    return 1;
}

int boot_multiboot_find(const struct boot_file *file, struct boot_multiboot *hdr, struct error *err)
{
    uint32_t size = file->size < SEARCH_BYTES ? (uint32_t)file->size : SEARCH_BYTES;
    uint8_t head[SEARCH_BYTES];
    int rc = boot_file_read(file, head, size, 0, err);

    if (rc < 0)
        return rc;
    for (uint32_t at = 0; size >= HEADER_BYTES && at <= size - HEADER_BYTES; at += 4) {
        uint32_t word[3];

        memcpy(word, head + at, sizeof(word));
        if (word[0] != HEADER_MAGIC || word[0] + word[1] + word[2] != 0)
            continue;
        *hdr = (struct boot_multiboot){ .offset = at, .flags = word[1] };
        return read_fields(file, head + at, size - at, hdr, err);
    }
    return 0;
}

bool boot_multiboot_has_addresses(const struct boot_multiboot *hdr)
{
    return hdr->flags & FLAG_ADDRESSES;
}

/* 3.1.3 The address fields of Multiboot header. */
int boot_multiboot_addresses(struct boot_image *img, const struct boot_multiboot *hdr,
                             struct error *err)
{
    uint64_t file_size = img->file.size, before, length, end;

    before = (uint64_t)hdr->header_addr - hdr->load_addr;
    if (hdr->header_addr < hdr->load_addr || before > hdr->offset)
        return error_set(err, -EINVAL,
                         "kernel '%s': the multiboot header at 0x%x of the file can't load at "
                         "0x%x when loading starts at 0x%x",
                         img->file.path, hdr->offset, hdr->header_addr, hdr->load_addr);
    length = file_size - (hdr->offset - before);
    if (hdr->load_end_addr) {
        if (hdr->load_end_addr <= hdr->load_addr)
            return error_set(err, -EINVAL,
                             "kernel '%s': its multiboot header ends loading (0x%x) before it "
                             "starts (0x%x)",
                             img->file.path, hdr->load_end_addr, hdr->load_addr);
        if (hdr->load_end_addr - hdr->load_addr > length)
            return error_set(err, -EINVAL,
                             "kernel '%s' is cut off: its multiboot header loads 0x%x bytes, but "
                             "the file has 0x%" PRIx64,
                             img->file.path, hdr->load_end_addr - hdr->load_addr, length);
        length = hdr->load_end_addr - hdr->load_addr;
    }
    end = hdr->load_addr + length;
    if (hdr->bss_end_addr) {
        if (hdr->bss_end_addr < end)
            return error_set(err, -EINVAL,
                             "kernel '%s': its multiboot header ends the zeroed part (0x%x) before "
                             "the loaded one (0x%" PRIx64 ")",
                             img->file.path, hdr->bss_end_addr, end);
        end = hdr->bss_end_addr;
    }
    free(img->segment);
    img->segments = 0;
    img->segment = calloc(1, sizeof(*img->segment));
    if (!img->segment)
        return error_set(err, -ENOMEM, "kernel '%s': out of memory", img->file.path);
    img->segment[0] = (struct boot_segment){
        .file_offset = hdr->offset - before,
        .file_size = length,
        .at = hdr->load_addr,
        .size = end - hdr->load_addr,
    };
    img->segments = 1;
    img->entry = hdr->entry_addr;
    return 0;
}

/* --- the boot information --------------------------------------------------------------- */

static uint32_t page_gpa(size_t offset)
{
    return BOOT_INFO_GPA + (uint32_t)offset;
}

static void fill_map(const struct memory *mem, struct page *page)
{
    struct boot_range range[BOOT_RANGES_MAX];
    size_t count = boot_memory_map(mem, range);

    for (size_t i = 0; i < count; i++) {
        page->map[i] = (struct mmap_entry){
            .size = sizeof(page->map[i]) - sizeof(page->map[i].size),
            .at = range[i].at,
            .length = range[i].size,
            .type = range[i].type,
        };
        /* Kibibytes from 0 and from 1 MiB, up to the first hole. */
        if (range[i].type == BOOT_RAM && range[i].at == 0)
            page->info.mem_lower = (uint32_t)(range[i].size / 1024);
        if (range[i].type == BOOT_RAM && range[i].at == BOOT_HIGH_START)
            page->info.mem_upper = (uint32_t)(range[i].size / 1024);
    }
    page->info.mmap_length = (uint32_t)(count * sizeof(page->map[0]));
    page->info.mmap_addr = page_gpa(offsetof(struct page, map));
}

int boot_multiboot_write(struct memory *mem, const struct boot_facts *facts, struct boot_entry *out,
                         struct error *err)
{
    struct page page = { .loader = "twofold " TWOFOLD_VERSION };
    int rc;

    page.info.flags = INFO_MEMORY | INFO_CMDLINE | INFO_MODULES | INFO_MMAP | INFO_LOADER;
    page.info.cmdline = BOOT_CMDLINE_GPA;
    page.info.boot_loader_name = page_gpa(offsetof(struct page, loader));
    fill_map(mem, &page);
    if (facts->initrd_name) {
        page.info.mods_count = 1;
        page.info.mods_addr = page_gpa(offsetof(struct page, module));
        page.module.start = (uint32_t)facts->initrd_at;
        page.module.end = (uint32_t)(facts->initrd_at + facts->initrd_size);
        page.module.string = BOOT_NAME_GPA;
    }
    /* As kernels know it from GRUB legacy and QEMU: their own name comes first. */
    rc = boot_cmdline_write(mem, facts->name, facts->cmdline, err);
    if (rc < 0)
        return rc;
    if (memory_write(mem, gpa(BOOT_INFO_GPA), &page, sizeof(page)) < 0)
        return error_set(err, -EFAULT, "no RAM at 0x%x for the multiboot information",
                         BOOT_INFO_GPA);
    out->eax = LOADER_MAGIC;
    out->ebx = BOOT_INFO_GPA;
    return 0;
}
