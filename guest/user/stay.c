/*
 * stay SIZE [SECONDS [4k|2m|1g]]: memory of SIZE bytes (K, M, G) at 0x2000000000 with a pattern of
 * which no two words are alike, read back for so many seconds or for ever (0). Each pass also
 * writes a word of each page. Says so and fails
 * when a word is not what it has to be: for those who move the memory meanwhile.
 */
#include "guest/user/lib/lib.h"

#define PLACE      0x2000000000ul
#define PAGE_WORDS (PAGE_SIZE / sizeof(uint64_t))

static uint64_t pattern(uint64_t i)
{
    uint64_t x = (i + 1) * 0x9e3779b97f4a7c15ull;

    return x ^ x >> 29;
}

/* The first word of each page has the number of the last pass, and the pattern in its high half. */
static uint64_t counter(uint64_t i, uint64_t pass)
{
    return (pattern(i) & ~0xfffffffful) | (uint32_t)pass;
}

static void fill(volatile uint64_t *mem, uint64_t words)
{
    for (uint64_t i = 0; i < words; i++)
        mem[i] = i % PAGE_WORDS ? pattern(i) : counter(i, 0);
}

static void compare(uint64_t i, uint64_t got, uint64_t wanted, uint64_t pass)
{
    if (got != wanted)
        die(1, "pass %lu: 0x%lx has 0x%lx and not 0x%lx", pass, PLACE + i * 8, got, wanted);
}

/* Leaves `pass` in each page. */
static void verify(volatile uint64_t *mem, uint64_t words, uint64_t pass)
{
    for (uint64_t i = 0; i < words; i++) {
        if (i % PAGE_WORDS) {
            compare(i, mem[i], pattern(i), pass);
            continue;
        }
        compare(i, mem[i], counter(i, pass - 1), pass);
        mem[i] = counter(i, pass);
    }
}

int main(int argc, char **argv)
{
    uint64_t size = 0, seconds = 0, page = PAGE_SIZE, pass = 0, words, end;
    void *mem;

    if (argc < 2 || argc > 4 || !parse_size(argv[1], &size) || size == 0 ||
        (argc > 2 && !parse_size(argv[2], &seconds)) ||
        (argc > 3 && !parse_page_size(argv[3], &page)))
        die(2, "usage: stay SIZE [SECONDS [4k|2m|1g]]");
    size = (size + page - 1) & -page;
    words = size / sizeof(uint64_t);
    mem = (void *)PLACE;
    if (sys_mmap(PLACE, size, SYS_PROT_READ | SYS_PROT_WRITE, SYS_MAP_FIXED | page_flag(page)) !=
        (long)PLACE)
        die(1, "no %lu bytes at 0x%lx", size, PLACE);
    fill(mem, words);
    printf("stay: pid %ld keeps %lu bytes at 0x%lx\n", sys_getpid(), size, PLACE);
    flush();
    end = sys_clock() + seconds * 1000000000;
    do
        verify(mem, words, ++pass);
    while (seconds == 0 || sys_clock() < end);
    printf("stay: %lu passes, every word as it was\n", pass);
    return 0;
}
