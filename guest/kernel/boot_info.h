/*
 * What the boot loader told us, copied out of its structures (PVH's
 * hvm_start_info) before anything may overwrite them; and the command line.
 */
#ifndef GUEST_KERNEL_BOOT_INFO_H
#define GUEST_KERNEL_BOOT_INFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/kernel/layout.h"

#define BOOT_MAX_RANGES 32

enum { MEM_RAM = 1, MEM_RESERVED = 2, MEM_ACPI = 3, MEM_NVS = 4, MEM_UNUSABLE = 5 };

struct mem_range {
    uint64_t start, end; /* end is exclusive */
    uint32_t type;       /* MEM_* */
};

struct boot_info {
    struct mem_range memory[BOOT_MAX_RANGES]; /* as the loader gave it */
    unsigned n_memory;
    uint64_t ram_bytes;                /* usable, in all */
    uint64_t initrd_start, initrd_end; /* gpa; the loader's module, else the built-in one */
    bool initrd_builtin;
    uint64_t rsdp;
    char cmdline[2048];
    unsigned n_cpus;                  /* CPUs in the MADT, at most MAX_CPUS */
    uint32_t cpu_apic_ids[MAX_CPUS];  /* [0] is the boot CPU */
    uint64_t lapic_base, ioapic_base; /* gpa */
    uint32_t irq_gsi[16];             /* IOAPIC input of each ISA interrupt */
};
extern struct boot_info boot_info;

void boot_info_read(uint64_t start_info_gpa);
void acpi_read(void); /* fills the part from n_cpus on */

/*
 * The first ACPI table with this signature of four letters, header and all, which lies in memory as
 * a whole; *length is its length, not less than the header's 36 bytes. NULL: there is none.
 */
const void *acpi_table(const char *signature, uint32_t *length);

/*
 * The command line: words key=value are kernel options until the first word without
 * '='; that one is the program, and the rest its arguments.
 */

/*
 * Reads a decimal number above 0: the whole string, or the value of an option, where *value stays
 * as it is without that option. False when it is anything else; for an option, with a line that
 * says so.
 */
bool parse_number(const char *s, uint64_t *value);
bool cmdline_number(const char *key, uint64_t *value);

/* Copies the value of an option (cut to size - 1); false when it is not given. */
bool cmdline_option(const char *key, char *value, size_t size);

/* The program and its arguments, "" when there is none. */
const char *cmdline_program(void);

/* One warning line for each option that nobody knows. */
void cmdline_warn_unknown(void);

#endif
