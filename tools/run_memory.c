/*
 * The options of `twofold run` that say how guest memory is populated and placed.
 */
#include "tools/run_memory.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tools/parse.h"

/* "lazy", or "eager:0-64M". */
static int parse_populate(struct pages_config *cfg, const char *text, struct error *err)
{
    const char *colon = strchr(text, ':');
    char name[16] = "";
    size_t length = colon ? (size_t)(colon - text) : strlen(text);
    struct populate_range *range = &cfg->range[cfg->ranges];
    enum populate policy;
    int rc;

    if (length < sizeof(name))
        (void)snprintf(name, sizeof(name), "%.*s", (int)length, text);
    rc = populate_parse(name, &policy, err);
    if (rc < 0)
        return error_set(err, rc, "--populate: '%s' is none; use kernel, lazy or eager, and :RANGE",
                         text);
    if (!colon) {
        cfg->populate = policy;
        return 0;
    }
    if (cfg->ranges == POPULATE_RANGES_MAX)
        return error_set(err, -EINVAL, "--populate: more than %d ranges", POPULATE_RANGES_MAX);
    rc = parse_range("--populate", colon + 1, &range->base.v, &range->size, err);
    if (rc < 0)
        return rc;
    range->policy = policy;
    cfg->ranges++;
    return 0;
}

static int parse_fault_around(struct pages_config *cfg, const char *text, struct error *err)
{
    uint64_t bytes;
    int rc = parse_size("--fault-around", text, &bytes, err);

    if (rc < 0)
        return rc;
    if (bytes < PAGE_SIZE_4K || bytes > PAGE_SIZE_2M || (bytes & (bytes - 1)))
        return error_set(err, -EINVAL,
                         "--fault-around: '%s' does not do; give a power of two from 4K to 2M",
                         text);
    cfg->fault_around = bytes;
    return 0;
}

/* "interleave:0-1", or "bind:0=0-512M". */
static int parse_numa(struct numa_config *cfg, const char *text, struct error *err)
{
    const char *range = strchr(text, '=');
    size_t length = range ? (size_t)(range - text) : strlen(text);
    struct numa_place *place = &cfg->place[cfg->places];
    char what[128];
    int rc;

    if (cfg->places == NUMA_PLACES_MAX)
        return error_set(err, -EINVAL, "--numa: more than %d of it", NUMA_PLACES_MAX);
    if (length >= sizeof(what))
        return error_set(err, -EINVAL, "--numa: '%.40s...' is too long", text);
    memcpy(what, text, length);
    what[length] = '\0';
    *place = (struct numa_place){ .size = 0 };
    rc = numa_parse(what, place, err);
    if (rc == 0 && range)
        rc = parse_range("--numa", range + 1, &place->base.v, &place->size, err);
    if (rc == 0)
        cfg->places++;
    return rc;
}

int run_memory_option(struct vm_config *cfg, int opt, const char *value, struct error *err)
{
    switch (opt) {
    case OPT_POPULATE:
        return parse_populate(&cfg->pages, value, err);
    case OPT_FAULT_AROUND:
        return parse_fault_around(&cfg->pages, value, err);
    case OPT_NUMA:
        return parse_numa(&cfg->numa, value, err);
    case OPT_LOCK:
        cfg->pages.lock = true;
        return 0;
    default:
        return error_set(err, -EINVAL, "option %d is none of memory", opt);
    }
}
