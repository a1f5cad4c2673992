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
#include <unistd.h>

#include "guest/abi.h"
#include "tools/isolate_edu.h"
#include "tools/isolate_interrupt.h"
#include "vmm/pagemap.h"

#define READ  VFIO_DMA_MAP_FLAG_READ
#define WRITE VFIO_DMA_MAP_FLAG_WRITE

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
    int rc = isolate_map(e->dev, iova, e->page[first], (uint64_t)pages * EDU_PAGE,
                         write ? READ | WRITE : READ);

    if (rc)
        return error_set(err, rc, "iova 0x%" PRIx64 " can't be mapped for device %s: %s", iova,
                         e->dev->bdf, strerror(-rc));
    region(e, iova, (uint64_t)pages * EDU_PAGE, write, false, label);
    return 0;
}

static int allowed(struct edu *e, struct error *err)
{
    const struct edu_attempt list[] = {
        { .what = "write to its own buffer",
          .iova = EDU_IOVA_OWN + OWN * EDU_PAGE,
          .memory = e->page[OWN],
          .write = true,
          .allowed = true },
        { .what = "read its own buffer",
          .iova = EDU_IOVA_OWN + OWN * EDU_PAGE,
          .memory = e->page[OWN],
          .allowed = true },
        { .what = "read a read-only page",
          .iova = EDU_IOVA_RO,
          .memory = e->page[RO_READ],
          .allowed = true },
        { .what = "write to a page, before it is unmapped",
          .iova = EDU_IOVA_GONE,
          .memory = e->page[GONE],
          .write = true,
          .allowed = true },
    };
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < sizeof(list) / sizeof(list[0]); i++)
        rc = edu_attempt(e, &list[i], err);
    return rc;
}

/* What is aimed at by its physical address must not be among what the device was given. */
static int check_clear(uint64_t hpa, struct error *err)
{
    if (hpa >= EDU_IOVA_END)
        return 0;
    return error_set(err, -EAGAIN,
                     "a page lies at 0x%" PRIx64 ", where the device was given memory: try again",
                     hpa);
}

/* An iova that is mapped to nothing and the physical address of a page of ours: harmless even
 * where no IOMMU translates, and seen there. */
static int forbidden(struct edu *e, uint64_t outside, struct error *err)
{
    /* The read-only page that is written was never read: an IOTLB entry without the right to
     * write blocks silently. */
    const struct edu_attempt list[] = {
        { .what = "read an address that is not mapped",
          .iova = outside,
          .memory = e->page[OUTSIDE],
          .told = true },
        { .what = "write to an address that is not mapped",
          .iova = outside,
          .memory = e->page[OUTSIDE],
          .write = true,
          .told = true },
        { .what = "write to a read-only page",
          .iova = EDU_IOVA_RO + EDU_PAGE,
          .memory = e->page[RO_WRITE],
          .write = true,
          .told = true },
        { .what = "write to a page, after it was unmapped",
          .iova = EDU_IOVA_GONE,
          .memory = e->page[GONE],
          .write = true,
          .told = true,
          .unmap = true },
        { .what = "write to its own buffer, with bus master off",
          .iova = EDU_IOVA_OWN + OWN * EDU_PAGE,
          .memory = e->page[OWN],
          .write = true,
          .no_master = true },
    };
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < sizeof(list) / sizeof(list[0]); i++)
        rc = edu_attempt(e, &list[i], err);
    return rc;
}

/* Another process's page by its physical address, and the same once that is mapped. */
static int others(struct edu *e, struct error *err)
{
    struct edu_attempt t = { .what = "read another process's page, by its physical address",
                             .told = true };
    uint64_t sum;
    void *mine;
    int rc = isolate_victim_ask(&e->victim, EDU_BYTES, &t.iova, &sum, err);

    if (rc == 0)
        rc = check_clear(t.iova, err);
    if (rc == 0)
        rc = edu_attempt(e, &t, err);
    t.what = "write to another process's page, by its physical address";
    t.write = true;
    if (rc == 0)
        rc = edu_attempt(e, &t, err);
    if (rc)
        return rc;
    mine = mmap(NULL, EDU_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, e->victim.memory, 0);
    if (mine == MAP_FAILED)
        return error_set(err, -errno, "the other process's page: %s", strerror(errno));
    rc = isolate_map(e->dev, t.iova, mine, EDU_PAGE, READ | WRITE);
    if (rc)
        return error_set(err, rc, "iova 0x%" PRIx64 " can't be mapped for the contrast: %s", t.iova,
                         strerror(-rc));
    region(e, t.iova, EDU_PAGE, true, true, "the other process's page, mapped 1:1");
    t.what = "read that page, mapped at its own address";
    t.told = false;
    t.contrast = t.allowed = true;
    t.write = false;
    rc = edu_attempt(e, &t, err);
    t.what = "write to that page, mapped at its own address";
    t.write = true;
    if (rc == 0)
        rc = edu_attempt(e, &t, err);
    (void)isolate_unmap(e->dev, t.iova, EDU_PAGE);
    (void)munmap(mine, EDU_PAGE);
    return rc;
}

/* Sends the message and looks whether an interrupt came. */
static int send_message(struct edu *e, struct isolate_attempt *a, struct error *err)
{
    struct isolate_interrupts *irqs;
    int rc;

    memset(e->page[STAGE], 0, a->len); /* the message's data */
    rc = edu_transfer(e, EDU_IOVA_OWN + STAGE * EDU_PAGE, a->len, false, err);
    if (rc)
        return rc;
    irqs = isolate_interrupts_begin();
    if (!irqs)
        return error_set(err, -errno, "/proc/interrupts can't be read: %s", strerror(errno));
    isolate_log_skip(&e->log);
    rc = edu_transfer(e, a->iova, a->len, true, err);
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

    *a = (struct isolate_attempt){ .iova = ISOLATE_MESSAGE, .len = 4, .write = true };
    (void)snprintf(a->what, sizeof(a->what), "raise an interrupt that was not given to it");
    /* One that came each time was the device's; once, it may have been anybody's. */
    for (int i = 0; i < EDU_TRIES; i++) {
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
    uint8_t *at = mmap(NULL, EDU_PAGES * EDU_PAGE, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    hpa_t hpa;
    int rc;

    if (at == MAP_FAILED || mlock(at, EDU_PAGES * EDU_PAGE))
        return error_set(err, -errno, "no memory for the device's buffers: %s", strerror(errno));
    for (unsigned i = 0; i < EDU_PAGES; i++) {
        e->page[i] = at + i * EDU_PAGE;
        memset(e->page[i], 0x31 + (int)i, EDU_PAGE);
    }
    rc = pagemap_frame((hva_t){ (uintptr_t)e->page[OUTSIDE] }, &hpa);
    if (rc)
        return error_set(err, rc, "physical addresses are shown only to root: %s", strerror(-rc));
    *outside = hpa.v;
    rc = check_clear(hpa.v, err);
    if (rc == 0)
        rc = give(e, EDU_IOVA_OWN, STAGE, 3, true, "its own buffer", err);
    if (rc == 0)
        rc = give(e, EDU_IOVA_RO, RO_READ, 2, false, "read-only pages", err);
    if (rc == 0)
        rc = give(e, EDU_IOVA_GONE, GONE, 1, true, "a page that is unmapped later", err);
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
        (void)munmap(e.page[0], EDU_PAGES * EDU_PAGE);
    return rc;
}
