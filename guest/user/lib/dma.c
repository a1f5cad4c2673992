#include "guest/user/lib/dma.h"

long dma_info(struct sys_dma_info *out)
{
    struct sys_dma a = { .op = SYS_DMA_INFO, .addr = (uint64_t)out, .len = sizeof *out };

    return sys_dma(&a);
}

long dma_map(const void *p, uint64_t len, unsigned flags, uint64_t *iova)
{
    struct sys_dma a = {
        .op = SYS_DMA_MAP, .flags = flags, .addr = (uint64_t)p, .len = len, .iova = *iova
    };
    long rc = sys_dma(&a);

    *iova = a.iova;
    return rc;
}

long dma_unmap(uint64_t iova)
{
    struct sys_dma a = { .op = SYS_DMA_UNMAP, .iova = iova };

    return sys_dma(&a);
}

long dma_identity(bool on)
{
    struct sys_dma a = { .op = SYS_DMA_IDENTITY, .flags = on ? 0 : SYS_DMA_OFF };

    return sys_dma(&a);
}

long dma_transfer(uint64_t iova, uint64_t len, unsigned flags, uint64_t offset)
{
    struct sys_dma a = {
        .op = SYS_DMA_TRANSFER, .flags = flags, .iova = iova, .len = len, .offset = offset
    };
    long rc = sys_dma(&a);

    return rc < 0 ? rc : (long)a.value;
}

long dma_peek(uint64_t gpa, void *to, uint64_t len)
{
    struct sys_dma a = { .op = SYS_DMA_PEEK, .addr = (uint64_t)to, .len = len, .iova = gpa };

    return sys_dma(&a);
}

long dma_victim(uint64_t *gpa)
{
    struct sys_dma a = { .op = SYS_DMA_VICTIM };
    long rc = sys_dma(&a);

    *gpa = a.iova;
    return rc;
}

long dma_gpa(const void *p, uint64_t *gpa)
{
    struct sys_dma a = { .op = SYS_DMA_GPA, .addr = (uint64_t)p };
    long rc = sys_dma(&a);

    *gpa = a.value;
    return rc;
}

long dma_fault(uint64_t after, struct sys_dma_fault *out)
{
    struct sys_dma a = {
        .op = SYS_DMA_FAULTS, .addr = (uint64_t)out, .len = sizeof *out, .value = after
    };

    return sys_dma(&a);
}

long dma_value(enum sys_dma_op op, uint64_t *value)
{
    struct sys_dma a = { .op = op, .value = *value };
    long rc = sys_dma(&a);

    *value = a.value;
    return rc;
}

long dma_raise(uint64_t *bits, uint64_t *cycles)
{
    struct sys_dma a = { .op = SYS_DMA_RAISE, .value = *bits };
    long rc = sys_dma(&a);

    *bits = a.value;
    *cycles = a.len;
    return rc;
}

/* --- windows ---------------------------------------------------------------------------------- */

/* "START+SIZE"; the string is cut in two for it. */
static bool parse_window(char *s, struct dma_window *w)
{
    char *plus = strchr(s, '+');

    if (plus == NULL)
        return false;
    *plus = '\0';
    return parse_size(s, &w->start) && parse_size(plus + 1, &w->size) && w->size >= PAGE_SIZE &&
           w->start + w->size > w->start;
}

struct dma_window dma_window_argument(int argc, char **argv)
{
    struct dma_window w = { 0, 0 };

    if (argc == 3 && strcmp(argv[1], "--window") == 0 && parse_window(argv[2], &w))
        return w;
    if (argc != 1)
        die(2, "usage: %s [--window START+SIZE]", program_name());
    return w;
}

bool dma_in_window(const struct dma_window *w, uint64_t gpa, uint64_t len)
{
    return gpa >= w->start && len <= w->size && gpa - w->start <= w->size - len;
}

void *dma_page(const struct dma_window *w)
{
    void *p = map_pages(PAGE_SIZE, PAGE_SIZE);
    struct sys_dma a = {
        .op = SYS_DMA_PLACE, .addr = (uint64_t)p, .iova = w->start, .len = w->size
    };
    long rc = w->size ? sys_dma(&a) : 0;

    if (rc < 0)
        die(1, "no page in 0x%lx+0x%lx: error %ld", w->start, w->size, rc);
    return p;
}

/* --- xxHash64 ------------------------------------------------------------------------------------
 */

#define P1 0x9e3779b185ebca87ull
#define P2 0xc2b2ae3d27d4eb4full
#define P3 0x165667b19e3779f9ull
#define P4 0x85ebca77c2b2ae63ull
#define P5 0x27d4eb2f165667c5ull

static uint64_t rotate(uint64_t x, int n)
{
    return x << n | x >> (64 - n);
}

static uint64_t stir(uint64_t acc, uint64_t word)
{
    return rotate(acc + word * P2, 31) * P1;
}

static uint64_t word_at(const uint8_t *p, size_t bytes)
{
    uint64_t v = 0;

    memcpy(&v, p, bytes);
    return v;
}

/* The four lanes over whole blocks of 32 bytes; *p moves on. */
static uint64_t lanes(const uint8_t **p, size_t blocks)
{
    uint64_t v[4] = { P1 + P2, P2, 0, 0 - P1 }, h;

    for (; blocks > 0; blocks--)
        for (int i = 0; i < 4; i++, *p += 8)
            v[i] = stir(v[i], word_at(*p, 8));
    h = rotate(v[0], 1) + rotate(v[1], 7) + rotate(v[2], 12) + rotate(v[3], 18);
    for (int i = 0; i < 4; i++)
        h = (h ^ stir(0, v[i])) * P1 + P4;
    return h;
}

uint64_t xxh64(const void *data, size_t len)
{
    const uint8_t *p = data, *end = p + len;
    uint64_t h = len >= 32 ? lanes(&p, len / 32) : P5;

    h += len;
    for (; end - p >= 8; p += 8)
        h = rotate(h ^ stir(0, word_at(p, 8)), 27) * P1 + P4;
    for (; end - p >= 4; p += 4)
        h = rotate(h ^ word_at(p, 4) * P1, 23) * P2 + P3;
    for (; p < end; p++)
        h = rotate(h ^ *p * P5, 11) * P1;
    h = (h ^ h >> 33) * P2;
    h = (h ^ h >> 29) * P3;
    return h ^ h >> 32;
}
