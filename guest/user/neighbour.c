/*
 * neighbour [SIZE]: keeps a pattern of SIZE bytes (4M) at 0x2000000000 and does what the console
 * says, a line each:
 *   ADDRESS   its device reads from that address, then writes there
 *   check     compares the pattern
 *   end       ends; so does Ctrl-D
 * For two VMs with a device each: addresses are physical ones of the other's memory.
 * Exit code: 0; 1, the pattern is not what it was at the end; 2, no device or wrong arguments.
 */
#include "guest/user/lib/dma.h"

#define PLACE  0x2000000000ul
#define LEN    512ul
#define CTRL_D 4

static uint8_t *own; /* the buffer by which this program talks to the device */
static uint64_t own_iova;
static uint64_t *kept, words;
static uint64_t seed = 0x6e656967;

static uint64_t pattern(uint64_t i)
{
    uint64_t x = (i + 1) * 0x9e3779b97f4a7c15ull;

    return x ^ x >> 29;
}

static bool compare(void)
{
    for (uint64_t i = 0; i < words; i++) {
        if (kept[i] == pattern(i))
            continue;
        printf("neighbour: changed: 0x%lx has 0x%lx and not 0x%lx\n", PLACE + i * 8, kept[i],
               pattern(i));
        return false;
    }
    printf("neighbour: all %lu words as they were\n", words);
    return true;
}

/* --- the device --------------------------------------------------------------------------------
 */

static void into_device(const uint8_t *from)
{
    memcpy(own, from, LEN);
    if (dma_transfer(own_iova, LEN, 0, 0) != 0)
        die(1, "the device can't read its own buffer");
}

static void out_of_device(uint8_t *to)
{
    if (dma_transfer(own_iova, LEN, SYS_DMA_TO_MEMORY, 0) != 0)
        die(1, "the device can't write its own buffer");
    memcpy(to, own, LEN);
}

static void fresh_bytes(uint8_t *to)
{
    for (size_t i = 0; i < LEN; i++)
        to[i] = (uint8_t)next_random(&seed);
}

static bool one_byte_all_over(const uint8_t *p)
{
    for (size_t i = 1; i < LEN; i++)
        if (p[i] != p[0])
            return false;
    return true;
}

/* What the device got from there, after it held something else; false: nothing, or what a bus gives
 * when nobody answers. */
static bool fetch(uint64_t iova, uint8_t *got)
{
    uint8_t before[LEN];

    fresh_bytes(before);
    into_device(before);
    if (dma_transfer(iova, LEN, 0, 0) < 0)
        die(1, "a transfer did not end");
    out_of_device(got);
    return memcmp(got, before, LEN) != 0 && !one_byte_all_over(got);
}

/* A write counts when the device reads it back. */
static bool store(uint64_t iova)
{
    uint8_t bytes[LEN], got[LEN];

    fresh_bytes(bytes);
    into_device(bytes);
    if (dma_transfer(iova, LEN, SYS_DMA_TO_MEMORY, 0) < 0)
        die(1, "a transfer did not end");
    return fetch(iova, got) && memcmp(got, bytes, LEN) == 0;
}

static const char *outcome(bool went)
{
    return went ? "went through" : "blocked";
}

static void try_address(uint64_t iova)
{
    uint8_t got[LEN];

    printf("neighbour: read 0x%lx: %s\n", iova, outcome(fetch(iova, got)));
    printf("neighbour: write 0x%lx: %s\n", iova, outcome(store(iova)));
}

/* --- the console
 * ----------------------------------------------------------------------------------
 */

/* False: that is the end of it. */
static bool next_line(char *line, size_t size)
{
    size_t n = 0;
    char c = 0;

    for (;;) {
        if (sys_read(SYS_STDIN, &c, 1) != 1 || c == CTRL_D)
            return false;
        if (c == '\n' || c == '\r')
            break;
        if (n + 1 < size)
            line[n++] = c;
    }
    line[n] = '\0';
    return strcmp(line, "end") != 0;
}

static void obey(const char *line)
{
    uint64_t iova;

    if (strcmp(line, "check") == 0)
        (void)compare();
    else if (parse_size(line, &iova) && iova % 8 == 0 && iova + LEN > iova)
        try_address(iova);
    else
        printf("neighbour: '%s' is neither an address (a multiple of 8), 'check' nor 'end'\n",
               line);
    flush();
}

static void set_up(uint64_t size)
{
    struct sys_dma_info info;
    long rc = dma_info(&info);

    if (rc < 0)
        die(2, "no DMA test device, error %ld", rc);
    own = map_pages(PAGE_SIZE, PAGE_SIZE);
    if (dma_map(own, PAGE_SIZE, SYS_DMA_READ | SYS_DMA_WRITE, &own_iova) < 0)
        die(1, "no buffer for the device");
    words = size / sizeof(uint64_t);
    kept = (uint64_t *)PLACE;
    if (sys_mmap(PLACE, size, SYS_PROT_READ | SYS_PROT_WRITE, SYS_MAP_FIXED) != (long)PLACE)
        die(1, "no %lu bytes at 0x%lx", size, PLACE);
    for (uint64_t i = 0; i < words; i++)
        kept[i] = pattern(i);
    printf("neighbour: keeps %lu bytes at 0x%lx; its device is %s, its own buffer at 0x%lx\n", size,
           PLACE, info.device, own_iova);
    flush();
}

int main(int argc, char **argv)
{
    uint64_t size = 4ul << 20;
    char line[32];

    if (argc > 2 || (argc == 2 && !parse_size(argv[1], &size)) || size == 0 || size % PAGE_SIZE)
        die(2, "usage: neighbour [SIZE], a multiple of 4K");
    set_up(size);
    while (next_line(line, sizeof line))
        obey(line);
    return compare() ? 0 : 1;
}
