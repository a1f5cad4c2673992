/*
 * The whole of `twofold measure`: what the host is, the plan, its groups one after the other, the
 * result.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "tools/info.h"
#include "tools/measure_impl.h"
#include "vmm/clock.h"

#define SECOND    UINT64_C(1000000000)
#define CALIBRATE 0.2
#define DISAGREE  0.10 /* two runners of one cell */

static volatile sig_atomic_t ended_by;

int measure_ended(void)
{
    return ended_by;
}

static void on_signal(int number)
{
    ended_by = number;
}

static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
#define SIGNALS (sizeof(signals) / sizeof(signals[0]))

static struct sigaction before[SIGNALS];

static void catch_signals(void)
{
    struct sigaction action = { .sa_handler = on_signal };

    ended_by = 0;
    for (size_t i = 0; i < SIGNALS; i++)
        (void)sigaction(signals[i], &action, &before[i]);
}

/* Once there is nothing left to wait for, a signal is not to interrupt what is written. */
static void let_calls_restart(void)
{
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };

    for (size_t i = 0; i < SIGNALS; i++)
        (void)sigaction(signals[i], &action, NULL);
}

void measure_release_signals(void)
{
    for (size_t i = 0; i < SIGNALS; i++)
        (void)sigaction(signals[i], &before[i], NULL);
}

bool measure_over(struct measure_run *m)
{
    m->late = m->late || (m->end_ns && now_ns() >= m->end_ns);
    return m->late || ended_by;
}

/* --- groups -------------------------------------------------------------------------- */

static size_t group_end(const struct measure_plan *plan, size_t first)
{
    size_t end = first + 1;

    while (end < plan->n && measure_alike(&plan->unit[first], &plan->unit[end]))
        end++;
    return end;
}

/* Groups from unit `first` on that have something to run. */
static size_t groups_left(const struct measure_plan *plan, size_t first)
{
    size_t groups = 0;

    for (size_t end; first < plan->n; first = end) {
        bool any = false;

        end = group_end(plan, first);
        for (size_t i = first; i < end; i++)
            any = any || plan->unit[i].state == MEASURE_NOT_RUN;
        groups += any;
    }
    return groups;
}

/* How many of the units from `first` on have room at once; at least one. */
static size_t batch_end(const struct measure_plan *plan, size_t first, size_t end)
{
    uint64_t room = measure_memory_available() / 10 * 9;
    size_t i;

    for (i = first; i < end; i++) {
        uint64_t memory = plan->unit[i].state == MEASURE_NOT_RUN ? plan->unit[i].memory : 0;

        if (memory > room && i > first)
            break;
        room -= memory < room ? memory : room;
    }
    return i;
}

static size_t batches_of(const struct measure_plan *plan, size_t first, size_t end)
{
    size_t n = 0;

    for (; first < end; n++)
        first = batch_end(plan, first, end);
    return n;
}

/* Huge pages for runners that need them; where they can't be had, those say so themselves. */
static void ask_pages(const struct measure_plan *plan, size_t first, size_t end)
{
    static const uint64_t sizes[] = { PAGE_SIZE_2M, PAGE_SIZE_1G };

    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        uint64_t bytes = 0;

        for (size_t i = first; i < end; i++) {
            const struct measure_unit *u = &plan->unit[i];

            if (u->state == MEASURE_NOT_RUN && u->host_page == sizes[s])
                bytes += measure_pool_bytes(u);
        }
        if (bytes)
            (void)measure_pool_ask(sizes[s], bytes);
    }
}

static bool has_figure(const struct measure_unit *u)
{
    return (u->state == MEASURE_MEASURED || u->state == MEASURE_NOISY) && u->cycles.n;
}

/* The group's cell that has a second runner: both have to agree, where both have a figure. */
static void check_repeat(struct measure_run *m, size_t first, size_t end)
{
    struct measure_unit *a = NULL, *b = &m->plan.unit[end - 1];
    double one, other, differ;

    for (size_t i = first; i < end && !a; i++)
        if (m->plan.unit[i].paging == b->paging && m->plan.unit[i].guest_page == b->guest_page &&
            m->plan.unit[i].host_page == b->host_page)
            a = &m->plan.unit[i];
    if (!b->repeat || !a || !has_figure(a) || !has_figure(b))
        return;
    one = measure_summarize(a->cycles.value, a->cycles.n).median;
    other = measure_summarize(b->cycles.value, b->cycles.n).median;
    differ = one > other ? one / other - 1 : other / one - 1;
    if (differ > m->repeat_differs)
        m->repeat_differs = differ;
    if (differ <= DISAGREE)
        return;
    measure_set(a, MEASURE_NOISY, "a second runner of this cell differs by %.0f %%", 100 * differ);
    measure_set(b, MEASURE_NOISY, "it differs by %.0f %% from the other runner of this cell",
                100 * differ);
}

static void run_group(struct measure_run *m, size_t first, size_t end)
{
    size_t groups = groups_left(&m->plan, first), batches = batches_of(&m->plan, first, end);
    uint64_t began = now_ns(), share;

    if (groups == 0)
        return;
    if (batches > m->batches)
        m->batches = batches;
    /* Groups that were done early leave their time to the others. */
    share = m->budget_ns / groups;
    for (size_t next; first < end; first = next) {
        next = batch_end(&m->plan, first, end);
        ask_pages(&m->plan, first, next);
        measure_batch(m, first, next - first, share / batches);
        measure_pool_return();
    }
    began = now_ns() - began;
    began = began < share ? began : share;
    m->budget_ns -= began;
}

static void run_groups(struct measure_run *m)
{
    for (size_t first = 0, end; first < m->plan.n; first = end) {
        end = group_end(&m->plan, first);
        if (!measure_over(m)) {
            run_group(m, first, end);
            check_repeat(m, first, end);
        }
    }
    for (size_t i = 0; i < m->plan.n; i++)
        if (m->plan.unit[i].state == MEASURE_NOT_RUN && !m->plan.unit[i].why[0])
            measure_set(&m->plan.unit[i], MEASURE_NOT_RUN, "%s",
                        ended_by ? "ended by a signal before" : "the time limit came before");
}

/* --- the whole ----------------------------------------------------------------------- */

/* For the rounds; what starting runners takes comes on top. */
static uint64_t budget(const struct measure_options *o)
{
    double seconds = o->mode == MEASURE_QUICK ? 30 : o->mode == MEASURE_DEFAULT ? 180 : 1500;

    if (o->limit_s > 0 && o->limit_s / 2 < seconds)
        seconds = o->limit_s / 2;
    return (uint64_t)(seconds * (double)SECOND);
}

static json_t *ask_host(void)
{
    return json_pack("{s:o, s:o, s:o, s:o}", "host", info_host(), "kvm", info_kvm(), "memory",
                     info_memory(), "devices", info_devices());
}

static int prepare(struct measure_run *m, struct error *err)
{
    const struct measure_options *o = m->options;
    double load;
    int rc;

    if (o->cpu >= 0 && !measure_cpu_allowed(o->cpu))
        return error_set(err, -EINVAL, "--cpu %d: this process may not run there", o->cpu);
    m->info = ask_host();
    if (!m->info)
        return error_set(err, -ENOMEM, "measure: out of memory");
    measure_host_read(&m->host, json_object_get(m->info, "kvm"),
                      json_object_get(m->info, "memory"));
    rc = measure_plan_make(&m->plan, o->mode, &m->host);
    if (rc < 0)
        return error_set(err, rc, "measure: out of memory");
    m->load = getloadavg(&load, 1) == 1 ? load : 0;
    m->cpu = o->cpu >= 0 ? o->cpu : measure_cpu_quietest();
    m->second = measure_cpu_other(m->cpu);
    m->tsc_hz = measure_tsc_hz(CALIBRATE);
    return 0;
}

/* Away from the runners' CPU; where there is no other, at least never instead of them. */
static void step_aside(const struct measure_run *m, cpu_set_t *old)
{
    static const struct sched_param normal = { .sched_priority = 0 };
    cpu_set_t set;

    CPU_ZERO(old);
    (void)sched_getaffinity(0, sizeof(*old), old);
    set = *old;
    CPU_CLR(m->cpu, &set);
    if (CPU_COUNT(&set))
        (void)sched_setaffinity(0, sizeof(set), &set);
    (void)sched_setscheduler(0, SCHED_BATCH, &normal);
}

static void step_back(const cpu_set_t *old)
{
    static const struct sched_param normal = { .sched_priority = 0 };

    (void)sched_setaffinity(0, sizeof(*old), old);
    (void)sched_setscheduler(0, SCHED_OTHER, &normal);
}

json_t *measure_run(const struct measure_options *options, struct error *err)
{
    struct measure_run m = {
        .options = options, .start_ns = now_ns(), .budget_ns = budget(options), .repeat_differs = -1
    };
    json_t *result = NULL;
    cpu_set_t cpus;

    if (options->limit_s > 0)
        m.end_ns = m.start_ns + (uint64_t)(options->limit_s * (double)SECOND);
    catch_signals();
    if (prepare(&m, err) == 0) {
        step_aside(&m, &cpus);
        run_groups(&m);
        step_back(&cpus);
        measure_progress_end();
        measure_pool_tell();
        result = measure_result(&m);
        if (!result)
            (void)error_set(err, -ENOMEM, "measure: out of memory for the result");
    }
    let_calls_restart();
    measure_plan_free(&m.plan);
    json_decref(m.info);
    return result;
}
