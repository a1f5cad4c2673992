/*
 * The options of `twofold run` that say how guest memory is populated and placed.
 */
#ifndef TWOFOLD_TOOLS_RUN_MEMORY_H
#define TWOFOLD_TOOLS_RUN_MEMORY_H

#include "vmm/vm.h"

/* getopt's values; those of cmd_run.c are below. */
enum {
    OPT_MEMORY_FIRST = 400,
    OPT_POPULATE = OPT_MEMORY_FIRST,
    OPT_FAULT_AROUND,
    OPT_LOCK,
    OPT_NUMA,
    OPT_MEMORY_END, /* one after the last */
};

/* Takes one such option into `cfg`. 0, or -EINVAL with a sentence. */
int run_memory_option(struct vm_config *cfg, int opt, const char *value, struct error *err);

#endif
