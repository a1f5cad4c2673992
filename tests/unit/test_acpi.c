/* The ACPI tables: found as a kernel finds them, and taken apart by iasl. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/acpi.h"
#include "vmm/pci.h"
#include "vmm/vm.h"

static struct {
    struct memory *mem;
    gpa_t rsdp;
} t;

static const uint8_t *at(uint64_t where, uint64_t len)
{
    const uint8_t *p = memory_at(t.mem, gpa(where), len);

    assert_non_null(p);
    return p;
}

static uint64_t number(const uint8_t *p, size_t bytes)
{
    uint64_t value = 0;

    memcpy(&value, p, bytes);
    return value;
}

static uint8_t sum(const uint8_t *p, size_t len)
{
    uint8_t total = 0;

    while (len--)
        total += *p++;
    return total;
}

/* A table at `where`, checked for its checksum and that it lies in the BIOS area. */
static const uint8_t *table(uint64_t where, const char *signature)
{
    const uint8_t *p = at(where, 36);
    uint64_t len = number(p + 4, 4);

    assert_in_range(where, 0xe0000, 0xfffff);
    assert_in_range(where + len, 0xe0000, 0x100000);
    assert_memory_equal(p, signature, 4);
    assert_int_equal(sum(at(where, len), len), 0);
    return p;
}

static const uint8_t *xsdt(void)
{
    const uint8_t *rsdp = at(t.rsdp.v, 36);

    assert_int_equal(t.rsdp.v % 16, 0);
    assert_memory_equal(rsdp, "RSD PTR ", 8);
    assert_int_equal(rsdp[15], 2);
    assert_int_equal(sum(rsdp, 20), 0);
    assert_int_equal(number(rsdp + 20, 4), 36);
    assert_int_equal(sum(rsdp, 36), 0);
    return table(number(rsdp + 24, 8), "XSDT");
}

/* The address of the table of the XSDT with this signature. */
static uint64_t find(const char *signature)
{
    const uint8_t *list = xsdt();
    uint64_t tables = (number(list + 4, 4) - 36) / 8;

    for (uint64_t i = 0; i < tables; i++) {
        uint64_t where = number(list + 36 + 8 * i, 8);

        if (memcmp(at(where, 4), signature, 4) == 0)
            return where;
    }
    fail_msg("no %s", signature);
    return 0;
}

/* Where twofold puts it on a CPU of 46 bits. */
#define WIDE_BASE UINT64_C(0x1f0000000000)
#define WIDE_SIZE UINT64_C(0x010000000000)

static void build(unsigned cpus)
{
    struct acpi_config cfg = { .cpus = cpus, .wide_base = WIDE_BASE, .wide_size = WIDE_SIZE };

    memory_destroy(t.mem);
    t.mem = NULL;
    assert_int_equal(memory_create(&t.mem, 1 << 20, MEM_ANON, NULL), 0);
    assert_int_equal(acpi_build(t.mem, &cfg, &t.rsdp, NULL), 0);
}

static int build_small(unsigned cpus, struct error *err)
{
    struct acpi_config cfg = { .cpus = cpus };

    return acpi_build(t.mem, &cfg, &t.rsdp, err);
}

static int stop(void **state)
{
    (void)state;
    memory_destroy(t.mem);
    t.mem = NULL;
    return 0;
}

static void every_table_has_its_checksum(void **state)
{
    (void)state;
    build(2);
    table(find("FACP"), "FACP");
    table(find("APIC"), "APIC");
    table(find("MCFG"), "MCFG");
}

static void fadt_names_the_registers(void **state)
{
    const uint8_t *fadt, *facs;

    (void)state;
    build(1);
    fadt = table(find("FACP"), "FACP");
    assert_int_equal(number(fadt + 4, 4), 276);
    assert_int_equal(number(fadt + 46, 2), ACPI_SCI_GSI);
    assert_int_equal(number(fadt + 48, 4), 0); /* no SMI command port: in ACPI mode */
    assert_int_equal(number(fadt + 56, 4), 0x600);
    assert_int_equal(number(fadt + 64, 4), 0x604);
    assert_int_equal(number(fadt + 76, 4), 0x608);
    assert_int_equal(fadt[88], 4);
    assert_int_equal(fadt[89], 2);
    assert_int_equal(fadt[91], 4);
    assert_int_equal(fadt[108], 0x32);
    assert_int_equal(number(fadt + 112, 4) & 1u << 20, 0); /* not hardware-reduced */
    assert_int_equal(fadt[116], 1);                        /* reset register: I/O space */
    assert_int_equal(number(fadt + 120, 8), 0xcf9);
    assert_int_equal(fadt[128], 6);
    /* The 64-bit addresses agree with the 32-bit ones. */
    assert_int_equal(number(fadt + 140, 8), number(fadt + 40, 4));
    assert_int_equal(number(fadt + 152, 8), 0x600);
    assert_int_equal(number(fadt + 176, 8), 0x604);
    assert_int_equal(number(fadt + 212, 8), 0x608);
    table(number(fadt + 40, 4), "DSDT");
    facs = at(number(fadt + 36, 4), 64);
    assert_int_equal(number(fadt + 36, 4) % 64, 0);
    assert_memory_equal(facs, "FACS", 4);
    assert_int_equal(number(facs + 4, 4), 64);
}

/* Walks the MADT's entries by their lengths, and counts each kind. */
static void check_madt(unsigned cpus)
{
    unsigned lapics = 0, ioapics = 0, overrides = 0;
    const uint8_t *madt, *p, *end;

    build(cpus);
    madt = table(find("APIC"), "APIC");
    end = madt + number(madt + 4, 4);
    assert_int_equal(number(madt + 36, 4), 0xfee00000);
    for (p = madt + 44; p < end; p += p[1]) {
        assert_true(p[1] >= 6);
        if (p[0] == 0) {
            assert_int_equal(p[3], lapics);
            assert_int_equal(number(p + 4, 4), 1);
            lapics++;
        } else if (p[0] == 1) {
            assert_int_equal(number(p + 4, 4), 0xfec00000);
            ioapics++;
        } else if (p[0] == 2) {
            assert_int_equal(p[3], ACPI_SCI_GSI);
            assert_int_equal(number(p + 4, 4), ACPI_SCI_GSI);
            overrides++;
        }
    }
    assert_ptr_equal(p, end);
    assert_int_equal(lapics, cpus);
    assert_int_equal(ioapics, 1);
    assert_int_equal(overrides, 1);
}

static void madt_lists_the_cpus(void **state)
{
    (void)state;
    check_madt(1);
    check_madt(2);
    check_madt(VM_CPUS_MAX);
}

static void mcfg_names_the_config_space(void **state)
{
    const uint8_t *mcfg;

    (void)state;
    build(1);
    mcfg = table(find("MCFG"), "MCFG");
    assert_int_equal(number(mcfg + 4, 4), 60);
    assert_int_equal(number(mcfg + 44, 8), PCI_ECAM_BASE);
    assert_int_equal(number(mcfg + 52, 2), 0);
    assert_int_equal(mcfg[54], 0);
    assert_int_equal(mcfg[55], 0); /* one bus: a MiB */
}

/* Its nodes by their lengths: the IOMMU, and a range for each endpoint that refers to it. */
static void viot_names_the_endpoints(void **state)
{
    struct acpi_config cfg = {
        .cpus = 1,
        .viot = { .present = true, .iommu = 8, .endpoint = { 16, 24, 40 }, .endpoints = 3 },
    };
    const uint8_t *viot, *p;

    (void)state;
    build(1);
    assert_int_equal(acpi_build(t.mem, &cfg, &t.rsdp, NULL), 0);
    viot = table(find("VIOT"), "VIOT");
    assert_int_equal(number(viot + 36, 2), 4);
    p = viot + number(viot + 38, 2);
    assert_true(p[0] == 3 && number(p + 4, 2) == 0 && number(p + 6, 2) == 8);
    for (unsigned i = 0; i < 3; i++) {
        p += number(p + 2, 2);
        assert_int_equal(p[0], 1);
        assert_int_equal(number(p + 4, 4), cfg.viot.endpoint[i]);
        assert_int_equal(number(p + 8, 4), 0);
        assert_int_equal(number(p + 12, 2), cfg.viot.endpoint[i]);
        assert_int_equal(number(p + 14, 2), cfg.viot.endpoint[i]);
        assert_int_equal(number(p + 16, 2), number(viot + 38, 2));
    }
    assert_ptr_equal(p + number(p + 2, 2), viot + number(viot + 4, 4));
    cfg.viot.endpoints = DEVICES_MAX;
    assert_int_equal(acpi_build(t.mem, &cfg, &t.rsdp, NULL), 0);
    assert_int_equal(number(table(find("VIOT"), "VIOT") + 4, 4), 48 + 16 + 24 * DEVICES_MAX);
}

/* The address space descriptor of the DSDT (tag, length) whose minimum, of `bytes` bytes, is
 * this; what follows the minimum is checked. */
static void has_window(uint8_t tag, unsigned bytes, uint64_t base, uint64_t size)
{
    const uint8_t *fadt = table(find("FACP"), "FACP");
    const uint8_t *p = table(number(fadt + 40, 4), "DSDT"), *end = p + number(p + 4, 4);
    unsigned found = 0;

    for (; p + 46 <= end; p++) {
        if (p[0] != tag || number(p + 1, 2) != 3 + 5 * bytes ||
            number(p + 6 + bytes, bytes) != base)
            continue;
        assert_int_equal(number(p + 6 + 2 * bytes, bytes), size ? base + size - 1 : 0);
        assert_int_equal(number(p + 6 + 4 * bytes, bytes), size);
        found++;
    }
    assert_int_equal(found, 1);
}

static void dsdt_has_the_windows(void **state)
{
    (void)state;
    build(1);
    has_window(0x88, 2, PCI_PIO_BASE, 0x10000 - PCI_PIO_BASE);
    has_window(0x87, 4, PCI_MMIO_BASE, PCI_ECAM_BASE - PCI_MMIO_BASE);
    has_window(0x8a, 8, WIDE_BASE, WIDE_SIZE);
    assert_int_equal(build_small(1, NULL), 0);
    has_window(0x8a, 8, 0, 0);
}

static void bad_cpu_counts(void **state)
{
    struct error err;

    (void)state;
    build(1);
    assert_true(build_small(0, &err) < 0);
    assert_true(build_small(VM_CPUS_MAX + 1, &err) < 0);
    assert_non_null(strstr(err.text, "65 CPUs"));
}

static void too_little_memory(void **state)
{
    struct error err;

    (void)state;
    assert_int_equal(memory_create(&t.mem, 512 << 10, MEM_ANON, NULL), 0);
    assert_true(build_small(1, &err) < 0);
    assert_non_null(strstr(err.text, "1 MiB"));
}

/* ACPICA's own disassembler reads each table without a complaint. */
static void disassembles(uint64_t where)
{
    char dir[] = "/tmp/twofold-acpi-XXXXXX", path[64], command[256], line[512];
    const uint8_t *p = at(where, 36);
    bool complained = false;
    FILE *f;

    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/table.dat", dir);
    f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, number(p + 4, 4), f), number(p + 4, 4));
    fclose(f);
    snprintf(command, sizeof(command), "cd %s && iasl -d table.dat 2>&1 && cat table.dsl", dir);
    f = popen(command, "r");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f)) {
        if (strstr(line, "ncorrect checksum") || strstr(line, "Warning") ||
            strstr(line, "nvalid") || strstr(line, "Error") || strstr(line, "Unknown")) {
            print_error("%s", line);
            complained = true;
        }
    }
    assert_int_equal(pclose(f), 0);
    snprintf(command, sizeof(command), "rm -r %s", dir);
    assert_int_equal(system(command), 0);
    assert_false(complained);
}

static void iasl_has_no_complaint(void **state)
{
    uint64_t fadt, madt, mcfg;

    (void)state;
    if (system("iasl -v >/dev/null 2>&1") != 0) {
        print_message("# skipped: there is no iasl\n");
        skip();
    }
    build(VM_CPUS_MAX);
    fadt = find("FACP");
    madt = find("APIC");
    mcfg = find("MCFG");
    disassembles(fadt);
    disassembles(madt);
    disassembles(mcfg);
    disassembles(number(at(t.rsdp.v + 24, 8), 8));
    disassembles(number(at(fadt + 40, 4), 4));
    disassembles(number(at(fadt + 36, 4), 4));
}

#define TEST(fn) cmocka_unit_test_teardown(fn, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_table_has_its_checksum),
        TEST(fadt_names_the_registers),
        TEST(madt_lists_the_cpus),
        TEST(mcfg_names_the_config_space),
        TEST(viot_names_the_endpoints),
        TEST(dsdt_has_the_windows),
        TEST(bad_cpu_counts),
        TEST(too_little_memory),
        TEST(iasl_has_no_complaint),
    };

    return cmocka_run_group_tests_name("acpi", tests, NULL, NULL);
}
