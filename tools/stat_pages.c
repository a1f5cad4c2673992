#include "tools/stat_pages.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/client.h"
#include "tools/table.h"
#include "vmm/control_command.h"

/* Taking many GiB of small pages out of the way takes its time. */
#define TIMEOUT_MS 60000
#define STRIP      64

static uint64_t number(const json_t *object, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

static const char *text(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));

    return s ? s : "";
}

static bool is(const json_t *object, const char *key)
{
    return json_is_true(json_object_get(object, key));
}

/* --- the text -------------------------------------------------------------------------- */

static void print_states(const json_t *r)
{
    struct table *t = table_create("STATE >BYTES >4K >2M >1G");
    const json_t *present = json_object_get(r, "present");
    const char *state;
    json_t *bytes;
    char buf[32];

    json_object_foreach(json_object_get(r, "states"), state, bytes)
    {
        uint64_t n = (uint64_t)json_integer_value(bytes);
        bool sized = !strcmp(state, "present");

        if (!n && !sized)
            continue;
        table_cell(t, "%s", state);
        table_cell(t, "%s", format_bytes(n, buf, sizeof(buf)));
        for (int i = 0; i < 3; i++) {
            static const char *const sizes[] = { "4K", "2M", "1G" };

            table_cell(t, "%s",
                       sized ? format_bytes(number(present, sizes[i]), buf, sizeof(buf)) : "-");
        }
    }
    table_print(t, "  ", stdout);
    (void)printf("  seen by   %s\n", text(json_object_get(r, "look"), "method"));
}

static void print_ranges(const json_t *r)
{
    static const char *const states[] = { "present", "zero", "untouched" };
    struct table *t =
        table_create("RANGE >SIZE POPULATE MANAGED >PRESENT >ZERO >UNTOUCHED >ACCESSED >DIRTY");
    bool accessed = is(json_object_get(r, "accessed"), "on");
    bool dirty = is(json_object_get(r, "dirty"), "on");
    const json_t *range;
    char buf[32];
    size_t i;

    json_array_foreach(json_object_get(r, "ranges"), i, range)
    {
        uint64_t base = strtoull(text(range, "base"), NULL, 16), size = number(range, "size");

        table_cell(t, "0x%" PRIx64 "-0x%" PRIx64, base, base + size);
        table_cell(t, "%s", format_bytes(size, buf, sizeof(buf)));
        table_cell(t, "%s", text(range, "populate"));
        table_cell(t, "%s", is(range, "managed") ? "yes" : "by the kernel");
        for (size_t s = 0; s < sizeof(states) / sizeof(states[0]); s++)
            table_cell(t, "%s",
                       format_bytes(number(json_object_get(range, "states"), states[s]), buf,
                                    sizeof(buf)));
        table_cell(t, "%s",
                   accessed ? format_bytes(number(range, "accessed_bytes"), buf, sizeof(buf))
                            : "-");
        table_cell(t, "%s",
                   dirty ? format_bytes(number(range, "dirty_bytes"), buf, sizeof(buf)) : "-");
    }
    (void)printf("\n");
    table_print(t, "  ", stdout);
}

static void print_tracked(const json_t *r)
{
    const json_t *accessed = json_object_get(r, "accessed"), *dirty = json_object_get(r, "dirty");
    bool a = is(accessed, "on"), d = is(dirty, "on");
    char buf[32], kept[32], time[32];

    (void)printf("\n");
    if (a || d)
        (void)format_seconds(json_number_value(json_object_get(r, "seconds")), time, sizeof(time));
    if (a)
        (void)printf("  accessed  %s in %s: %s\n",
                     format_bytes(number(accessed, "bytes"), buf, sizeof(buf)), time,
                     text(accessed, "method"));
    else
        (void)printf("  accessed  not tracked: --track accessed\n");
    if (a && number(accessed, "kept_bytes"))
        (void)printf("            %s could not be taken out of the way and seem idle\n",
                     format_bytes(number(accessed, "kept_bytes"), kept, sizeof(kept)));
    if (d)
        (void)printf("  dirty     %s in %s: %s\n",
                     format_bytes(number(dirty, "bytes"), buf, sizeof(buf)), time,
                     text(dirty, "method"));
    else
        (void)printf("  dirty     not tracked: --track dirty\n");
}

void stat_print_nodes(const json_t *nodes)
{
    const json_t *node;
    char buf[32];
    size_t i;

    (void)printf("  nodes     ");
    if (!json_is_array(nodes))
        (void)printf("this kernel tells none");
    json_array_foreach(nodes, i, node)
    {
        (void)printf("%snode %" JSON_INTEGER_FORMAT ": %s", i ? ", " : "",
                     json_integer_value(json_object_get(node, "node")),
                     format_bytes(number(node, "bytes"), buf, sizeof(buf)));
    }
    (void)printf("%s\n", json_array_size(nodes) == 1 ? " (this host has one node)" : "");
}

/* One character a cell: nothing, tenths, all. */
static void print_strip(const char *name, const json_t *cells, const json_t *r)
{
    uint64_t unit = number(json_object_get(r, "cells"), "unit"), left = number(r, "bytes");
    const json_t *cell;
    size_t i;

    (void)printf("  %-8s  |", name);
    json_array_foreach(cells, i, cell)
    {
        uint64_t n = (uint64_t)json_integer_value(cell), all = left < unit ? left : unit;
        uint64_t tenth = all ? n * 10 / all : 0;

        (void)putchar(n == 0 ? '.' : n >= all ? '#' : tenth == 0 ? '+' : (char)('0' + tenth));
        left -= all;
    }
    (void)printf("|\n");
}

static void print_strips(const json_t *r)
{
    const json_t *cells = json_object_get(r, "cells");
    char buf[32];

    (void)printf("\n  each character is %s: . none, + less than a tenth, 1-9 tenths, # all\n",
                 format_bytes(number(cells, "unit"), buf, sizeof(buf)));
    print_strip("present", json_object_get(cells, "present"), r);
    if (is(json_object_get(r, "accessed"), "on"))
        print_strip("accessed", json_object_get(cells, "accessed"), r);
    if (is(json_object_get(r, "dirty"), "on"))
        print_strip("dirty", json_object_get(cells, "dirty"), r);
}

static void print_view(const struct stat_pages_options *o, const json_t *r)
{
    char buf[32];

    (void)printf("%s: pages of %s from %s on\n", o->name,
                 format_bytes(number(r, "bytes"), buf, sizeof(buf)), text(r, "base"));
    print_states(r);
    print_ranges(r);
    print_tracked(r);
    stat_print_nodes(json_object_get(r, "nodes"));
    print_strips(r);
}

/* --- asking ------------------------------------------------------------------------------- */

static json_t *request(const struct stat_pages_options *o, bool clear, const char *track)
{
    json_t *arguments = json_pack("{s:b, s:i}", "clear", clear, "cells", STRIP);

    if (track)
        (void)json_object_set_new(arguments, "what", control_text(track));
    if (o->size) {
        (void)json_object_set_new(arguments, "base", json_sprintf("0x%" PRIx64, o->base));
        (void)json_object_set_new(arguments, "size", json_sprintf("0x%" PRIx64, o->size));
    }
    return arguments;
}

static void wait_for(double seconds)
{
    struct timespec left = { .tv_sec = (time_t)seconds,
                             .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9) };

    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        continue;
}

/* Clears and waits. */
static int interval(struct client *c, const struct stat_pages_options *o, struct error *err)
{
    json_t *r = NULL;
    bool on;
    int rc = client_ask(c, "track", request(o, true, o->track), &r, err);

    if (rc < 0)
        return rc;
    on = is(json_object_get(r, "accessed"), "on") || is(json_object_get(r, "dirty"), "on");
    json_decref(r);
    if (!on)
        return error_set(err, -EINVAL,
                         "VM '%s': nothing is tracked over --interval: add --track accessed,dirty",
                         o->name);
    wait_for(o->interval_s);
    return 0;
}

int stat_pages(const struct stat_pages_options *o)
{
    struct client c;
    struct error err;
    json_t *r = NULL;
    int rc = client_open(&c, o->name, TIMEOUT_MS, &err);

    if (rc == 0 && o->interval_s > 0)
        rc = interval(&c, o, &err);
    if (rc == 0)
        rc = client_ask(&c, "track", request(o, false, o->interval_s > 0 ? NULL : o->track), &r,
                        &err);
    client_close(&c);
    if (rc < 0)
        return command_fail(rc == -EINVAL ? STATUS_USAGE : STATUS_FAILED, "%s", err.text);
    if (o->json)
        client_print_json(r);
    else
        print_view(o, r);
    json_decref(r);
    return STATUS_OK;
}
