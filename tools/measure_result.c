/*
 * The result as JSON (docs/measure.schema.json).
 */
#include <string.h>
#include <time.h>

#include "tools/measure_impl.h"
#include "vmm/clock.h"

#define TSC_ALIKE 0.01 /* of two ways to find one frequency */

static const json_t *get(const json_t *object, const char *a, const char *b, const char *c)
{
    object = json_object_get(json_object_get(object, a), b);
    return c ? json_object_get(object, c) : object;
}

static const char *text(const struct measure_run *m, const char *a, const char *b, const char *c)
{
    const char *s = json_string_value(get(m->info, a, b, c));

    return s ? s : "";
}

static void set(json_t *object, const char *key, json_t *value)
{
    (void)json_object_set_new(object, key, value);
}

bool measure_emulated(const struct measure_run *m)
{
    const char *hypervisor = text(m, "host", "guest", "hypervisor");

    return !strcmp(hypervisor, "QEMU (TCG)") || !strcmp(hypervisor, "Bochs");
}

/* --- environment --------------------------------------------------------------------- */

static void note(json_t *notes, const char *sentence)
{
    (void)json_array_append_new(notes, json_string(sentence));
}

static void note_native(const struct measure_run *m, json_t *notes)
{
    char line[320];

    if (measure_emulated(m)) {
        (void)snprintf(line, sizeof(line),
                       "all columns: this host is emulated in software (%s): pages, references and "
                       "pagings are right, times are the emulator's and mean nothing",
                       text(m, "host", "guest", "hypervisor"));
        note(notes, line);
    } else if (json_is_true(get(m->info, "host", "guest", "is_guest"))) {
        (void)snprintf(line, sizeof(line),
                       "native: this host is itself a guest (of %s): what it calls physical is "
                       "translated once more, which can't be seen; on bare metal native is one "
                       "dimension",
                       text(m, "host", "guest", "hypervisor"));
        note(notes, line);
    } else {
        note(notes, "native: a process of this host; the processor walks its one table");
    }
}

static void note_vms(const struct measure_run *m, json_t *notes)
{
    const char *nested = text(m, "kvm", "backend", "nested_paging");

    if (!strcmp(nested, "yes")) {
        note(notes, "nested: the processor walks both dimensions, the guest's tables and KVM's");
        note(notes, "shadow: the monitor's tables are in place of the guest's, and the processor "
                    "walks them and KVM's; without nested paging it would be one dimension");
    } else if (!strcmp(nested, "no")) {
        note(notes,
             "nested: there is no nested paging here: KVM composes both dimensions into a shadow "
             "table of its own, and the processor walks that alone; with EPT or NPT it would walk "
             "both");
        note(notes,
             "shadow: the monitor's tables are in place of the guest's, and KVM composes "
             "them with the host's once more: a chase should cost what it does in the column "
             "nested, and only loads that change tables differ");
    } else {
        note(notes, "nested: KVM does not say whether the processor walks both dimensions");
    }
}

static json_t *notes_json(const struct measure_run *m)
{
    json_t *notes = json_array();
    char line[160];

    note_native(m, notes);
    if (m->host.kvm)
        note_vms(m, notes);
    if (m->batches > 1) {
        (void)snprintf(line, sizeof(line),
                       "memory is too short for all runners of a footprint at once: it took up to "
                       "%zu goes, so that not all cells of it were measured side by side",
                       m->batches);
        note(notes, line);
    }
    return notes;
}

static json_t *counters_text(const struct measure_run *m)
{
    const json_t *pmu = get(m->info, "devices", "pmu", NULL);
    const bool there[MEASURE_COUNTERS] = { json_is_true(json_object_get(pmu, "cycles")),
                                           json_is_true(json_object_get(pmu, "dtlb_misses")) };
    char line[256] = "";

    for (size_t i = 0; i < MEASURE_COUNTERS; i++)
        if (there[i])
            (void)snprintf(line + strlen(line), sizeof(line) - strlen(line), "%s%s",
                           *line ? ", " : "", measure_counter_name[i]);
    if (!*line)
        (void)snprintf(line, sizeof(line), "none: %s", text(m, "devices", "pmu", "why"));
    return json_string(line);
}

static json_t *environment_json(const struct measure_run *m)
{
    json_t *e = json_object();
    const json_t *memory = json_object_get(json_object_get(m->info, "host"), "memory_bytes");

    set(e, "cpu", json_string(text(m, "host", "cpu", "model")));
    set(e, "microcode", json_string(text(m, "host", "cpu", "microcode")));
    set(e, "kernel", json_string(text(m, "host", "kernel", NULL)));
    set(e, "cpus_online", json_integer(json_integer_value(get(m->info, "host", "cpu", "online"))));
    set(e, "cpu_pinned", json_integer(m->cpu));
    set(e, "tsc_hz", json_integer((json_int_t)m->tsc_hz));
    set(e, "is_guest", json_boolean(json_is_true(get(m->info, "host", "guest", "is_guest"))));
    set(e, "hypervisor", json_string(text(m, "host", "guest", "hypervisor")));
    set(e, "emulated", json_boolean(measure_emulated(m)));
    set(e, "kvm", json_string(m->host.kvm ? text(m, "kvm", "backend", "name") : ""));
    set(e, "nested_by",
        json_string(
            json_string_value(json_object_get(get(m->info, "kvm", "paging", "nested"), "by"))
                ? json_string_value(json_object_get(get(m->info, "kvm", "paging", "nested"), "by"))
                : ""));
    set(e, "thp", json_string(text(m, "memory", "thp", "enabled")));
    set(e, "memory_bytes", json_integer(json_integer_value(memory)));
    set(e, "counters", counters_text(m));
    set(e, "notes", notes_json(m));
    return e;
}

/* --- cells and loads ----------------------------------------------------------------- */

static bool has_figure(const struct measure_unit *u)
{
    return (u->state == MEASURE_MEASURED || u->state == MEASURE_NOISY) && u->cycles.n;
}

/* Of the samples times `unit`; NULL when memory is out. */
static json_t *summary_json(const struct measure_samples *s, double unit)
{
    struct measure_summary sum = measure_summarize(s->value, s->n);
    json_t *samples = json_array();

    for (size_t i = 0; i < s->n; i++)
        (void)json_array_append_new(samples, json_real(s->value[i] * unit));
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:I, s:o}", "median", sum.median * unit, "low",
                     sum.low * unit, "high", sum.high * unit, "q1", sum.q1 * unit, "q3",
                     sum.q3 * unit, "n", (json_int_t)sum.n, "samples", samples);
}

/* The TSC is one, whoever reads it, unless the guest's is scaled. */
static double cycle_ns(const struct measure_run *m, const struct measure_unit *u)
{
    double ratio = u->tsc_hz > 0 && m->tsc_hz > 0 ? u->tsc_hz / m->tsc_hz : 1;

    return 1e9 / (ratio > 1 + TSC_ALIKE || ratio < 1 - TSC_ALIKE ? u->tsc_hz : m->tsc_hz);
}

static double median_ns(const struct measure_run *m, const struct measure_unit *u)
{
    return measure_summarize(u->cycles.value, u->cycles.n).median * cycle_ns(m, u);
}

static json_t *number_or_null(int n)
{
    return n ? json_integer(n) : json_null();
}

static void add_figures(json_t *cell, const struct measure_run *m, const struct measure_unit *u)
{
    const struct measure_unit *base = measure_baseline(&m->plan, u);
    json_t *counters = json_object();

    set(cell, "ns", summary_json(&u->cycles, cycle_ns(m, u)));
    set(cell, "cycles", summary_json(&u->cycles, 1));
    set(cell, "accesses", json_integer((json_int_t)u->accesses));
    set(cell, "translation_ns",
        base && u->state == MEASURE_MEASURED ? json_real(median_ns(m, u) - median_ns(m, base))
                                             : json_null());
    for (size_t i = 0; i < MEASURE_COUNTERS; i++)
        if (u->counted[i] >= 0 && u->counted_accesses > 0)
            set(counters, measure_counter_name[i], json_real(u->counted[i] / u->counted_accesses));
    set(cell, "counters", counters);
}

static json_t *cell_json(const struct measure_run *m, const struct measure_unit *u)
{
    json_t *cell = json_object();

    set(cell, "paging", json_string(measure_paging_name(u->paging)));
    set(cell, "guest_page", u->guest_page ? json_integer((json_int_t)u->guest_page) : json_null());
    set(cell, "host_page", json_integer((json_int_t)u->host_page));
    set(cell, "footprint", json_integer((json_int_t)u->footprint));
    if (u->repeat)
        set(cell, "repeat", json_true());
    set(cell, "state", json_string(measure_state_name(u->state)));
    set(cell, "why", json_string(u->why));
    if (u->guest_share >= 0)
        set(cell, "guest_page_share", json_real(u->guest_share));
    if (u->host_share >= 0) {
        set(cell, "host_page_share", json_real(u->host_share));
        set(cell, "references", number_or_null(u->references));
        set(cell, "references_formula", number_or_null(u->formula));
    }
    if (has_figure(u))
        add_figures(cell, m, u);
    return cell;
}

static json_t *load_json(const struct measure_run *m, const struct measure_unit *u)
{
    json_t *load = json_pack("{s:s, s:s, s:s, s:s, s:s}", "name", u->load->name, "what",
                             u->load->what, "paging", measure_paging_name(u->paging), "state",
                             measure_state_name(u->state), "why", u->why);

    if (has_figure(u))
        set(load, "ns", summary_json(&u->cycles, cycle_ns(m, u)));
    return load;
}

/* --- the whole ----------------------------------------------------------------------- */

json_t *measure_result(struct measure_run *m)
{
    static const char *const modes[] = {
        [MEASURE_QUICK] = "quick", [MEASURE_DEFAULT] = "default", [MEASURE_FULL] = "full"
    };
    json_t *result = json_object(), *cells = json_array(), *loads = json_array();
    time_t now = time(NULL);
    struct tm tm;
    char created[32] = "";

    if (gmtime_r(&now, &tm))
        (void)strftime(created, sizeof(created), "%Y-%m-%dT%H:%M:%SZ", &tm);
    for (size_t i = 0; i < m->plan.n; i++) {
        const struct measure_unit *u = &m->plan.unit[i];

        (void)json_array_append_new(u->load ? loads : cells,
                                    u->load ? load_json(m, u) : cell_json(m, u));
    }
    set(result, "twofold_measure", json_integer(1));
    set(result, "version", json_string(TWOFOLD_VERSION));
    set(result, "created", json_string(created));
    set(result, "duration_s", json_real((double)(now_ns() - m->start_ns) / 1e9));
    set(result, "mode", json_string(modes[m->options->mode]));
    set(result, "complete", json_boolean(!measure_ended() && !m->late && !m->left_out));
    set(result, "environment", environment_json(m));
    set(result, "cells", cells);
    set(result, "loads", loads);
    set(result, "verdict", measure_verdict(m));
    return result;
}
