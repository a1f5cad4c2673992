/*
 * `twofold stat --pages`: the pages of a VM by state and size, what is accessed and dirty.
 */
#ifndef TWOFOLD_TOOLS_STAT_PAGES_H
#define TWOFOLD_TOOLS_STAT_PAGES_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "tools/command.h"

struct stat_pages_options {
    const char *name;
    const char *track;   /* "accessed", "dirty", both with a comma, "off"; NULL: as it is */
    double interval_s;   /* clear, wait that long, show; 0: show */
    uint64_t base, size; /* a range of gpa; size 0: all of RAM */
    bool json;
};

/* One line: the bytes on each NUMA node. */
void stat_print_nodes(const json_t *nodes);

/* Asks and prints. Returns the exit status. */
int stat_pages(const struct stat_pages_options *o);

#endif
