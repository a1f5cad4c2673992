/* The MADT, for the CPUs, the APICs' places and ISA interrupt 4's input. */
#include "guest/kernel/boot_info.h"

#include "guest/kernel/cpu.h"
#include "guest/kernel/mm.h"
#include "guest/kernel/printk.h"
#include "guest/kernel/string.h"

#define BIOS_AREA     0xe0000
#define BIOS_AREA_END 0x100000
#define ENABLED       1u

struct rsdp {
    char signature[8];
    uint8_t checksum;
    char oem[6];
    uint8_t revision;
    uint32_t rsdt;
    uint32_t length;
    uint64_t xsdt;
} __attribute__((packed));

struct table {
    char signature[4];
    uint32_t length;
    uint8_t rest[28];
} __attribute__((packed));

struct madt {
    struct table header;
    uint32_t lapic;
    uint32_t flags;
    uint8_t entries[];
} __attribute__((packed));

/* ACPI 6.4, 5.2.12 "Multiple APIC Description Table (MADT)": entries by type. */
enum { LOCAL_APIC = 0, IO_APIC = 1, OVERRIDE = 2, LAPIC_ADDRESS = 5, LOCAL_X2APIC = 9 };

static uint32_t get32(const uint8_t *p)
{
    uint32_t v;

    __builtin_memcpy(&v, p, sizeof(v));
    return v;
}

static uint64_t get64(const uint8_t *p)
{
    return get32(p) | (uint64_t)get32(p + 4) << 32;
}

static void add_cpu(uint32_t id, uint32_t flags)
{
    if (!(flags & ENABLED) || id == boot_info.cpu_apic_ids[0])
        return;
    if (id > 254 || boot_info.n_cpus == MAX_CPUS) {
        printk("kernel: CPU with APIC id %u is not used\n", id);
        return;
    }
    boot_info.cpu_apic_ids[boot_info.n_cpus++] = id;
}

static void read_entry(const uint8_t *e, unsigned len)
{
    if (e[0] == LOCAL_APIC && len >= 8)
        add_cpu(e[3], get32(e + 4));
    else if (e[0] == LOCAL_X2APIC && len >= 16)
        add_cpu(get32(e + 4), get32(e + 8));
    else if (e[0] == IO_APIC && len >= 12 && get32(e + 8) == 0)
        boot_info.ioapic_base = get32(e + 4);
    else if (e[0] == OVERRIDE && len >= 10 && e[3] < 16 && get32(e + 4) < 24)
        boot_info.irq_gsi[e[3]] = get32(e + 4);
    else if (e[0] == LAPIC_ADDRESS && len >= 12)
        boot_info.lapic_base = get64(e + 4);
}

static void read_madt(const struct madt *m)
{
    const uint8_t *e = m->entries, *end = (const uint8_t *)m + m->header.length;

    boot_info.lapic_base = m->lapic;
    while (end - e >= 2 && e[1] >= 2 && e[1] <= end - e) {
        read_entry(e, e[1]);
        e += e[1];
    }
}

/* A table that lies in memory that the direct map can reach, as a whole; or NULL. */
static const struct table *table_at(uint64_t gpa)
{
    const struct table *t = phys_to_virt(gpa);

    if (!gpa || !direct_map_need(gpa, sizeof(*t)) || t->length < sizeof(*t) ||
        !direct_map_need(gpa, t->length))
        return NULL;
    return t;
}

/* The RSDP: where the loader said, else in the BIOS area (ACPI 6.4, 5.2.5.1). */
static const struct rsdp *find_rsdp(void)
{
    if (boot_info.rsdp && direct_map_need(boot_info.rsdp, sizeof(struct rsdp)))
        return phys_to_virt(boot_info.rsdp);
    for (uint64_t gpa = BIOS_AREA; gpa < BIOS_AREA_END; gpa += 16) {
        const struct rsdp *r = phys_to_virt(gpa);

        if (memcmp(r->signature, "RSD PTR ", 8) == 0)
            return r;
    }
    return NULL;
}

const void *acpi_table(const char *signature, uint32_t *length)
{
    const struct rsdp *r = find_rsdp();
    unsigned width = r && r->revision >= 2 && r->xsdt ? 8 : 4;
    const struct table *root;

    if (!r)
        return NULL;
    root = table_at(width == 8 ? r->xsdt : r->rsdt);
    if (!root)
        return NULL;
    for (uint32_t at = sizeof(struct table); at + width <= root->length; at += width) {
        const uint8_t *p = (const uint8_t *)root + at;
        const struct table *t = table_at(width == 8 ? get64(p) : get32(p));

        if (t && memcmp(t->signature, signature, 4) == 0) {
            *length = t->length;
            return t;
        }
    }
    return NULL;
}

void acpi_read(void)
{
    const struct madt *m;
    uint32_t length;

    for (unsigned i = 0; i < 16; i++)
        boot_info.irq_gsi[i] = i;
    boot_info.lapic_base = 0xfee00000;
    boot_info.cpu_apic_ids[0] = cpuid(1, 0).ebx >> 24;
    boot_info.n_cpus = 1;
    m = acpi_table("APIC", &length);
    if (m && length >= sizeof(*m))
        read_madt(m);
    else
        printk("kernel: no ACPI MADT: one CPU, no console input\n");
}
