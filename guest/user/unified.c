/*
 * unified [TOUCHES [PAGES]]: memory that a program and a device share. Pages move to whoever
 * touches them: to the device by a page request, back by a page fault. Touches come from both sides
 * at random, and a model beside it knows what each word has to be.
 */
#include "guest/user/lib/dma.h"

#define WORDS     (PAGE_SIZE / 8)
#define SPAN_MAX  64ul /* words of one transfer */
#define TURN_MAX  32ul /* touches in a row by the same one */
#define PAGES_MAX 256ul

static uint64_t *shared, shared_iova; /* as the program, and as the device sees it */
static uint64_t *model, words;
static uint64_t *own, own_iova; /* by which the device's buffer is filled and read */
static uint64_t seed = 0x0111f1ed;
static uint64_t touches[2][2]; /* by the program, the device; reads, writes */

static void must(long rc, const char *what)
{
    if (rc != 0)
        die(1, "%s: error %ld", what, rc);
}

static void touch_word(uint64_t at, bool write)
{
    if (write)
        shared[at] = model[at] = next_random(&seed);
    else if (shared[at] != model[at])
        die(1, "word %lu is 0x%lx for the program, 0x%lx was written", at, shared[at], model[at]);
}

/* A span that may cross from one page to the next, which may lie elsewhere. */
static void touch_span(uint64_t at, bool write)
{
    uint64_t n = 1 + next_random(&seed) % SPAN_MAX, iova;

    if (n > words - at)
        n = words - at;
    iova = shared_iova + at * 8;
    if (write) {
        for (uint64_t i = 0; i < n; i++)
            own[i] = model[at + i] = next_random(&seed);
        must(dma_transfer(own_iova, n * 8, 0, 0), "to the device's buffer");
        must(dma_transfer(iova, n * 8, SYS_DMA_TO_MEMORY | SYS_DMA_PAGE_REQUESTS, 0),
             "the device's write");
        return;
    }
    must(dma_transfer(iova, n * 8, SYS_DMA_PAGE_REQUESTS, 0), "the device's read");
    must(dma_transfer(own_iova, n * 8, SYS_DMA_TO_MEMORY, 0), "from the device's buffer");
    for (uint64_t i = 0; i < n; i++)
        if (own[i] != model[at + i])
            die(1, "word %lu is 0x%lx for the device, 0x%lx was written", at + i, own[i],
                model[at + i]);
}

/* One of the two works on some page for a while, as programs do. Returns how many touches. */
static uint64_t turn(uint64_t most)
{
    bool device = next_random(&seed) >> 63;
    uint64_t page = next_random(&seed) % (words / WORDS), n = 1 + next_random(&seed) % TURN_MAX;

    if (n > most)
        n = most;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t at = page * WORDS + next_random(&seed) % WORDS;
        bool write = next_random(&seed) >> 63;

        touches[device][write]++;
        if (device)
            touch_span(at, write);
        else
            touch_word(at, write);
    }
    return n;
}

static void share(uint64_t pages)
{
    struct sys_dma a = { .op = SYS_DMA_SHARE, .len = pages * PAGE_SIZE };
    long rc = sys_dma(&a);

    if (rc < 0)
        die(rc == -ENOENT ? 3 : 1,
            rc == -ENOENT ? "it takes a device with memory and page requests, behind an IOMMU"
                          : "nothing can be shared: error %ld",
            rc);
    shared = (uint64_t *)a.addr;
    shared_iova = a.iova;
    words = pages * WORDS;
    model = calloc(words, 8);
    own = map_pages(PAGE_SIZE, PAGE_SIZE);
    must(dma_map(own, PAGE_SIZE, SYS_DMA_READ | SYS_DMA_WRITE, &own_iova), "mapping");
}

static struct sys_dma_shared counters(void)
{
    struct sys_dma_shared s = { 0 };
    struct sys_dma a = { .op = SYS_DMA_SHARED, .addr = (uint64_t)&s, .len = sizeof s };

    must(sys_dma(&a), "counters");
    return s;
}

/* Each page that moves does so whole, and as often there as back, but for those that are there. */
static void check_counters(const struct sys_dma_shared *s)
{
    check(s->requests > 0 && s->faults > 0, "no page moved");
    check(s->to_device == s->requests * PAGE_SIZE, "%lu bytes went to the device", s->to_device);
    check(s->from_device == s->faults * PAGE_SIZE, "%lu bytes came back", s->from_device);
    check(s->on_device == s->requests - s->faults, "%lu pages on the device", s->on_device);
}

static void print_table(uint64_t pages, const struct sys_dma_shared *s)
{
    printf("unified: %lu pages shared, iova 0x%lx\n", pages, shared_iova);
    printf("            reads   writes   brought pages by      bytes moved\n");
    printf("  program  %6lu   %6lu   %6lu page faults   %9lu from the device\n", touches[0][0],
           touches[0][1], s->faults, s->from_device);
    printf("  device   %6lu   %6lu   %6lu page requests %9lu to the device\n", touches[1][0],
           touches[1][1], s->requests, s->to_device);
}

static uint64_t argument(int argc, char **argv, int i, uint64_t fallback, uint64_t most)
{
    uint64_t n = fallback;

    if (argc > 3 || (i < argc && (!parse_size(argv[i], &n) || n == 0 || n > most)))
        die(2, "usage: unified [TOUCHES [PAGES]], at most %lu pages", PAGES_MAX);
    return n;
}

int main(int argc, char **argv)
{
    uint64_t n = argument(argc, argv, 1, 2000, UINT32_MAX);
    uint64_t pages = argument(argc, argv, 2, 16, PAGES_MAX);
    struct sys_dma_shared s;

    share(pages);
    while (n > 0)
        n -= turn(n);
    s = counters();
    check_counters(&s);
    print_table(pages, &s);
    check(memcmp(shared, model, words * 8) == 0, "some word is not what was written");
    must(sys_dma(&(struct sys_dma){ .op = SYS_DMA_UNSHARE }), "unsharing");
    check(!write_faults((uint64_t)own), "what is not shared is lost");
    check(write_faults((uint64_t)shared), "what was shared is still there");
    return check_end();
}
