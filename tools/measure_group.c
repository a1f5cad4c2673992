/*
 * Units that are compared: their runners live at once and are asked in turn, so that what drifts
 * meets all of them alike.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/measure_impl.h"
#include "vmm/clock.h"
#include "guest/chase.h"
#include "vmm/hugepages.h"

#define SECOND     UINT64_C(1000000000)
#define READY_S    180 /* for a start, and as much again for each GiB */
#define ROUND_S    120
#define ROUNDS_MIN 10
#define ROUNDS_MAX 400
#define NARROW     0.03 /* an interval that is narrower needs no more rounds */
#define NOISY      0.10
#define LOST       0.01 /* of a round, to other programs, that is not worth talking about */
#define STARTS     0.5  /* of what a group takes, for the progress bar */
#define CLEAN_MIN  6    /* rounds from which on there is an interval of 95 % */

static uint64_t sooner(uint64_t a, uint64_t b)
{
    return b && b < a ? b : a;
}

static bool live(const struct runner *r)
{
    return r->pid != 0;
}

/* A unit whose runner can't go on. */
static void give_up(struct measure_run *m, struct measure_unit *u, struct runner *r, int rc,
                    const struct error *err)
{
    if (rc == -EINTR)
        measure_set(u, MEASURE_NOT_RUN, "ended by a signal before");
    else if (rc == -ETIMEDOUT && measure_over(m))
        measure_set(u, MEASURE_NOT_RUN, "the time limit came before");
    else
        measure_set(u, MEASURE_FAILED, "%s", err->text);
    runner_end(r);
}

/* Pages of 1 GiB come from the pool or from nowhere. */
static bool has_pages(struct measure_unit *u)
{
    uint64_t bytes = measure_pool_bytes(u);
    struct error err = { "" };

    if (u->host_page != PAGE_SIZE_1G || measure_pool_ask(PAGE_SIZE_1G, bytes))
        return true;
    (void)hugepages_missing(-ENOMEM, bytes, PAGE_SIZE_1G, &err);
    measure_set(u, MEASURE_NO_PAGES, "%s", err.text);
    return false;
}

static void start(struct measure_run *m, struct measure_unit *u, struct runner *r)
{
    const struct runner_place place = {
        .cpu = m->cpu, .second = m->second, .kernel = m->options->kernel, .number = m->started++
    };
    uint64_t patience = READY_S * SECOND * (1 + (u->footprint >> 30)), until;
    struct error err = { "" };
    int rc;

    if (!has_pages(u))
        return;
    until = sooner(now_ns() + patience, m->end_ns);
    rc = runner_start(r, u, &place, until, &err);
    if (rc == 0)
        rc = measure_verify(u, r, until, &err);
    if (rc < 0)
        give_up(m, u, r, rc, &err);
    else if (u->state == MEASURE_NO_PAGES)
        runner_end(r);
}

/*
 * Events since `before`, which was read ahead of the round's "go": so what each round of
 * a chase begins with, and does not time, is among them.
 */
static void count(struct measure_unit *u, const double before[MEASURE_COUNTERS],
                  const struct runner *r, uint64_t accesses)
{
    uint64_t untimed = u->load ? 0 : chase_untimed(r->pages);

    for (size_t i = 0; i < MEASURE_COUNTERS; i++) {
        double now = measure_counter_read(r->counter[i]);

        if (now >= 0 && before[i] >= 0)
            u->counted[i] = (u->counted[i] < 0 ? 0 : u->counted[i]) + now - before[i];
    }
    u->counted_accesses += (double)(accesses + untimed);
}

/*
 * Whether the round had the CPU for itself. Another task that took it for a moment, as the kernel's
 * own do, changes nothing.
 */
static bool had_cpu(const struct measure_run *m, const struct runner *r,
                    const struct runner_lost *before, uint64_t cycles)
{
    struct runner_lost after = runner_lost(r);
    double round_ns = m->tsc_hz > 0 ? (double)cycles * 1e9 / m->tsc_hz : 0;

    if (after.switches == before->switches)
        return true;
    return after.timed && before->timed &&
           (double)(after.waited_ns - before->waited_ns) < LOST * round_ns;
}

/* One round of one unit. The first one of each warms up. */
static void ask(struct measure_run *m, struct measure_unit *u, struct runner *r, bool counts)
{
    uint64_t stolen = measure_cpu_stolen(m->cpu), cycles, accesses;
    struct runner_lost lost = runner_lost(r);
    double before[MEASURE_COUNTERS];
    struct error err = { "" };
    bool alone;
    int rc;

    for (size_t i = 0; i < MEASURE_COUNTERS; i++)
        before[i] = measure_counter_read(r->counter[i]);
    rc = runner_round(r, sooner(now_ns() + ROUND_S * SECOND, m->end_ns), &cycles, &accesses, &err);
    if (rc < 0) {
        give_up(m, u, r, rc, &err);
        return;
    }
    if (!counts)
        return;
    stolen = measure_cpu_stolen(m->cpu) - stolen;
    alone = stolen == 0 && had_cpu(m, r, &lost, cycles);
    measure_sample(alone ? &u->cycles : &u->disturbed, (double)cycles / (double)accesses);
    if (alone)
        count(u, before, r, accesses);
    m->rounds++;
    m->disturbed += !alone;
    m->stolen += stolen;
}

static double width(const struct measure_samples *s)
{
    struct measure_summary sum = measure_summarize(s->value, s->n);

    return sum.median > 0 ? (sum.high - sum.low) / sum.median : 1;
}

static bool narrow_enough(const struct measure_unit *u, size_t n, const struct runner *r)
{
    for (size_t i = 0; i < n; i++)
        if (live(&r[i]) && (u[i].cycles.n < ROUNDS_MIN || width(&u[i].cycles) >= NARROW))
            return false;
    return true;
}

static bool any_live(const struct runner *r, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (live(&r[i]))
            return true;
    return false;
}

/* What the samples of a unit are worth. Those of disturbed rounds are better than none. */
static void judge(struct measure_unit *u)
{
    size_t clean = u->cycles.n;

    if (u->state != MEASURE_NOT_RUN)
        return;
    if (clean < CLEAN_MIN)
        for (size_t i = 0; i < u->disturbed.n; i++)
            measure_sample(&u->cycles, u->disturbed.value[i]);
    if (u->cycles.n == 0) {
        if (!u->why[0])
            measure_set(u, MEASURE_NOT_RUN, "it ended before the first round");
        return;
    }
    if (u->cycles.n < CLEAN_MIN)
        measure_set(u, MEASURE_NOISY, "only %zu rounds before it ended", u->cycles.n);
    else if (clean < CLEAN_MIN)
        measure_set(u, MEASURE_NOISY, "something else ran on this CPU in %zu of %zu rounds",
                    u->disturbed.n, u->cycles.n);
    else if (width(&u->cycles) > NOISY)
        measure_set(u, MEASURE_NOISY, "the interval is %.0f %% of the median wide",
                    100 * width(&u->cycles));
    else
        measure_set(u, MEASURE_MEASURED, "%s", "");
}

static void see_frequency(struct measure_run *m)
{
    double hz = measure_cpu_frequency(m->cpu);

    if (hz > 0 && (m->frequency[0] <= 0 || hz < m->frequency[0]))
        m->frequency[0] = hz;
    if (hz > m->frequency[1])
        m->frequency[1] = hz;
}

/* How far a group is, in units: its starts are one part, its rounds the other. */
static double progress_of(const struct measure_run *m, const struct measure_unit *u, size_t n,
                          unsigned round, uint64_t began_ns, uint64_t until_ns)
{
    double first = (double)(u - m->plan.unit), rounds = (double)round / ROUNDS_MIN, time;

    time = (double)(now_ns() - began_ns) / ((double)(until_ns - began_ns) + 1);
    if (rounds > time) /* the time, but not before the rounds that there are at least */
        rounds = time;
    return first + (double)n * (STARTS + (1 - STARTS) * (rounds < 1 ? rounds : 1));
}

static void rounds(struct measure_run *m, struct measure_unit *u, struct runner *r, size_t n,
                   uint64_t until_ns)
{
    uint64_t began = now_ns();

    for (unsigned round = 0; round <= ROUNDS_MAX && any_live(r, n); round++) {
        for (size_t i = 0; i < n && !measure_over(m); i++)
            if (live(&r[i])) {
                measure_progress(m, &u[i], progress_of(m, u, n, round, began, until_ns));
                ask(m, &u[i], &r[i], round > 0);
            }
        see_frequency(m);
        if (measure_over(m) ||
            (round >= ROUNDS_MIN && (now_ns() > until_ns || narrow_enough(u, n, r))))
            return;
    }
}

void measure_batch(struct measure_run *m, size_t first, size_t n, uint64_t budget_ns)
{
    struct measure_unit *u = m->plan.unit + first;
    struct runner *r = calloc(n, sizeof(*r));
    uint64_t now = now_ns(), starts_end = m->end_ns > now ? now + (m->end_ns - now) / 3 * 2 : 0;

    for (size_t i = 0; r && i < n; i++) {
        r[i] = (struct runner){ .in = -1, .out = -1 };
        if (u[i].state != MEASURE_NOT_RUN || measure_over(m))
            continue;
        /* With a time limit, those that are there have to have their rounds. */
        if (starts_end && now_ns() > starts_end) {
            measure_set(&u[i], MEASURE_NOT_RUN, "the time limit left no time for its start");
            m->left_out = true;
        } else {
            measure_progress(m, &u[i], (double)first + STARTS * (double)i);
            start(m, &u[i], &r[i]);
        }
    }
    if (r)
        rounds(m, u, r, n, now_ns() + budget_ns);
    for (size_t i = 0; r && i < n; i++)
        runner_leave(&r[i]);
    for (size_t i = 0; i < n; i++) {
        if (r && live(&r[i]))
            runner_end(&r[i]);
        judge(&u[i]);
    }
    free(r);
}
