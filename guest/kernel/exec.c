#include "guest/kernel/exec.h"

#include <stdbool.h>

#include "guest/kernel/errno.h"
#include "guest/kernel/string.h"
#include "guest/sys.h"

/* System V ABI, "ELF Header" and "Program Header"; only what an x86-64 executable has. */
struct elf_header {
    uint8_t ident[16];
    uint16_t type, machine;
    uint32_t version;
    uint64_t entry, phoff, shoff;
    uint32_t flags;
    uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};

struct elf_segment {
    uint32_t type, flags;
    uint64_t offset, vaddr, paddr, filesz, memsz, align;
};

#define ELF_CLASS_64    2
#define ELF_DATA_LITTLE 1
#define ELF_TYPE_EXEC   2
#define ELF_X86_64      62
#define PT_LOAD         1
#define PT_INTERP       3
#define PF_X            1u
#define PF_W            2u

#define MAX_SEGMENTS 16u

/* So many pages behind a segment's file content are supplied at once, the rest when touched. */
#define BSS_PAGES_NOW 1u

struct image {
    struct elf_segment segments[MAX_SEGMENTS]; /* PT_LOAD only */
    unsigned n;
    uint64_t entry;
};

static const char *check_header(const struct initrd_file *f, const struct elf_header *h)
{
    if (f->size < sizeof *h || memcmp(h->ident, "\177ELF", 4) != 0)
        return "it is no ELF file";
    if (h->ident[4] != ELF_CLASS_64 || h->ident[5] != ELF_DATA_LITTLE || h->machine != ELF_X86_64)
        return "it is not for x86-64";
    if (h->type != ELF_TYPE_EXEC)
        return "it is not a static executable (link it with -static -no-pie)";
    if (h->phentsize != sizeof(struct elf_segment))
        return "its program headers have a wrong size";
    if (h->phoff > f->size || h->phnum > (f->size - h->phoff) / sizeof(struct elf_segment))
        return "its program headers lie outside the file";
    return NULL;
}

/* `s` is checked by itself and against those accepted before it, which are all below. */
static const char *check_segment(const struct initrd_file *f, const struct elf_segment *s,
                                 uint64_t lowest)
{
    uint64_t end;

    if (s->offset > f->size || s->filesz > f->size - s->offset)
        return "a segment lies outside the file";
    if (s->filesz > s->memsz)
        return "a segment is larger in the file than in memory";
    if (__builtin_add_overflow(s->vaddr, s->memsz, &end) || s->vaddr < VM_LOWEST ||
        end > VM_STACK_TOP - VM_STACK_MAX - PAGE_SIZE)
        return "a segment lies outside the addresses for programs (64 KiB to 1 GiB less the stack)";
    if ((s->vaddr - s->offset) & (PAGE_SIZE - 1))
        return "a segment's address and file offset differ within the page";
    if ((s->vaddr & -PAGE_SIZE) < lowest)
        return "two segments share a page, or they are not in ascending order";
    if (s->flags & PF_W && s->flags & PF_X)
        return "a segment is writable and executable";
    return NULL;
}

static const char *read_image(const struct initrd_file *f, struct image *image)
{
    const struct elf_header *h = (const struct elf_header *)f->data;
    const struct elf_segment *s;
    const char *why = check_header(f, h);
    uint64_t lowest = 0;
    bool entry_ok = false;

    if (why != NULL)
        return why;
    image->n = 0;
    image->entry = h->entry;
    s = (const struct elf_segment *)(f->data + h->phoff);
    for (unsigned i = 0; i < h->phnum; i++, s++) {
        if (s->type == PT_INTERP)
            return "it wants a dynamic linker (link it with -static)";
        if (s->type != PT_LOAD || s->memsz == 0)
            continue;
        if (image->n == MAX_SEGMENTS)
            return "it has more than 16 segments";
        why = check_segment(f, s, lowest);
        if (why != NULL)
            return why;
        lowest = (s->vaddr + s->memsz + PAGE_SIZE - 1) & -PAGE_SIZE;
        if (s->flags & PF_X && h->entry >= s->vaddr && h->entry - s->vaddr < s->memsz)
            entry_ok = true;
        image->segments[image->n++] = *s;
    }
    return entry_ok ? NULL : "its entry point lies in no executable segment";
}

static uint32_t segment_prot(const struct elf_segment *s)
{
    return SYS_PROT_READ | (s->flags & PF_W ? SYS_PROT_WRITE : 0) |
           (s->flags & PF_X ? SYS_PROT_EXEC : 0);
}

/*
 * Read-only pages are mapped where they lie in the initrd when the archive has them
 * on page borders and nothing of the segment lies behind its file content.
 */
static int map_shared(struct vm *vm, const struct initrd_file *f, const struct elf_segment *s,
                      uint64_t start, uint64_t end)
{
    const uint8_t *page = f->data + (s->offset & -PAGE_SIZE);
    int rc = vm_add(vm, start, end, segment_prot(s), VMA_IMAGE);

    for (uint64_t gva = start; rc == 0 && gva < end; gva += PAGE_SIZE, page += PAGE_SIZE) {
        uint64_t gpa = virt_to_phys(page);

        page_get(gpa);
        rc = aspace_map(vm->as, gva, gpa, PAGE_SIZE, vm_pte_flags(segment_prot(s)));
        if (rc != 0)
            page_put(gpa);
    }
    return rc;
}

static bool can_share(const struct initrd_file *f, const struct elf_segment *s)
{
    uint64_t first = s->offset & -PAGE_SIZE;
    uint64_t last = (s->offset + s->filesz + PAGE_SIZE - 1) & -PAGE_SIZE;

    return !(s->flags & PF_W) && s->filesz == s->memsz &&
           ((uint64_t)f->data & (PAGE_SIZE - 1)) == 0 && first < last && last <= f->size;
}

/* Supplies fresh pages and copies the segment's content into them. */
static int map_private(struct vm *vm, const struct initrd_file *f, const struct elf_segment *s,
                       uint64_t start, uint64_t end)
{
    uint64_t file_end = (s->vaddr + s->filesz + PAGE_SIZE - 1) & -PAGE_SIZE;
    uint64_t now = file_end + BSS_PAGES_NOW * PAGE_SIZE;
    uint64_t done = 0;
    int rc = vm_add(vm, start, end, segment_prot(s), s->flags & PF_W ? VMA_ANON : VMA_IMAGE);

    if (rc == 0)
        rc = vm_populate(vm, start, now < end ? now : end);
    while (rc == 0 && done < s->filesz) {
        uint64_t gva = s->vaddr + done, gpa, size, part = PAGE_SIZE - gva % PAGE_SIZE;

        if (part > s->filesz - done)
            part = s->filesz - done;
        if (!aspace_hold(vm->as, gva, &gpa, &size))
            return -ENOMEM;
        memcpy((char *)phys_to_virt(gpa) + gva % PAGE_SIZE, f->data + s->offset + done, part);
        page_put(gpa);
        done += part;
    }
    return rc;
}

int exec_load(struct vm *vm, const struct initrd_file *file, uint64_t *entry, const char **why)
{
    struct image image;
    int rc = 0;

    *why = read_image(file, &image);
    if (*why != NULL)
        return -ENOEXEC;
    for (unsigned i = 0; rc == 0 && i < image.n; i++) {
        const struct elf_segment *s = &image.segments[i];
        uint64_t start = s->vaddr & -PAGE_SIZE;
        uint64_t end = (s->vaddr + s->memsz + PAGE_SIZE - 1) & -PAGE_SIZE;

        rc = can_share(file, s) ? map_shared(vm, file, s, start, end)
                                : map_private(vm, file, s, start, end);
    }
    *entry = image.entry;
    return rc;
}

int exec_stack(struct vm *vm, const char *args, uint64_t len, uint64_t *args_at)
{
    uint64_t bottom = VM_STACK_TOP - VM_STACK_MAX, last = VM_STACK_TOP - PAGE_SIZE, gpa, size;
    int rc = vm_add(vm, bottom - PAGE_SIZE, bottom, SYS_PROT_NONE, VMA_ANON);

    if (rc == 0)
        rc = vm_add(vm, bottom, VM_STACK_TOP, SYS_PROT_READ | SYS_PROT_WRITE, VMA_ANON);
    if (rc == 0)
        rc = vm_populate(vm, last, VM_STACK_TOP);
    if (rc != 0)
        return rc;
    *args_at = (VM_STACK_TOP - len) & -16ul;
    if (!aspace_hold(vm->as, last, &gpa, &size))
        return -ENOMEM;
    memcpy((char *)phys_to_virt(gpa) + (*args_at - last), args, len);
    page_put(gpa);
    return 0;
}
