#include "tests/unit/image.h"

#include <elf.h>
#include <string.h>

#define DATA_OFFSET 0x1000

static void put32(struct image *img, size_t at, uint32_t value)
{
    memcpy(img->bytes + at, &value, sizeof(value));
}

static size_t put_multiboot(struct image *img, size_t at, const struct image_spec *spec)
{
    put32(img, at, 0x1badb002);
    put32(img, at + 4, spec->multiboot_flags);
    put32(img, at + 8, -(0x1badb002 + spec->multiboot_flags) + spec->multiboot_checksum_error);
    if (!(spec->multiboot_flags & 0x10000))
        return 12;
    for (size_t i = 0; i < 5; i++)
        put32(img, at + 12 + 4 * i, spec->address[i]);
    return 32;
}

/* Both classes are filled from the larger one. */
static void put_phdr(struct image *img, bool is_64bit, size_t index, Elf64_Phdr ph)
{
    Elf32_Phdr small = {
        .p_type = ph.p_type,
        .p_offset = (uint32_t)ph.p_offset,
        .p_vaddr = (uint32_t)ph.p_vaddr,
        .p_paddr = (uint32_t)ph.p_paddr,
        .p_filesz = (uint32_t)ph.p_filesz,
        .p_memsz = (uint32_t)ph.p_memsz,
        .p_flags = ph.p_flags,
        .p_align = (uint32_t)ph.p_align,
    };

    if (is_64bit)
        memcpy(img->bytes + sizeof(Elf64_Ehdr) + index * sizeof(ph), &ph, sizeof(ph));
    else
        memcpy(img->bytes + sizeof(Elf32_Ehdr) + index * sizeof(small), &small, sizeof(small));
}

static void put_ehdr(struct image *img, const struct image_spec *spec, size_t phdrs)
{
    uint16_t machine = spec->machine ? spec->machine : spec->is_64bit ? EM_X86_64 : EM_386;
    uint16_t type = spec->type ? spec->type : ET_EXEC;
    Elf64_Ehdr large = {
        .e_type = type,
        .e_machine = machine,
        .e_version = EV_CURRENT,
        .e_entry = spec->entry,
        .e_phoff = sizeof(large),
        .e_ehsize = sizeof(large),
        .e_phentsize = sizeof(Elf64_Phdr),
        .e_phnum = (uint16_t)phdrs,
    };
    Elf32_Ehdr small = {
        .e_type = type,
        .e_machine = machine,
        .e_version = EV_CURRENT,
        .e_entry = (uint32_t)spec->entry,
        .e_phoff = sizeof(small),
        .e_ehsize = sizeof(small),
        .e_phentsize = sizeof(Elf32_Phdr),
        .e_phnum = (uint16_t)phdrs,
    };
    uint8_t ident[EI_NIDENT] = { 0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB, EV_CURRENT };

    if (spec->big_endian)
        ident[EI_DATA] = ELFDATA2MSB;
    if (spec->is_64bit)
        ident[EI_CLASS] = ELFCLASS64;
    memcpy(large.e_ident, ident, sizeof(ident));
    memcpy(small.e_ident, ident, sizeof(ident));
    if (spec->is_64bit)
        memcpy(img->bytes, &large, sizeof(large));
    else
        memcpy(img->bytes, &small, sizeof(small));
}

static void put_note(struct image *img, const struct image_spec *spec, size_t index)
{
    size_t at = DATA_OFFSET - 64;
    const char *name = spec->note_name ? spec->note_name : "Xen";

    put32(img, at, (uint32_t)strlen(name) + 1);
    put32(img, at + 4, spec->note_bytes);
    put32(img, at + 8, 18);
    memcpy(img->bytes + at + 12, name, strlen(name) + 1);
    memcpy(img->bytes + at + 16, &spec->note_entry, sizeof(spec->note_entry));
    put_phdr(img, spec->is_64bit, index,
             (Elf64_Phdr){
                 .p_type = PT_NOTE,
                 .p_offset = at,
                 .p_filesz = 16 + (spec->note_bytes + 3) / 4 * 4,
                 .p_align = spec->note_align ? spec->note_align : 4,
             });
}

void image_elf(struct image *img, const struct image_spec *spec)
{
    size_t at = DATA_OFFSET, phdr = 0;

    memset(img, 0, sizeof(*img));
    put_ehdr(img, spec, spec->segments + (spec->note_bytes ? 1 : 0));
    for (size_t i = 0; i < spec->segments; i++) {
        const struct image_segment *s = &spec->segment[i];
        size_t here = s->filesz <= sizeof(img->bytes) - at ? (size_t)s->filesz : 0;

        put_phdr(img, spec->is_64bit, phdr++,
                 (Elf64_Phdr){
                     .p_type = PT_LOAD,
                     .p_offset = s->offset ? s->offset : at,
                     .p_vaddr = s->vaddr ? s->vaddr : s->paddr,
                     .p_paddr = s->paddr,
                     .p_filesz = s->filesz,
                     .p_memsz = s->memsz,
                     .p_align = 1,
                 });
        memset(img->bytes + at, s->fill, here);
        if (i == 0 && spec->multiboot)
            put_multiboot(img, at, spec);
        at += here;
    }
    if (spec->note_bytes)
        put_note(img, spec, phdr);
    img->size = at;
}

void image_flat(struct image *img, const struct image_spec *spec, size_t pad, size_t tail)
{
    memset(img, 0, sizeof(*img));
    img->size = pad + put_multiboot(img, pad, spec);
    memset(img->bytes + img->size, 'T', tail);
    img->size += tail;
}
