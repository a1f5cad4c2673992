/*
 * The options of `twofold run` that add PCI devices.
 */
#ifndef TWOFOLD_TOOLS_RUN_DEVICES_H
#define TWOFOLD_TOOLS_RUN_DEVICES_H

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

#endif
