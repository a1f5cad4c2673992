#include "guest/kernel/initrd.h"

#include "guest/kernel/boot_info.h"
#include "guest/kernel/lock.h"
#include "guest/kernel/mm.h"
#include "guest/kernel/printk.h"
#include "guest/kernel/string.h"

/* POSIX.1-1988 "ustar" header block. */
struct tar_header {
    char name[100];
    char mode[8], uid[8], gid[8];
    char size[12];
    char mtime[12], checksum[8];
    char type;
    char link[100];
    char magic[6];
    char version[2], user[32], group[32], major[8], minor[8];
    char prefix[155];
    char padding[12];
};
_Static_assert(sizeof(struct tar_header) == 512, "a tar header is one block");

#define MAX_FILES 256u

/*
 * The archive is read once and only as far as somebody asked: where ring 0 is interpreted, a header
 * costs a tenth of a millisecond.
 */
static struct lock initrd_lock;
static struct initrd_file files[MAX_FILES];
static bool prepared[MAX_FILES]; /* prepare_pages() was done */
static unsigned n_files;
static uint64_t next_header; /* gpa of the first header not read yet; 0: not begun */
static bool complete;

static bool parse_octal(const char *s, size_t n, uint64_t *value)
{
    uint64_t v = 0;

    while (n > 0 && *s == ' ') {
        s++;
        n--;
    }
    for (; n > 0 && *s >= '0' && *s <= '7'; s++, n--)
        v = v << 3 | (uint64_t)(*s - '0');
    *value = v;
    return n == 0 || *s == '\0' || *s == ' ';
}

/*
 * Reads on to the next regular file and adds it to the list. False at the end of
 * the archive, and at the first header that makes no sense.
 */
static bool read_next(void)
{
    while (!complete) {
        const struct tar_header *h = phys_to_virt(next_header);
        uint64_t left = boot_info.initrd_end - next_header, size;
        const char *name = h->name;

        if (left < 2 * sizeof *h || h->name[0] == '\0' || n_files == MAX_FILES)
            break;
        if (memcmp(h->magic, "ustar", 5) != 0 || h->name[sizeof h->name - 1] != '\0' ||
            !parse_octal(h->size, sizeof h->size, &size) || size > left - sizeof *h) {
            printk("initrd: what lies at byte %lu is no tar header; the rest is ignored\n",
                   next_header - boot_info.initrd_start);
            break;
        }
        next_header += sizeof *h + ((size + 511) & ~511ul);
        if (next_header > boot_info.initrd_end)
            next_header = boot_info.initrd_end;
        if (h->type != '0' && h->type != '\0')
            continue;
        if (name[0] == '.' && name[1] == '/')
            name += 2;
        files[n_files++] = (struct initrd_file){ name, (const uint8_t *)(h + 1), size };
        return true;
    }
    complete = true;
    return false;
}

static bool entry_locked(unsigned index, struct initrd_file *out)
{
    if (next_header == 0) {
        next_header = boot_info.initrd_start;
        complete = boot_info.initrd_end <= boot_info.initrd_start;
    }
    while (index >= n_files)
        if (!read_next())
            return false;
    *out = files[index];
    return true;
}

bool initrd_entry(unsigned index, struct initrd_file *out)
{
    bool found;

    lock_acquire(&initrd_lock);
    found = entry_locked(index, out);
    lock_release(&initrd_lock);
    return found;
}

/*
 * The page allocator never had the archive's pages, so their structs say nothing yet.
 * The reference given here stays, so that they are never freed.
 */
static void prepare_pages(const struct initrd_file *f)
{
    uint64_t start = virt_to_phys(f->data);

    if (start & (PAGE_SIZE - 1))
        return;
    for (uint64_t gpa = start; gpa + PAGE_SIZE <= start + f->size; gpa += PAGE_SIZE) {
        struct page *p = page_of(gpa);

        p->state = PAGE_ALLOCATED;
        p->order = 0;
        p->refs = 1;
    }
}

bool initrd_find(const char *name, struct initrd_file *out)
{
    bool found = false;

    lock_acquire(&initrd_lock);
    for (unsigned i = 0; entry_locked(i, out); i++) {
        if (strcmp(out->name, name) != 0)
            continue;
        found = true;
        if (!prepared[i])
            prepare_pages(out);
        prepared[i] = true;
        break;
    }
    lock_release(&initrd_lock);
    return found;
}
