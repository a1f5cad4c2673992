/*
 * The command `map`: an address space as runs of equal pages, so many a reply,
 * and where to go on. What a guest's tables hold is the guest's choice: a reply
 * is bounded in runs and in tables read, whatever they hold.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ept/decode.h"
#include "ept/scan.h"
#include "vmm/control_walk.h"
#include "vmm/pages.h"

#define RUNS_MAX   2048u  /* a reply; about 200 bytes each */
#define TABLES_MAX 16384u /* a reply */

/* So many bytes of gva take fewer tables than TABLES_MAX, in any format. */
#define CHUNK (UINT64_C(8) << 30)

/* RAM is learned and shown so many bytes at a time, so many times a reply. */
#define LEARN_BYTES (UINT64_C(1) << 30)
#define LEARNS_MAX  16u

struct map {
    struct look look;
    uint64_t first, last; /* what is asked for, both included */
    bool ad;              /* accessed and dirty bits tell runs apart */
    json_t *runs;
    uint64_t next; /* all before it is told */
    bool finished; /* and there is nothing from there on */
    bool full;     /* the reply is */
    struct pt_scan_stats stats;
};

static void set(json_t *object, const char *key, json_t *value)
{
    (void)json_object_set_new(object, key, value);
}

static void set_range(json_t *run, uint64_t start, uint64_t bytes)
{
    set(run, "start", control_hex(start));
    set(run, "last", control_hex(start + bytes - 1));
    set(run, "size", control_number(bytes));
}

/* All up to `last` is told. */
static void advance(struct map *m, uint64_t last)
{
    m->finished = last >= m->last;
    m->next = last + 1;
}

static int add_run(struct map *m, json_t *run, uint64_t last)
{
    (void)json_array_append_new(m->runs, run);
    advance(m, last);
    m->full = json_array_size(m->runs) >= RUNS_MAX;
    return m->full ? -ENOSPC : 0;
}

/* --- the guest's address space ----------------------------------------------------- */

static unsigned level_of(const struct pt_format *format, unsigned shift)
{
    unsigned n = format->levels;

    while (n > 1 && format->level[n].shift != shift)
        n--;
    return n;
}

/* The leaf's bits in words, but for what rights and size say. */
static json_t *flags_json(const struct pt_space *space, const struct pt_run *r)
{
    static const char *const said = " P R W X XU U PS NX RSVD 2M 1G ";
    char text[PT_DESCRIBE_MAX], *rest = NULL, word[16];
    json_t *list = json_array();

    (void)pt_describe(space, level_of(space->format, r->shift), r->flags, text, sizeof(text));
    for (char *w = strtok_r(text, " ", &rest); w; w = strtok_r(NULL, " ", &rest)) {
        (void)snprintf(word, sizeof(word), " %s ", w);
        if (!strstr(said, word))
            (void)json_array_append_new(list, json_string(w));
    }
    return list;
}

static int gva_run(void *ctx, const struct pt_run *r)
{
    struct map *m = ctx;
    json_t *run = json_object();
    char rights[5];

    set_range(run, r->input, r->bytes);
    set(run, "page", control_number(UINT64_C(1) << r->shift));
    set(run, "rights", json_string(control_rights(r->rights, rights)));
    set(run, "flags", flags_json(&m->look.guest, r));
    set(run, "gpa", control_hex(r->output));
    set(run, "pages", control_number(r->leaves));
    return add_run(m, run, r->input + (r->bytes - 1));
}

static const void *read_table(void *ctx, uint64_t at, unsigned bytes, void *buf)
{
    struct map *m = ctx;

    return look_read_table(&m->look, at, bytes, buf);
}

static int scan_part(struct map *m, uint64_t last)
{
    const struct pt_format *format = m->look.guest.format;
    uint64_t ignore = m->ad ? 0 : format->accessed | format->dirty;
    struct pt_scan_stats stats = { 0 };
    int rc =
        pt_scan(&m->look.guest, m->next, last, ignore, TABLES_MAX, read_table, gva_run, m, &stats);

    m->stats.tables += stats.tables;
    m->stats.entries += stats.entries;
    m->stats.leaves += stats.leaves;
    m->stats.broken += stats.broken;
    return rc;
}

/* The last address of the half of the address space that `at` is in. */
static uint64_t half_end(const struct pt_format *format, uint64_t at)
{
    uint64_t low = (UINT64_C(1) << (format->input_bits - 1)) - 1;

    if (!format->sign_extended)
        return low * 2 + 1;
    return at <= low ? low : UINT64_MAX;
}

/*
 * From m->next on. A half that takes too many tables is told as far as that
 * goes, or, when nothing in it could be told, tried again in a piece that can't
 * take as many.
 */
static void scan_gva(struct map *m)
{
    const struct pt_format *format = m->look.guest.format;

    while (!m->finished && !m->full && m->stats.tables < TABLES_MAX && !m->look.failed) {
        uint64_t from = m->next, last = half_end(format, from);
        int rc;

        if (last > m->last)
            last = m->last;
        rc = scan_part(m, last);
        if (rc == -E2BIG && m->next == from) {
            last = last < (from | (CHUNK - 1)) ? last : from | (CHUNK - 1);
            rc = scan_part(m, last);
        }
        if (rc == 0)
            advance(m, last);
        /* Over the hole between the halves. */
        if (!m->finished && format->sign_extended && m->next == half_end(format, 0) + 1)
            m->next = ~half_end(format, 0);
    }
}

static bool canonical(const struct pt_format *format, uint64_t at)
{
    uint64_t low = half_end(format, 0);

    return at <= low || (format->sign_extended && at >= ~low);
}

static int map_gva(struct map *m, bool range, struct error *err)
{
    const struct pt_format *format = m->look.guest.format;

    if (!range)
        m->last = half_end(format, UINT64_MAX);
    if (!canonical(format, m->first) || !canonical(format, m->last))
        return error_set(err, -EINVAL,
                         "0x%" PRIx64 " to 0x%" PRIx64 " has addresses that %s paging does not",
                         m->first, m->last, format->name);
    if (format->levels == 0)
        m->finished = true;
    scan_gva(m);
    return 0;
}

/* --- the map of RAM ---------------------------------------------------------------- */

static json_t *page_flags_json(unsigned flags)
{
    static const struct {
        unsigned flag;
        const char *name;
    } names[] = { { GP_NODUMP, "nodump" },
                  { GP_LOCKED, "locked" },
                  { GP_WATCHED, "watched" },
                  { GP_ACCESSED, "accessed" },
                  { GP_DIRTY, "dirty" } };
    json_t *list = json_array();

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (flags & names[i].flag)
            (void)json_array_append_new(list, json_string(names[i].name));
    return list;
}

static int gpa_run(void *ctx, gpa_t at, uint64_t len, const struct gp_page *page)
{
    struct map *m = ctx;
    const char *backing = mem_backing_name((enum mem_backing)page->backing);
    unsigned ad = m->ad ? 0 : GP_ACCESSED | GP_DIRTY;
    json_t *run = json_object();

    set_range(run, at.v, len);
    set(run, "state", json_string(gp_state_name(page->state)));
    set(run, "page",
        page->state == GP_PRESENT || page->state == GP_ZERO
            ? control_number(UINT64_C(1) << page->shift)
            : json_null());
    set(run, "backing", json_string(backing ? backing : "unknown"));
    set(run, "flags", page_flags_json(page->flags & ~ad));
    set(run, "hva", control_hex(look_hva(&m->look, at).v));
    return add_run(m, run, at.v + (len - 1));
}

static int add_hole(struct map *m, uint64_t last)
{
    json_t *run = json_object();

    set_range(run, m->next, last - m->next + 1);
    set(run, "state", json_string("no RAM"));
    return add_run(m, run, last);
}

/* The slot that holds `at`, or else the next one above it; NULL: none. */
static const struct mem_slot *slot_from(const struct map *m, uint64_t at)
{
    size_t count;
    const struct mem_slot *slot = memory_slots(vm_memory(m->look.vm), &count);

    for (size_t i = 0; i < count; i++)
        if (at < slot[i].base.v + slot[i].size)
            return &slot[i];
    return NULL;
}

static int show_ram(struct map *m, const struct mem_slot *slot)
{
    uint64_t end = (m->next | (LEARN_BYTES - 1)) + 1;
    int rc;

    if (end > slot->base.v + slot->size)
        end = slot->base.v + slot->size;
    if (end - 1 > m->last)
        end = m->last + 1;
    rc = pages_learn(vm_pages(m->look.vm), gpa(m->next), end - m->next);
    if (rc < 0)
        m->look.failed = rc;
    else
        rc = gpmap_runs(m->look.map, gpa(m->next), end - m->next, gpa_run, m);
    return rc;
}

static int map_gpa(struct map *m, bool range, struct error *err)
{
    const struct mem_slot *slot;
    size_t count;
    int rc = 0;

    slot = memory_slots(vm_memory(m->look.vm), &count);
    if (!range)
        m->last = slot[count - 1].base.v + slot[count - 1].size - 1;
    slot = slot_from(m, m->first);
    if (range && (!slot || slot->base.v > m->last))
        return error_set(err, -EINVAL, "0x%" PRIx64 " to 0x%" PRIx64 " is no RAM of this VM",
                         m->first, m->last);
    for (unsigned n = 0; !m->finished && rc == 0 && n < LEARNS_MAX; n++) {
        slot = slot_from(m, m->next);
        if (slot && slot->base.v <= m->next)
            rc = show_ram(m, slot);
        else
            rc = add_hole(m, slot && slot->base.v <= m->last ? slot->base.v - 1 : m->last);
    }
    return 0;
}

/* --- the command ------------------------------------------------------------------- */

static json_t *map_json(const struct map *m, const char *of)
{
    const struct look *l = &m->look;

    return json_pack(
        "{s:s, s:s, s:s, s:i, s:o, s:O, s:o, s:{s:o, s:o, s:o, s:o}, s:o}", "name",
        vm_config(l->vm)->name, "of", of, "format", l->guest.format->name, "vcpu",
        (int)l->request.cpu, "root", control_hex(l->guest.root & l->guest.format->root_addr),
        "runs", m->runs, "next", m->finished ? json_null() : control_hex(m->next), "scanned",
        "tables", control_number(m->stats.tables), "entries", control_number(m->stats.entries),
        "pages", control_number(m->stats.leaves), "broken", control_number(m->stats.broken),
        "stood_still_us", control_number(look_stood_ns(l) / 1000));
}

static int get_range(const json_t *arguments, struct map *m, struct error *err)
{
    int rc = control_get_u64(arguments, "first", false, &m->first, err);

    m->last = UINT64_MAX;
    if (rc == 0)
        rc = control_get_u64(arguments, "last", false, &m->last, err);
    if (rc == 0)
        rc = control_get_bool(arguments, "ad", &m->ad, err);
    if (rc < 0)
        return rc;
    /* Whole pages, whatever was asked for. */
    m->first &= ~(PAGE_SIZE_4K - 1);
    m->last |= PAGE_SIZE_4K - 1;
    m->next = m->first;
    return m->first <= m->last
               ? 0
               : error_set(err, -EINVAL,
                           "the range ends before it begins: 0x%" PRIx64 " to 0x%" PRIx64, m->first,
                           m->last);
}

int control_map(struct vm *vm, const json_t *arguments, struct control_outcome *out)
{
    struct look_request request;
    const char *of = "gva";
    struct map m;
    bool range = json_object_get(arguments, "last") != NULL;
    int rc;

    memset(&m, 0, sizeof(m));
    rc = control_get_string(arguments, "of", &of, &out->err);
    if (rc == 0 && strcmp(of, "gva") != 0 && strcmp(of, "gpa") != 0)
        rc = error_set(&out->err, -EINVAL, "\"of\" is gva or gpa, not '%.20s'", of);
    if (rc == 0)
        rc = get_range(arguments, &m, &out->err);
    if (rc == 0)
        rc = control_look_request(arguments, &request, &out->err);
    if (rc == 0)
        rc = look_open(&m.look, vm, &request, &out->err);
    if (rc != 0)
        return rc;
    m.runs = json_array();
    rc = !strcmp(of, "gva") ? map_gva(&m, range, &out->err) : map_gpa(&m, range, &out->err);
    if (rc == 0 && m.look.failed)
        rc = error_set(&out->err, m.look.failed,
                       "the host does not tell what is behind guest memory: %s",
                       strerror(-m.look.failed));
    if (rc == 0)
        out->result = map_json(&m, of);
    look_close(&m.look);
    json_decref(m.runs);
    return rc;
}
