/*
 * Whether a runner's memory lies on the pages that were asked for: in a VM both dimensions, by its
 * control socket; of a process, by the kernel's smaps. And how long a walk is.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/client.h"
#include "tools/measure_impl.h"
#include "tools/walk_view.h"
#include "vmm/clock.h"

#define SHARE_MIN 0.99
#define WALKS     64

/* --- a VM ---------------------------------------------------------------------------- */

static json_t *hex(uint64_t n)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "0x%" PRIx64, n);
    return json_string(text);
}

/* The runner's VM, and until when it is asked. */
struct asked {
    struct client client;
    uint64_t until_ns;
};

/* As client_ask(); a request at a time, so that a signal or the end is not missed for many. */
static int ask(struct asked *a, const char *command, json_t *arguments, json_t **reply,
               struct error *err)
{
    int rc = 0;

    if (measure_ended())
        rc = error_set(err, -EINTR, "ended by a signal");
    else if (now_ns() > a->until_ns)
        rc = error_set(err, -ETIMEDOUT, "its pages could not be looked at in time");
    if (rc == 0)
        return client_ask(&a->client, command, arguments, reply, err);
    json_decref(arguments);
    return rc;
}

/* The process that holds the chain. */
static int find_process(struct asked *a, json_int_t *pid, struct error *err)
{
    json_t *stat = NULL;
    const json_t *process;
    int rc = ask(a, "stat", NULL, &stat, err);
    size_t i;

    if (rc < 0)
        return rc;
    rc = error_set(err, -ESRCH, "the guest tells of no process that holds the chain");
    json_array_foreach(json_object_get(stat, "processes"), i, process)
    {
        if (!strcmp(walk_string(process, "name"), "chase")) {
            *pid = json_integer_value(json_object_get(process, "pid"));
            rc = 0;
        }
    }
    json_decref(stat);
    return rc;
}

/* What the maps of both dimensions say of the chain's memory. */
struct mapped {
    struct asked *asked;
    json_int_t pid;
    uint64_t page; /* that is asked for */
    uint64_t host_page;
    uint64_t right;      /* bytes on such pages */
    uint64_t host_right; /* the same of the host's */
};

/* Of [first, first + size), guest-virtual or guest-physical. */
static int map_runs(struct mapped *m, bool gva, uint64_t first, uint64_t size, struct error *err);

static int add_run(struct mapped *m, bool gva, const json_t *run, struct error *err)
{
    uint64_t bytes = (uint64_t)json_integer_value(json_object_get(run, "size"));
    uint64_t page = (uint64_t)json_integer_value(json_object_get(run, "page"));

    if (!gva) {
        m->host_right += page == m->host_page ? bytes : 0;
        return 0;
    }
    m->right += page == m->page ? bytes : 0;
    return map_runs(m, false, walk_u64(run, "gpa"), bytes, err);
}

static int map_runs(struct mapped *m, bool gva, uint64_t first, uint64_t size, struct error *err)
{
    uint64_t last = first + size - 1;
    int rc = 0;

    for (bool more = true; more && rc == 0;) {
        json_t *reply = NULL, *arguments = json_pack("{s:s, s:o, s:o}", "of", gva ? "gva" : "gpa",
                                                     "first", hex(first), "last", hex(last));
        const json_t *run;
        size_t i;

        if (gva)
            (void)json_object_set_new(arguments, "pid", json_integer(m->pid));
        rc = ask(m->asked, "map", arguments, &reply, err);
        json_array_foreach(json_object_get(reply, "runs"), i, run)
        {
            if (rc == 0)
                rc = add_run(m, gva, run, err);
        }
        more = json_is_string(json_object_get(reply, "next"));
        first = walk_u64(reply, "next");
        json_decref(reply);
    }
    return rc;
}

static int larger(int a, int b)
{
    return a > b ? a : b;
}

/* The formula for the pages asked for; `kind` is who walks, by the host's back end. */
static int formula_of(const struct measure_unit *u, const char *kind)
{
    int g = measure_page_levels(u->guest_page), h = measure_page_levels(u->host_page);

    if (!strcmp(kind, "nested"))
        return (g + 1) * (h + 1) - 1;
    /* One table, composed of both: its leaf is the smaller page. */
    return !strcmp(kind, "pvm") || !strcmp(kind, "shadow") ? larger(g, h) : 0;
}

/*
 * References of walks at places of the chain, 0 when they are not known. Where they differ, those
 * that are not the formula's count.
 */
static int walk_references(struct asked *a, json_int_t pid, const struct runner *r,
                           struct measure_unit *u, struct error *err)
{
    uint64_t places = r->pages < WALKS ? r->pages : WALKS;

    for (uint64_t i = 0; i < places; i++) {
        uint64_t gva = r->gva + r->pages * i / places * PAGE_SIZE_4K;
        json_t *walk = NULL;
        const json_t *hardware;
        int count, rc = ask(a, "walk",
                            json_pack("{s:o, s:I, s:b}", "gva", hex(gva), "pid", pid, "user", 1),
                            &walk, err);

        if (rc < 0)
            return rc;
        hardware = json_object_get(walk, "hardware");
        count = (int)json_integer_value(json_object_get(hardware, "references"));
        u->formula = formula_of(u, walk_string(hardware, "kind"));
        json_decref(walk);
        if (i == 0)
            u->references = count;
        u->walks_differ = u->walks_differ || count != u->references;
        if (count && count != u->formula)
            u->references = count;
    }
    return 0;
}

static int verify_vm(struct measure_unit *u, const struct runner *r, uint64_t until_ns,
                     struct error *err)
{
    struct asked a = { .until_ns = until_ns };
    struct mapped m = { .asked = &a, .page = u->guest_page, .host_page = u->host_page };
    int rc = client_open(&a.client, r->name, CLIENT_TIMEOUT_MS, err);

    if (rc == 0)
        rc = find_process(&a, &m.pid, err);
    if (rc == 0)
        rc = map_runs(&m, true, r->gva, u->footprint, err);
    if (rc == 0)
        rc = walk_references(&a, m.pid, r, u, err);
    client_close(&a.client);
    if (rc < 0)
        return rc;
    u->guest_share = (double)m.right / (double)u->footprint;
    u->host_share = (double)m.host_right / (double)u->footprint;
    return 0;
}

/* --- a process ----------------------------------------------------------------------- */

/* A line of smaps, "AnonHugePages:    2048 kB", in bytes. */
static bool smaps_value(const char *line, const char *name, uint64_t *bytes)
{
    size_t n = strlen(name);

    if (strncmp(line, name, n) != 0 || line[n] != ':')
        return false;
    *bytes = strtoull(line + n + 1, NULL, 10) << 10;
    return true;
}

/* The mapping that holds the chain. */
static int verify_native(struct measure_unit *u, const struct runner *r, struct error *err)
{
    uint64_t first = 0, end = 0, unit = 0, huge = 0, here = 0, there = 0;
    char path[64], line[512];
    bool inside = false;
    FILE *f;

    (void)snprintf(path, sizeof(path), "/proc/%d/smaps", (int)r->pid);
    f = fopen(path, "re");
    if (!f)
        return error_set(err, -errno, "%s can't be read: %s", path, strerror(errno));
    while (fgets(line, sizeof(line), f)) {
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &first, &end) == 2)
            inside = first <= r->gva && r->gva < end;
        else if (inside && !smaps_value(line, "KernelPageSize", &unit) &&
                 !smaps_value(line, "AnonHugePages", &huge) && !smaps_value(line, "Rss", &here) &&
                 (smaps_value(line, "Private_Hugetlb", &there) ||
                  smaps_value(line, "Shared_Hugetlb", &there)))
            here += there;
    }
    (void)fclose(f);
    if (u->host_page == PAGE_SIZE_4K)
        huge = unit == PAGE_SIZE_4K && here > huge ? here - huge : 0;
    else if (unit == u->host_page)
        huge = here;
    else if (u->host_page != PAGE_SIZE_2M)
        huge = 0;
    u->host_share = huge > u->footprint ? 1 : (double)huge / (double)u->footprint;
    u->formula = measure_page_levels(u->host_page);
    return 0;
}

int measure_verify(struct measure_unit *u, const struct runner *r, uint64_t until_ns,
                   struct error *err)
{
    int rc;

    if (u->load)
        return 0;
    rc = u->paging == MEASURE_NATIVE ? verify_native(u, r, err) : verify_vm(u, r, until_ns, err);
    if (rc < 0)
        return rc;
    if (u->paging != MEASURE_NATIVE && u->guest_share < SHARE_MIN)
        measure_set(u, MEASURE_NO_PAGES,
                    "%.0f %% of the footprint are on the guest's pages asked for",
                    u->guest_share * 100);
    else if (u->host_share < SHARE_MIN)
        measure_set(u, MEASURE_NO_PAGES,
                    "%.0f %% of the footprint are on the host's pages asked for",
                    u->host_share * 100);
    return 0;
}
