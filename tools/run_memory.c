/*
 * The options of `twofold run` that say how guest memory is populated and placed.
 */
#include "tools/run_memory.h"

#include <errno.h>
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
        memcpy(name, text, length);
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

int run_memory_option(struct vm_config *cfg, int opt, const char *value, struct error *err)
{
    switch (opt) {
    case OPT_POPULATE:
        return parse_populate(&cfg->pages, value, err);
    case OPT_FAULT_AROUND:
        return parse_fault_around(&cfg->pages, value, err);
    case OPT_LOCK:
        cfg->pages.lock = true;
        return 0;
    default:
        return error_set(err, -EINVAL, "option %d is none of memory", opt);
    }
}
