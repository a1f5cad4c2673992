#include "tools/isolate_interrupt.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LINES_MAX 256
#define WATCH_MS  200

struct line {
    char name[8];
    uint64_t count;
    bool noisy;
};

struct isolate_interrupts {
    struct line line[LINES_MAX];
    size_t lines;
};

/* Interrupts of devices by their numbers, and those that nobody expected. */
static bool matters(const char *name)
{
    return isdigit((unsigned char)name[0]) || !strcmp(name, "ERR") || !strcmp(name, "MIS") ||
           !strcmp(name, "SPU");
}

/* "  24:   17   3  IR-PCI-MSI ...": the counts of all CPUs are added up. */
static bool parse_line(char *text, struct line *out)
{
    char *colon = strchr(text, ':'), *at = text;

    if (!colon)
        return false;
    *colon = '\0';
    while (isspace((unsigned char)*at))
        at++;
    *out = (struct line){ .count = 0 };
    (void)snprintf(out->name, sizeof(out->name), "%.7s", at);
    at = colon + 1;
    for (;;) {
        char *end;
        uint64_t n = strtoull(at, &end, 10);

        if (end == at || !isspace((unsigned char)*end))
            return matters(out->name);
        out->count += n;
        at = end;
    }
}

static int sample(struct isolate_interrupts *out)
{
    FILE *f = fopen("/proc/interrupts", "re");
    char *text = NULL;
    size_t size = 0;

    out->lines = 0;
    if (!f)
        return -errno;
    while (out->lines < LINES_MAX && getline(&text, &size, f) > 0)
        if (parse_line(text, &out->line[out->lines]))
            out->lines++;
    free(text);
    (void)fclose(f);
    return 0;
}

static const struct line *find(const struct isolate_interrupts *in, const char *name)
{
    for (size_t i = 0; i < in->lines; i++)
        if (!strcmp(in->line[i].name, name))
            return &in->line[i];
    return NULL;
}

struct isolate_interrupts *isolate_interrupts_begin(void)
{
    const struct timespec watch = { .tv_nsec = WATCH_MS * 1000000L };
    struct isolate_interrupts *now = calloc(1, sizeof(*now)), *before = calloc(1, sizeof(*before));
    int rc = now && before ? sample(before) : -ENOMEM;

    if (rc == 0) {
        (void)nanosleep(&watch, NULL);
        rc = sample(now);
    }
    for (size_t i = 0; rc == 0 && i < now->lines; i++) {
        const struct line *old = find(before, now->line[i].name);

        now->line[i].noisy = !old || old->count != now->line[i].count;
    }
    free(before);
    if (rc == 0)
        return now;
    free(now);
    errno = -rc;
    return NULL;
}

bool isolate_interrupts_came(struct isolate_interrupts *i)
{
    struct isolate_interrupts *now = calloc(1, sizeof(*now));
    bool came = false;

    if (now && sample(now) == 0)
        for (size_t k = 0; k < i->lines; k++) {
            const struct line *line = find(now, i->line[k].name);

            came = came || (!i->line[k].noisy && line && line->count != i->line[k].count);
        }
    free(now);
    return came;
}

void isolate_interrupts_end(struct isolate_interrupts *i)
{
    free(i);
}
