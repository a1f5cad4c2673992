/*
 * On which NUMA nodes guest memory is: placement by libnuma, and where it really went.
 */
#ifndef TWOFOLD_VMM_NUMA_H
#define TWOFOLD_VMM_NUMA_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/error.h"
#include "vmm/memory.h"

#define NUMA_NODES_MAX  64
#define NUMA_PLACES_MAX 16

enum numa_policy {
    NUMA_LOCAL,      /* of the CPU that touches a page first */
    NUMA_BIND,       /* these nodes and no others */
    NUMA_INTERLEAVE, /* page by page over these nodes */
    NUMA_PREFERRED,  /* this node as long as it has room */
};

/* What one --numa says. */
struct numa_place {
    enum numa_policy policy;
    uint64_t nodes; /* a bit each; 0 for NUMA_LOCAL only */
    gpa_t base;
    uint64_t size; /* 0: all of RAM */
};

struct numa_config {
    struct numa_place place[NUMA_PLACES_MAX]; /* later ones win where they overlap */
    size_t places;
};

/*
 * "local", "bind:0,2-3", "interleave:0-1", "preferred:1": policy and nodes; the rest of *out is
 * left alone. -EINVAL with a sentence when it is none of them. Whether the nodes exist is for
 * numa_place() to say.
 */
int numa_parse(const char *text, struct numa_place *out, struct error *err);

/*
 * Places RAM that nobody has touched yet. -EINVAL: a node that isn't there, with those that are;
 * a range that isn't RAM; -ENOTSUP: the kernel knows no NUMA; -ENOMEM: too few huge pages there;
 * -ENOSYS: libnuma, which is loaded here, isn't installed or finds no NUMA.
 */
int numa_place(struct memory *mem, const struct numa_config *cfg, struct error *err);

/* The nodes with memory that this process may use, a bit each; 0: the kernel knows no NUMA. */
uint64_t numa_nodes(void);

/* "0 and 2-3". Returns buf. */
char *numa_nodes_name(uint64_t nodes, char *buf, size_t size);

/*
 * Bytes of RAM that are mapped, by node, from /proc/self/numa_maps: counted by the kernel, some
 * ms a GiB of small pages. 0, or -errno.
 */
int numa_usage(const struct memory *mem, uint64_t bytes[NUMA_NODES_MAX]);

#endif
