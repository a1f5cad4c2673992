#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/client.h"
#include "tools/parse.h"
#include "tools/table.h"

static const char help[] =
    "usage: twofold migrate-pages [--gpa] [--hold] [--json] NAME RANGE\n"
    "\n"
    "Binds a range of a running VM's memory anew. Without --gpa its content moves to other\n"
    "host frames: the guest's addresses, virtual and physical, stay. With --gpa the guest's\n"
    "own kernel moves each page of the range to another guest-physical address: what its\n"
    "programs see stays. The guest runs on meanwhile, and loses nothing.\n"
    "\n"
    "  RANGE          guest-physical: FIRST-END or FIRST+SIZE, like 0-64M or 0x100000+2M\n"
    "  --gpa          ask the guest's kernel (docs/binding.md: it has to know how)\n"
    "  --hold         stop the vCPUs meanwhile, also where the host can do without\n"
    "  --json         what was done, for programs\n"
    "  -h, --help     this text\n"
    "\n"
    "Exit status: 0; 1 it can't be done; 2 wrong usage, or the range is no RAM.\n";

enum { OPT_GPA = 256, OPT_HOLD, OPT_JSON };

static const struct option options[] = {
    { "gpa", no_argument, NULL, OPT_GPA },
    { "hold", no_argument, NULL, OPT_HOLD },
    { "json", no_argument, NULL, OPT_JSON },
    { "help", no_argument, NULL, 'h' },
    { NULL, 0, NULL, 0 },
};

/* So much in one request: in between the monitor serves others. */
#define PIECE      (UINT64_C(16) << 20)
#define PAGE_SIZE  UINT64_C(4096)
#define TIMEOUT_MS 60000 /* a page of 1 GiB takes its time */

struct migration {
    struct client client;
    uint64_t first, size;
    bool by_guest, hold, json;
};

static json_int_t integer(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static const char *string(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));

    return s ? s : "";
}

/* A line that is written over by the next, for a person who waits. */
static void progress(const struct migration *m, uint64_t done)
{
    static bool shown;

    if (!isatty(STDERR_FILENO) || m->size <= PIECE)
        return;
    if (done < m->size)
        (void)fprintf(stderr, "\r%3u %% of %" PRIu64 " MiB ", (unsigned)(done * 100 / m->size),
                      m->size >> 20);
    else if (shown)
        (void)fputs("\r\033[K", stderr);
    shown = true;
    (void)fflush(stderr);
}

/* --- by the host ----------------------------------------------------------------------- */

/* Adds a piece's numbers to those before; times that are maxima stay so. */
static void add(json_t *sum, const json_t *piece)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)piece, key, value)
    {
        json_int_t before = integer(sum, key), now = json_integer_value(value);

        if (!json_is_integer(value))
            (void)json_object_set(sum, key, value);
        else if (!strcmp(key, "away_ns"))
            (void)json_object_set_new(sum, key, json_integer(now > before ? now : before));
        else
            (void)json_object_set_new(sum, key, json_integer(before + now));
    }
}

static const char *bytes(const json_t *object, const char *key, char *buf, size_t size)
{
    return format_bytes((uint64_t)integer(object, key), buf, size);
}

static void print_sum(const json_t *sum)
{
    json_int_t ns = integer(sum, "ns"), moved = integer(sum, "moved_bytes");
    json_int_t seen = integer(sum, "seen_bytes"), same = integer(sum, "same_bytes");
    char a[32], b[32], c[32], d[32];

    (void)printf("moved     %s in %s, %s/s%s\n", bytes(sum, "moved_bytes", a, sizeof(a)),
                 format_seconds((double)ns / 1e9, b, sizeof(b)),
                 format_bytes(ns ? (uint64_t)((double)moved * 1e9 / (double)ns) : 0, c, sizeof(c)),
                 !strcmp(string(sum, "method"), "move") ? "" : ", with the vCPUs held");
    if (seen == 0 && moved > 0)
        (void)printf("frames    not shown by this host to this user: that they are others is not "
                     "verified\n");
    else if (moved > 0)
        (void)printf("frames    %s seen before and after: %s on others, %s on the same\n",
                     bytes(sum, "seen_bytes", a, sizeof(a)),
                     format_bytes((uint64_t)(seen - same), b, sizeof(b)),
                     bytes(sum, "same_bytes", c, sizeof(c)));
    if (integer(sum, "huge_bytes") || integer(sum, "split_bytes"))
        (void)printf("sizes     %s in huge pages as before, %s now in small ones\n",
                     bytes(sum, "huge_bytes", a, sizeof(a)),
                     bytes(sum, "split_bytes", b, sizeof(b)));
    if (integer(sum, "busy_bytes") || integer(sum, "empty_bytes"))
        (void)printf("left      %s without a page of their own, %s busy\n",
                     bytes(sum, "empty_bytes", a, sizeof(a)),
                     bytes(sum, "busy_bytes", b, sizeof(b)));
    (void)printf("vCPUs     stood still for %s; a page was away for %s at most\n",
                 format_seconds((double)integer(sum, "held_ns") / 1e9, c, sizeof(c)),
                 format_seconds((double)integer(sum, "away_ns") / 1e9, d, sizeof(d)));
}

/* The pieces end where a page does, however large the backing's pages are. */
static int piece_size(struct migration *m, uint64_t *piece, struct error *err)
{
    json_t *status = NULL;
    int rc = client_ask(&m->client, "status", NULL, &status, err);

    *piece =
        rc == 0 && !strcmp(string(status, "backing"), "hugetlb-1g") ? UINT64_C(1) << 30 : PIECE;
    json_decref(status);
    return rc;
}

static int move_frames(struct migration *m, struct error *err)
{
    json_t *sum = json_object();
    uint64_t piece = PIECE, done = 0;
    int rc = piece_size(m, &piece, err);

    while (rc == 0 && done < m->size) {
        uint64_t at = m->first + done, some = piece - (at & (piece - 1));
        json_t *result = NULL;

        if (some > m->size - done)
            some = m->size - done;
        /* With what is left, so that a range that is no RAM is refused before anything moves. */
        rc = client_ask(&m->client, "migrate-pages",
                        json_pack("{s:o, s:I, s:I, s:b}", "base", json_sprintf("0x%" PRIx64, at),
                                  "size", (json_int_t)some, "whole", (json_int_t)(m->size - done),
                                  "hold", m->hold),
                        &result, err);
        if (rc == 0)
            add(sum, result);
        json_decref(result);
        done += some;
        progress(m, rc == 0 ? done : m->size);
    }
    if (rc == 0 && m->json)
        client_print_json(sum);
    else if (rc == 0)
        print_sum(sum);
    json_decref(sum);
    return rc;
}

/* --- by the guest ---------------------------------------------------------------------- */

struct tally {
    json_t *pages; /* for --json */
    uint64_t moved, busy, absent;
};

/* *step receives how far the page that was asked for goes. */
static void take(const struct migration *m, json_t *result, uint64_t at, struct tally *t,
                 uint64_t *step)
{
    const char *what = string(result, "result");
    uint64_t size = (uint64_t)integer(result, "size");

    *step = PAGE_SIZE;
    if (!strcmp(what, "moved")) {
        if (size > PAGE_SIZE && !(size & (size - 1)))
            *step = size - (at & (size - 1));
        t->moved += size;
        if (!m->json)
            (void)printf("0x%" PRIx64 " -> %s%s\n", at & ~((size ? size : 1) - 1),
                         string(result, "to"), size > PAGE_SIZE ? ", a large page" : "");
    } else if (!strcmp(what, "busy")) {
        t->busy += PAGE_SIZE;
    } else {
        t->absent += PAGE_SIZE;
    }
    if (m->json)
        (void)json_array_append(t->pages, result);
}

static int no_way(const json_t *result, const struct migration *m, struct error *err)
{
    const char *what = string(result, "result");

    if (!strcmp(what, "no-memory"))
        return error_set(err, -ENOMEM, "VM '%s': the guest has no free page to move to",
                         m->client.name);
    if (!strcmp(what, "unknown") || !strcmp(what, "failed"))
        return error_set(err, -ENOTSUP, "VM '%s': the guest's kernel can't move pages",
                         m->client.name);
    return 0;
}

static int move_gpa(struct migration *m, struct error *err)
{
    struct tally t = { .pages = json_array() };
    uint64_t done = 0, step = PAGE_SIZE;
    int rc = 0;

    for (; rc == 0 && done < m->size; done += step) {
        uint64_t at = m->first + done;
        json_t *result = NULL;

        /* With what is left, so that a range that is no RAM is refused before anything moves. */
        rc = client_ask(&m->client, "move-page",
                        json_pack("{s:o, s:I}", "gpa", json_sprintf("0x%" PRIx64, at), "size",
                                  (json_int_t)(m->size - done)),
                        &result, err);
        if (rc == 0)
            rc = no_way(result, m, err);
        if (rc == 0)
            take(m, result, at, &t, &step);
        json_decref(result);
    }
    if (rc == 0 && m->json)
        client_print_json(t.pages);
    else if (rc == 0)
        (void)printf("moved %" PRIu64 " KiB; left %" PRIu64 " KiB of the kernel's or in use by it, "
                     "%" PRIu64 " KiB that its allocator does not have\n",
                     t.moved >> 10, t.busy >> 10, t.absent >> 10);
    json_decref(t.pages);
    return rc;
}

static int migrate(struct migration *m, const char *name, const char *range)
{
    struct error err;
    int rc = parse_range("migrate-pages", range, &m->first, &m->size, &err);

    if (rc == 0)
        rc = client_open(&m->client, name, TIMEOUT_MS, &err);
    if (rc == 0)
        rc = m->by_guest ? move_gpa(m, &err) : move_frames(m, &err);
    client_close(&m->client);
    return rc < 0 ? command_fail(rc == -EINVAL ? STATUS_USAGE : STATUS_FAILED, "%s", err.text)
                  : STATUS_OK;
}

static int run(const struct command *cmd, int argc, char **argv)
{
    struct migration m = { .client = { .fd = -1 } };
    int opt;

    optind = 0;
    while ((opt = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        switch (opt) {
        case OPT_GPA:
            m.by_guest = true;
            break;
        case OPT_HOLD:
            m.hold = true;
            break;
        case OPT_JSON:
            m.json = true;
            break;
        case 'h':
            return command_help(cmd);
        default:
            return command_bad_option(cmd, argv, opt);
        }
    }
    if (argc - optind != 2)
        return command_fail(STATUS_USAGE, "migrate-pages: name one VM and a range; see 'twofold "
                                          "migrate-pages --help'");
    if (m.by_guest && m.hold)
        return command_fail(STATUS_USAGE, "migrate-pages: --hold stops the guest that --gpa needs");
    return migrate(&m, argv[optind], argv[optind + 1]);
}

const struct command command_migrate = {
    .name = "migrate-pages",
    .summary = "move a VM's pages below it while it runs",
    .help = help,
    .run = run,
};
