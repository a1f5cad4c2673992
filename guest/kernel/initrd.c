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

/*
 * Eight octal digits at once: neighbours are joined to pairs, pairs to fours, and those to the
 * value. False when one of the bytes is no digit.
 */
static bool parse_eight(const char *s, uint64_t *value)
{
    uint64_t v;

    __builtin_memcpy(&v, s, sizeof v); /* one load: -ffreestanding would call a function */
    v ^= 0x3030303030303030;
    if (v & ~UL(0x0707070707070707))
        return false;
    v = __builtin_bswap64(v);
    v = (v | v >> 5) & 0x003f003f003f003f;
    v = (v | v >> 10) & 0x00000fff00000fff;
    *value = (v | v >> 20) & 0xffffff;
    return true;
}

/* Not by memcmp(), whose loop costs more than all other checks of a header. */
static bool is_ustar(const struct tar_header *h)
{
    uint32_t four;

    __builtin_memcpy(&four, h->magic, sizeof four);
    return four == 0x61747375 /* "usta" */ && h->magic[4] == 'r';
}

/* A header's size field: octal digits, blanks before them, closed by NUL or a blank. */
static bool parse_size(const char field[12], uint64_t *value)
{
    uint64_t v = 0, high, low;
    unsigned i = 0;

    /* As tar writes it: eleven digits, of which five are in both groups. */
    if (parse_eight(field, &high) && parse_eight(field + 3, &low) &&
        (field[11] == '\0' || field[11] == ' ')) {
        *value = high >> 15 << 24 | low;
        return true;
    }
    while (i < 12 && field[i] == ' ')
        i++;
    for (; i < 12 && field[i] >= '0' && field[i] <= '7'; i++)
        v = v << 3 | (uint64_t)(field[i] - '0');
    *value = v;
    return i == 12 || field[i] == '\0' || field[i] == ' ';
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
        if (!is_ustar(h) || h->name[sizeof h->name - 1] != '\0' || !parse_size(h->size, &size) ||
            size > left - sizeof *h) {
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
