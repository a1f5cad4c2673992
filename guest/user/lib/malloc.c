/*
 * A heap of power-of-two blocks on top of mmap: free blocks of each size hang in
 * a list, large blocks are mappings of their own.
 */
#include "guest/user/lib/lib.h"

#define MIN_SHIFT   5u  /* 32 bytes, header included */
#define MAX_SHIFT   15u /* 32 KiB: the largest block that is carved out of a chunk */
#define CHUNK_BYTES (64ul << 10)

/* In front of each block; keeps it aligned to 16. */
struct header {
    uint64_t size; /* of the block: a power of two, or a whole mapping */
    uint64_t magic;
};

#define MAGIC_USED 0x64657375746e6c66ull
#define MAGIC_FREE 0x65657266746e6c66ull

struct free_block {
    struct header header;
    struct free_block *next;
};

static struct free_block *free_lists[MAX_SHIFT + 1];
static char *chunk;
static size_t chunk_left;

unsigned page_flag(size_t page)
{
    if (page == LARGE_SIZE)
        return SYS_MAP_LARGE;
    return page == HUGE_SIZE ? SYS_MAP_HUGE : 0;
}

void *map_pages(size_t len, size_t page)
{
    long at = sys_mmap(0, len, SYS_PROT_READ | SYS_PROT_WRITE, page_flag(page));

    if (at == -ENOTSUP)
        die(1, "this CPU has no pages of 1 GiB");
    if (at == -ENOMEM && page == HUGE_SIZE)
        die(1,
            "no memory for %lu pages of 1 GiB: they need as many aligned GiB of RAM that are free "
            "as a whole (the first never is)",
            len / HUGE_SIZE);
    if (at < 0)
        die(1, "no memory for %lu KiB (error %ld)", len >> 10, -at);
    return (void *)at;
}

bool parse_page_size(const char *s, uint64_t *page)
{
    return parse_size(s, page) && (*page == PAGE_SIZE || *page == LARGE_SIZE || *page == HUGE_SIZE);
}

static unsigned shift_for(size_t size)
{
    unsigned shift = MIN_SHIFT;

    while (((size_t)1 << shift) < size)
        shift++;
    return shift;
}

static void *map_or_null(size_t len)
{
    long at = sys_mmap(0, len, SYS_PROT_READ | SYS_PROT_WRITE, 0);

    return at < 0 ? NULL : (void *)at;
}

/* A new block of 1 << shift bytes; NULL when there is no memory. */
static struct header *carve(unsigned shift)
{
    size_t size = (size_t)1 << shift;
    struct header *h;

    if (chunk_left < size) {
        chunk = map_or_null(CHUNK_BYTES);
        chunk_left = chunk != NULL ? CHUNK_BYTES : 0;
    }
    if (chunk_left < size)
        return NULL;
    h = (struct header *)(void *)chunk;
    h->size = size;
    chunk += size;
    chunk_left -= size;
    return h;
}

static struct header *map_block(size_t size)
{
    size_t len = (size + PAGE_SIZE - 1) & -PAGE_SIZE;
    struct header *h = map_or_null(len);

    if (h != NULL)
        h->size = len;
    return h;
}

void *malloc(size_t size)
{
    struct header *h;

    if (size > SIZE_MAX / 2)
        return NULL;
    size += sizeof *h;
    if (size > (1ul << MAX_SHIFT)) {
        h = map_block(size);
    } else {
        unsigned shift = shift_for(size);

        h = &free_lists[shift]->header;
        if (free_lists[shift] != NULL)
            free_lists[shift] = free_lists[shift]->next;
        else
            h = carve(shift);
    }
    if (h == NULL)
        return NULL;
    h->magic = MAGIC_USED;
    return h + 1;
}

void *calloc(size_t n, size_t size)
{
    size_t bytes;
    void *p;

    if (__builtin_mul_overflow(n, size, &bytes))
        return NULL;
    p = malloc(bytes);
    if (p != NULL)
        memset(p, 0, bytes);
    return p;
}

void free(void *p)
{
    struct header *h = p;
    struct free_block *block;
    unsigned shift;

    if (p == NULL)
        return;
    h--;
    if (h->magic != MAGIC_USED)
        die(SYS_CODE_ABORT, "free(%p): %s", p,
            h->magic == MAGIC_FREE ? "freed before" : "no block");
    h->magic = MAGIC_FREE;
    if (h->size > (1ul << MAX_SHIFT)) {
        sys_munmap((uint64_t)h, h->size);
        return;
    }
    shift = shift_for(h->size);
    block = (struct free_block *)h;
    block->next = free_lists[shift];
    free_lists[shift] = block;
}
