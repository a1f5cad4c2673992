/*
 * Loading in four steps: learn all of the file, check all of it against the VM's
 * memory, find a place for the initrd, and only then write.
 */
#include "vmm/boot.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/boot_image.h"

#define MIB (UINT64_C(1) << 20)

/* The end of RAM below the hole. */
static uint64_t low_end(const struct memory *mem)
{
    size_t count;
    const struct mem_slot *slot = memory_slots(mem, &count);

    return count && slot[0].base.v == 0 ? slot[0].size : 0;
}

size_t boot_memory_map(const struct memory *mem, struct boot_range out[BOOT_RANGES_MAX])
{
    const struct mem_slot *slot;
    size_t slots, n = 0;

    slot = memory_slots(mem, &slots);
    out[n++] = (struct boot_range){ 0, BOOT_LOW_END, BOOT_RAM };
    out[n++] = (struct boot_range){ BOOT_LOW_END, BOOT_HIGH_START - BOOT_LOW_END, BOOT_RESERVED };
    if (low_end(mem) > BOOT_HIGH_START)
        out[n++] = (struct boot_range){ BOOT_HIGH_START, low_end(mem) - BOOT_HIGH_START, BOOT_RAM };
    for (size_t i = 1; i < slots && n < BOOT_RANGES_MAX; i++)
        out[n++] = (struct boot_range){ slot[i].base.v, slot[i].size, BOOT_RAM };
    return n;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* --- what kind of file ------------------------------------------------------------- */

/* A file that no loader knows: says what it is, when that is easy to see. */
static int not_a_kernel(const struct boot_file *file, struct error *err)
{
    char magic[4];

    if (file->size > 0x206 && boot_file_read(file, magic, sizeof(magic), 0x202, NULL) == 0 &&
        memcmp(magic, "HdrS", sizeof(magic)) == 0)
        return error_set(err, -ENOEXEC,
                         "kernel '%s' is a Linux bzImage: give the uncompressed vmlinux, which the "
                         "kernel source's scripts/extract-vmlinux takes out of it",
                         file->path);
    return error_set(err, -ENOEXEC,
                     "kernel '%s' is no kernel that twofold starts: it is not an ELF file and has "
                     "no multiboot header",
                     file->path);
}

/* An ELF file: PVH wins over multiboot, and multiboot's own addresses over the segments. */
static int identify_elf(struct boot_image *img, struct error *err)
{
    struct boot_multiboot hdr;
    struct boot_elf elf;
    int rc = boot_elf_read(img, &elf, err);

    if (rc < 0)
        return rc;
    if (elf.has_pvh) {
        img->protocol = BOOT_PVH;
        img->entry = elf.pvh_entry;
        return 0;
    }
    rc = boot_multiboot_find(&img->file, &hdr, err);
    if (rc < 0)
        return rc;
    if (rc == 0)
        return error_set(err, -ENOEXEC,
                         "kernel '%s' has neither a PVH note nor a multiboot header: twofold "
                         "can't start it (Linux has the note with CONFIG_PVH)",
                         img->file.path);
    img->protocol = BOOT_MULTIBOOT;
    if (boot_multiboot_has_addresses(&hdr))
        return boot_multiboot_addresses(img, &hdr, err);
    if (elf.is_64bit)
        return error_set(err, -ENOEXEC,
                         "kernel '%s' is a 64-bit ELF file, but multiboot starts 32-bit ones: "
                         "convert it with objcopy -O elf32-i386, or add a PVH note",
                         img->file.path);
    img->entry = elf.entry;
    return 0;
}

static int identify(struct boot_image *img, struct error *err)
{
    struct boot_multiboot hdr;
    char magic[4] = "";
    int rc = 0;

    if (img->file.size >= sizeof(magic))
        rc = boot_file_read(&img->file, magic, sizeof(magic), 0, err);
    if (rc < 0)
        return rc;
    if (memcmp(magic, "\177ELF", sizeof(magic)) == 0)
        return identify_elf(img, err);
    rc = boot_multiboot_find(&img->file, &hdr, err);
    if (rc < 0)
        return rc;
    if (rc == 0 || !boot_multiboot_has_addresses(&hdr))
        return not_a_kernel(&img->file, err);
    img->protocol = BOOT_MULTIBOOT;
    return boot_multiboot_addresses(img, &hdr, err);
}

/* --- does it fit ---------------------------------------------------------------------- */

/* Tells how much memory would be enough for a segment that ends at `end`. */
static int outside_ram(const struct boot_image *img, const struct memory *mem,
                       const struct boot_segment *s, struct error *err)
{
    const struct boot_segment *last = &img->segment[img->segments - 1];
    uint64_t end = s->at + s->size, need = end;

    if (s->at < MEMORY_HOLE_END && end > MEMORY_HOLE_START)
        return error_set(err, -EINVAL,
                         "kernel '%s': 0x%" PRIx64 "-0x%" PRIx64
                         " is not RAM whatever --mem is: devices are at 0x%" PRIx64 "-0x%" PRIx64,
                         img->file.path, s->at, end - 1, MEMORY_HOLE_START, MEMORY_HOLE_END - 1);
    /* Sorted: the last one says what helps, unless it is wrong itself. */
    if (last->size <= MEMORY_HOLE_START && last->at <= MEMORY_HOLE_START - last->size)
        need = last->at + last->size;
    else if (s->at >= MEMORY_HOLE_END)
        need -= MEMORY_HOLE_END - MEMORY_HOLE_START;
    return error_set(err, -EINVAL,
                     "kernel '%s' loads up to 0x%" PRIx64 ", but the VM has %" PRIu64
                     " MiB of memory: give it --mem %" PRIu64 "M or more",
                     img->file.path, end, memory_size(mem) / MIB, (need + MIB - 1) / MIB);
}

static int check_segment(const struct boot_image *img, const struct memory *mem,
                         const struct boot_segment *s, struct error *err)
{
    if (s->size > UINT64_MAX - s->at)
        return error_set(err, -EINVAL,
                         "kernel '%s': a segment of 0x%" PRIx64 " bytes at 0x%" PRIx64
                         " runs over the end of the address space",
                         img->file.path, s->size, s->at);
    if (s->at < BOOT_LOW_START)
        return error_set(err, -EINVAL,
                         "kernel '%s' loads at 0x%" PRIx64 ", but up to 0x%x lie the start "
                         "structures: link it at 0x100000 or above",
                         img->file.path, s->at, BOOT_LOW_START - 1);
    if (s->at < BOOT_HIGH_START && s->at + s->size > BOOT_LOW_END)
        return error_set(err, -EINVAL,
                         "kernel '%s' loads at 0x%" PRIx64 "-0x%" PRIx64 ", over the BIOS area "
                         "(0x%x-0x%x): link it at 0x100000 or above",
                         img->file.path, s->at, s->at + s->size - 1, BOOT_LOW_END,
                         BOOT_HIGH_START - 1);
    if (!memory_at(mem, gpa(s->at), s->size))
        return outside_ram(img, mem, s, err);
    return 0;
}

static int by_address(const void *a, const void *b)
{
    const struct boot_segment *left = a, *right = b;

    return (left->at > right->at) - (left->at < right->at);
}

/* Sorts the segments and checks all of them, and where the first instruction is. */
static int check_layout(struct boot_image *img, const struct memory *mem, struct error *err)
{
    bool entry_loaded = false;
    int rc;

    if (img->segments == 0)
        return error_set(err, -EINVAL, "kernel '%s' has nothing to load", img->file.path);
    qsort(img->segment, img->segments, sizeof(*img->segment), by_address);
    for (size_t i = 0; i < img->segments; i++) {
        const struct boot_segment *s = &img->segment[i], *before = i ? s - 1 : NULL;

        rc = check_segment(img, mem, s, err);
        if (rc < 0)
            return rc;
        if (before && before->at + before->size > s->at)
            return error_set(err, -EINVAL,
                             "kernel '%s': its segments at 0x%" PRIx64 " and 0x%" PRIx64
                             " overlap in memory",
                             img->file.path, before->at, s->at);
        if (img->entry >= s->at && img->entry - s->at < s->size)
            entry_loaded = true;
    }
    if (!entry_loaded || img->entry > UINT32_MAX)
        return error_set(
            err, -EINVAL, "kernel '%s' starts at 0x%" PRIx64 ", where none of it is loaded%s",
            img->file.path, img->entry, img->entry > UINT32_MAX ? " or 32-bit code can't be" : "");
    return 0;
}

/* --- initrd ------------------------------------------------------------------------- */

static uint64_t page_down(uint64_t v)
{
    return v & ~(PAGE_SIZE_4K - 1);
}

/* The highest page from which `size` bytes are free below `end`; 0 when there is none. */
static uint64_t highest_free(const struct boot_image *img, uint64_t end, uint64_t size)
{
    for (size_t i = img->segments; i-- > 0;) {
        const struct boot_segment *s = &img->segment[i];

        if (s->at >= end)
            continue;
        if (s->at + s->size <= end && end - (s->at + s->size) >= size &&
            page_down(end - size) >= s->at + s->size)
            break;
        end = s->at;
    }
    if (end < size || page_down(end - size) < BOOT_HIGH_START)
        return 0;
    return page_down(end - size);
}

/* The first page after all of the kernel that lies below the hole. */
static uint64_t after_kernel(const struct boot_image *img)
{
    uint64_t end = BOOT_HIGH_START;

    for (size_t i = 0; i < img->segments; i++) {
        const struct boot_segment *s = &img->segment[i];

        if (s->at < MEMORY_HOLE_START && s->at + s->size > end)
            end = s->at + s->size;
    }
    return page_down(end + PAGE_SIZE_4K - 1);
}

/*
 * A PVH kernel (Linux) wants its initrd out of the way, at the top of RAM below the
 * hole. A multiboot kernel knows modules from GRUB and QEMU, which put them right
 * behind it; many map no more than the first megabytes.
 */
static int place_initrd(const struct boot_image *img, const struct memory *mem,
                        const struct boot_file *initrd, uint64_t *at, struct error *err)
{
    uint64_t end = low_end(mem);

    *at = 0;
    if (img->protocol == BOOT_MULTIBOOT && initrd->size <= end &&
        after_kernel(img) <= end - initrd->size)
        *at = after_kernel(img);
    if (*at == 0)
        *at = highest_free(img, end, initrd->size);
    if (*at)
        return 0;
    return error_set(err, -EINVAL,
                     "initrd '%s' of %" PRIu64 " MiB does not fit beside the kernel into the "
                     "VM's %" PRIu64 " MiB of memory%s",
                     initrd->path, (initrd->size + MIB - 1) / MIB, memory_size(mem) / MIB,
                     end < MEMORY_HOLE_START ? ": give it more (--mem)" : " below 3 GiB");
}

/* --- loading ------------------------------------------------------------------------ */

int boot_cmdline_write(struct memory *mem, const char *prefix, const char *text, struct error *err)
{
    char line[BOOT_CMDLINE_MAX];
    size_t before = prefix ? strlen(prefix) + (text[0] ? 1 : 0) : 0;
    size_t len = strlen(text);

    if (before >= sizeof(line) || len >= sizeof(line) - before)
        return error_set(err, -EINVAL,
                         "the kernel's command line is %zu bytes long; at most %zu are possible",
                         before + len, sizeof(line) - 1);
    if (before) {
        memcpy(line, prefix, strlen(prefix));
        line[before - 1] = text[0] ? ' ' : line[before - 1];
    }
    memcpy(line + before, text, len + 1);
    if (memory_write(mem, gpa(BOOT_CMDLINE_GPA), line, before + len + 1) < 0)
        return error_set(err, -EFAULT, "no RAM at 0x%x for the command line", BOOT_CMDLINE_GPA);
    return 0;
}

/* Fresh RAM is zero, so the part of a segment that the file doesn't have is left alone. */
static int load(struct memory *mem, const struct boot_image *img, const struct boot_file *initrd,
                const struct boot_facts *facts, struct error *err)
{
    int rc = 0;

    for (size_t i = 0; i < img->segments && rc == 0; i++) {
        const struct boot_segment *s = &img->segment[i];

        if (s->file_size)
            rc = boot_file_read(&img->file, memory_at(mem, gpa(s->at), s->file_size), s->file_size,
                                s->file_offset, err);
    }
    if (rc == 0 && initrd->size)
        rc = boot_file_read(initrd, memory_at(mem, gpa(facts->initrd_at), initrd->size),
                            initrd->size, 0, err);
    if (rc == 0 && initrd->size)
        rc = memory_write(mem, gpa(BOOT_NAME_GPA), facts->initrd_name,
                          strlen(facts->initrd_name) + 1);
    return rc;
}

static int check_memory(const struct memory *mem, struct error *err)
{
    if (low_end(mem) >= BOOT_HIGH_START)
        return 0;
    return error_set(err, -EINVAL,
                     "%" PRIu64 " KiB of memory are too few to boot in: give the VM at least 1 MiB",
                     memory_size(mem) / 1024);
}

int boot_load(struct memory *mem, const struct boot_request *req, struct boot_entry *out,
              struct error *err)
{
    struct boot_image img = { .file.fd = -1 };
    struct boot_file initrd = { .fd = -1 };
    struct boot_facts facts = {
        .name = base_name(req->kernel),
        .cmdline = req->cmdline,
        .rsdp = req->rsdp,
    };
    int rc = check_memory(mem, err);

    if (rc == 0)
        rc = boot_file_open(&img.file, "kernel", req->kernel, err);
    if (rc == 0)
        rc = identify(&img, err);
    if (rc == 0)
        rc = check_layout(&img, mem, err);
    if (rc == 0 && req->initrd) {
        facts.initrd_name = base_name(req->initrd);
        rc = boot_file_open(&initrd, "initrd", req->initrd, err);
        facts.initrd_size = initrd.size;
        if (rc == 0)
            rc = place_initrd(&img, mem, &initrd, &facts.initrd_at, err);
    }
    if (rc == 0)
        rc = img.protocol == BOOT_PVH ? boot_pvh_write(mem, &facts, out, err)
                                      : boot_multiboot_write(mem, &facts, out, err);
    if (rc == 0)
        rc = load(mem, &img, &initrd, &facts, err);
    if (rc == 0) {
        const struct boot_segment *last = &img.segment[img.segments - 1];

        out->protocol = img.protocol;
        out->eip = (uint32_t)img.entry;
        out->image_end = gpa(last->at + last->size);
    }
    boot_file_close(&initrd);
    boot_file_close(&img.file);
    free(img.segment);
    return rc;
}
