/*
 * Whether `twofold measure` measures what it says: its native cells beside a chase that is written
 * another way. Offsets in an array instead of pointers, another order, another generator, the
 * monotonic clock instead of the TSC.
 */
#include "bench.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <jansson.h>

#define PAGE      4096u
#define HUGE_PAGE (2u << 20)
#define LINES     64u
#define ROUNDS    25

/* A linear congruential generator (Knuth's MMIX constants). */
static uint64_t random_below(uint64_t n)
{
    static uint64_t state = 42;

    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % n;
}

/* One cycle through all pages: in each, at a random line, the offset of the next. */
static uint64_t build(char *mem, uint64_t pages)
{
    uint64_t *place = malloc(pages * sizeof(*place)), first;

    if (!place)
        exit(1);
    for (uint64_t i = 0; i < pages; i++)
        place[i] = i * PAGE + random_below(LINES) * (PAGE / LINES);
    for (uint64_t i = pages - 1; i > 0; i--) {
        uint64_t j = random_below(i + 1), swap = place[i];

        place[i] = place[j];
        place[j] = swap;
    }
    for (uint64_t i = 0; i < pages; i++)
        memcpy(mem + place[i], &place[(i + 1) % pages], sizeof(uint64_t));
    first = place[0];
    free(place);
    return first;
}

/* On small pages, or on huge ones as far as the kernel gives them. */
static void chase(uint64_t bytes, uint64_t page, uint64_t steps, struct samples *out)
{
    uint64_t length = bytes + UINT64_C(2) * HUGE_PAGE;
    char *map = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *mem = map + -(uint64_t)map % HUGE_PAGE;
    uint64_t at;

    if (map == MAP_FAILED)
        return;
    (void)madvise(mem, (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE,
                  page == PAGE ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
    at = build(mem, bytes / PAGE);
    for (int round = -1; round < ROUNDS; round++) {
        uint64_t start = now_ns();

        for (uint64_t i = 0; i < steps; i++)
            at = *(const volatile uint64_t *)(mem + at);
        if (round >= 0)
            sample_add(out, (double)(now_ns() - start) / (double)steps);
    }
    munmap(map, length);
}

/* On the CPU that was measured on. */
static void pin(const json_t *result)
{
    const json_t *environment = json_object_get(result, "environment");
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((int)json_integer_value(json_object_get(environment, "cpu_pinned")), &set);
    (void)sched_setaffinity(0, sizeof(set), &set);
}

static void compare(const json_t *cell)
{
    const json_t *samples = json_object_get(json_object_get(cell, "ns"), "samples"), *sample;
    uint64_t bytes = (uint64_t)json_integer_value(json_object_get(cell, "footprint"));
    uint64_t steps = (uint64_t)json_integer_value(json_object_get(cell, "accesses"));
    uint64_t page = (uint64_t)json_integer_value(json_object_get(cell, "host_page"));
    struct samples measured = { .n = 0 }, other = { .n = 0 };
    char name[96];
    size_t i;

    json_array_foreach(samples, i, sample) sample_add(&measured, json_number_value(sample));
    chase(bytes, page, steps, &other);
    snprintf(name, sizeof(name), "chase, %lu MiB in %luK pages: measure", bytes >> 20, page >> 10);
    print_row(name, &measured, "ns");
    print_row("  another one, by offsets", &other, "ns");
    print_ratio("  measure / another one", &measured, &other, "0.9 to 1.1", 0.9, 1.1);
}

void bench_measure(const struct bench_options *o)
{
    char path[] = "/tmp/bench-measure-XXXXXX", command[800];
    int fd = mkstemp(path);
    json_t *result = NULL;
    cpu_set_t before;
    const json_t *cell;
    size_t i;

    if (fd < 0)
        return;
    snprintf(command, sizeof(command),
             "%s/twofold measure --quick --quiet --json %s >/dev/null 2>&1", o->build, path);
    if (system(command) == 0)
        result = json_load_file(path, 0, NULL);
    close(fd);
    unlink(path);
    (void)sched_getaffinity(0, sizeof(before), &before);
    pin(result);
    json_array_foreach(json_object_get(result, "cells"), i, cell)
    {
        const char *paging = json_string_value(json_object_get(cell, "paging"));

        if (paging && !strcmp(paging, "native") && json_object_get(cell, "ns") &&
            !json_is_true(json_object_get(cell, "repeat")))
            compare(cell);
    }
    if (!result)
        puts("measure: not available: it failed");
    json_decref(result);
    (void)sched_setaffinity(0, sizeof(before), &before);
}
