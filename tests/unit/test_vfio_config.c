/*
 * What a guest sees of a device's config space: recorded bytes of four devices, and bad ones. The
 * devices are QEMU's, as Linux reads them.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/vfio_config.h"

struct recorded {
    const char *name;
    uint64_t bar[PCI_BARS];
    struct {
        unsigned at;
        uint8_t bytes[24];
        unsigned count;
    } part[16];
};

#define PART(offset, ...)                                           \
    {                                                               \
        offset, { __VA_ARGS__ }, sizeof((uint8_t[]){ __VA_ARGS__ }) \
    }

static const struct recorded edu = {
    .name = "edu: MSI of 14 bytes, nothing else",
    .bar = { 1 << 20 },
    .part = { PART(0x00, 0x34, 0x12, 0xe8, 0x11, 3, 1, 0x10, 0, 0x10, 0, 0xff, 0),
              PART(0x10, 0, 0, 0xa0, 0xfe), PART(0x2c, 0xf4, 0x1a, 0, 0x11), PART(0x34, 0x40),
              PART(0x3c, 0x0a, 1), PART(0x40, 5, 0, 0x80, 0) },
};

static const struct recorded rng = {
    .name = "virtio-rng: five vendor-specific ones before MSI-X",
    .bar = { 0, 4096, 0, 0, 16384 },
    .part = { PART(0x00, 0xf4, 0x1a, 0x44, 0x10, 7, 1, 0x10, 0, 1, 0, 0xff, 0),
              PART(0x14, 0, 0x90, 0xb8, 0xfe), PART(0x20, 0x0c, 0xc0, 0xbf, 0xfe),
              PART(0x2c, 0xf4, 0x1a, 0, 0x11), PART(0x34, 0x98), PART(0x3c, 0x0b, 1),
              PART(0x40, 9, 0, 0x10, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0x10),
              PART(0x50, 9, 0x40, 0x10, 3, 4, 0, 0, 0, 0, 0x10, 0, 0, 0, 0x10),
              PART(0x60, 9, 0x50, 0x10, 4, 4, 0, 0, 0, 0, 0x20, 0, 0, 0, 0x10),
              PART(0x70, 9, 0x60, 0x14, 2, 4, 0, 0, 0, 0, 0x30, 0, 0, 0, 0x10, 0, 0, 4),
              PART(0x84, 9, 0x70, 0x14, 5), PART(0x98, 0x11, 0x84, 1, 0, 1, 0, 0, 0, 1, 8, 0, 0) },
};

static const struct recorded network = {
    .name = "e1000e: power management, MSI with something right behind it, Express, MSI-X",
    .bar = { 1 << 17, 1 << 17, 32, 1 << 14 },
    .part = { PART(0x00, 0x86, 0x80, 0xd3, 0x10, 3, 1, 0x10, 0, 0, 0, 0, 2),
              PART(0x10, 0, 0, 0xb4, 0xfe, 0, 0, 0xb6, 0xfe, 0x81, 0xc0, 0, 0, 0, 0, 0xb8, 0xfe),
              PART(0x2c, 0x86, 0x80), PART(0x34, 0xc8), PART(0x3c, 0x0b, 1),
              PART(0xa0, 0x11, 0, 4, 0, 3, 0, 0, 0, 3, 0x20, 0, 0), PART(0xc8, 1, 0xd0, 0x22, 0xc8),
              PART(0xd0, 5, 0xe0, 0x80, 0),
              PART(0xe0, 0x10, 0xa0, 1, 0, 0, 0x80, 0, 0, 0x10, 0x28, 0, 0, 0x11, 4) },
};

/* As above, with what a real one has more: VPD, slot-like ones, a second vendor capability. */
static const struct recorded rich = {
    .name = "a rich one: hidden ones between the others, a vendor one that ends at the end",
    .bar = { 4096, 0, 1 << 25 },
    .part = { PART(0x00, 0x55, 0x44, 0x33, 0x22, 3, 1, 0x10, 0, 7, 2, 8, 1),
              PART(0x18, 0x0c, 0, 0, 0xe0, 1), PART(0x34, 0x50), PART(0x3c, 0x0b, 1),
              PART(0x40, 0xaa, 0xbb, 0xcc, 0xdd),
              PART(0x50, 3, 0x58, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66),
              PART(0x58, 0x13, 0x60, 6, 3, 0, 0),
              PART(0x60, 0x10, 0xa0, 2, 1, 1, 2, 3, 4, 5, 6, 7, 8),
              PART(0x88, 0x21, 0x43, 0x65, 0x87), PART(0xa0, 9, 0xf8, 8, 1, 2, 3, 4, 5),
              PART(0xf8, 9, 0, 0x20, 7, 7, 7, 7, 7) },
};

static const struct vfio_facts all = { .intx = true, .msi = true, .msix = true };

static void bytes_of(const struct recorded *r, uint8_t real[VFIO_CONFIG_BYTES])
{
    memset(real, 0, VFIO_CONFIG_BYTES);
    for (size_t i = 0; i < 16 && r->part[i].count; i++)
        memcpy(real + r->part[i].at, r->part[i].bytes, r->part[i].count);
}

static void build(const struct recorded *r, struct vfio_config *c, struct pci_function *f,
                  uint8_t real[VFIO_CONFIG_BYTES])
{
    struct vfio_facts facts = all;
    struct error err = { .text = "" };

    bytes_of(r, real);
    memcpy(facts.bar, r->bar, sizeof(facts.bar));
    *f = (struct pci_function){ .name = r->name };
    if (vfio_config_build(c, f, real, &facts, &err) != 0)
        fail_msg("%s: %s", r->name, err.text);
}

/* A guest's walk: the offset of a capability, 0 when it is not in the list. */
static unsigned find(const struct pci_function *f, uint8_t id, unsigned skip)
{
    unsigned at = f->config[0x06] & 0x10 ? f->config[0x34] : 0;

    for (unsigned steps = 0; at; at = f->config[at + 1]) {
        assert_true(++steps < 48 && at >= 0x40 && at % 4 == 0);
        if (f->config[at] == id && skip-- == 0)
            return at;
    }
    return 0;
}

static void test_edu(void **state)
{
    struct pci_function f;
    struct vfio_config c;
    uint8_t real[VFIO_CONFIG_BYTES];

    (void)state;
    build(&edu, &c, &f, real);
    assert_memory_equal(f.config, real, 4);
    assert_memory_equal(f.config + 8, real + 8, 4);
    assert_memory_equal(f.config + 0x2c, real + 0x2c, 4);
    assert_int_equal(f.bar[0].size, 1 << 20);
    assert_false(f.bar[0].io || f.bar[0].wide || f.bar[0].prefetch);
    assert_int_equal(f.config[0x3d], 1);
    assert_int_equal(f.config[0x04], 0); /* nothing is enabled, whatever the device says */
    assert_int_equal(find(&f, 5, 0), 0x40);
    assert_int_equal(f.msi_cap, 0x40);
    assert_false(c.through[0x40] || c.through[0x57]);
    assert_true(c.through[0x58] && c.through[0xff]); /* the device's own affair */
    for (unsigned i = 0; i < 0x40; i++)
        assert_false(c.through[i]);
}

/* All five stay where they are: a driver reads them, and one of them is a window to registers. */
static void test_vendor(void **state)
{
    static const unsigned at[] = { 0x84, 0x70, 0x60, 0x50, 0x40 };
    struct pci_function f;
    struct vfio_config c;
    uint8_t real[VFIO_CONFIG_BYTES];

    (void)state;
    build(&rng, &c, &f, real);
    assert_int_equal(find(&f, 0x11, 0), 0x98);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(find(&f, 9, i), at[i]);
        assert_memory_equal(f.config + at[i] + 2, real + at[i] + 2, 14);
        assert_false(c.through[at[i]] || c.through[at[i] + 1]);
        assert_true(c.through[at[i] + 2] && c.through[at[i] + 15]);
        assert_int_equal(f.writable[at[i] + 1], 0);
    }
    assert_true(f.bar[4].wide && f.bar[4].prefetch && !f.bar[1].wide);
    /* Vector control in a BAR of pci.c. */
    assert_non_null(f.msix);
    assert_int_equal(f.config[0x9a], 1);
    pci_remove(&f);
}

/* MSI of ours is larger than the device's, and Express is right behind it: another place. */
static void test_network(void **state)
{
    struct pci_function f;
    struct vfio_config c;
    uint8_t real[VFIO_CONFIG_BYTES];
    unsigned msi, express, power;

    (void)state;
    build(&network, &c, &f, real);
    msi = find(&f, 5, 0);
    express = find(&f, 0x10, 0);
    power = find(&f, 1, 0);
    assert_int_equal(power, 0xc8);
    assert_int_equal(express, 0xe0);
    assert_int_equal(find(&f, 0x11, 0), 0xa0);
    assert_true(msi && msi == f.msi_cap);
    for (unsigned i = msi; i < msi + 24; i++) {
        assert_false(c.through[i]);
        assert_true(i < 0xa0 || i >= 0xac);
        assert_true(i < 0xc8 || i >= 0xd0);
        assert_true(i < 0xe0 || i >= 0xf4);
    }
    /* D0 whatever is written; no PME, no D1, no D2. */
    assert_int_equal(f.config[power + 3], 0);
    assert_int_equal(f.config[power + 2], 2);
    assert_int_equal(f.writable[power + 4], 3);
    assert_false(c.through[power + 4]);
    /* An integrated endpoint, whose device control is the device's. */
    assert_int_equal(f.config[express + 2], 0x91);
    assert_true(c.through[express + 8] && c.through[express + 11] && !c.through[express + 12]);
    assert_int_equal(f.config[express + 12], 0);
    assert_true(f.bar[2].io && f.bar[2].size == 32);
    pci_remove(&f);
}

static void test_hidden(void **state)
{
    struct pci_function f;
    struct vfio_config c;
    uint8_t real[VFIO_CONFIG_BYTES];

    (void)state;
    build(&rich, &c, &f, real);
    assert_int_equal(find(&f, 3, 0), 0);
    assert_int_equal(find(&f, 0x13, 0), 0);
    assert_int_equal(f.config[0x34], 0x60);
    for (unsigned i = 0x50; i < 0x60; i++)
        assert_true(!c.through[i] && f.config[i] == 0 && f.writable[i] == 0);
    assert_true(c.through[0x40] && c.through[0x4f]);
    assert_int_equal(find(&f, 0x10, 0), 0x60);
    assert_int_equal(f.config[0x62], 0x92);
    assert_true(c.through[0x88] && c.through[0x8b]);
    assert_int_equal(find(&f, 9, 1), 0xf8);
    assert_true(f.bar[2].wide && f.bar[2].prefetch);
    assert_int_equal(f.config[0x3d], 1);
}

/* What VFIO can't tell of does not appear. */
static void test_no_interrupts(void **state)
{
    struct vfio_facts facts = { .bar = { 1 << 17, 1 << 17, 32, 1 << 14 } };
    uint8_t real[VFIO_CONFIG_BYTES];
    struct pci_function f = { .name = "x" };
    struct vfio_config c;

    (void)state;
    bytes_of(&network, real);
    assert_int_equal(vfio_config_build(&c, &f, real, &facts, NULL), 0);
    assert_int_equal(find(&f, 5, 0), 0);
    assert_int_equal(find(&f, 0x11, 0), 0);
    assert_int_equal(f.config[0x3d], 0);
    assert_null(f.msix);
}

/* --- bad ones ------------------------------------------------------------------------------- */

static void test_refused(void **state)
{
    uint8_t real[VFIO_CONFIG_BYTES];
    struct pci_function f = { .name = "x" };
    struct error err = { .text = "" };
    struct vfio_config c;

    (void)state;
    memset(real, 0xff, sizeof(real));
    assert_int_equal(vfio_config_build(&c, &f, real, &all, &err), -EIO);
    bytes_of(&edu, real);
    real[0x0e] = 1;
    assert_int_equal(vfio_config_build(&c, &f, real, &all, &err), -EINVAL);
    assert_non_null(strstr(err.text, "bridge"));
}

/* A list that runs in a circle, or out of the space. */
static void test_circle(void **state)
{
    uint8_t real[VFIO_CONFIG_BYTES];
    struct pci_function f = { .name = "x" };
    struct vfio_config c;

    (void)state;
    bytes_of(&rng, real);
    real[0x41] = 0x98;
    assert_int_equal(vfio_config_build(&c, &f, real, &all, NULL), 0);
    assert_int_equal(find(&f, 9, 4), 0x40);
    assert_int_equal(find(&f, 9, 5), 0);
    pci_remove(&f);

    bytes_of(&edu, real);
    real[0x34] = 0x3c;
    f = (struct pci_function){ .name = "x" };
    assert_int_equal(vfio_config_build(&c, &f, real, &all, NULL), 0);
    assert_int_equal(find(&f, 5, 0), 0);
}

/*
 * Any bytes: whatever the device says, the guest's list ends, capabilities don't overlap, the
 * header is ours, and what the guest may write of ours is what pci.c knows.
 */
static void test_random(void **state)
{
    static const uint8_t ids[] = { 1, 5, 9, 0x10, 0x11, 3, 0x13, 0x0d };

    (void)state;
    srand(4711);
    for (unsigned round = 0; round < 20000; round++) {
        uint8_t real[VFIO_CONFIG_BYTES];
        struct vfio_facts facts = all;
        struct pci_function f = { .name = "x" };
        struct vfio_config c;
        unsigned at, steps = 0;

        for (unsigned i = 0; i < VFIO_CONFIG_BYTES; i++)
            real[i] = (uint8_t)rand();
        real[0x0e] &= 0x80;
        real[0x06] |= 0x10;
        for (unsigned i = 0; i < 12; i++) {
            real[0x40 + 16 * i] = ids[rand() % 8];
            real[0x41 + 16 * i] = (uint8_t)(0x40 + rand() % 48 * 4);
        }
        real[0x34] = (uint8_t)(0x40 + rand() % 12 * 16);
        for (unsigned i = 0; i < PCI_BARS; i++)
            facts.bar[i] = rand() % 2 ? UINT64_C(1) << (12 + rand() % 16) : 0;
        if (vfio_config_build(&c, &f, real, &facts, NULL) == 0) {
            for (at = f.config[0x34]; at; at = f.config[at + 1]) {
                assert_true(++steps < 48);
                assert_true(at >= 0x40 && at % 4 == 0);
                assert_false(c.through[at] || c.through[at + 1]);
                assert_int_equal(f.writable[at] | f.writable[at + 1], 0);
            }
            for (unsigned i = 0; i < 0x40; i++)
                assert_false(c.through[i]);
            for (unsigned i = 0; f.msi_cap && i < 24; i++)
                assert_false(c.through[f.msi_cap + i]);
            for (unsigned i = 0; f.msix_cap && i < 12; i++)
                assert_false(c.through[f.msix_cap + i]);
            assert_true(!f.msi_cap || !f.msix_cap || f.msi_cap + 24 <= f.msix_cap ||
                        f.msix_cap + 12 <= f.msi_cap);
        }
        pci_remove(&f);
    }
}

/* --- windows ---------------------------------------------------------------------------------- */

/* Page by page: a page is in a window when it may be mapped as a whole and nothing of MSI-X is in
 * it. */
static bool may(uint64_t page, const struct vfio_span *mappable, size_t n, uint64_t table,
                uint64_t table_bytes, uint64_t bits, uint64_t bits_bytes)
{
    uint64_t first = page * 4096, last = first + 4095;
    bool whole = false;

    for (size_t i = 0; i < n; i++)
        whole = whole || (mappable[i].first <= first && mappable[i].last >= last);
    return whole && !(table <= last && table + table_bytes > first) &&
           !(bits <= last && bits + bits_bytes > first);
}

static void test_windows(void **state)
{
    (void)state;
    srand(42);
    for (unsigned round = 0; round < 5000; round++) {
        struct pci_function f = { .name = "x" };
        struct vfio_span in[3], out[12];
        unsigned vectors = 1 + (unsigned)rand() % 600;
        uint64_t table = (uint64_t)rand() % 0x8000 & ~7u,
                 bits = 0x8000 + ((uint64_t)rand() % 0x3000 & ~7u);
        size_t n = 1 + (size_t)rand() % 3, count;
        uint64_t at = 0;

        assert_int_equal(pci_add_msix(&f, vectors, 2, table, bits), 0);
        for (size_t i = 0; i < n; i++) {
            in[i].first = at + (uint64_t)rand() % 0x3000;
            in[i].last = in[i].first + (uint64_t)rand() % 0x5000;
            at = in[i].last + 1;
        }
        count = vfio_config_windows(&f, 2, in, n, out, 12);
        for (uint64_t page = 0; page < 40; page++) {
            unsigned in_windows = 0;

            for (size_t i = 0; i < count; i++) {
                assert_true(out[i].first % 4096 == 0 && out[i].last % 4096 == 4095);
                in_windows += out[i].first <= page * 4096 && out[i].last >= page * 4096 + 4095;
            }
            assert_int_equal(in_windows, may(page, in, n, table, vectors * 16ull, bits,
                                             (vectors + 63) / 64 * 8ull));
        }
        /* Another BAR has no table. */
        count = vfio_config_windows(&f, 1, &(struct vfio_span){ 0, 0xffff }, 1, out, 12);
        assert_true(count == 1 && out[0].first == 0 && out[0].last == 0xffff);
        pci_remove(&f);
    }
}

static void test_no_page(void **state)
{
    struct pci_function f = { .name = "x" };
    struct vfio_span out[4];

    (void)state;
    assert_int_equal(vfio_config_windows(&f, 0, &(struct vfio_span){ 0, 255 }, 1, out, 4), 0);
    assert_int_equal(vfio_config_windows(&f, 0, &(struct vfio_span){ 1, 4096 }, 1, out, 4), 0);
    assert_int_equal(vfio_config_windows(&f, 0, &(struct vfio_span){ 0, 4095 }, 1, out, 4), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_edu),           cmocka_unit_test(test_vendor),
        cmocka_unit_test(test_network),       cmocka_unit_test(test_hidden),
        cmocka_unit_test(test_no_interrupts), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_circle),        cmocka_unit_test(test_random),
        cmocka_unit_test(test_windows),       cmocka_unit_test(test_no_page),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
