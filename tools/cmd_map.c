#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tools/parse.h"
#include "tools/table.h"
#include "tools/walk_command.h"
#include "tools/walk_view.h"
#include "vmm/control.h"
#include "vmm/vm.h"

static const char help[] =
    "usage: twofold map [OPTIONS] NAME\n"
    "\n"
    "Shows an address space of a running VM as runs of pages with equal attributes: what the\n"
    "guest's tables map (--gva), or what the host has behind the guest's RAM (--gpa). The VM\n"
    "stands still for each of the looks that a long list takes; nothing in it changes.\n"
    "\n"
    "  --gva          the guest's tables (default): size of its pages, rights, flags, gpa\n"
    "  --gpa          the guest-physical map: state of each page, its true size, hva\n"
    "  --cpu N        vCPU whose control registers, and CR3, are used (default: 0)\n"
    "  --pid P        the tables of process P, if the guest tells its processes\n"
    "  --cr3 GPA      the tables whose root is at GPA\n"
    "  --range R      FIRST-END or FIRST+SIZE, widened to whole pages\n"
    "  --ad           tell runs apart by accessed and dirty bits, too\n"
    "  --json         one object, as docs/control.md describes it\n"
    "  -h, --help     this text\n"
    "\n"
    "Exit status: 0; 1 no such VM or process, no answer; 2 wrong usage.\n";

enum {
    OPT_GVA = 256,
    OPT_GPA,
    OPT_CPU,
    OPT_PID,
    OPT_CR3,
    OPT_RANGE,
    OPT_AD,
    OPT_JSON,
};

static const struct option long_options[] = {
    { "gva", no_argument, NULL, OPT_GVA },       { "gpa", no_argument, NULL, OPT_GPA },
    { "cpu", required_argument, NULL, OPT_CPU }, { "pid", required_argument, NULL, OPT_PID },
    { "cr3", required_argument, NULL, OPT_CR3 }, { "range", required_argument, NULL, OPT_RANGE },
    { "ad", no_argument, NULL, OPT_AD },         { "json", no_argument, NULL, OPT_JSON },
    { "help", no_argument, NULL, 'h' },          { NULL, 0, NULL, 0 },
};

#define KINDS_MAX 16

/* Bytes by what the runs are: page size (gva), state and page size (gpa). */
struct totals {
    struct {
        char name[32];
        uint64_t bytes;
    } kind[KINDS_MAX];
    unsigned kinds;
    uint64_t runs, tables, broken;
};

struct map {
    const char *name;
    bool gva, gpa, json;
    json_t *arguments; /* of each request, but for where it begins */
    json_t *last;      /* a run that may go on in the next reply */
    json_t *all;       /* for --json */
    bool headed;
    struct totals totals;
};

/* --- runs ------------------------------------------------------------------------------------- */

static uint64_t bytes_of(const json_t *run)
{
    return (uint64_t)json_integer_value(json_object_get(run, "size"));
}

static bool same(const json_t *a, const json_t *b, const char *key)
{
    json_t *left = json_object_get(a, key), *right = json_object_get(b, key);

    return left == right || (left && right && json_equal(left, right));
}

/* One reply ends, and the next begins, within one run. */
static bool continues(const json_t *run, const json_t *next)
{
    static const char *const keys[] = { "page", "rights", "flags", "state", "backing" };
    static const char *const outputs[] = { "gpa", "hva" };

    if (walk_u64(run, "last") + 1 != walk_u64(next, "start"))
        return false;
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (!same(run, next, keys[i]))
            return false;
    for (size_t i = 0; i < sizeof(outputs) / sizeof(outputs[0]); i++)
        if (json_object_get(run, outputs[i]) &&
            walk_u64(run, outputs[i]) + bytes_of(run) != walk_u64(next, outputs[i]))
            return false;
    return true;
}

static void extend(json_t *run, const json_t *next)
{
    json_int_t pages = json_integer_value(json_object_get(run, "pages")) +
                       json_integer_value(json_object_get(next, "pages"));

    (void)json_object_set(run, "last", json_object_get(next, "last"));
    (void)json_object_set_new(run, "size",
                              json_integer((json_int_t)bytes_of(run) + (json_int_t)bytes_of(next)));
    if (json_object_get(run, "pages"))
        (void)json_object_set_new(run, "pages", json_integer(pages));
}

static void count(struct totals *t, const char *name, uint64_t bytes)
{
    unsigned i = 0;

    while (i < t->kinds && strcmp(t->kind[i].name, name) != 0)
        i++;
    if (i == KINDS_MAX)
        return;
    if (i == t->kinds)
        (void)snprintf(t->kind[t->kinds++].name, sizeof(t->kind[0].name), "%s", name);
    t->kind[i].bytes += bytes;
}

static void kind_of(const struct map *m, const json_t *run, char *buf, size_t size)
{
    char page[16] = "";

    if (json_is_integer(json_object_get(run, "page")))
        (void)walk_size(run, "page", page, sizeof(page));
    if (m->gpa)
        (void)snprintf(buf, size, "%s%s%s", walk_string(run, "state"), *page ? " " : "", page);
    else
        (void)snprintf(buf, size, "%s pages", page);
}

static void print_head(struct map *m)
{
    if (m->headed)
        return;
    m->headed = true;
    if (m->gpa)
        (void)printf("%-18s %-18s %10s %-10s %4s %-10s %-18s %s\n", "FIRST", "LAST", "SIZE",
                     "STATE", "PAGE", "BACKING", "HVA", "FLAGS");
    else
        (void)printf("%-18s %-18s %10s %4s %-6s %-18s %s\n", "FIRST", "LAST", "SIZE", "PAGE",
                     "RIGHTS", "GPA", "FLAGS");
}

static void print_run(struct map *m, const json_t *run)
{
    char size[32], page[16] = "-", flags[200];

    print_head(m);
    if (json_is_integer(json_object_get(run, "page")))
        (void)walk_size(run, "page", page, sizeof(page));
    (void)walk_words(json_object_get(run, "flags"), ",", flags, sizeof(flags));
    (void)format_bytes(bytes_of(run), size, sizeof(size));
    (void)printf("0x%016" PRIx64 " 0x%016" PRIx64 " %10s ", walk_u64(run, "start"),
                 walk_u64(run, "last"), size);
    if (m->gpa && !json_object_get(run, "hva"))
        (void)printf("%s\n", walk_string(run, "state"));
    else if (m->gpa)
        (void)printf("%-10s %4s %-10s 0x%016" PRIx64 "%s%s\n", walk_string(run, "state"), page,
                     walk_string(run, "backing"), walk_u64(run, "hva"), *flags ? " " : "", flags);
    else
        (void)printf("%4s %-6s 0x%016" PRIx64 "%s%s\n", page, walk_string(run, "rights"),
                     walk_u64(run, "gpa"), *flags ? " " : "", flags);
}

/* Tells the run before, which is complete now. */
static void flush(struct map *m)
{
    char kind[32];

    if (!m->last)
        return;
    kind_of(m, m->last, kind, sizeof(kind));
    count(&m->totals, kind, bytes_of(m->last));
    m->totals.runs++;
    if (m->json)
        (void)json_array_append(m->all, m->last);
    else
        print_run(m, m->last);
    json_decref(m->last);
    m->last = NULL;
}

static void take_reply(struct map *m, const json_t *reply)
{
    const json_t *scanned = json_object_get(reply, "scanned");
    json_t *run;
    size_t i;

    json_array_foreach(json_object_get(reply, "runs"), i, run)
    {
        if (m->last && continues(m->last, run)) {
            extend(m->last, run);
            continue;
        }
        flush(m);
        m->last = json_incref(run);
    }
    m->totals.tables += (uint64_t)json_integer_value(json_object_get(scanned, "tables"));
    m->totals.broken += (uint64_t)json_integer_value(json_object_get(scanned, "broken"));
}

/* --- the end ----------------------------------------------------------------------- */

static void print_totals(const struct map *m, const json_t *reply)
{
    const struct totals *t = &m->totals;
    char size[32];

    if (!m->gpa && !strcmp(walk_string(reply, "format"), "paging off")) {
        (void)printf("paging is off: a gva is the gpa; see --gpa\n");
        return;
    }
    (void)printf("total: %" PRIu64 " run%s", t->runs, t->runs == 1 ? "" : "s");
    for (unsigned i = 0; i < t->kinds; i++)
        (void)printf("%s%s %s", i ? ", " : ": ", t->kind[i].name,
                     format_bytes(t->kind[i].bytes, size, sizeof(size)));
    if (!m->gpa)
        (void)printf("; %s, %" PRIu64 " table%s read, root %s", walk_string(reply, "format"),
                     t->tables, t->tables == 1 ? "" : "s", walk_string(reply, "root"));
    if (t->broken)
        (void)printf("; %" PRIu64 " entries refer to no RAM or have reserved bits set", t->broken);
    (void)putchar('\n');
}

static void print_json(struct map *m, json_t *reply)
{
    json_t *totals = json_object();

    for (unsigned i = 0; i < m->totals.kinds; i++)
        (void)json_object_set_new(totals, m->totals.kind[i].name,
                                  json_integer((json_int_t)m->totals.kind[i].bytes));
    (void)json_object_set(reply, "runs", m->all);
    (void)json_object_set_new(reply, "totals", totals);
    (void)json_object_del(reply, "next");
    client_print_json(reply);
}

/* Asks until the whole range is told. */
static int ask(struct map *m)
{
    struct client c;
    struct error err;
    json_t *reply = NULL;
    bool more = true;
    int code = client_open(&c, m->name, CLIENT_TIMEOUT_MS, &err);

    while (!code && more && !ferror(stdout)) {
        json_decref(reply);
        reply = NULL;
        code = client_ask(&c, "map", json_copy(m->arguments), &reply, &err);
        if (code)
            break;
        take_reply(m, reply);
        more = json_is_string(json_object_get(reply, "next"));
        if (more)
            (void)json_object_set(m->arguments, "first", json_object_get(reply, "next"));
    }
    client_close(&c);
    if (!code) {
        flush(m);
        if (m->json)
            print_json(m, reply);
        else
            print_totals(m, reply);
    }
    json_decref(reply);
    return code ? command_fail(walk_status(code), "%s", err.text) : STATUS_OK;
}

/* --- the command line -------------------------------------------------------------- */

/* An address, or so many K, M, G or T of them. */
static int parse_bound(const char *text, uint64_t *out, struct error *err)
{
    size_t n = strlen(text);

    if (n > 1 && strchr("kmgtKMGT", text[n - 1]))
        return parse_address("--range", text, out, NULL, err);
    return walk_parse_address("--range", text, out, err);
}

/* FIRST-END or FIRST+SIZE; END is the first byte behind it, but a last one in its page does, too.
 */
static int set_range(json_t *arguments, const char *text, struct error *err)
{
    char first[64], hex[24];
    const char *mark = strpbrk(text, "-+");
    uint64_t from = 0, to = 0;
    int rc;

    if (!mark || (size_t)(mark - text) >= sizeof(first))
        return error_set(err, -EINVAL, "--range '%.60s': give FIRST-END or FIRST+SIZE", text);
    (void)snprintf(first, sizeof(first), "%.*s", (int)(mark - text), text);
    rc = parse_bound(first, &from, err);
    if (rc == 0)
        rc = parse_bound(mark + 1, &to, err);
    if (rc < 0)
        return rc;
    if (*mark == '+')
        to += from;
    if (to - 1 < from || to == from)
        return error_set(err, -EINVAL, "--range '%.60s' is empty or wraps around", text);
    (void)snprintf(hex, sizeof(hex), "0x%" PRIx64, from);
    (void)json_object_set_new(arguments, "first", json_string(hex));
    (void)snprintf(hex, sizeof(hex), "0x%" PRIx64, to - 1);
    return json_object_set_new(arguments, "last", json_string(hex));
}

static int set_option(void *ctx, int opt, const char *value, struct error *err)
{
    struct map *m = ctx;

    switch (opt) {
    case OPT_GVA:
        m->gva = true;
        return 0;
    case OPT_GPA:
        m->gpa = true;
        return 0;
    case OPT_CPU:
        return walk_add_number(m->arguments, "cpu", "--cpu", value, VM_CPUS_MAX - 1, err);
    case OPT_PID:
        return walk_add_number(m->arguments, "pid", "--pid", value, INT32_MAX, err);
    case OPT_CR3:
        return walk_add_address(m->arguments, "cr3", "--cr3", value, err);
    case OPT_RANGE:
        return set_range(m->arguments, value, err);
    case OPT_AD:
        return json_object_set_new(m->arguments, "ad", json_true());
    default:
        m->json = true;
        return 0;
    }
}

static int check(const struct map *m, struct error *err)
{
    bool pid = json_object_get(m->arguments, "pid"), cr3 = json_object_get(m->arguments, "cr3");

    if (m->gva && m->gpa)
        return error_set(err, -EINVAL, "map: --gva and --gpa: give one of them");
    if (pid && cr3)
        return error_set(err, -EINVAL, "map: --pid and --cr3 both name tables; give one of them");
    if (m->gpa && (pid || cr3))
        return error_set(err, -EINVAL, "map: %s names tables of the guest; --gpa needs none",
                         pid ? "--pid" : "--cr3");
    return control_name_check(m->name, err);
}

static bool parse(const struct command *cmd, int argc, char **argv, struct map *m, int *status)
{
    struct error err;

    if (!client_parse(cmd, argc, argv, long_options, set_option, m, 1,
                      "map: name one VM; see 'twofold ps'", status))
        return false;
    *status = STATUS_USAGE;
    m->name = argv[optind];
    if (check(m, &err) < 0) {
        (void)command_fail(STATUS_USAGE, "%s", err.text);
        return false;
    }
    return true;
}

static int run(const struct command *cmd, int argc, char **argv)
{
    struct map m = { .arguments = json_object(), .all = json_array() };
    int status = STATUS_OK;

    if (parse(cmd, argc, argv, &m, &status)) {
        (void)json_object_set_new(m.arguments, "of", json_string(m.gpa ? "gpa" : "gva"));
        status = ask(&m);
    }
    json_decref(m.last);
    json_decref(m.all);
    json_decref(m.arguments);
    return status;
}

const struct command command_map = {
    .name = "map",
    .summary = "show an address space as runs of equal pages",
    .help = help,
    .run = run,
};
