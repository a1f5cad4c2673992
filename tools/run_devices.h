/*
 * The options of `twofold run` that add PCI devices.
 */
#ifndef TWOFOLD_TOOLS_RUN_DEVICES_H
#define TWOFOLD_TOOLS_RUN_DEVICES_H

#include <signal.h>
#include <stdbool.h>

#include "tools/bind.h"
#include "vmm/device_config.h"
#include "vmm/error.h"

enum {
    OPT_DISK = 700,
    OPT_RNG,
    OPT_EDU,
    OPT_IOMMU,
    OPT_VFIO,
};

/* Sets what one of these options says; parts of `value` are cut out of it (commas become NUL), and
 * it has to stay. 0, -ENOENT: not one of these; -EINVAL with a sentence. */
int run_devices_option(struct devices_config *cfg, int opt, char *value, struct error *err);

/* Host devices that a VM has for its time. */
struct run_taken {
    struct binding binding[DEVICES_MAX];
    size_t count;
    bool blocked;
    sigset_t mask; /* before signals that end the program were blocked */
};

/*
 * Takes the devices of --vfio from their drivers, all or none, and blocks the signals that end the
 * program until they are given back. 0, or -errno with a sentence and nothing taken.
 */
int run_devices_take(struct run_taken *taken, const struct devices_config *cfg, struct error *err);

/* To their drivers; the VM is gone. Fine also if nothing was taken. */
int run_devices_give_back(struct run_taken *taken, struct error *err);

#endif
