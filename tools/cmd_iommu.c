#include <errno.h>
#include <getopt.h>
#include <stdio.h>

#include "tools/client.h"
#include "tools/parse.h"
#include "tools/stat_iommu.h"
#include "tools/table.h"

static const char help[] =
    "usage: twofold iommu [OPTIONS] NAME\n"
    "\n"
    "Shows the virtual IOMMU of a VM that was started with --iommu: which device is in which\n"
    "domain, what each domain maps, the counters of its IOTLB, and the last blocked accesses.\n"
    "\n"
    "  --mappings N   at most N of each domain, in order of iova (64; up to 4096)\n"
    "  --faults N     the last N blocked accesses (16; up to 256)\n"
    "  --json         one object, as docs/control.md describes it, with all faults kept\n"
    "  -h, --help     this text\n"
    "\n"
    "Exit status: 0; 1 no such VM, no answer, or it has no IOMMU; 2 wrong usage.\n";

/* Above the letters, as command_bad_option() wants it. */
enum {
    OPT_JSON = 256,
    OPT_MAPPINGS,
    OPT_FAULTS,
};

static const struct option options[] = {
    { "json", no_argument, NULL, OPT_JSON },
    { "mappings", required_argument, NULL, OPT_MAPPINGS },
    { "faults", required_argument, NULL, OPT_FAULTS },
    { "help", no_argument, NULL, 'h' },
    { NULL, 0, NULL, 0 },
};

struct request {
    bool json;
    uint64_t mappings, faults;
};

static json_int_t number(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static const char *string(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));

    return s ? s : "";
}

static void domain_cell(struct table *t, const json_t *of)
{
    const json_t *domain = json_object_get(of, "domain");

    if (json_is_integer(domain))
        table_cell(t, "%" JSON_INTEGER_FORMAT, json_integer_value(domain));
    else
        table_cell(t, "-");
}

static void print_endpoints(const json_t *endpoints)
{
    struct table *t = table_create("ENDPOINT DEVICE >DOMAIN RESERVED");
    const json_t *e, *r;
    size_t i, n;

    json_array_foreach(endpoints, i, e)
    {
        char text[256] = "-", size[32];
        size_t used = 0;

        json_array_foreach(json_object_get(e, "reserved"), n, r)
        {
            int wrote = snprintf(text + used, sizeof(text) - used, "%s%s+%s%s", used ? " " : "",
                                 string(r, "iova"),
                                 format_bytes((uint64_t)number(r, "size"), size, sizeof(size)),
                                 json_is_true(json_object_get(r, "msi")) ? " (interrupts)" : "");

            if (wrote < 0 || (size_t)wrote >= sizeof(text) - used)
                break;
            used += (size_t)wrote;
        }
        table_cell(t, "%s", string(e, "bdf"));
        table_cell(t, "%s", string(e, "name"));
        domain_cell(t, e);
        table_cell(t, "%s", text);
    }
    (void)printf("\nendpoints\n");
    table_print(t, "  ", stdout);
}

static void print_domain(const json_t *d)
{
    const json_t *maps = json_object_get(d, "mappings"), *m;
    json_int_t more = number(d, "count") - (json_int_t)json_array_size(maps);
    struct table *t;
    size_t i;

    if (json_is_true(json_object_get(d, "bypass"))) {
        (void)printf("\ndomain %" JSON_INTEGER_FORMAT ": bypass, iova is gpa\n",
                     number(d, "domain"));
        return;
    }
    (void)printf("\ndomain %" JSON_INTEGER_FORMAT ": %" JSON_INTEGER_FORMAT " mappings\n",
                 number(d, "domain"), number(d, "count"));
    if (json_array_size(maps) > 0) {
        t = table_create(">IOVA >GPA >SIZE ACCESS");
        json_array_foreach(maps, i, m)
        {
            char size[32];

            table_cell(t, "%s", string(m, "iova"));
            table_cell(t, "%s", string(m, "output"));
            table_cell(t, "%s", format_bytes((uint64_t)number(m, "size"), size, sizeof(size)));
            table_cell(t, "%s", string(m, "access"));
        }
        table_print(t, "  ", stdout);
    }
    if (more > 0)
        (void)printf("  and %" JSON_INTEGER_FORMAT " more: see --mappings\n", more);
}

static void print_faults(const json_t *faults, uint64_t most)
{
    size_t count = json_array_size(faults), i = count > most ? count - (size_t)most : 0;
    struct table *t;

    if (i == count)
        return;
    (void)printf("\nblocked: the last %zu\n", count - i);
    t = table_create(">FAULT >AGO DEVICE >DOMAIN ACCESS >IOVA REASON");
    for (; i < count; i++) {
        const json_t *f = json_array_get(faults, i);
        char ago[32];

        table_cell(t, "%" JSON_INTEGER_FORMAT, number(f, "number"));
        table_cell(
            t, "%s",
            format_seconds(json_number_value(json_object_get(f, "seconds_ago")), ago, sizeof(ago)));
        table_cell(t, "%s %s", string(f, "bdf"), string(f, "name"));
        domain_cell(t, f);
        table_cell(t, "%s", string(f, "access"));
        table_cell(t, "%s", string(f, "iova"));
        table_cell(t, "%s", string(f, "reason"));
    }
    table_print(t, "  ", stdout);
}

static void print(const char *name, const json_t *result, uint64_t faults)
{
    const json_t *d;
    size_t i;

    (void)printf("%s: IOMMU, iova 0 to %s; a device in no domain reaches %s\n", name,
                 string(result, "last_iova"),
                 json_is_true(json_object_get(result, "bypass")) ? "everything (bypass)"
                                                                 : "nothing");
    stat_print_iommu(json_object_get(result, "counters"));
    print_endpoints(json_object_get(result, "endpoints"));
    json_array_foreach(json_object_get(result, "domains"), i, d)
    {
        print_domain(d);
    }
    print_faults(json_object_get(result, "faults"), faults);
}

static int set_option(void *ctx, int opt, const char *value, struct error *err)
{
    struct request *r = ctx;

    switch (opt) {
    case OPT_MAPPINGS:
        return parse_number("--mappings", value, 0, 4096, &r->mappings, err);
    case OPT_FAULTS:
        return parse_number("--faults", value, 0, 256, &r->faults, err);
    default:
        r->json = true;
        return 0;
    }
}

static int run(const struct command *cmd, int argc, char **argv)
{
    struct request r = { .mappings = 64, .faults = 16 };
    json_t *result = NULL;
    struct error err;
    int status;

    if (!client_parse(cmd, argc, argv, options, set_option, &r, 1, "name one VM; see 'twofold ps'",
                      &status))
        return status;
    if (client_once(argv[optind], "iommu", json_pack("{s:I}", "mappings", (json_int_t)r.mappings),
                    &result, &err))
        return command_fail(STATUS_FAILED, "%s", err.text);
    if (r.json)
        client_print_json(result);
    else
        print(argv[optind], result, r.faults);
    json_decref(result);
    return STATUS_OK;
}

const struct command command_iommu = {
    .name = "iommu",
    .summary = "show a VM's IOMMU: domains, mappings, blocked accesses",
    .help = help,
    .run = run,
};
