/*
 * isolate: what the DMA test device can reach. It may use what it was given, and nothing else; each
 * attempt says what was tried, what became of it, what the IOMMU said, and a checksum of the memory
 * that was aimed at, before and after.
 *
 * Lines for programs:
 *   isolate: region iova=0x... len=N read=0|1 write=0|1 contrast=0|1 label=TEXT
 *   isolate: attempt
 * what=TEXT|iova=0x..|len=N|write=0|1|contrast=0|1|allowed=0|1|went=0|1|before=HEX|after=HEX|said=TEXT
 *   isolate: done attempts=N
 * before= and after= are empty where nobody but the device could look.
 *
 * --window START+SIZE: the device is passed through, and was given these gpas from outside.
 * Exit code: 0, each attempt ended as it should; 1, one did not; 3, nothing translates the device's
 * addresses, and it reaches what it likes.
 */
#include "guest/user/lib/dma.h"

#define LEN      512ul /* of an attempt */
#define FAR_AWAY 0x10000000ul

/* Where an attempt aims at. */
enum target_kind {
    NOTHING,  /* that a CPU could look at */
    OWN_PAGE, /* of this program */
    PHYSICAL, /* RAM, by its gpa */
    INTERRUPT /* an address where a write is an interrupt */
};
struct target {
    enum target_kind kind;
    uint8_t *page;
    uint64_t gpa;
};

struct attempt {
    const char *what;
    uint64_t iova, len;
    struct target target;
    bool write, contrast, allowed;
};

static struct sys_dma_info info;
static struct dma_window window;
static uint8_t *own; /* the buffer by which this program talks to the device */
static uint64_t own_iova;
static uint64_t seed = 0x15014a7e;
static unsigned attempts, surprises, reached;

static void fail_if(long rc, const char *what)
{
    if (rc < 0)
        die(1, "%s: error %ld", what, rc);
}

/* --- the device's buffer --------------------------------------------------- */

/* Fills it with `pattern`, of n bytes; it has to work. */
static void load_device(const uint8_t *pattern, uint64_t n)
{
    memcpy(own, pattern, n);
    if (dma_transfer(own_iova, n, 0, 0) != 0)
        die(1, "the device can't read its own buffer");
}

static void read_device(uint8_t *to, uint64_t n)
{
    if (dma_transfer(own_iova, n, SYS_DMA_TO_MEMORY, 0) != 0)
        die(1, "the device can't write its own buffer");
    memcpy(to, own, n);
}

/* --- one attempt ----------------------------------------------------------- */

/* The memory aimed at, all of its page. False: nobody can look. */
static bool look(const struct target *t, uint8_t *to)
{
    if (t->kind == OWN_PAGE)
        memcpy(to, t->page, PAGE_SIZE);
    else if (t->kind == PHYSICAL)
        fail_if(dma_peek(t->gpa, to, PAGE_SIZE), "can't look at memory");
    else
        return false;
    return true;
}

static uint64_t watched(void)
{
    fail_if(dma_info(&info), "no answer about the device");
    return info.watched;
}

/* Reports and interrupts come in their own time: not later than this. */
static uint64_t watched_after(uint64_t before)
{
    for (int i = 0; i < 50 && watched() == before; i++)
        sys_sleep(2000000);
    return info.watched;
}

/* What the IOMMU reported behind number `after`, as text. */
static void listen(uint64_t after, bool expected, char *said, size_t size)
{
    struct sys_dma_fault f;

    said[0] = '\0';
    for (int i = 0; i < (expected ? 100 : 1); i++) {
        if (dma_fault(after, &f) == 1) {
            snprintf(said, size, "%s 0x%lx %s", f.write ? "write" : "read", f.iova, f.reason);
            return;
        }
        if (expected)
            sys_sleep(2000000);
    }
}

static bool all_equal(const uint8_t *p, uint64_t n)
{
    for (uint64_t i = 1; i < n; i++)
        if (p[i] != p[0])
            return false;
    return true;
}

/*
 * Where only the device could look: what a read brought counts if it is neither what was there
 * before nor one byte all over, as a bus gives when nobody answers; and a write, when a read brings
 * it back.
 */
static bool went_unseen(const struct attempt *a, const uint8_t *pattern)
{
    static uint8_t other[LEN], got[LEN];

    if (a->write) {
        memset(other, 0x5a, a->len);
        load_device(other, a->len);
        (void)dma_transfer(a->iova, a->len, 0, 0);
    }
    read_device(got, a->len);
    if (a->write)
        return memcmp(got, pattern, a->len) == 0;
    return memcmp(got, pattern, a->len) != 0 && !all_equal(got, a->len);
}

/* The device does it; true when it went through. */
static bool transfer(const struct attempt *a, const uint8_t *pattern, const uint8_t *aim,
                     uint64_t *faults)
{
    static uint8_t got[LEN];
    uint64_t interrupts = watched();

    load_device(pattern, a->len);
    *faults = info.faults;
    fail_if(dma_transfer(a->iova, a->len, a->write ? SYS_DMA_TO_MEMORY : 0, 0),
            "a transfer did not end");
    if (a->target.kind == INTERRUPT)
        return watched_after(interrupts) != interrupts;
    if (a->target.kind == NOTHING)
        return went_unseen(a, pattern);
    if (a->write)
        return false; /* the memory tells */
    read_device(got, a->len);
    return memcmp(got, aim, a->len) == 0;
}

static void print_attempt(const struct attempt *a, bool went, const char *sums, const char *said)
{
    printf("  %s %s: %s%s%s%s\n", a->allowed == went ? "ok  " : "BAD ", a->what,
           went ? "went through" : "blocked", said[0] ? " (" : "", said, said[0] ? ")" : "");
    printf("isolate: attempt what=%s|iova=0x%lx|len=%lu|write=%d|contrast=%d|allowed=%d|went=%d|"
           "%s|said=%s\n",
           a->what, a->iova, a->len, a->write, a->contrast, a->allowed, went, sums, said);
    flush(); /* so that a line of the kernel's never comes in between */
}

static void attempt(const struct attempt *a)
{
    static uint8_t before[PAGE_SIZE], after[PAGE_SIZE], pattern[LEN];
    char said[96], sums[64] = "before=|after=";
    uint64_t faults, offset = a->iova % PAGE_SIZE;
    bool seen = look(&a->target, before), went;

    for (size_t i = 0; i < LEN; i++)
        pattern[i] = (uint8_t)next_random(&seed);
    if (a->target.kind == INTERRUPT)
        memcpy(pattern, &info.msi_data, sizeof info.msi_data);
    went = transfer(a, pattern, before + offset, &faults);
    if (seen) {
        look(&a->target, after);
        snprintf(sums, sizeof sums, "before=%016lx|after=%016lx", xxh64(before, PAGE_SIZE),
                 xxh64(after, PAGE_SIZE));
        if (a->write)
            went = memcmp(before, after, PAGE_SIZE) != 0;
    }
    listen(faults, info.translated && !went, said, sizeof said);
    attempts++;
    surprises += went != a->allowed;
    reached += went && !a->allowed;
    print_attempt(a, went, sums, said);
}

/* The same place both ways. */
static void both_ways(const char *const what[2], uint64_t iova, struct target t, bool read_allowed,
                      bool write_allowed, bool contrast)
{
    for (int write = 0; write < 2; write++)
        attempt(&(struct attempt){ what[write], iova, LEN, t, write, contrast,
                                   write ? write_allowed : read_allowed });
}

static void print_region(uint64_t iova, uint64_t len, bool write, bool contrast, const char *label)
{
    printf("isolate: region iova=0x%lx len=%lu read=1 write=%d contrast=%d label=%s\n", iova, len,
           write, contrast, label);
    flush();
}

/* --- what is tried --------------------------------------------------------- */

#define WHAT(text) ((const char *const[2]){ "read " text, "write to " text })

/* A page of the program's with content; mapped, unless flags is 0. */
static struct target fresh_page(unsigned flags, uint64_t *iova)
{
    struct target t = { .kind = OWN_PAGE, .page = map_pages(PAGE_SIZE, PAGE_SIZE) };

    for (size_t i = 0; i < PAGE_SIZE; i++)
        t.page[i] = (uint8_t)next_random(&seed);
    *iova = 0;
    if (flags)
        fail_if(dma_map(t.page, PAGE_SIZE, flags, iova), "a page can't be mapped");
    return t;
}

static struct target victim(void)
{
    struct target t = { .kind = PHYSICAL };

    fail_if(dma_victim(&t.gpa), "the kernel has no page for it");
    return t;
}

static void try_own(void)
{
    struct target t = { .kind = OWN_PAGE, .page = own };

    /* Its upper half: the lower one is what this program uses to look into the device. */
    both_ways(WHAT("its own buffer"), own_iova + PAGE_SIZE / 2, t, true, true, false);
}

static void try_unmapped(void)
{
    struct target none = { .kind = NOTHING };

    both_ways(WHAT("an address that was never mapped"), own_iova + FAR_AWAY, none, false, false,
              false);
    both_ways(WHAT("the page behind its buffer"), own_iova + PAGE_SIZE, none, false, false, false);
}

static void try_read_only(void)
{
    uint64_t iova;
    struct target t = fresh_page(SYS_DMA_READ, &iova);

    if (info.translated)
        print_region(iova, PAGE_SIZE, false, false, "a page it may only read");
    both_ways(WHAT("a page that it may only read"), iova, t, true, false, false);
    fail_if(dma_unmap(iova), "a page can't be unmapped");
}

static void try_after_unmap(void)
{
    uint64_t iova;
    struct target t = fresh_page(SYS_DMA_READ | SYS_DMA_WRITE, &iova);

    if (info.translated)
        print_region(iova, PAGE_SIZE, true, false, "a page that is unmapped later");
    both_ways(WHAT("a page before it is unmapped"), iova, t, true, true, false);
    fail_if(dma_unmap(iova), "a page can't be unmapped");
    both_ways(WHAT("a page after it was unmapped"), iova, t, false, false, false);
}

static void try_physical(void)
{
    struct target t = victim(), none = { .kind = NOTHING };
    bool inside = dma_in_window(&window, t.gpa, PAGE_SIZE);

    both_ways(WHAT("a page of the kernel, by its physical address"), t.gpa, t, inside, inside,
              false);
    both_ways(WHAT("a page beyond this VM's memory"), info.nowhere, none, false, false, false);
}

/* The watched interrupt first by the kernel itself: one that nobody would notice proves nothing. */
static void try_interrupt(void)
{
    uint64_t before = watched(), none = 0;

    fail_if(dma_value(SYS_DMA_WATCH, &none), "the kernel raises no interrupt");
    if (watched_after(before) != before + 1)
        die(1, "an interrupt of the watched vector is not noticed");
    attempt(&(struct attempt){ .what = "raise an interrupt that is not its own",
                               .iova = info.msi_addr,
                               .len = sizeof info.msi_data,
                               .target = { .kind = INTERRUPT },
                               .write = true });
}

/* With all RAM mapped as it is, the same page is within reach; and then no more. */
static void try_identity(void)
{
    struct target t = victim();

    fail_if(dma_identity(true), "all RAM can't be mapped");
    print_region(PAGE_SIZE, info.ram_end - PAGE_SIZE, true, true, "all RAM, at its own addresses");
    both_ways(WHAT("the kernel's page, with all RAM mapped"), t.gpa, t, true, true, true);
    fail_if(dma_identity(false), "the mapping of all RAM can't be taken back");
    t = victim();
    both_ways(WHAT("the kernel's page, with that taken back"), t.gpa, t, false, false, false);
}

/* --- the runs -------------------------------------------------------------- */

static void run_translated(void)
{
    try_own();
    try_unmapped();
    try_read_only();
    try_after_unmap();
    try_physical();
    try_interrupt();
    try_identity();
}

/* A page of this program's that lies outside of the window. */
static struct target page_outside(uint64_t *gpa)
{
    for (int i = 0; i < 4096; i++) {
        uint64_t iova;
        struct target t = fresh_page(0, &iova);

        fail_if(dma_gpa(t.page, gpa), "a page has no address");
        if (!dma_in_window(&window, *gpa, PAGE_SIZE))
            return t;
    }
    die(1, "all of this program's pages lie in the window");
}

static void run_window(void)
{
    uint64_t gpa;
    struct target outside = page_outside(&gpa);

    print_region(window.start, window.size, true, false, "what the host let it have");
    try_own();
    both_ways(WHAT("a page of its owner's that it was not given"), gpa, outside, false, false,
              false);
    try_physical();
    try_interrupt();
}

static void run_untranslated(void)
{
    printf("isolate: no IOMMU of this VM stands before %s: its addresses are physical ones\n",
           info.device);
    try_own();
    try_read_only();
    try_after_unmap();
    try_physical();
    printf("isolate: %u attempts went through that should not\n", reached);
}

static int result(void)
{
    printf("isolate: done attempts=%u\n", attempts);
    if (!info.translated && !window.size && reached > 0)
        return 3;
    return surprises > 0;
}

int main(int argc, char **argv)
{
    long rc;

    window = dma_window_argument(argc, argv);
    rc = dma_info(&info);
    if (rc < 0)
        die(2, "no DMA test device, error %ld", rc);
    own = dma_page(&window);
    fail_if(dma_map(own, PAGE_SIZE, SYS_DMA_READ | SYS_DMA_WRITE, &own_iova), "no buffer");
    if (!window.size)
        print_region(own_iova, PAGE_SIZE, true, false, "its own buffer");
    if (window.size)
        run_window();
    else if (info.translated)
        run_translated();
    else
        run_untranslated();
    return result();
}
