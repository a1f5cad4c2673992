#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "guest/abi.h"
#include "tools/isolate_edu.h"

#define TRANSFER_MS 5000 /* one takes 100 */
#define RATE_MS     5500 /* the kernel tells of few faults in five seconds */

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

int edu_transfer(const struct edu *e, uint64_t iova, uint32_t len, bool to_memory,
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

int edu_load(struct edu *e, struct error *err)
{
    e->seed++;
    for (unsigned i = 0; i < EDU_BYTES; i++)
        e->page[STAGE][i] = (uint8_t)(i * 7 + (i >> 8) * 13 + e->seed * 59);
    return edu_transfer(e, EDU_IOVA_OWN + STAGE * EDU_PAGE, EDU_BYTES, false, err);
}

/* --- one attempt ------------------------------------------------------------------------------ */

static int sum_of(const struct edu *e, const struct edu_attempt *t, uint64_t *sum, uint64_t *hpa,
                  struct error *err)
{
    if (!t->memory)
        return isolate_victim_ask(&e->victim, EDU_BYTES, hpa, sum, err);
    *hpa = 0;
    *sum = isolate_sum(t->memory, EDU_BYTES);
    return 0;
}

static int shoot(struct edu *e, const struct edu_attempt *t, struct isolate_attempt *a,
                 struct error *err)
{
    int rc = t->no_master ? isolate_bus_master(e->dev, false) : 0;

    if (rc)
        return error_set(err, rc, "device %s: bus master can't be switched off", e->dev->bdf);
    isolate_log_skip(&e->log);
    rc = edu_transfer(e, a->iova, EDU_BYTES, t->write, err);
    if (rc == 0 && t->no_master)
        rc = isolate_bus_master(e->dev, true);
    if (rc == 0 && t->told)
        (void)isolate_log_fault(&e->log, a->said, sizeof(a->said));
    return rc;
}

/* What a read brought lies in the device's buffer: looked at in a page of ours. */
static int try_once(struct edu *e, const struct edu_attempt *t, struct isolate_attempt *a,
                    struct error *err)
{
    uint64_t before_at, after_at;
    int rc = edu_load(e, err);

    if (rc == 0)
        rc = sum_of(e, t, &a->before, &before_at, err);
    if (rc == 0)
        rc = shoot(e, t, a, err);
    if (rc == 0)
        rc = sum_of(e, t, &a->after, &after_at, err);
    if (rc == 0 && !t->write)
        rc = edu_transfer(e, EDU_IOVA_OWN + DUMP * EDU_PAGE, EDU_BYTES, true, err);
    if (rc)
        return rc;
    if (before_at != after_at)
        return error_set(err, -EAGAIN, "the page aimed at was moved by the kernel: try again");
    a->sums = true;
    a->went = t->write ? a->after != a->before : isolate_sum(e->page[DUMP], EDU_BYTES) == a->before;
    return 0;
}

/* What the device was given for it, and where it aims. */
static int make_ready(struct edu *e, const struct edu_attempt *t, struct error *err)
{
    int rc = t->unmap ? isolate_unmap(e->dev, EDU_IOVA_GONE, EDU_PAGE) : 0;

    return rc ? error_set(err, rc, "a page can't be unmapped: %s", strerror(-rc)) : 0;
}

int edu_attempt(struct edu *e, const struct edu_attempt *t, struct error *err)
{
    struct isolate_attempt *a = &e->report->attempt[e->report->attempts];
    int rc = make_ready(e, t, err);

    *a = (struct isolate_attempt){ .iova = t->iova,
                                   .len = EDU_BYTES,
                                   .write = t->write,
                                   .contrast = t->contrast,
                                   .allowed = t->allowed };
    (void)snprintf(a->what, sizeof(a->what), "%s", t->what);
    /* Once more when the kernel didn't tell: it limits how often it does. */
    for (int i = 0; rc == 0 && i < EDU_TRIES; i++) {
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
