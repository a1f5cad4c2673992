/*
 * Names of PCI ids, by libpci and its list (package pci.ids), which are loaded when they are there.
 */
#ifndef TWOFOLD_TOOLS_HOST_NAMES_H
#define TWOFOLD_TOOLS_HOST_NAMES_H

#include <stddef.h>

struct host_names;

/* NULL without libpci, or when memory is out: host_name() then gives numbers. */
struct host_names *host_names_open(void);
void host_names_close(struct host_names *n);

/* "Intel Corporation Ethernet Controller", or "class 0200" when nobody knows it. Returns buf. */
char *host_name(struct host_names *n, unsigned vendor, unsigned device, unsigned class_code,
                char *buf, size_t size);

#endif
