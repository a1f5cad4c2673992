/*
 * What `edu` (guest/abi.h) tries from the host's side: through the IOMMU at what it was given, and
 * at what it was not.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "guest/abi.h"
#include "tools/isolate_interrupt.h"
#include "tools/isolate_vfio.h"
#include "vmm/pagemap.h"

#define PAGE  4096u
#define BYTES 2048u /* a transfer: QEMU's device aborts at 4096 */

#define READ  VFIO_DMA_MAP_FLAG_READ
#define WRITE VFIO_DMA_MAP_FLAG_WRITE

/* Pages of ours, and where the device sees those that it is given. */
enum page { STAGE, DUMP, OWN, RO_READ, RO_WRITE, GONE, OUTSIDE, PAGES };
#define IOVA_OWN  UINT64_C(0x100000) /* STAGE, DUMP, OWN */
#define IOVA_RO   UINT64_C(0x200000) /* RO_READ, RO_WRITE */
#define IOVA_GONE UINT64_C(0x300000)
#define IOVA_END  UINT64_C(0x400000)

#define TRANSFER_MS 5000 /* one takes 100 */
#define RATE_MS     5500 /* the kernel tells of few faults in five seconds */
#define TRIES       3

struct edu {
    struct isolate_device *dev;
    struct isolate_report *report;
    struct isolate_log log;
    struct isolate_victim victim;
    volatile uint8_t *bar;
    uint8_t *page[PAGES];
    unsigned seed; /* of the pattern that is sent next */
};

/* What is tried. */
struct attempt {
    const char *what;
    uint64_t iova;
    const uint8_t *memory; /* behind it; NULL: the victim's page */
    bool write, contrast, allowed;
    bool told;      /* the IOMMU is to tell of it */
    bool unmap;     /* right before: IOVA_GONE */
    bool no_master; /* bus master is off meanwhile */
};

static void sleep_ms(long ms)
{
    const struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

    (void)nanosleep(&t, NULL);
}

/* --- the device ---------------------------------------------------------------------------- */

static void put64(const struct edu *e, unsigned at, uint64_t value)
{
    *(volatile uint64_t *)(e->bar + at) = value;
}

static uint64_t get64(const struct edu *e, unsigned at)
{
    return *(volatile uint64_t *)(e->bar + at);
}

/* Between memory at `iova` and the device's buffer. */
static int transfer(const struct edu *e, uint64_t iova, uint32_t len, bool to_memory,
                    struct error *err)
{
    put64(e, TF_EDU_SOURCE, to_memory ? TF_EDU_BUFFER : iova);
    put64(e, TF_EDU_DESTINATION, to_memory ? iova : TF_EDU_BUFFER);
    put64(e, TF_EDU_COUNT, len);
    put64(e, TF_EDU_COMMAND, TF_EDU_START | (to_memory ? TF_EDU_FROM_DEVICE : 0));
    for (int ms = 0; get64(e, TF_EDU_COMMAND) & TF_EDU_START; ms += 5) {
        if (ms >= TRANSFER_MS)
            return error_set(err, -ETIMEDOUT, "device %s: a transfer of %u bytes doesn't end",
                             e->dev->bdf, len);
        sleep_ms(5);
    }
    return 0;
}

/* A pattern that is nowhere else, into the device's buffer. */
static int load(struct edu *e, struct error *err)
{
    e->seed++;
    for (unsigned i = 0; i < BYTES; i++)
        e->page[STAGE][i] = (uint8_t)(i * 7 + (i >> 8) * 13 + e->seed * 59);
    return transfer(e, IOVA_OWN + STAGE * PAGE, BYTES, false, err);
}

/* --- one attempt ------------------------------------------------------------------------------ */

static int sum_of(const struct edu *e, const struct attempt *t, uint64_t *sum, uint64_t *hpa,
                  struct error *err)
{
    if (!t->memory)
        return isolate_victim_ask(&e->victim, BYTES, hpa, sum, err);
    *hpa = 0;
    *sum = isolate_sum(t->memory, BYTES);
    return 0;
}

static int shoot(struct edu *e, const struct attempt *t, struct isolate_attempt *a,
                 struct error *err)
{
    int rc = t->no_master ? isolate_bus_master(e->dev, false) : 0;

    if (rc)
        return error_set(err, rc, "device %s: bus master can't be switched off", e->dev->bdf);
    isolate_log_skip(&e->log);
    rc = transfer(e, a->iova, BYTES, t->write, err);
    if (rc == 0 && t->no_master)
        rc = isolate_bus_master(e->dev, true);
    if (rc == 0 && t->told)
        (void)isolate_log_fault(&e->log, a->said, sizeof(a->said));
    return rc;
}

/* What a read brought lies in the device's buffer: looked at in a page of ours. */
static int try_once(struct edu *e, const struct attempt *t, struct isolate_attempt *a,
                    struct error *err)
{
    uint64_t before_at, after_at;
    int rc = load(e, err);

    if (rc == 0)
        rc = sum_of(e, t, &a->before, &before_at, err);
    if (rc == 0)
        rc = shoot(e, t, a, err);
    if (rc == 0)
        rc = sum_of(e, t, &a->after, &after_at, err);
    if (rc == 0 && !t->write)
        rc = transfer(e, IOVA_OWN + DUMP * PAGE, BYTES, true, err);
    if (rc)
        return rc;
    if (before_at != after_at)
        return error_set(err, -EAGAIN, "the page aimed at was moved by the kernel: try again");
    a->sums = true;
    a->went = t->write ? a->after != a->before : isolate_sum(e->page[DUMP], BYTES) == a->before;
    return 0;
}

/* What the device was given for it, and where it aims. */
static int make_ready(struct edu *e, const struct attempt *t, struct error *err)
{
    int rc = t->unmap ? isolate_unmap(e->dev, IOVA_GONE, PAGE) : 0;

    return rc ? error_set(err, rc, "a page can't be unmapped: %s", strerror(-rc)) : 0;
}

static int attempt(struct edu *e, const struct attempt *t, struct error *err)
{
    struct isolate_attempt *a = &e->report->attempt[e->report->attempts];
    int rc = make_ready(e, t, err);

    *a = (struct isolate_attempt){ .iova = t->iova,
                                   .len = BYTES,
                                   .write = t->write,
                                   .contrast = t->contrast,
                                   .allowed = t->allowed };
    (void)snprintf(a->what, sizeof(a->what), "%s", t->what);
    /* Once more when the kernel didn't tell: it limits how often it does. */
    for (int i = 0; rc == 0 && i < TRIES; i++) {
        if (i > 0)
            sleep_ms(RATE_MS);
        rc = try_once(e, t, a, err);
        if (!t->told || a->went || a->said[0] || e->log.fd < 0)
            break;
    }
    if (rc)
        return rc;
    e->report->attempts++;
    isolate_print_attempt(stdout, a);
    return 0;
}

/* --- all of them ---------------------------------------------------------------------------------
 */

static void region(struct edu *e, uint64_t iova, uint64_t len, bool write, bool contrast,
                   const char *label)
{
    struct isolate_region *r = &e->report->region[e->report->regions++];

    *r = (struct isolate_region){
        .iova = iova, .len = len, .read = true, .write = write, .contrast = contrast
    };
    (void)snprintf(r->label, sizeof(r->label), "%s", label);
}

static int give(struct edu *e, uint64_t iova, enum page first, unsigned pages, bool write,
                const char *label, struct error *err)
{
    int rc = isolate_map(e->dev, iova, e->page[first], (uint64_t)pages * PAGE,
                         write ? READ | WRITE : READ);

    if (rc)
        return error_set(err, rc, "iova 0x%" PRIx64 " can't be mapped for device %s: %s", iova,
                         e->dev->bdf, strerror(-rc));
    region(e, iova, (uint64_t)pages * PAGE, write, false, label);
    return 0;
}

static int allowed(struct edu *e, struct error *err)
{
    const struct attempt list[] = {
        { .what = "its own buffer",
          .iova = IOVA_OWN + OWN * PAGE,
          .memory = e->page[OWN],
          .write = true,
          .allowed = true },
        { .what = "its own buffer",
          .iova = IOVA_OWN + OWN * PAGE,
          .memory = e->page[OWN],
          .allowed = true },
        { .what = "a read-only page",
          .iova = IOVA_RO,
          .memory = e->page[RO_READ],
          .allowed = true },
        { .what = "a page, before it is unmapped",
          .iova = IOVA_GONE,
          .memory = e->page[GONE],
          .write = true,
          .allowed = true },
    };
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < sizeof(list) / sizeof(list[0]); i++)
        rc = attempt(e, &list[i], err);
    return rc;
}

/* An iova that is mapped to nothing and the physical address of a page of ours: harmless even
 * where no IOMMU translates, and seen there. */
static int forbidden(struct edu *e, uint64_t outside, struct error *err)
{
    /* The read-only page that is written was never read: an IOTLB entry without the right to
     * write blocks silently. */
    const struct attempt list[] = {
        { .what = "an address that is not mapped",
          .iova = outside,
          .memory = e->page[OUTSIDE],
          .told = true },
        { .what = "an address that is not mapped",
          .iova = outside,
          .memory = e->page[OUTSIDE],
          .write = true,
          .told = true },
        { .what = "a read-only page",
          .iova = IOVA_RO + PAGE,
          .memory = e->page[RO_WRITE],
          .write = true,
          .told = true },
        { .what = "a page, after it was unmapped",
          .iova = IOVA_GONE,
          .memory = e->page[GONE],
          .write = true,
          .told = true,
          .unmap = true },
        { .what = "its own buffer, with bus master off",
          .iova = IOVA_OWN + OWN * PAGE,
          .memory = e->page[OWN],
          .write = true,
          .no_master = true },
    };
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < sizeof(list) / sizeof(list[0]); i++)
        rc = attempt(e, &list[i], err);
    return rc;
}

/* Another process's page by its physical address, and the same once that is mapped. */
static int others(struct edu *e, struct error *err)
{
    struct attempt t = { .what = "another process's page, by its physical address", .told = true };
    uint64_t sum;
    void *mine;
    int rc = isolate_victim_ask(&e->victim, BYTES, &t.iova, &sum, err);

    if (rc == 0)
        rc = attempt(e, &t, err);
    t.write = true;
    if (rc == 0)
        rc = attempt(e, &t, err);
    if (rc)
        return rc;
    mine = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, e->victim.memory, 0);
    if (mine == MAP_FAILED)
        return error_set(err, -errno, "the other process's page: %s", strerror(errno));
    rc = isolate_map(e->dev, t.iova, mine, PAGE, READ | WRITE);
    if (rc)
        return error_set(err, rc, "iova 0x%" PRIx64 " can't be mapped for the contrast: %s", t.iova,
                         strerror(-rc));
    region(e, t.iova, PAGE, true, true, "the other process's page, mapped 1:1");
    t.what = "the same page, now mapped there";
    t.told = false;
    t.contrast = t.allowed = true;
    t.write = false;
    rc = attempt(e, &t, err);
    t.write = true;
    if (rc == 0)
        rc = attempt(e, &t, err);
    (void)isolate_unmap(e->dev, t.iova, PAGE);
    (void)munmap(mine, PAGE);
    return rc;
}

/* Sends the message and looks whether an interrupt came. */
static int send_message(struct edu *e, struct isolate_attempt *a, struct error *err)
{
    struct isolate_interrupts *irqs;
    int rc;

    memset(e->page[STAGE], 0, a->len); /* the message's data */
    rc = transfer(e, IOVA_OWN + STAGE * PAGE, a->len, false, err);
    if (rc)
        return rc;
    irqs = isolate_interrupts_begin();
    if (!irqs)
        return error_set(err, -errno, "/proc/interrupts can't be read: %s", strerror(errno));
    isolate_log_skip(&e->log);
    rc = transfer(e, a->iova, a->len, true, err);
    if (rc == 0) {
        (void)isolate_log_fault(&e->log, a->said, sizeof(a->said));
        a->went = isolate_interrupts_came(irqs);
    }
    isolate_interrupts_end(irqs);
    return rc;
}

/* A write to the window of interrupts is one: see isolate_interrupt.h. */
static int interrupt(struct edu *e, struct error *err)
{
    struct isolate_attempt *a = &e->report->attempt[e->report->attempts];
    int rc = 0;

    *a = (struct isolate_attempt){
        .iova = ISOLATE_MESSAGE, .len = 4, .write = true, .interrupt = true
    };
    (void)snprintf(a->what, sizeof(a->what), "an interrupt that was not given to it");
    /* One that came each time was the device's; once, it may have been anybody's. */
    for (int i = 0; i < TRIES; i++) {
        rc = send_message(e, a, err);
        if (rc || !a->went)
            break;
    }
    if (rc)
        return rc;
    e->report->attempts++;
    isolate_print_attempt(stdout, a);
    return 0;
}

/* --- setting up
 * ------------------------------------------------------------------------------------ */

static int open_bar(struct edu *e, struct vfio_region_info *bar, struct error *err)
{
    void *at;

    if (!isolate_device_region(e->dev, 0, bar) || bar->size < TF_EDU_COMMAND + 8)
        return error_set(err, -ENODEV, "device %s has no registers in BAR 0", e->dev->bdf);
    at = mmap(NULL, bar->size, PROT_READ | PROT_WRITE, MAP_SHARED, e->dev->fd, (off_t)bar->offset);
    if (at == MAP_FAILED)
        return error_set(err, -errno, "the registers of device %s can't be mapped: %s", e->dev->bdf,
                         strerror(errno));
    e->bar = at;
    return isolate_bus_master(e->dev, true) ? error_set(err, -EIO, "no bus master") : 0;
}

/* `outside` receives the physical address of the page that isn't mapped. */
static int open_pages(struct edu *e, uint64_t *outside, struct error *err)
{
    uint8_t *at = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    hpa_t hpa;
    int rc;

    if (at == MAP_FAILED || mlock(at, PAGES * PAGE))
        return error_set(err, -errno, "no memory for the device's buffers: %s", strerror(errno));
    for (unsigned i = 0; i < PAGES; i++) {
        e->page[i] = at + i * PAGE;
        memset(e->page[i], 0x31 + (int)i, PAGE);
    }
    rc = pagemap_frame((hva_t){ (uintptr_t)e->page[OUTSIDE] }, &hpa);
    if (rc)
        return error_set(err, rc, "physical addresses are shown only to root: %s", strerror(-rc));
    *outside = hpa.v;
    rc = give(e, IOVA_OWN, STAGE, 3, true, "its own buffer", err);
    if (rc == 0)
        rc = give(e, IOVA_RO, RO_READ, 2, false, "read-only pages", err);
    if (rc == 0)
        rc = give(e, IOVA_GONE, GONE, 1, true, "a page that is unmapped later", err);
    return rc;
}

int isolate_edu(struct isolate_device *d, struct isolate_report *r, struct error *err)
{
    struct edu e = { .dev = d, .report = r, .victim = { .pid = -1, .socket = -1, .memory = -1 } };
    struct vfio_region_info bar = { .size = 0 };
    uint64_t outside = 0;
    int rc = open_bar(&e, &bar, err);

    isolate_log_open(&e.log, d->bdf);
    if (rc == 0)
        rc = open_pages(&e, &outside, err);
    if (rc == 0)
        rc = isolate_victim_start(&e.victim, err);
    if (rc == 0)
        rc = allowed(&e, err);
    if (rc == 0)
        rc = forbidden(&e, outside, err);
    if (rc == 0)
        rc = interrupt(&e, err);
    if (rc == 0)
        rc = others(&e, err);
    (void)isolate_bus_master(d, false);
    isolate_victim_end(&e.victim);
    isolate_log_close(&e.log);
    if (e.bar)
        (void)munmap((void *)(uintptr_t)e.bar, bar.size);
    if (e.page[0])
        (void)munmap(e.page[0], PAGES * PAGE);
    return rc;
}
