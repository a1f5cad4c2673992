/*
 * A small set of ACPI tables: RSDP, XSDT, FADT, MADT, DSDT.
 */
#ifndef TWOFOLD_VMM_ACPI_H
#define TWOFOLD_VMM_ACPI_H

#include "vmm/error.h"
#include "vmm/memory.h"

/*
 * Writes the tables for `cpus` CPUs into the BIOS area (0xe0000..0xfffff) and
 * gives the RSDP's address. Returns 0 or -errno.
 */
int acpi_build(struct memory *mem, unsigned cpus, gpa_t *rsdp, struct error *err);

#endif
