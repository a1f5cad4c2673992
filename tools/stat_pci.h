/* The PCI bus as `twofold stat` prints it. */
#ifndef TWOFOLD_TOOLS_STAT_PCI_H
#define TWOFOLD_TOOLS_STAT_PCI_H

#include <jansson.h>

/* `pci` of the answer; nothing is printed when there is the bridge alone. */
void stat_print_pci(const json_t *pci);

#endif
