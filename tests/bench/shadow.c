/*
 * Shadow paging against nested paging, the same guest program under both in turns: what they cost
 * in time, and shadow paging's exits to the monitor, which don't depend on the machine's mood.
 */
#include "bench.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A program of the tiny guest and how it is run. */
struct load {
    const char *title;
    const char *program;
    const char *args[4];
    const char *mem, *backing;
    const char *cost; /* what stands before the figure in the program's output */
    double scale;     /* from ns to the unit */
    const char *unit;
};

/* Counts as small as the nested runs on a KVM that interprets ring 0 want them: a second each. */
static const struct load storms[] = {
    { "fork, exit and wait of a process with 100 pages",
      "forks",
      { "5" },
      "256M",
      "thp",
      "wait: ",
      1e-3,
      "us" },
    { "mmap of 16 pages, a write to each, munmap",
      "maps",
      { "50" },
      "256M",
      "thp",
      "unmapped: ",
      1e-3,
      "us" },
    { "mprotect of 64 pages and back, a write to each",
      "protects",
      { "25" },
      "256M",
      "thp",
      "written to: ",
      1e-3,
      "us" },
    { "a process switch", "switches", { "500" }, "256M", "thp", "processes: ", 1e-3, "us" },
    { "a system call", "syscalls", { "1000" }, "256M", "thp", "getpid: ", 1e-3, "us" },
    { "a demand fault", "faults", { "500" }, "256M", "thp", "time: ", 1e-3, "us" },
};

#define CHASE(size, page, backing)                                               \
    {                                                                            \
        "an access of a chase over " size ", " page " pages, " backing, "chase", \
            { size, "3", page }, "1G", backing, "median ", 1, "ns"               \
    }

static const struct load chases[] = {
    CHASE("64M", "4k", "anon"),  CHASE("64M", "4k", "thp"),   CHASE("64M", "2m", "anon"),
    CHASE("64M", "2m", "thp"),   CHASE("256M", "4k", "anon"), CHASE("256M", "4k", "thp"),
    CHASE("256M", "2m", "anon"), CHASE("256M", "2m", "thp"),
};

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

struct command {
    char twofold[512], guest[512], trace[64];
    const char *argv[20];
};

/* `trace`: a file for the exits, or NULL. */
static void make_command(struct command *c, const struct bench_options *o, const char *paging,
                         const struct load *load, const char *trace)
{
    size_t n = 0;

    snprintf(c->twofold, sizeof(c->twofold), "%s/twofold", o->build);
    snprintf(c->guest, sizeof(c->guest), "%s/guest.elf", o->build);
    c->argv[n++] = c->twofold;
    c->argv[n++] = "run";
    c->argv[n++] = "--paging";
    c->argv[n++] = paging;
    c->argv[n++] = "--mem";
    c->argv[n++] = load->mem;
    c->argv[n++] = "--backing";
    c->argv[n++] = load->backing;
    if (trace) {
        snprintf(c->trace, sizeof(c->trace), "--trace=%s", trace);
        c->argv[n++] = c->trace;
    }
    c->argv[n++] = c->guest;
    c->argv[n++] = "--";
    c->argv[n++] = load->program;
    for (size_t i = 0; i < COUNT_OF(load->args) && load->args[i]; i++)
        c->argv[n++] = load->args[i];
    c->argv[n] = NULL;
}

/* Runs it once: the figure behind load->cost in its output, in load->unit; -1 when it failed. */
static double cost_of(const struct bench_options *o, const char *paging, const struct load *load)
{
    struct command c;
    char line[256];
    const char *at;
    double value = -1;
    pid_t pid;
    FILE *f;
    int out;

    make_command(&c, o, paging, load, NULL);
    pid = spawn(c.argv, &out);
    if (pid < 0)
        return -1;
    f = fdopen(out, "r");
    while (f && fgets(line, sizeof(line), f))
        if (strncmp(line, load->program, strlen(load->program)) == 0 &&
            (at = strstr(line, load->cost)) != NULL)
            value = strtod(at + strlen(load->cost), NULL) * load->scale;
    if (f)
        fclose(f);
    return reap(pid) == 0 ? value : -1;
}

static void compare(const struct bench_options *o, const struct load *load, unsigned runs,
                    struct samples *nested, struct samples *shadow)
{
    for (unsigned i = 0; i < runs; i++) {
        sample_add(nested, cost_of(o, "nested", load));
        sample_add(shadow, cost_of(o, "shadow", load));
    }
    puts(load->title);
    print_row("nested", nested, load->unit);
    print_row("shadow", shadow, load->unit);
    print_ratio("shadow / nested", shadow, nested, NULL, 0, 0);
}

static void bench_storms(const struct bench_options *o)
{
    for (size_t i = 0; i < COUNT_OF(storms); i++) {
        struct samples nested = { .n = 0 }, shadow = { .n = 0 };

        compare(o, &storms[i], o->runs, &nested, &shadow);
    }
}

/* Where the guest's own time counts, not that of a trap: shadow against the better of the two. */
static void bench_chases(const struct bench_options *o)
{
    for (size_t i = 0; i < COUNT_OF(chases); i++) {
        struct samples nested = { .n = 0 }, shadow = { .n = 0 };
        bool behind;

        compare(o, &chases[i], (o->runs + 1) / 2, &nested, &shadow);
        behind = nested.n && summarize(&nested).median < summarize(&shadow).median;
        print_ratio("shadow / the better of the two", &shadow, behind ? &nested : &shadow,
                    "at most 1.03", 0, 1.03);
    }
}

static void bench_hello(const struct bench_options *o)
{
    static const struct load hello = { .program = "hello", .mem = "256M", .backing = "thp" };
    struct samples nested = { .n = 0 }, shadow = { .n = 0 };
    struct command a, b;

    make_command(&a, o, "nested", &hello, NULL);
    make_command(&b, o, "shadow", &hello, NULL);
    for (unsigned i = 0; i < o->runs; i++) {
        sample_add(&nested, timed_run(a.argv, 0, "Hello") / 1e6);
        sample_add(&shadow, timed_run(b.argv, 0, "Hello") / 1e6);
    }
    puts("start to exit of `hello`");
    print_row("nested", &nested, "ms");
    print_row("shadow", &shadow, "ms");
    print_ratio("shadow / nested", &shadow, &nested, NULL, 0, 0);
}

/* --- exits ------------------------------------------------------------------------------ */

#define PLACES_MAX 4096

/* How often the guest left for the monitor by a trap, by where it stood. */
struct exits {
    struct {
        uint64_t rip;
        double count;
    } place[PLACES_MAX];
    size_t n;
    double total;
};

static double *place_of(struct exits *e, uint64_t rip)
{
    size_t i = 0;

    while (i < e->n && e->place[i].rip != rip)
        i++;
    if (i == PLACES_MAX)
        return NULL;
    if (i == e->n) {
        e->place[i].rip = rip;
        e->place[i].count = 0;
        e->n++;
    }
    return &e->place[i].count;
}

/* Adds the traps of one run, each `weight` times. False: it failed. */
static bool add_exits(const struct bench_options *o, const char *program, unsigned count,
                      double weight, struct exits *e)
{
    char path[] = "/tmp/twofold-bench-XXXXXX", line[256], number[16];
    const struct load load = {
        .program = program, .args = { number }, .mem = "256M", .backing = "thp"
    };
    struct command c;
    int fd = mkstemp(path);
    const char *at;
    bool fine;
    FILE *f;

    if (fd < 0)
        return false;
    snprintf(number, sizeof(number), "%u", count);
    make_command(&c, o, "shadow", &load, path);
    fine = timed_run(c.argv, 0, program) >= 0;
    f = fdopen(fd, "r");
    while (f && fine && fgets(line, sizeof(line), f)) {
        double *place = NULL;

        if (strstr(line, " trap ") && (at = strstr(line, "rip=")) != NULL)
            place = place_of(e, strtoull(at + 4, NULL, 16));
        if (place) {
            *place += weight;
            e->total += weight;
        }
    }
    if (f)
        fclose(f);
    unlink(path);
    return fine;
}

static const struct {
    const char *program, *name;
    unsigned n;
} counted[] = { { "syscalls", "a system call", 1000 },
                { "switches", "a process switch, by a system call", 1000 },
                { "faults", "a reflected page fault, with its second try", 1000 },
                { "maps", "mmap of 16 pages, writes, munmap", 100 },
                { "protects", "mprotect of 64 pages and back, writes", 100 },
                { "forks", "fork, exit and wait", 50 } };

enum { CALL, SWITCH, FAULT };

#define COUNTED COUNT_OF(counted)

/*
 * Exits an operation: what n more of them add, so that start and end don't count. *steady is
 * without those of the guest's timer: what comes at a place less than every other time.
 */
static double exits_each(const struct bench_options *o, size_t which, double *steady)
{
    struct exits *e = calloc(1, sizeof(*e));
    const char *program = counted[which].program;
    unsigned n = counted[which].n;
    double total = -1;

    *steady = -1;
    if (e && add_exits(o, program, n, -1, e) && add_exits(o, program, 2 * n, 1, e)) {
        total = e->total / n;
        *steady = 0;
        for (size_t i = 0; i < e->n; i++)
            *steady += fmax(0, round(e->place[i].count / n));
    }
    free(e);
    return total;
}

static void bench_trap_counts(const struct bench_options *o)
{
    struct samples all[COUNTED] = { 0 }, steady[COUNTED] = { 0 }, cr3 = { .n = 0 },
                   one = { .n = 0 };

    for (unsigned i = 0; i < (o->runs + 3) / 4; i++) {
        double each[COUNTED];

        for (size_t k = 0; k < COUNTED; k++) {
            sample_add(&all[k], exits_each(o, k, &each[k]));
            sample_add(&steady[k], each[k]);
        }
        sample_add(&cr3, each[CALL] < 0 || each[SWITCH] < 0 ? -1 : each[SWITCH] - each[CALL]);
    }
    puts("shadow: exits to the monitor (2 n operations less n)");
    for (size_t k = 0; k < COUNTED; k++) {
        print_row(counted[k].name, &steady[k], "");
        print_row("  with those of the guest's timer", &all[k], "");
    }
    print_row("a cached CR3 switch: process switch - call", &cr3, "");
    sample_add(&one, 1);
    print_ratio("a cached CR3 switch / 1", &cr3, &one, "at most 1", 0, 1);
    print_ratio("a reflected page fault / 1", &steady[FAULT], &one, "at most 3", 0, 3);
}

void bench_shadow(const struct bench_options *o)
{
    bench_storms(o);
    bench_hello(o);
    bench_trap_counts(o);
    bench_chases(o);
}
