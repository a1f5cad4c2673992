/*
 * `edu` (guest/abi.h) through VFIO: its transfers, and one attempt of the demonstration.
 */
#ifndef TWOFOLD_TOOLS_ISOLATE_EDU_H
#define TWOFOLD_TOOLS_ISOLATE_EDU_H

#include "tools/isolate_vfio.h"

#define EDU_PAGE  4096u
#define EDU_BYTES 2048u /* a transfer: QEMU's device aborts at 4096 */

/* Pages of ours, and where the device sees those that it is given. */
enum page { STAGE, DUMP, OWN, RO_READ, RO_WRITE, GONE, OUTSIDE, EDU_PAGES };
#define EDU_IOVA_OWN  UINT64_C(0x100000) /* STAGE, DUMP, OWN */
#define EDU_IOVA_RO   UINT64_C(0x200000) /* RO_READ, RO_WRITE */
#define EDU_IOVA_GONE UINT64_C(0x300000)
#define EDU_IOVA_END  UINT64_C(0x400000)

#define EDU_TRIES 3

struct edu {
    struct isolate_device *dev;
    struct isolate_report *report;
    struct isolate_log log;
    struct isolate_victim victim;
    volatile uint8_t *bar;
    uint8_t *page[EDU_PAGES];
    unsigned seed; /* of the pattern that is sent next */
};

/* What is tried. */
struct edu_attempt {
    const char *what;
    uint64_t iova;
    const uint8_t *memory; /* behind it; NULL: the victim's page */
    bool write, contrast, allowed;
    bool told;      /* the IOMMU is to tell of it */
    bool unmap;     /* right before: EDU_IOVA_GONE */
    bool no_master; /* bus master is off meanwhile */
};

/* Between memory at `iova` and the device's buffer. -ETIMEDOUT. */
int edu_transfer(const struct edu *e, uint64_t iova, uint32_t len, bool to_memory,
                 struct error *err);

/* A pattern that is nowhere else, into the device's buffer. */
int edu_load(struct edu *e, struct error *err);

/* Tries, puts what became of it into the report, and prints it. */
int edu_attempt(struct edu *e, const struct edu_attempt *t, struct error *err);

#endif
