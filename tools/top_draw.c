#include <string.h>

#include "tools/table.h"
#include "tools/top.h"

static const char *const reasons[] = { "pio", "mmio", "hlt", "intr", "traps", "other" };
#define REASONS ((int)(sizeof(reasons) / sizeof(reasons[0])))

/* From nothing to all of a cell. */
static const char shades[] = " .:-=+*#@";
#define SHADES ((int)sizeof(shades) - 1)

#define LEFT 2  /* columns before everything */
#define BAR  22 /* columns of a vCPU's bar */

static const char *string(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));

    return s ? s : "";
}

static const char *bytes_of(const json_t *stat, const char *path, char *buf, size_t size)
{
    return format_bytes((uint64_t)top_number(stat, path), buf, size);
}

static int draw_title(struct top_frame *f, const struct top_sample *s, const struct top_view *v)
{
    const char *state = string(s->stat, "state");
    char up[32];
    int col;

    col = top_put(f, 0, 0, LOOK_HEAD, "%s", string(s->stat, "name"));
    col = top_put(f, 0, col + 2, strcmp(state, "running") ? LOOK_WARN : LOOK_PLAIN, "%s", state);
    col = top_put(f, 0, col + 2, LOOK_PLAIN, "up %s",
                  format_seconds(top_number(s->stat, "uptime_s"), up, sizeof(up)));
    col = top_put(f, 0, col + 2, LOOK_PLAIN, "pid %.0f", top_number(s->stat, "pid"));
    col = top_put(f, 0, col + 2, LOOK_PLAIN, "paging %s", string(s->stat, "paging"));
    (void)top_put(f, 0, col + 2, LOOK_DIM, "every %.3g s", v->interval_s);
    return 2;
}

static int draw_vcpus(struct top_frame *f, int row, const struct top_sample *s, int most)
{
    int count = (int)json_array_size(json_object_get(s->stat, "vcpus"));

    (void)top_put(f, row++, LEFT, LOOK_HEAD,
                  "vCPU  in KVM_RUN (halted, too)        exits/s"
                  "  host faults/s");
    for (int cpu = 0; cpu < count; cpu++, row++) {
        double part = top_rate(s, cpu, "run_ns") / 1e9;
        int col;

        if (cpu == most - 1 && count > most) {
            (void)top_put(f, row++, LEFT, LOOK_DIM, "... and %d more", count - cpu);
            break;
        }
        (void)top_put(f, row, LEFT, LOOK_PLAIN, "%4d", cpu);
        col = top_bar(f, row, LEFT + 6, BAR, part);
        (void)top_put(f, row, col + 1, LOOK_PLAIN, "%5.1f %%  %10.0f  %13.0f",
                      100 * (part > 1 ? 1 : part), top_rate(s, cpu, "exits.total"),
                      top_rate(s, cpu, "host_faults.minor") +
                          top_rate(s, cpu, "host_faults.major"));
    }
    return row + 1;
}

static double reason_rate(const struct top_sample *s, const char *reason)
{
    int count = (int)json_array_size(json_object_get(s->stat, "vcpus"));
    char path[32];
    double sum = 0;

    (void)snprintf(path, sizeof(path), "exits.%s", reason);
    for (int cpu = 0; cpu < count; cpu++)
        sum += top_rate(s, cpu, path);
    return sum;
}

/* Bars by powers of ten: a guest makes two exits a second, or a million. */
static double on_scale(double rate)
{
    int decades = 0;

    while (rate >= 10 && decades < 6) {
        rate /= 10;
        decades++;
    }
    return rate < 1 ? 0 : (decades + rate / 10) / 6;
}

static int draw_reasons(struct top_frame *f, int row, const struct top_sample *s)
{
    (void)top_put(f, row++, LEFT, LOOK_HEAD, "exits to the monitor by reason, a second");
    for (int i = 0; i < REASONS; i++, row++) {
        double rate = reason_rate(s, reasons[i]);

        (void)top_put(f, row, LEFT, LOOK_PLAIN, "%5s", reasons[i]);
        (void)top_put(f, row, top_bar(f, row, LEFT + 6, BAR, on_scale(rate)) + 1, LOOK_PLAIN,
                      "%.0f", rate);
    }
    return row;
}

/* Beside the exits where there is room, else below. */
static int draw_faults(struct top_frame *f, int row, int col, const struct top_sample *s)
{
    static const struct {
        const char *name, *key;
    } kinds[] = {
        { "missing", "missing" },
        { "minor", "minor" },
        { "write-protect", "write_protect" },
    };
    char path[64];

    (void)top_put(f, row++, col, LOOK_HEAD, "faults served, a second");
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        (void)snprintf(path, sizeof(path), "memory.pages.faults.%s", kinds[i].key);
        (void)top_put(f, row++, col, LOOK_PLAIN, "%-14s %8.0f", kinds[i].name,
                      top_rate(s, -1, path));
    }
    return row;
}

/* What keeps the monitor's tables busy; nothing with --paging nested. */
static int draw_shadow(struct top_frame *f, int row, const struct top_sample *s)
{
    const json_t *shadow = json_object_get(s->stat, "shadow");

    if (!shadow)
        return row;
    (void)top_put(f, row, LEFT, LOOK_HEAD, "shadow");
    (void)top_put(f, row, LEFT + 8, LOOK_PLAIN,
                  "%.0f traps/s  %.0f fills/s  %.0f dropped/s  %.0f syncs/s  %.0f of %.0f tables",
                  top_rate(s, -1, "shadow.traps"), top_rate(s, -1, "shadow.fills"),
                  top_rate(s, -1, "shadow.zaps"), top_rate(s, -1, "shadow.syncs"),
                  top_number(shadow, "tables"), top_number(shadow, "tables_max"));
    return row + 1;
}

static int draw_memory(struct top_frame *f, int row, const struct top_sample *s)
{
    char a[32], b[32], c[32], d[32];
    int col;

    col = top_put(f, row, LEFT, LOOK_HEAD, "memory");
    (void)top_put(f, row++, col + 1, LOOK_PLAIN, "%s %s: 4K pages %s, 2M pages %s, 1G pages %s",
                  bytes_of(s->stat, "memory.bytes", a, sizeof(a)), string(s->stat, "backing"),
                  bytes_of(s->stat, "memory.mapped_bytes.4K", b, sizeof(b)),
                  bytes_of(s->stat, "memory.mapped_bytes.2M", c, sizeof(c)),
                  bytes_of(s->stat, "memory.mapped_bytes.1G", d, sizeof(d)));
    (void)top_put(f, row++, LEFT, LOOK_PLAIN, "present %s, zero %s, guarded %s, untouched %s",
                  bytes_of(s->stat, "memory.pages.states.present", a, sizeof(a)),
                  bytes_of(s->stat, "memory.pages.states.zero", b, sizeof(b)),
                  bytes_of(s->stat, "memory.pages.states.guarded", c, sizeof(c)),
                  bytes_of(s->stat, "memory.pages.states.untouched", d, sizeof(d)));
    return row;
}

unsigned top_cells(int cols)
{
    int cells = cols - 2 * LEFT - 2;

    return cells < 8 ? 8 : (unsigned)cells;
}

/* RAM from its first byte to its last, a cell for each column; darker: more of it is present. */
static int draw_heat(struct top_frame *f, int row, const struct top_sample *s)
{
    const json_t *present = json_object_get(s->cells, "present");
    double unit = top_number(s->cells, "unit");
    size_t i, n = json_array_size(present);
    char end[48], size[32];
    json_t *cell;

    (void)top_put(f, row, LEFT, LOOK_PLAIN, "|");
    json_array_foreach((json_t *)present, i, cell)
    {
        double part = unit > 0 ? json_number_value(cell) / unit : 0;
        int shade = part <= 0 ? 0 : 1 + (int)(part * (SHADES - 1.001));

        if (shade >= SHADES)
            shade = SHADES - 1;
        (void)top_put(f, row, LEFT + 1 + (int)i, LOOK_HEAT, "%c", shades[shade]);
    }
    (void)top_put(f, row++, LEFT + 1 + (int)n, LOOK_PLAIN, "|");
    (void)snprintf(end, sizeof(end), "%s of RAM",
                   bytes_of(s->stat, "memory.bytes", size, sizeof(size)));
    (void)top_put(f, row, LEFT, LOOK_DIM, "0       each cell %s%s",
                  format_bytes((uint64_t)unit, size, sizeof(size)),
                  n > 90 ? "; '.' a little of it, '@' all present" : ", '@': all present");
    (void)top_put(f, row++, LEFT + 2 + (int)n - (int)strlen(end), LOOK_DIM, "%s", end);
    return row + 1;
}

static void draw_processes(struct top_frame *f, int row, const struct top_sample *s,
                           const struct top_view *v, int last)
{
    const json_t *list = json_object_get(s->stat, "processes");
    int count = (int)json_array_size(list), first = v->scroll;

    if (row >= last)
        return;
    if (count == 0) {
        (void)top_put(f, row, LEFT, LOOK_DIM, "the guest tells nothing of its processes");
        return;
    }
    if (first > count - 1)
        first = count - 1;
    (void)top_put(f, row++, LEFT, LOOK_HEAD,
                  " PID  ROOT (CR3)          PROCESS OF THE GUEST"
                  " (%d of %d)",
                  first + 1, count);
    for (; first < count && row < last; first++, row++) {
        const json_t *p = json_array_get(list, (size_t)first);

        (void)top_put(f, row, LEFT, LOOK_PLAIN, "%4.0f  %-18s  %s", top_number(p, "pid"),
                      string(p, "root"), string(p, "name"));
    }
}

void top_draw(struct top_frame *f, const struct top_sample *s, const struct top_view *v)
{
    int beside = LEFT + 46, row, side, most = f->rows / 4;

    top_frame_clear(f);
    row = draw_title(f, s, v);
    row = draw_vcpus(f, row, s, most < 2 ? 2 : most);
    side = row;
    row = draw_reasons(f, row, s);
    (void)draw_faults(f, side, beside, s);
    row = draw_shadow(f, row, s);
    row = draw_memory(f, row + 1, s);
    row = draw_heat(f, row, s);
    draw_processes(f, row, s, v, f->rows - 1);
    if (v->message)
        (void)top_put(f, f->rows - 1, 0, LOOK_WARN, "%s", v->message);
    else if (v->interval_s > 0 && f->rows < 1000)
        (void)top_put(f, f->rows - 1, 0, LOOK_DIM,
                      "q quit   p pause   up/down processes   + - interval");
}

void top_draw_menu(struct top_frame *f, const json_t *vms, int chosen)
{
    int room = f->rows - 4, first = chosen >= room && room > 0 ? chosen - room + 1 : 0;
    size_t i;
    json_t *vm;

    top_frame_clear(f);
    (void)top_put(f, 0, 0, LOOK_HEAD, "Which VM?");
    json_array_foreach((json_t *)vms, i, vm)
    {
        int row = 2 + (int)i - first;

        if (row < 2 || row >= f->rows - 1)
            continue;
        (void)top_put(f, row, LEFT, (int)i == chosen ? LOOK_CHOSEN : LOOK_PLAIN, "%c %-32s %s",
                      (int)i == chosen ? '>' : ' ', string(vm, "name"), string(vm, "state"));
    }
    (void)top_put(f, f->rows - 1, 0, LOOK_DIM, "up/down choose   Enter show   q quit");
}
