#include <string.h>
#include <time.h>

#include "tools/top.h"

static double now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int top_sample_take(struct top_sample *s, struct client *c, unsigned cells, struct error *err)
{
    json_t *stat = NULL, *track = NULL;
    int rc = client_ask(c, "stat", NULL, &stat, err);
    double at = now();

    if (rc == 0)
        rc = client_ask(c, "track", json_pack("{s:i}", "cells", (int)cells), &track, err);
    if (rc < 0) {
        json_decref(stat);
        return rc;
    }
    json_decref(s->before);
    json_decref(s->cells);
    s->before = s->stat;
    s->seconds = s->before ? at - s->at : 0;
    s->at = at;
    s->stat = stat;
    s->cells = json_incref(json_object_get(track, "cells"));
    json_decref(track);
    return 0;
}

void top_sample_free(struct top_sample *s)
{
    json_decref(s->before);
    json_decref(s->stat);
    json_decref(s->cells);
    *s = (struct top_sample){ 0 };
}

double top_number(const json_t *of, const char *path)
{
    while (of && *path) {
        size_t n = strcspn(path, ".");
        char key[64];

        (void)snprintf(key, sizeof(key), "%.*s", (int)n, path);
        of = json_object_get(of, key);
        path += n + (path[n] == '.');
    }
    return of ? json_number_value(of) : 0;
}

static double value_of(const json_t *stat, int cpu, const char *path)
{
    if (cpu >= 0)
        stat = json_array_get(json_object_get(stat, "vcpus"), (size_t)cpu);
    return top_number(stat, path);
}

double top_rate(const struct top_sample *s, int cpu, const char *path)
{
    double seconds = s->before ? s->seconds : top_number(s->stat, "uptime_s");
    double grown = value_of(s->stat, cpu, path) - value_of(s->before, cpu, path);

    return seconds > 0 && grown > 0 ? grown / seconds : 0;
}
