/*
 * What a device tried, as lines of text.
 */
#include <inttypes.h>
#include <stdio.h>

/* All of xxHash is compiled in here: no library for it is loaded. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "tools/isolate.h"

uint64_t isolate_sum(const void *bytes, size_t len)
{
    return XXH64(bytes, len, 0);
}

bool isolate_as_expected(const struct isolate_attempt *a)
{
    bool spoiled = a->sums && a->write && !a->went && a->before != a->after;

    return a->went == a->allowed && !spoiled;
}

bool isolate_passed(const struct isolate_report *r)
{
    for (size_t i = 0; i < r->attempts; i++)
        if (!isolate_as_expected(&r->attempt[i]))
            return false;
    return r->attempts > 0;
}

const char *isolate_outcome(const struct isolate_attempt *a)
{
    return a->went ? "went through" : "blocked";
}

const char *isolate_effect(const struct isolate_attempt *a)
{
    if (a->write && a->iova >> 20 == 0xfee) /* the window of interrupts */
        return a->went ? "an interrupt came" : "no interrupt came";
    if (!a->write)
        return a->went ? "device got the bytes" : "device got nothing";
    if (a->sums)
        return a->before == a->after ? "memory untouched" : "memory changed";
    return a->went ? "memory changed" : "memory untouched";
}

char *isolate_address(uint64_t iova, char *buf, size_t size)
{
    (void)snprintf(buf, size, "0x%08" PRIx64, iova);
    return buf;
}

const char *isolate_rights(const struct isolate_region *r)
{
    if (r->read)
        return r->write ? "read and write" : "read only";
    return r->write ? "write only" : "no access";
}

/* A terminal gets no control characters: a guest or a device's firmware chose the text. */
static void put_plain(FILE *to, const char *text, int width)
{
    int n = 0;

    for (; *text; text++, n++)
        (void)fputc((unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text, to);
    (void)fprintf(to, "%*s", n < width ? width - n : 0, "");
}

static void put_sums(FILE *to, const struct isolate_attempt *a)
{
    char text[80];

    if (!a->sums)
        text[0] = '\0';
    else if (a->before == a->after)
        (void)snprintf(text, sizeof(text), " (xxh64 %016" PRIx64 ")", a->before);
    else
        (void)snprintf(text, sizeof(text), " (xxh64 %016" PRIx64 " -> %016" PRIx64 ")", a->before,
                       a->after);
    (void)fprintf(to, "%-25s", text);
}

void isolate_print_attempt(FILE *to, const struct isolate_attempt *a)
{
    char address[24], len[16];

    (void)snprintf(len, sizeof(len), "+%" PRIu32, a->len);
    (void)fprintf(to, "%-7s  %-5s %-12s %-7s ", a->went ? "through" : "blocked",
                  a->write ? "write" : "read", isolate_address(a->iova, address, sizeof(address)),
                  len);
    put_plain(to, a->contrast ? "contrast: " : "", 0);
    put_plain(to, a->what, a->contrast ? 44 : 54);
    (void)fprintf(to, "  %-20s", isolate_effect(a));
    put_sums(to, a);
    if (a->said[0])
        (void)fputs("  ", to);
    put_plain(to, a->said, 0);
    if (!isolate_as_expected(a))
        (void)fprintf(to, "  <- should have %s", a->allowed ? "gone through" : "been blocked");
    (void)fputc('\n', to);
    (void)fflush(to);
}

static void print_regions(FILE *to, const struct isolate_report *r)
{
    for (size_t i = 0; i < r->regions; i++) {
        const struct isolate_region *g = &r->region[i];
        char address[24];

        (void)fprintf(to, "%-8s %-12s +0x%-8" PRIx64 " %-14s  ", g->contrast ? "contrast" : "given",
                      isolate_address(g->iova, address, sizeof(address)), g->len,
                      isolate_rights(g));
        put_plain(to, g->label, 0);
        (void)fputc('\n', to);
    }
}

void isolate_print_verdict(FILE *to, const struct isolate_report *r)
{
    unsigned through = 0, blocked = 0, contrast = 0, wrong = 0;

    for (size_t i = 0; i < r->attempts; i++) {
        const struct isolate_attempt *a = &r->attempt[i];

        if (!isolate_as_expected(a))
            wrong++;
        else if (a->contrast)
            contrast++;
        else if (a->allowed)
            through++;
        else
            blocked++;
    }
    if (!isolate_passed(r)) {
        (void)fprintf(to, "NOT isolated: %u of %zu attempts ended as they should not\n", wrong,
                      r->attempts);
        return;
    }
    (void)fprintf(to,
                  "isolated: %u attempts at what the device was given went through, %u at other "
                  "memory were blocked",
                  through, blocked);
    if (contrast)
        (void)fprintf(to, "; with an identity mapping %u went through", contrast);
    (void)fputc('\n', to);
}

static void print_name(FILE *to, const char *name, const char *text)
{
    (void)fprintf(to, "%-8s ", name);
    put_plain(to, text, 0);
    (void)fputc('\n', to);
}

void isolate_print_end(FILE *to, const struct isolate_report *r)
{
    (void)fputc('\n', to);
    print_name(to, "device", r->device);
    print_name(to, "IOMMU", r->iommu);
    print_regions(to, r);
    isolate_print_verdict(to, r);
    (void)fflush(to);
}
