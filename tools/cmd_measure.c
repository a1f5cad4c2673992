/*
 * `twofold measure`: measures (measure_run.c), then shows and writes the result.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/command.h"
#include "tools/guest_file.h"
#include "tools/measure.h"
#include "tools/parse.h"

static const char help[] =
    "usage: twofold measure [--quick | --full] [-o FILE.html] [--json FILE] [OPTIONS]\n"
    "\n"
    "Measures what address translation costs: a dependent chain of accesses that miss the\n"
    "TLB, for each size of the guest's and the host's pages, native, with nested paging and\n"
    "with shadow paging; and loads that change page tables. Prints a summary.\n"
    "\n"
    "  --quick           about a minute\n"
    "  --full            pages of 1 GiB, too, and footprints beyond what caches hold\n"
    "  -o, --output FILE.html  a report; FILE.json and FILE.csv are written beside it\n"
    "  --json FILE       the result alone\n"
    "  --kernel FILE     the tiny guest, guest.elf (else beside this program)\n"
    "  --cpu N           the CPU to measure on (else the quietest)\n"
    "  --limit TIME      ends after that time with what is there, like 90s or 10m\n"
    "  --quiet           no progress bar\n"
    "  -h, --help        this text\n"
    "\n"
    "Ctrl-C ends it, and what was measured until then is kept. Huge pages are asked for, if\n"
    "that is permitted, and given back.\n"
    "\n"
    "Exit status: 0; 1 it could not be done; 2 wrong usage, or a file that can't be written;\n"
    "128 and a signal's number, as 130 after Ctrl-C, ended by it.\n";

enum {
    OPT_QUICK = 256,
    OPT_FULL,
    OPT_JSON,
    OPT_KERNEL,
    OPT_CPU,
    OPT_LIMIT,
    OPT_QUIET,
};

static const struct option options[] = {
    { "quick", no_argument, NULL, OPT_QUICK },
    { "full", no_argument, NULL, OPT_FULL },
    { "output", required_argument, NULL, 'o' },
    { "json", required_argument, NULL, OPT_JSON },
    { "kernel", required_argument, NULL, OPT_KERNEL },
    { "cpu", required_argument, NULL, OPT_CPU },
    { "limit", required_argument, NULL, OPT_LIMIT },
    { "quiet", no_argument, NULL, OPT_QUIET },
    { "help", no_argument, NULL, 'h' },
    { NULL, 0, NULL, 0 },
};

struct request {
    struct measure_options measure;
    bool quick, full;
    const char *html, *json_alone;      /* as named */
    char json[PATH_MAX], csv[PATH_MAX]; /* beside the report; "" without one */
    char kernel[PATH_MAX];
};

static int set_option(struct request *r, int opt, const char *value, struct error *err)
{
    uint64_t n;
    int rc = 0;

    switch (opt) {
    case OPT_QUICK:
        r->quick = true;
        break;
    case OPT_FULL:
        r->full = true;
        break;
    case 'o':
        r->html = value;
        break;
    case OPT_JSON:
        r->json_alone = value;
        break;
    case OPT_KERNEL:
        r->measure.kernel = value;
        break;
    case OPT_CPU:
        rc = parse_number("--cpu", value, 0, INT_MAX, &n, err);
        if (rc == 0)
            r->measure.cpu = (int)n;
        break;
    case OPT_LIMIT:
        return parse_seconds("--limit", value, &r->measure.limit_s, err);
    default:
        r->measure.quiet = true;
    }
    return rc;
}

/* --- files --------------------------------------------------------------------------- */

/* Whether it can be written, before minutes are spent for it. */
static int check_writable(const char *path, struct error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    bool made = fd >= 0;

    if (fd < 0 && errno == EEXIST)
        fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set(err, -EINVAL, "measure: '%s' can't be written: %s", path, strerror(errno));
    close(fd);
    if (made)
        (void)unlink(path);
    return 0;
}

/* report.html has report.json and report.csv beside it. */
static int name_files(struct request *r, struct error *err)
{
    static const char end[] = ".html";
    size_t n = r->html ? strlen(r->html) : 0, stem = n - (sizeof(end) - 1);

    if (!r->html)
        return 0;
    if (n < sizeof(end) || strcmp(r->html + stem, end) != 0)
        return error_set(err, -EINVAL, "measure: -o '%s': a report's name ends with .html",
                         r->html);
    if (n + 2 > sizeof(r->json))
        return error_set(err, -ENAMETOOLONG, "measure: -o: the name is too long");
    (void)snprintf(r->json, sizeof(r->json), "%.*s.json", (int)stem, r->html);
    (void)snprintf(r->csv, sizeof(r->csv), "%.*s.csv", (int)stem, r->html);
    return 0;
}

static int check_files(const struct request *r, struct error *err)
{
    const char *const paths[] = { r->html, r->html ? r->json : NULL, r->html ? r->csv : NULL,
                                  r->json_alone };
    int rc = 0;

    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]) && rc == 0; i++)
        if (paths[i])
            rc = check_writable(paths[i], err);
    return rc;
}

static int write_json(const json_t *result, const char *path, struct error *err)
{
    FILE *f = fopen(path, "we");
    bool failed;

    if (!f)
        return error_set(err, -errno, "measure: '%s' can't be written: %s", path, strerror(errno));
    failed = json_dumpf(result, f, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) != 0;
    failed = fputc('\n', f) == EOF || failed;
    failed = fclose(f) == EOF || failed;
    return failed ? error_set(err, -EIO, "measure: '%s' is incomplete: %s", path, strerror(errno))
                  : 0;
}

typedef int writer(const json_t *result, const char *path, struct error *err);

/*
 * Writes a file beside it, which takes the name once it is whole: an end in between leaves no half
 * of one. A link stays one, and what is no file, like a terminal, is written to.
 */
static int replace(writer *write_to, const json_t *result, const char *path, struct error *err)
{
    char real[PATH_MAX], tmp[PATH_MAX + 4];
    struct stat st;
    bool there;
    int fd, rc;

    if (!realpath(path, real))
        (void)snprintf(real, sizeof(real), "%s", path);
    (void)snprintf(tmp, sizeof(tmp), "%s.tmp", real);
    there = stat(real, &st) == 0;
    if (there && !S_ISREG(st.st_mode))
        return write_to(result, path, err);
    fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0) /* the file is ours to write, its folder is not */
        return write_to(result, path, err);
    if (there)
        (void)fchmod(fd, st.st_mode & 0777);
    close(fd);
    rc = write_to(result, tmp, err);
    if (rc == 0 && rename(tmp, real) < 0)
        rc = error_set(err, -errno, "measure: '%s' can't be written: %s", path, strerror(errno));
    if (rc < 0)
        (void)unlink(tmp);
    return rc;
}

static int write_files(const struct request *r, const json_t *result, struct error *err)
{
    int rc = r->json_alone ? replace(write_json, result, r->json_alone, err) : 0;

    if (rc == 0 && r->html)
        rc = replace(write_json, result, r->json, err);
    if (rc == 0 && r->html)
        rc = replace(measure_write_csv, result, r->csv, err);
    if (rc == 0 && r->html)
        rc = replace(measure_write_html, result, r->html, err);
    return rc;
}

/* --- the command --------------------------------------------------------------------- */

static int check(struct request *r, struct error *err)
{
    int rc;

    if (r->quick && r->full)
        return error_set(err, -EINVAL, "measure: --quick and --full: give one of them");
    r->measure.mode = r->quick ? MEASURE_QUICK : r->full ? MEASURE_FULL : MEASURE_DEFAULT;
    if (r->measure.kernel && access(r->measure.kernel, R_OK))
        return error_set(err, -EINVAL, "measure: --kernel '%s': %s", r->measure.kernel,
                         strerror(errno));
    if (!r->measure.kernel) {
        if (!guest_file_find(r->kernel, sizeof(r->kernel)))
            return error_set(err, -EINVAL,
                             "measure: the tiny guest (guest.elf) is neither beside this program "
                             "nor in /usr/lib/twofold; name it with --kernel");
        r->measure.kernel = r->kernel;
    }
    rc = name_files(r, err);
    return rc ? rc : check_files(r, err);
}

static int measure(const struct request *r)
{
    struct error err;
    json_t *result = measure_run(&r->measure, &err);
    int status = STATUS_OK, rc = result ? write_files(r, result, &err) : 0;

    measure_release_signals();
    if (!result)
        return command_fail(STATUS_USAGE, "%s", err.text);
    measure_print(stdout, result);
    if (rc < 0)
        status = command_fail(STATUS_FAILED, "%s", err.text);
    else if (r->html)
        (void)printf("\nreport: %s (%s and %s beside it)\n", r->html, r->json, r->csv);
    json_decref(result);
    return measure_ended() ? 128 + measure_ended() : status;
}

static int run(const struct command *cmd, int argc, char **argv)
{
    struct request r = { .measure = { .cpu = -1 } };
    struct error err;
    int opt;

    optind = 0;
    while ((opt = getopt_long(argc, argv, ":ho:", options, NULL)) != -1) {
        if (opt == 'h')
            return command_help(cmd);
        if (opt == '?' || opt == ':')
            return command_bad_option(cmd, argv, opt);
        if (set_option(&r, opt, optarg, &err) < 0)
            return command_fail(STATUS_USAGE, "%s", err.text);
    }
    if (optind < argc)
        return command_fail(STATUS_USAGE,
                            "measure: '%s' is not understood; see 'twofold measure "
                            "--help'",
                            argv[optind]);
    if (check(&r, &err) < 0)
        return command_fail(STATUS_USAGE, "%s", err.text);
    return measure(&r);
}

const struct command command_measure = {
    .name = "measure",
    .summary = "measure what address translation costs here",
    .help = help,
    .run = run,
};
