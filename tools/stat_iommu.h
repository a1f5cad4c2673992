/* The counters of a VM's IOMMU as `twofold stat` and `twofold iommu` print them. */
#ifndef TWOFOLD_TOOLS_STAT_IOMMU_H
#define TWOFOLD_TOOLS_STAT_IOMMU_H

#include <jansson.h>

/* `iommu` of the answer to `stat`; nothing is printed for NULL. */
void stat_print_iommu(const json_t *counters);

#endif
