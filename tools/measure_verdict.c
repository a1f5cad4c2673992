/*
 * How far the figures can be trusted, and why.
 */
#include <stdarg.h>

#include "tools/measure_impl.h"

#define MANY_DISTURBED 0.25 /* of the rounds */
#define SOME_DISTURBED 0.02
#define MANY_NOISY     0.34 /* of the cells */
#define DIFFERS        0.05 /* two runners of one cell */
#define BUSY           0.3  /* runnable tasks a CPU, before it began */
#define FREQUENCY      0.05
#define TSC            0.01

enum trust {
    GOOD,
    FAIR,
    POOR,
    NONE,
};

struct verdict {
    enum trust trust;
    json_t *reasons;
};

/* A reason for at most that much trust. */
static void __attribute__((format(printf, 3, 4)))
reason(struct verdict *v, enum trust trust, const char *fmt, ...)
{
    char line[320];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    v->trust = trust > v->trust ? trust : v->trust;
    (void)json_array_append_new(v->reasons, json_string(line));
}

static void judge_host(struct verdict *v, const struct measure_run *m)
{
    const json_t *guest = json_object_get(json_object_get(m->info, "host"), "guest");
    const json_t *pmu = json_object_get(json_object_get(m->info, "devices"), "pmu");
    int cpus = m->host.cpus;

    if (measure_emulated(m))
        reason(v, NONE, "this host is emulated in software (%s): times mean nothing",
               json_string_value(json_object_get(guest, "hypervisor")));
    else if (json_is_true(json_object_get(guest, "is_guest")))
        reason(v, FAIR,
               "this host is itself a guest (%s): every figure has a further dimension in it, and "
               "its neighbours are not seen",
               json_string_value(json_object_get(guest, "hypervisor")));
    if (m->second < 0)
        reason(v, FAIR, "there is one CPU only: what asks the runners shares it with them");
    if (m->load > BUSY * cpus)
        reason(v, FAIR, "the machine was busy: load average %.1f on %d CPU%s before it began",
               m->load, cpus, cpus == 1 ? "" : "s");
    if (!json_is_true(json_object_get(pmu, "cycles")) &&
        !json_is_true(json_object_get(pmu, "dtlb_misses")))
        reason(v, GOOD, "there are no counters that say how many accesses missed the TLB");
}

static void judge_rounds(struct verdict *v, const struct measure_run *m)
{
    double part = m->rounds ? (double)m->disturbed / (double)m->rounds : 0;

    if (part > SOME_DISTURBED)
        reason(v, part > MANY_DISTURBED ? POOR : FAIR,
               "CPU %d was disturbed: something else ran on it in %zu of %zu rounds (%.0f %%), "
               "which are left out where there are enough others",
               m->cpu, m->disturbed, m->rounds, 100 * part);
    if (m->stolen)
        reason(v, FAIR, "the hypervisor took CPU %d away for %.0f ms during rounds", m->cpu,
               (double)m->stolen * 10);
    if (m->frequency[0] > 0 && m->frequency[1] > m->frequency[0] * (1 + FREQUENCY))
        reason(v, FAIR, "the frequency of CPU %d changed between %.2f and %.2f GHz", m->cpu,
               m->frequency[0] / 1e9, m->frequency[1] / 1e9);
    if (m->repeat_differs > DIFFERS)
        reason(v, m->repeat_differs > 2 * DIFFERS ? POOR : FAIR,
               "two runners of the same cell differ by up to %.0f %%", 100 * m->repeat_differs);
    else if (m->repeat_differs >= 0)
        reason(v, GOOD, "two runners of the same cell agree within %.1f %%",
               100 * m->repeat_differs);
}

static void judge_units(struct verdict *v, const struct measure_run *m)
{
    size_t measured = 0, noisy = 0, failed = 0, scaled = 0, miscounted = 0;

    for (size_t i = 0; i < m->plan.n; i++) {
        const struct measure_unit *u = &m->plan.unit[i];
        double ratio = u->tsc_hz > 0 && m->tsc_hz > 0 ? u->tsc_hz / m->tsc_hz : 1;

        measured += u->state == MEASURE_MEASURED;
        noisy += u->state == MEASURE_NOISY;
        failed += u->state == MEASURE_FAILED;
        scaled += ratio > 1 + TSC || ratio < 1 - TSC;
        /* Without the pages asked for, their formula says nothing. */
        miscounted +=
            u->state != MEASURE_NO_PAGES &&
            (u->walks_differ || (u->references && u->formula && u->references != u->formula));
    }
    if (measured + noisy == 0)
        reason(v, NONE, "nothing was measured");
    if (noisy)
        reason(v, (double)noisy > MANY_NOISY * (double)(noisy + measured) ? POOR : FAIR,
               "%zu of %zu figures are noisy and left out of what is concluded", noisy,
               noisy + measured);
    if (failed)
        reason(v, FAIR, "%zu cells or loads failed", failed);
    if (scaled)
        reason(v, FAIR, "%zu guests found another frequency of the TSC than this host, %.0f MHz",
               scaled, m->tsc_hz / 1e6);
    if (miscounted)
        reason(v, POOR,
               "%zu cells have walks with another number of references than their pages say",
               miscounted);
}

json_t *measure_verdict(const struct measure_run *m)
{
    static const char *const names[] = { "good", "fair", "poor", "none" };
    struct verdict v = { .trust = GOOD, .reasons = json_array() };

    judge_host(&v, m);
    judge_rounds(&v, m);
    judge_units(&v, m);
    if (measure_ended())
        reason(&v, GOOD, "it was ended by a signal: what is there is what was measured until then");
    if (m->late || m->left_out)
        reason(&v, GOOD, "its time limit came before its end");
    return json_pack("{s:s, s:o}", "trust", names[v.trust], "reasons", v.reasons);
}
