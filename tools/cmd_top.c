#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "tools/parse.h"
#include "tools/top.h"
#include "vmm/control.h"

static const char help[] =
    "usage: twofold top [--once] [--interval TIME] [NAME]\n"
    "\n"
    "Shows a running VM, again and again: what its vCPUs do, exits by reason, faults, how\n"
    "much of its RAM is present where, and the guest's processes. Without NAME it is the one\n"
    "VM that runs, or there is a list to choose from.\n"
    "\n"
    "  --once         one picture as text: for pipes and scripts\n"
    "  --interval T   time between two pictures (1s; from 100ms to 1h)\n"
    "  -h, --help     this text\n"
    "\n"
    "Keys: q quits, p pauses the VM and lets it go on, up and down scroll the processes, + and\n"
    "- change the interval. NO_COLOR in the environment: without colours.\n"
    "\n"
    "Exit status: 0, also when the VM ends meanwhile; 1 no such VM or no answer; 2 wrong usage.\n";

enum { OPT_ONCE = 256, OPT_INTERVAL };

static const struct option options[] = {
    { "once", no_argument, NULL, OPT_ONCE },
    { "interval", required_argument, NULL, OPT_INTERVAL },
    { "help", no_argument, NULL, 'h' },
    { NULL, 0, NULL, 0 },
};

#define INTERVAL_MIN 0.1
#define INTERVAL_MAX 3600.0
#define ONCE_S       0.25 /* between the two looks that give one picture its rates */
#define ONCE_COLS    100
#define ONCE_ROWS    4200 /* room for all processes there can be */

struct top {
    struct client client;
    struct top_sample sample;
    struct top_frame frame;
    struct top_view view;
    bool ended; /* the VM */
};

static int out_of_memory(struct error *err)
{
    return error_set(err, -ENOMEM, "top: out of memory");
}

/* Takes new numbers. -ECONNRESET: the VM ended, which is no failure. */
static int look(struct top *t, int cols, struct error *err)
{
    int rc = top_sample_take(&t->sample, &t->client, top_cells(cols), err);

    t->ended = rc == -ECONNRESET;
    return rc;
}

static void wait_s(double seconds)
{
    struct timespec t = { .tv_sec = (time_t)seconds,
                          .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9) };

    while (nanosleep(&t, &t) < 0 && errno == EINTR)
        ;
}

static int columns(void)
{
    struct winsize size;

    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 40 ? size.ws_col
                                                                             : ONCE_COLS;
}

/* --- pictures one after the other: once, or on a terminal without a cursor ------------- */

static int print_frames(struct top *t, bool once, struct error *err)
{
    int cols = columns(), rc = look(t, cols, err);

    while (rc == 0) {
        wait_s(once ? ONCE_S : t->view.interval_s);
        rc = look(t, cols, err);
        if (rc < 0)
            break;
        if (!top_frame_size(&t->frame, ONCE_ROWS, cols))
            return out_of_memory(err);
        top_draw(&t->frame, &t->sample, &t->view);
        top_frame_print(&t->frame, stdout);
        if (once)
            break;
        (void)putchar('\n');
        if (fflush(stdout) || ferror(stdout))
            break;
    }
    return rc;
}

/* --- the full screen ------------------------------------------------------------------- */

static int draw(struct top *t, struct error *err)
{
    int rows, cols;

    top_screen_size(&rows, &cols);
    if (!top_frame_size(&t->frame, rows, cols))
        return out_of_memory(err);
    top_draw(&t->frame, &t->sample, &t->view);
    top_screen_show(&t->frame);
    return 0;
}

static void pause_or_resume(struct top *t)
{
    static struct error why;
    const char *state = json_string_value(json_object_get(t->sample.stat, "state"));
    json_t *result = NULL;

    if (client_ask(&t->client, state && !strcmp(state, "paused") ? "resume" : "pause", NULL,
                   &result, &why) < 0)
        t->view.message = why.text;
    json_decref(result);
}

/* False: the person wants to leave. */
static bool act(struct top *t, enum top_key key)
{
    int processes = (int)json_array_size(json_object_get(t->sample.stat, "processes"));
    double *interval = &t->view.interval_s;

    t->view.message = NULL;
    switch (key) {
    case KEY_IS_QUIT:
        return false;
    case KEY_IS_PAUSE:
        pause_or_resume(t);
        break;
    case KEY_IS_UP:
        t->view.scroll -= t->view.scroll > 0;
        break;
    case KEY_IS_DOWN:
        t->view.scroll += t->view.scroll + 1 < processes;
        break;
    case KEY_IS_SLOWER:
        *interval = *interval * 2 > INTERVAL_MAX ? INTERVAL_MAX : *interval * 2;
        break;
    case KEY_IS_FASTER:
        *interval = *interval / 2 < INTERVAL_MIN ? INTERVAL_MIN : *interval / 2;
        break;
    case KEY_IS_NONE:
    case KEY_IS_CHOICE:
    case KEY_IS_RESIZE:
        break;
    }
    return true;
}

static int watch(struct top *t, struct error *err)
{
    bool on = true;
    int rc = 0;

    while (rc == 0 && on) {
        int rows, cols;
        enum top_key key;

        top_screen_size(&rows, &cols);
        rc = look(t, cols, err);
        if (rc == 0)
            rc = draw(t, err);
        if (rc < 0)
            break;
        key = top_screen_key(t->sample.before ? t->view.interval_s : 0.2);
        on = act(t, key);
        /* The same numbers again, until it is time for others. */
        while (rc == 0 && on && (key == KEY_IS_RESIZE || key == KEY_IS_UP || key == KEY_IS_DOWN)) {
            rc = draw(t, err);
            key = top_screen_key(t->view.interval_s);
            on = act(t, key);
        }
    }
    return rc;
}

/* --- which VM --------------------------------------------------------------------------- */

static const char *name_of(const json_t *vms, int i)
{
    return json_string_value(json_object_get(json_array_get(vms, (size_t)i), "name"));
}

/* The one that a person chooses; NULL: none. */
static const char *choose(struct top *t, const json_t *vms)
{
    int chosen = 0, count = (int)json_array_size(vms), rows, cols;

    for (;;) {
        top_screen_size(&rows, &cols);
        if (!top_frame_size(&t->frame, rows, cols))
            return NULL;
        top_draw_menu(&t->frame, vms, chosen);
        top_screen_show(&t->frame);
        switch (top_screen_key(INTERVAL_MAX)) {
        case KEY_IS_QUIT:
            return NULL;
        case KEY_IS_CHOICE:
            return name_of(vms, chosen);
        case KEY_IS_UP:
            chosen -= chosen > 0;
            break;
        case KEY_IS_DOWN:
            chosen += chosen + 1 < count;
            break;
        default:
            break;
        }
    }
}

static int only_one(const json_t *vms, const char **name, struct error *err)
{
    if (json_array_size(vms) == 0)
        return error_set(err, -ENOENT, "top: no VM runs; see 'twofold run --help'");
    if (json_array_size(vms) > 1)
        return error_set(err, -EINVAL, "top: several VMs run: name one of 'twofold ps'");
    *name = name_of(vms, 0);
    return 0;
}

/* --- both --------------------------------------------------------------------------------- */

static int screen(struct top *t, const char *name, const json_t *vms, struct error *err)
{
    int rc = 0;

    if (!top_screen_open())
        return error_set(err, -EIO, "top: the terminal can't be used; try --once");
    if (!name)
        name = choose(t, vms);
    if (name)
        rc = client_open(&t->client, name, CLIENT_TIMEOUT_MS, err);
    if (name && rc == 0)
        rc = watch(t, err);
    top_screen_close();
    if (t->ended)
        (void)printf("%s has ended\n", name);
    return rc;
}

static int show(struct top *t, const char *name, bool once, struct error *err)
{
    bool full = !once && top_screen_able();
    json_t *vms = json_array();
    int rc = name ? 0 : client_vms(vms, err);

    if (rc == 0 && !name && (!full || json_array_size(vms) < 2))
        rc = only_one(vms, &name, err);
    if (rc == 0 && full) {
        rc = screen(t, name, vms, err);
    } else if (rc == 0) {
        rc = client_open(&t->client, name, CLIENT_TIMEOUT_MS, err);
        if (rc == 0)
            rc = print_frames(t, once, err);
    }
    client_close(&t->client);
    top_sample_free(&t->sample);
    top_frame_free(&t->frame);
    json_decref(vms);
    return t->ended && !once ? 0 : rc;
}

static int interval_get(const char *text, double *interval, struct error *err)
{
    int rc = parse_seconds("--interval", text, interval, err);

    if (rc == 0 && (*interval < INTERVAL_MIN || *interval > INTERVAL_MAX))
        rc = error_set(err, -EINVAL, "--interval %s: it is from 100ms to 1h", text);
    return rc;
}

static int run(const struct command *cmd, int argc, char **argv)
{
    struct top t = { .client = { .fd = -1 }, .view = { .interval_s = 1 } };
    struct error err = { .text = "" };
    bool once = false;
    int opt, rc = 0;

    optind = 0;
    while (rc == 0 && (opt = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        if (opt == OPT_ONCE)
            once = true;
        else if (opt == OPT_INTERVAL)
            rc = interval_get(optarg, &t.view.interval_s, &err);
        else if (opt == 'h')
            return command_help(cmd);
        else
            return command_bad_option(cmd, argv, opt);
    }
    if (rc == 0 && argc - optind > 1)
        return command_fail(STATUS_USAGE, "top: name one VM; see 'twofold ps'");
    if (rc == 0 && optind < argc)
        rc = control_name_check(argv[optind], &err);
    if (rc == 0 && !once && (!isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO)))
        return command_fail(STATUS_USAGE, "top: this is no terminal: use --once");
    if (rc == 0)
        rc = show(&t, argv[optind], once, &err);
    return rc < 0 ? command_fail(rc == -EINVAL ? STATUS_USAGE : STATUS_FAILED, "%s", err.text)
                  : STATUS_OK;
}

const struct command command_top = {
    .name = "top",
    .summary = "watch a VM: vCPUs, exits, faults, memory, processes",
    .help = help,
    .run = run,
};
