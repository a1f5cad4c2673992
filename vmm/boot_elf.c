/*
 * ELF kernels: the loadable segments, and the note with which a kernel says that it
 * starts by PVH (Xen's public header elfnote.h, XEN_ELFNOTE_PHYS32_ENTRY). libelf
 * does the parsing; here is what a kernel must be.
 */
#include "vmm/boot_image.h"

#include <errno.h>
#include <gelf.h>
#include <inttypes.h>
#include <libelf.h>
#include <stdlib.h>
#include <string.h>

#define NOTE_NAME         "Xen"
#define NOTE_PHYS32_ENTRY 18

/*
 * Kernels have about ten program headers and a page of notes. libelf keeps a copy of
 * each PT_NOTE, so that without limits a small file could cost gigabytes.
 */
#define HEADERS_MAX 256
#define NOTES_MAX   (64u << 10)

static int check_header(const struct boot_file *file, const GElf_Ehdr *ehdr, struct error *err)
{
    bool is_64bit = ehdr->e_ident[EI_CLASS] == ELFCLASS64;

    if (ehdr->e_ident[EI_DATA] != ELFDATA2LSB || ehdr->e_machine != (is_64bit ? EM_X86_64 : EM_386))
        return error_set(err, -ENOEXEC,
                         "kernel '%s' is an ELF file for another machine (%u): an x86 kernel is "
                         "needed",
                         file->path, ehdr->e_machine);
    if (ehdr->e_type != ET_EXEC && ehdr->e_type != ET_DYN)
        return error_set(err, -ENOEXEC,
                         "kernel '%s' is an ELF file of type %u, not an executable: link it first",
                         file->path, ehdr->e_type);
    return 0;
}

/* Adds a PT_LOAD to the image. Where it may lie in memory is checked for all formats alike later.
 */
static int add_segment(struct boot_image *img, size_t index, const GElf_Phdr *ph, struct error *err)
{
    if (ph->p_filesz > ph->p_memsz)
        return error_set(err, -EINVAL,
                         "kernel '%s': segment %zu has more bytes in the file (0x%" PRIx64
                         ") than in memory (0x%" PRIx64 "): the file is damaged",
                         img->file.path, index, ph->p_filesz, ph->p_memsz);
    if (ph->p_memsz == 0)
        return 0;
    if (ph->p_filesz &&
        (ph->p_offset > img->file.size || ph->p_filesz > img->file.size - ph->p_offset))
        return error_set(err, -EINVAL,
                         "kernel '%s' is cut off: segment %zu wants 0x%" PRIx64
                         " bytes at 0x%" PRIx64 ", but the file has 0x%" PRIx64,
                         img->file.path, index, ph->p_filesz, ph->p_offset, img->file.size);
    img->segment[img->segments++] = (struct boot_segment){
        .file_offset = ph->p_offset,
        .file_size = ph->p_filesz,
        .at = ph->p_paddr,
        .size = ph->p_memsz,
    };
    return 0;
}

/* Looks for the PVH note in one PT_NOTE; -EINVAL when it is there but makes no sense. */
static int read_notes(const struct boot_file *file, Elf *e, const GElf_Phdr *ph,
                      struct boot_elf *elf, struct error *err)
{
    size_t at = 0, next, name, desc;
    Elf_Data *data;
    GElf_Nhdr note;

    if (ph->p_filesz > NOTES_MAX)
        return error_set(err, -EINVAL,
                         "kernel '%s' has 0x%" PRIx64 " bytes of notes, no kernel's are that many: "
                         "the file is damaged",
                         file->path, ph->p_filesz);
    data = elf_getdata_rawchunk(e, (int64_t)ph->p_offset, ph->p_filesz,
                                ph->p_align == 8 ? ELF_T_NHDR8 : ELF_T_NHDR);
    while (data && (next = gelf_getnote(data, at, &note, &name, &desc)) > 0) {
        const uint8_t *bytes = data->d_buf;

        at = next;
        if (note.n_namesz != sizeof(NOTE_NAME) || note.n_type != NOTE_PHYS32_ENTRY ||
            memcmp(bytes + name, NOTE_NAME, sizeof(NOTE_NAME)) != 0)
            continue;
        if (note.n_descsz != 4 && note.n_descsz != 8)
            return error_set(err, -EINVAL, "kernel '%s': its PVH note is %u bytes long, not 4 or 8",
                             file->path, note.n_descsz);
        elf->has_pvh = true;
        elf->pvh_entry = 0;
        memcpy(&elf->pvh_entry, bytes + desc, note.n_descsz);
    }
    return 0;
}

static int read_segments(struct boot_image *img, Elf *e, const GElf_Ehdr *ehdr,
                         struct boot_elf *elf, struct error *err)
{
    bool by_vaddr = false;
    size_t count;
    GElf_Phdr ph;
    int rc = 0;

    if (elf_getphdrnum(e, &count) < 0 || count == 0)
        return error_set(err, -EINVAL,
                         "kernel '%s' has no program headers: nothing says where it loads",
                         img->file.path);
    if (count > HEADERS_MAX)
        return error_set(err, -EINVAL,
                         "kernel '%s' has %zu program headers, no kernel has more than %d: the "
                         "file is damaged",
                         img->file.path, count, HEADERS_MAX);
    img->segment = calloc(count, sizeof(*img->segment));
    if (!img->segment)
        return error_set(err, -ENOMEM, "kernel '%s': out of memory", img->file.path);
    elf->entry = ehdr->e_entry;
    for (size_t i = 0; i < count && rc == 0; i++) {
        if (!gelf_getphdr(e, (int)i, &ph))
            return error_set(err, -EINVAL, "kernel '%s' is cut off in its program headers (%s)",
                             img->file.path, elf_errmsg(-1));
        if (ph.p_type == PT_NOTE)
            rc = read_notes(&img->file, e, &ph, elf, err);
        if (ph.p_type != PT_LOAD)
            continue;
        rc = add_segment(img, i, &ph, err);
        if (!by_vaddr && ehdr->e_entry >= ph.p_vaddr && ehdr->e_entry - ph.p_vaddr < ph.p_memsz) {
            by_vaddr = true;
            elf->entry = ehdr->e_entry - ph.p_vaddr + ph.p_paddr;
        }
    }
    return rc;
}

int boot_elf_read(struct boot_image *img, struct boot_elf *elf, struct error *err)
{
    GElf_Ehdr ehdr;
    Elf *e = NULL;
    int rc;

    *elf = (struct boot_elf){ 0 };
    if (elf_version(EV_CURRENT) == EV_NONE)
        return error_set(err, -EIO, "libelf is older than its header: %s", elf_errmsg(-1));
    e = elf_begin(img->file.fd, ELF_C_READ, NULL);
    if (!e || elf_kind(e) != ELF_K_ELF || !gelf_getehdr(e, &ehdr)) {
        rc = error_set(err, -EINVAL,
                       "kernel '%s' begins like an ELF file, but is damaged or cut "
                       "off",
                       img->file.path);
        goto out;
    }
    rc = check_header(&img->file, &ehdr, err);
    if (rc < 0)
        goto out;
    elf->is_64bit = ehdr.e_ident[EI_CLASS] == ELFCLASS64;
    rc = read_segments(img, e, &ehdr, elf, err);
out:
    elf_end(e);
    return rc;
}
