/*
 * The tables of "Advanced Configuration and Power Interface Specification 6.4",
 * chapter 5 (ACPI Software Programming Model), written field by field: a table is a
 * byte stream here, so that no compiler's padding comes in.
 */
#include "vmm/acpi.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "vmm/pci.h"
#include "vmm/vm.h"

#include "dsdt.h"

#define AREA_START 0xe0000u
#define AREA_END   0x100000u

#define HEADER_SIZE   36
#define LENGTH_OFFSET 4
#define SUM_OFFSET    9
#define FACS_ALIGN    64

#define IOAPIC_ADDRESS     0xfec00000u
#define LOCAL_APIC_ADDRESS 0xfee00000u

#define FADT_SIZE      276
#define RSDP_SIZE      36
#define RSDP_SUM1_SPAN 20

/* FADT "Flags", table 5.10. */
#define FADT_WBINVD        (1u << 0)
#define FADT_PROC_C1       (1u << 2)
#define FADT_NO_PWR_BUTTON (1u << 4)
#define FADT_NO_SLP_BUTTON (1u << 5)
#define FADT_NO_FIXED_RTC  (1u << 6)
#define FADT_TMR_32        (1u << 8)
#define FADT_RESET_REG     (1u << 10)
#define FADT_HEADLESS      (1u << 12)

/* FADT "IA-PC boot architecture flags", table 5.11: COM1 is there, a VGA and a PS/2 port aren't. */
#define BOOT_LEGACY_DEVICES (1u << 0)
#define BOOT_NO_VGA         (1u << 2)

/* The minimum of the DSDT's 64-bit window as it is compiled. */
#define DSDT_WINDOW_MARKER UINT64_C(0x57494e444f570000)

#define MADT_PCAT_COMPAT (1u << 0) /* two 8259s as well */

/* VIOT: of its head before the nodes, and of these. */
#define VIOT_HEAD  12
#define VIOT_RANGE 24
#define VIOT_IOMMU 16

/* A table being written, in the monitor's memory; room for the largest MADT and VIOT. */
#define TABLE_MAX 1024
_Static_assert(HEADER_SIZE + 8 + VM_CPUS_MAX * 8 + 64 <= TABLE_MAX &&
                   HEADER_SIZE + VIOT_HEAD + VIOT_IOMMU + DEVICES_MAX * VIOT_RANGE <= TABLE_MAX,
               "a table would not fit");

struct table {
    uint8_t bytes[TABLE_MAX];
    size_t len;
};

/* Where the next table goes, in the guest's memory. */
struct area {
    struct memory *mem;
    uint64_t next;
};

static void put(struct table *t, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes && t->len < sizeof(t->bytes); i++)
        t->bytes[t->len++] = i < 8 ? (uint8_t)(value >> (8 * i)) : 0; /* padding beyond */
}

static void put_text(struct table *t, const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        put(t, (uint8_t)text[i], 1);
}

static uint8_t checksum(const uint8_t *bytes, size_t len)
{
    uint8_t sum = 0;

    for (size_t i = 0; i < len; i++)
        sum += bytes[i];
    return (uint8_t)-sum;
}

static void begin(struct table *t, const char *signature, unsigned revision)
{
    *t = (struct table){ 0 };
    put_text(t, signature, 4);
    put(t, 0, 4); /* length: seal() */
    put(t, revision, 1);
    put(t, 0, 1); /* checksum: seal() */
    put_text(t, "TWOFLD", 6);
    put_text(t, "TWOFOLD ", 8);
    put(t, 1, 4);
    put_text(t, "TFLD", 4);
    put(t, 1, 4);
}

static void seal(struct table *t)
{
    for (size_t i = 0; i < 4; i++)
        t->bytes[LENGTH_OFFSET + i] = (uint8_t)(t->len >> (8 * i));
    t->bytes[SUM_OFFSET] = 0;
    t->bytes[SUM_OFFSET] = checksum(t->bytes, t->len);
}

/* Puts bytes at the next address of the area and gives that address; 0 when they don't fit. */
static uint64_t place(struct area *a, const void *bytes, size_t len, size_t align)
{
    uint64_t at = (a->next + align - 1) / align * align;

    if (len > AREA_END - at || memory_write(a->mem, gpa(at), bytes, len) < 0)
        return 0;
    a->next = at + len;
    return at;
}

/* --- tables ----------------------------------------------------------------------- */

/* 5.2.3.2 Generic Address Structure, for a port. */
static void put_port(struct table *t, uint64_t port, unsigned bytes)
{
    put(t, 1, 1); /* system I/O space */
    put(t, 8 * bytes, 1);
    put(t, 0, 1);
    put(t, bytes == 4 ? 3 : bytes, 1); /* access size: 1 byte, 2 word, 3 dword */
    put(t, port, 8);
}

/* 5.2.9 Fixed ACPI Description Table, revision 6.3. */
static void build_fadt(struct table *t, uint64_t facs, uint64_t dsdt)
{
    begin(t, "FACP", 6);
    put(t, facs, 4);
    put(t, dsdt, 4);
    put(t, 0, 2); /* reserved; preferred profile: unspecified */
    put(t, ACPI_SCI_GSI, 2);
    put(t, 0, 8); /* SMI command port: none, so it is in ACPI mode; ... S4, P-state: none */
    put(t, ACPI_PM1_EVENT, 4);
    put(t, 0, 4); /* PM1b event */
    put(t, ACPI_PM1_CONTROL, 4);
    put(t, 0, 4); /* PM1b control */
    put(t, 0, 4); /* PM2 control */
    put(t, ACPI_PM_TIMER, 4);
    put(t, 0, 8);      /* GPE0, GPE1 */
    put(t, 4, 1);      /* PM1 event length */
    put(t, 2, 1);      /* PM1 control length */
    put(t, 0, 1);      /* PM2 control length */
    put(t, 4, 1);      /* PM timer length */
    put(t, 0, 4);      /* GPE lengths, base; C-state control */
    put(t, 0xffff, 2); /* C2 and C3 latency: not supported */
    put(t, 0xffff, 2);
    put(t, 0, 8);    /* cache flush strides; duty; alarms */
    put(t, 0x32, 1); /* CMOS century */
    put(t, BOOT_LEGACY_DEVICES | BOOT_NO_VGA, 2);
    put(t, 0, 1);
    put(t,
        FADT_WBINVD | FADT_PROC_C1 | FADT_NO_PWR_BUTTON | FADT_NO_SLP_BUTTON | FADT_NO_FIXED_RTC |
            FADT_TMR_32 | FADT_RESET_REG | FADT_HEADLESS,
        4);
    put_port(t, ACPI_RESET_PORT, 1);
    put(t, ACPI_RESET_VALUE, 1);
    put(t, 0, 2); /* ARM */
    put(t, 3, 1); /* minor revision */
    put(t, 0, 8); /* the 64-bit FACS address: unused, since the 32-bit one is set */
    put(t, dsdt, 8);
    put_port(t, ACPI_PM1_EVENT, 4);
    put(t, 0, 12);
    put_port(t, ACPI_PM1_CONTROL, 2);
    put(t, 0, 12);
    put(t, 0, 12);
    put_port(t, ACPI_PM_TIMER, 4);
    put(t, 0, 2 * 12); /* GPE0, GPE1 */
    put(t, 0, 2 * 12); /* sleep control and status: hardware-reduced only */
    put(t, 0, 8);      /* hypervisor vendor: none known to kernels */
    seal(t);
}

/* MADT "interrupt source override": ISA interrupt `irq` is `gsi`. */
static void put_override(struct table *t, unsigned irq, unsigned gsi, unsigned flags)
{
    put(t, 2, 1);
    put(t, 10, 1);
    put(t, 0, 1); /* ISA */
    put(t, irq, 1);
    put(t, gsi, 4);
    put(t, flags, 2);
}

/*
 * 5.2.12 Multiple APIC Description Table. ISA interrupts 0-15 are GSIs 0-15, the timer's
 * too: KVM's default routing puts GSI 0 on pin 0, where a PC's board uses pin 2.
 */
static void build_madt(struct table *t, unsigned cpus)
{
    begin(t, "APIC", 5);
    put(t, LOCAL_APIC_ADDRESS, 4);
    put(t, MADT_PCAT_COMPAT, 4);
    for (unsigned cpu = 0; cpu < cpus; cpu++) {
        put(t, 0, 1); /* processor local APIC */
        put(t, 8, 1);
        put(t, cpu, 1); /* ACPI's number */
        put(t, cpu, 1); /* APIC id */
        put(t, 1, 4);   /* enabled */
    }
    put(t, 1, 1); /* I/O APIC */
    put(t, 12, 1);
    put(t, 0, 1); /* id */
    put(t, 0, 1);
    put(t, IOAPIC_ADDRESS, 4);
    put(t, 0, 4);                                        /* first GSI */
    put_override(t, ACPI_SCI_GSI, ACPI_SCI_GSI, 0x000d); /* active high, level */
    put(t, 4, 1);                                        /* local APIC NMI */
    put(t, 6, 1);
    put(t, 0xff, 1); /* all processors */
    put(t, 0, 2);
    put(t, 1, 1); /* LINT1 */
    seal(t);
}

/* "PCI Firmware Specification 3.0", 4.1.2 MCFG Table Description. */
static void build_mcfg(struct table *t)
{
    begin(t, "MCFG", 1);
    put(t, 0, 8);
    put(t, PCI_ECAM_BASE, 8);
    put(t, 0, 2); /* segment */
    put(t, 0, 1); /* first and last bus */
    put(t, PCI_ECAM_SIZE / (256 * PCI_CONFIG) - 1, 1);
    put(t, 0, 4);
    seal(t);
}

/* 5.2.31 Virtual I/O Translation Table: the virtio-iommu, then a range of one endpoint each. An
 * endpoint's number is its requester id. */
static void build_viot(struct table *t, const struct acpi_viot *v)
{
    begin(t, "VIOT", 0);
    put(t, v->endpoints + 1, 2);
    put(t, HEADER_SIZE + VIOT_HEAD, 2);
    put(t, 0, 8);
    put(t, 3, 1); /* virtio-iommu on PCI */
    put(t, 0, 1);
    put(t, VIOT_IOMMU, 2);
    put(t, 0, 2); /* segment */
    put(t, v->iommu, 2);
    put(t, 0, 8);
    for (size_t i = 0; i < v->endpoints; i++) {
        put(t, 1, 1); /* PCI range */
        put(t, 0, 1);
        put(t, VIOT_RANGE, 2);
        put(t, v->endpoint[i], 4); /* the first endpoint's number */
        put(t, 0, 4);              /* first and last segment */
        put(t, v->endpoint[i], 2);
        put(t, v->endpoint[i], 2);
        put(t, HEADER_SIZE + VIOT_HEAD, 2); /* whose output: the node above */
        put(t, 0, 6);
    }
    seal(t);
}

static void build_xsdt(struct table *t, const uint64_t *tables, size_t count)
{
    begin(t, "XSDT", 1);
    for (size_t i = 0; i < count; i++)
        put(t, tables[i], 8);
    seal(t);
}

/* 6.4.3.5.1 QWord Address Space Descriptor: from the minimum on, it has the maximum, the
 * translation and the length. */
static void set_window(uint8_t *minimum, uint64_t base, uint64_t size)
{
    uint64_t field[] = { size ? base : 0, size ? base + size - 1 : 0, 0, size };

    memcpy(minimum, field, sizeof(field));
}

/* Puts the DSDT, with the window above RAM filled in; 0 when it doesn't fit. */
static uint64_t place_dsdt(struct area *a, const struct acpi_config *cfg)
{
    static const uint64_t marker = DSDT_WINDOW_MARKER;
    uint8_t aml[sizeof(dsdt_aml_code)], *minimum;

    memcpy(aml, dsdt_aml_code, sizeof(aml));
    minimum = memmem(aml, sizeof(aml), &marker, sizeof(marker));
    if (!minimum)
        return 0;
    set_window(minimum, cfg->wide_base, cfg->wide_size);
    aml[SUM_OFFSET] = 0;
    aml[SUM_OFFSET] = checksum(aml, sizeof(aml));
    return place(a, aml, sizeof(aml), 16);
}

/* 5.2.10 Firmware ACPI Control Structure; it has no checksum. */
static void build_facs(struct table *t)
{
    *t = (struct table){ 0 };
    put_text(t, "FACS", 4);
    put(t, 64, 4);
    put(t, 0, 24); /* signature, waking vector, global lock, flags, 64-bit vector */
    put(t, 2, 1);
    put(t, 0, 31);
}

/* 5.2.5.3 Root System Description Pointer. */
static void build_rsdp(struct table *t, uint64_t xsdt)
{
    *t = (struct table){ 0 };
    put_text(t, "RSD PTR ", 8);
    put(t, 0, 1);
    put_text(t, "TWOFLD", 6);
    put(t, 2, 1);
    put(t, 0, 4); /* RSDT: none */
    put(t, RSDP_SIZE, 4);
    put(t, xsdt, 8);
    put(t, 0, 4);
    t->bytes[8] = checksum(t->bytes, RSDP_SUM1_SPAN);
    t->bytes[32] = checksum(t->bytes, RSDP_SIZE);
}

/* --- all of them --------------------------------------------------------------------- */

int acpi_build(struct memory *mem, const struct acpi_config *cfg, gpa_t *rsdp, struct error *err)
{
    struct area area = { .mem = mem, .next = AREA_START + FACS_ALIGN };
    struct table t;
    uint64_t facs, dsdt, xsdt, listed[4];
    size_t count = 0;
    bool fits;

    if (cfg->cpus < 1 || cfg->cpus > VM_CPUS_MAX)
        return error_set(err, -EINVAL, "ACPI tables: %u CPUs, but 1 to %d are possible", cfg->cpus,
                         VM_CPUS_MAX);
    build_facs(&t);
    facs = place(&area, t.bytes, t.len, FACS_ALIGN);
    dsdt = place_dsdt(&area, cfg);
    fits = facs && dsdt;
    build_fadt(&t, facs, dsdt);
    listed[count++] = place(&area, t.bytes, t.len, 16);
    build_madt(&t, cfg->cpus);
    listed[count++] = place(&area, t.bytes, t.len, 16);
    build_mcfg(&t);
    listed[count++] = place(&area, t.bytes, t.len, 16);
    if (cfg->viot.present) {
        build_viot(&t, &cfg->viot);
        listed[count++] = place(&area, t.bytes, t.len, 16);
    }
    for (size_t i = 0; i < count; i++)
        fits = fits && listed[i];
    build_xsdt(&t, listed, count);
    xsdt = place(&area, t.bytes, t.len, 16);
    build_rsdp(&t, xsdt);
    if (!fits || !xsdt || memory_write(mem, gpa(AREA_START), t.bytes, t.len) < 0)
        return error_set(err, -ENOSPC,
                         "the ACPI tables don't fit the BIOS area (0x%x-0x%x): give the VM at "
                         "least 1 MiB of memory",
                         AREA_START, AREA_END - 1);
    *rsdp = gpa(AREA_START);
    return 0;
}
