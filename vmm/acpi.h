/*
 * A small set of ACPI tables: RSDP, XSDT, FADT, FACS, MADT, MCFG, DSDT.
 */
#ifndef TWOFOLD_VMM_ACPI_H
#define TWOFOLD_VMM_ACPI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/device_config.h"
#include "vmm/error.h"
#include "vmm/memory.h"

/* The fixed registers, which platform.c serves and the FADT names. */
#define ACPI_PM_BASE     0x600
#define ACPI_PM_PORTS    12
#define ACPI_PM1_EVENT   0x600
#define ACPI_PM1_CONTROL 0x604
#define ACPI_PM_TIMER    0x608
#define ACPI_PM_TIMER_HZ 3579545
#define ACPI_RESET_PORT  0xcf9
#define ACPI_RESET_VALUE 0x06
#define ACPI_SCI_GSI     9

/* SLP_TYP of S5, as the DSDT's _S5 has it: the value that kernels without AML guess. */
#define ACPI_S5_TYPE 0

/* Who stands behind the virtio-iommu, by requester id (bus << 8 | devfn). */
struct acpi_viot {
    bool present; /* there is one */
    uint16_t iommu;
    uint16_t endpoint[DEVICES_MAX];
    size_t endpoints;
};

/* What differs from VM to VM. */
struct acpi_config {
    unsigned cpus;
    uint64_t wide_base, wide_size; /* the PCI bus's window above RAM; size 0: none */
    struct acpi_viot viot;
};

/*
 * Writes the tables into the BIOS area (0xe0000..0xfffff) and gives the RSDP's address. Returns 0
 * or -errno.
 */
int acpi_build(struct memory *mem, const struct acpi_config *cfg, gpa_t *rsdp, struct error *err);

#endif
