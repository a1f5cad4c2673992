/*
 * `twofold isolate`: what a device tried, what became of it, and where. Three sources fill the same
 * report (isolate_vfio.c: a real IOMMU from the host's side; isolate_vm.c: the tiny guest, with an
 * emulated device behind virtio-iommu or a passed-through one), and two ways show it
 * (isolate_text.c, and iova_picture.c as a self-contained HTML page).
 */
#ifndef TWOFOLD_TOOLS_ISOLATE_H
#define TWOFOLD_TOOLS_ISOLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "vmm/error.h"

#define ISOLATE_ATTEMPTS_MAX 32
#define ISOLATE_REGIONS_MAX  32

/* What the device was given. */
struct isolate_region {
    uint64_t iova, len;
    bool read, write;
    bool contrast;  /* of the run with an identity mapping */
    char label[48]; /* "its own buffer" */
};

struct isolate_attempt {
    char what[96]; /* "write to a page after it was unmapped" */
    uint64_t iova;
    uint32_t len;
    bool write;
    bool contrast; /* the same with an identity mapping: meant to go through */
    bool allowed;  /* what should happen */
    bool went;     /* what happened: memory changed, or the device got the bytes */
    bool sums;     /* the two that follow are known: xxh64 of the memory aimed at */
    uint64_t before, after;
    char said[200]; /* by the IOMMU: fault record, kernel log line; "" if it said nothing */
};

struct isolate_report {
    char device[96]; /* "0000:00:04.0 1234:11e8 (edu)" */
    char iommu[96];  /* "VT-d, through VFIO type 1" */
    struct isolate_region region[ISOLATE_REGIONS_MAX];
    size_t regions;
    struct isolate_attempt attempt[ISOLATE_ATTEMPTS_MAX];
    size_t attempts;
};

/* xxh64 of memory that an attempt aims at. */
uint64_t isolate_sum(const void *bytes, size_t len) __attribute__((nonnull));

/* True when an attempt ended as it should; a blocked write has left memory as it was, too. */
bool isolate_as_expected(const struct isolate_attempt *a);

/* What became of it, for people: "went through", "memory untouched". Never NULL. */
const char *isolate_outcome(const struct isolate_attempt *a);
const char *isolate_effect(const struct isolate_attempt *a);

/* "0x00300000": at least eight digits, so that columns line up. Returns buf. */
char *isolate_address(uint64_t iova, char *buf, size_t size);

/* "read and write", "read only"... Never NULL. */
const char *isolate_rights(const struct isolate_region *r);

/* True when each attempt ended as it should, and there was one. */
bool isolate_passed(const struct isolate_report *r);

/* Prints an attempt as soon as it is over; and the end with the verdict. */
void isolate_print_attempt(FILE *to, const struct isolate_attempt *a);
void isolate_print_end(FILE *to, const struct isolate_report *r);
/* Only the verdict: one sentence, one line. */
void isolate_print_verdict(FILE *to, const struct isolate_report *r);

/* The picture: an HTML page with an SVG of the iova map and the attempts in it. 0 or -errno. */
int isolate_picture(const struct isolate_report *r, const char *path, struct error *err);

/*
 * Sources. Each prints attempts as they happen (to stdout) and fills *out. `bdf`: a device on
 * vfio-pci. 0, or -errno with a sentence; that something was not isolated is no error here.
 */
int isolate_vfio(const char *bdf, struct isolate_report *out, struct error *err);
/* `kernel`: the tiny guest's file; `bdf`: NULL for the emulated device. */
int isolate_vm(const char *kernel, const char *bdf, struct isolate_report *out, struct error *err);

#endif
