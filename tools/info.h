/*
 * What this host offers. Each part asks the host and gives JSON; `twofold info`
 * prints that JSON or text made from it, so that both always say the same.
 */
#ifndef TWOFOLD_TOOLS_INFO_H
#define TWOFOLD_TOOLS_INFO_H

#include <stddef.h>

#include <jansson.h>

/* The host itself: CPU, kernel, whether it is a guest, NUMA, limits (info_host.c). */
json_t *info_host(void);

/* KVM: its back end, limits and the capabilities that we use (info_kvm.c). */
json_t *info_kvm(void);

/* Page sizes, userfaultfd, page tracking (info_memory.c). */
json_t *info_memory(void);

/* IOMMU, VFIO and performance counters (info_memory.c). */
json_t *info_devices(void);

/*
 * Reads the first line of a file into buf, without its newline. Returns buf,
 * which is "" when there is nothing to read.
 */
char *info_line(const char *path, char *buf, size_t size);

/* A number from a file, or -1. */
long long info_number(const char *path);

#endif
