/* The PCI bus: config space by both ways, BARs, and what a guest can do wrong to them. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/pci_fixture.h"

#define COMMAND 0x04
#define BAR0    0x10
#define BAR1    0x14
#define BAR2    0x18
#define IO      1u
#define MEMORY  2u

static struct toy a, b;

static uint32_t cf8(unsigned devfn, unsigned offset)
{
    return 0x80000000u | devfn << 8 | (offset & 0xfc);
}

/* --- config space -------------------------------------------------------------------------- */

static void the_bridge_is_there(void **state)
{
    (void)state;
    assert_int_equal(mmio_read(PCI_ECAM_BASE, 4), 0x00081b36);
    assert_int_equal(mmio_read(PCI_ECAM_BASE + 8, 4), 0x06000000);
    port_write(0xcf8, 4, cf8(0, 8));
    assert_int_equal(port_read(0xcfc, 4), 0x06000000);
    assert_int_equal(port_read(0xcff, 1), 0x06);
    assert_int_equal(port_read(0xcfe, 2), 0x0600);
    assert_int_equal(port_read(0xcfd, 4), 0xffffffff); /* runs over the end of the port */
}

static void nobody_is_all_ones(void **state)
{
    (void)state;
    for (unsigned devfn = 1; devfn < 256; devfn++) {
        assert_int_equal(mmio_read(PCI_ECAM_BASE + devfn * PCI_CONFIG, 4), 0xffffffff);
        port_write(0xcf8, 4, cf8(devfn, 0));
        assert_int_equal(port_read(0xcfc, 4), 0xffffffff);
        port_write(0xcfc, 4, 0);
    }
    port_write(0xcf8, 4, 0x80010000); /* bus 1 */
    assert_int_equal(port_read(0xcfc, 4), 0xffffffff);
    port_write(0xcf8, 4, 0); /* not enabled */
    assert_int_equal(port_read(0xcfc, 4), 0xffffffff);
    assert_int_equal(mmio_read(PCI_ECAM_BASE + PCI_ECAM_SIZE, 4), 0xffffffff);
}

/* Only a dword at 0xcf8 is the address: narrower ones are ports of their own, and 0xcf9 resets. */
static void the_address_port_is_a_dword(void **state)
{
    (void)state;
    port_write(0xcf8, 4, UINT32_MAX);
    assert_int_equal(port_read(0xcf8, 4), 0x80fffffc);
    port_write(0xcf8, 4, cf8(0, 8));
    port_write(0xcfb, 1, 0x01); /* Linux's probe of mechanism 2 */
    port_write(0xcf8, 1, 0);
    port_write(0xcf8, 2, 0);
    port_write(0xcfa, 2, 0);
    assert_int_equal(port_read(0xcf8, 4), cf8(0, 8));
    assert_int_equal(port_read(0xcf8, 1), 0xff);
    assert_int_equal(port_read(0xcf8, 2), 0xffff);
    port_write(0xcf9, 1, 0x02);
    assert_int_equal(world.ends, 0);
    assert_int_equal(port_read(0xcf9, 1), 0x02);
    port_write(0xcf8, 4, 0xffffffff); /* its second byte is no reset */
    assert_int_equal(world.ends, 0);
    port_write(0xcf9, 1, 0x06);
    assert_int_equal(world.ends, 1);
}

static void only_writable_bits_change(void **state)
{
    uint8_t before[256];

    (void)state;
    toy_init(&a, 1);
    pci_add_bar(&a.f, 0, 4096, false, false, false);
    pci_use_intx(&a.f);
    toy_add(&a, -1);
    assert_int_equal(a.f.devfn, PCI_DEVFN(1, 0));
    memcpy(before, a.f.config, sizeof(before));
    for (unsigned at = 0; at < PCI_CONFIG; at += 8)
        ecam_write(&a, at, 8, UINT64_MAX);
    for (unsigned at = 0; at < PCI_CONFIG; at++) {
        uint8_t was = at < sizeof(before) ? before[at] : 0;

        assert_int_equal(ecam_read(&a, at, 1), was | a.f.writable[at]);
    }
    assert_int_equal(ecam_read(&a, COMMAND, 2), 0x0547);
    assert_int_equal(ecam_read(&a, 0x30, 4), 0); /* no ROM */
    for (unsigned at = 0; at < PCI_CONFIG; at += 4)
        ecam_write(&a, at, 4, 0);
    assert_int_equal(ecam_read(&a, 0, 4), 0x00011234);
    assert_int_equal(ecam_read(&a, COMMAND, 2), 0);
    pci_remove(&a.f);
    assert_int_equal(mmio_read(PCI_ECAM_BASE + PCI_DEVFN(1, 0) * PCI_CONFIG, 4), 0xffffffff);
}

static void ones_clear_status_bits(void **state)
{
    (void)state;
    toy_init(&a, 1);
    a.f.config[7] = 0xf9;
    toy_add(&a, -1);
    ecam_write(&a, 6, 2, 0x2000);
    assert_int_equal(ecam_read(&a, 6, 2), 0xd900);
    ecam_write(&a, 4, 4, 0xffff0000);
    assert_int_equal(ecam_read(&a, 6, 2), 0);
    pci_remove(&a.f);
}

/* Any size and alignment; the device sees aligned pieces. */
static void accesses_may_cross_dwords(void **state)
{
    (void)state;
    toy_init(&a, 0xbeef);
    for (unsigned i = 0x40; i < 0x60; i++) {
        a.f.config[i] = (uint8_t)i;
        a.f.writable[i] = 0xff;
    }
    toy_add(&a, -1);
    assert_int_equal(ecam_read(&a, 0x43, 4), 0x46454443);
    assert_int_equal(a.config_reads, 3); /* 43; 44-45; 46 */
    assert_int_equal(ecam_read(&a, 0x45, 8), UINT64_C(0x4c4b4a4948474645));
    ecam_write(&a, 0x46, 4, 0xddccbbaa);
    assert_int_equal(a.config_offset, 0x48);
    assert_int_equal(a.config_size, 2);
    assert_int_equal(ecam_read(&a, 0x44, 8), UINT64_C(0x4b4addccbbaa4544));
    /* The end of a function's space: what is beyond is nobody's. */
    assert_int_equal(ecam_read(&a, 0xffe, 4), 0xffff0000);
    ecam_write(&a, 0xffe, 4, 0);
    /* 256 bytes by port: the offset does not go on. */
    port_write(0xcf8, 4, cf8(a.f.devfn, 0x44) | 3);
    assert_int_equal(port_read(0xcfc, 4), 0xbbaa4544);
    port_write(0xcfe, 1, 0x11);
    assert_int_equal(ecam_read(&a, 0x44, 4), 0xbb114544);
    pci_remove(&a.f);
}

static void capabilities_are_a_list(void **state)
{
    unsigned first, second;

    (void)state;
    toy_init(&a, 1);
    first = pci_add_cap(&a.f, 0x09, 0x11);
    second = pci_add_cap(&a.f, 0x01, 8);
    assert_int_equal(first, 0x40);
    assert_int_equal(second, 0x54);
    assert_int_equal(pci_add_cap(&a.f, 0x09, 0xa5), 0); /* one byte too much */
    assert_int_equal(pci_add_cap(&a.f, 0x09, 0xa4), 0x5c);
    assert_int_equal(pci_add_cap(&a.f, 0x09, 2), 0);
    toy_add(&a, -1);
    assert_int_equal(ecam_read(&a, 6, 1) & 0x10, 0x10);
    assert_int_equal(ecam_read(&a, 0x34, 1), 0x5c);
    assert_int_equal(ecam_read(&a, 0x5c, 2), 0x5409);
    assert_int_equal(ecam_read(&a, 0x54, 2), 0x4001);
    assert_int_equal(ecam_read(&a, 0x40, 2), 0x0009);
    pci_remove(&a.f);
}

/* --- BARs ------------------------------------------------------------------------------------ */

static void bars_tell_their_size(void **state)
{
    (void)state;
    toy_init(&a, 1);
    pci_add_bar(&a.f, 0, 0x20, true, false, false);
    pci_add_bar(&a.f, 1, 0x10000, false, false, false);
    pci_add_bar(&a.f, 2, UINT64_C(1) << 33, false, true, true);
    toy_add(&a, -1);
    assert_int_equal(ecam_read(&a, BAR0, 4), PCI_PIO_BASE | 1);
    assert_int_equal(ecam_read(&a, BAR1, 4), PCI_MMIO_BASE);
    assert_int_equal(ecam_read(&a, BAR2, 8), WIDE_BASE | 0xc);
    for (unsigned at = BAR0; at < BAR0 + 24; at += 4)
        ecam_write(&a, at, 4, UINT32_MAX);
    assert_int_equal(ecam_read(&a, BAR0, 4), 0xffffffe1);
    assert_int_equal(ecam_read(&a, BAR1, 4), 0xffff0000);
    assert_int_equal(ecam_read(&a, BAR2, 8), UINT64_C(0xfffffffe0000000c));
    assert_int_equal(ecam_read(&a, BAR2 + 8, 8), 0); /* none */
    pci_remove(&a.f);
}

static void the_command_register_decodes(void **state)
{
    uint64_t memory;

    (void)state;
    toy_init(&a, 1);
    pci_add_bar(&a.f, 0, 0x20, true, false, false);
    pci_add_bar(&a.f, 2, 0x1000, false, true, false);
    toy_add(&a, -1);
    a.answer = UINT64_C(0x8877665544332211);
    memory = ecam_read(&a, BAR2, 8) & ~UINT64_C(15);
    assert_int_equal(mmio_read(memory, 4), 0xffffffff);
    ecam_write(&a, COMMAND, 2, MEMORY);
    assert_int_equal(a.placed, 1);
    assert_int_equal(a.placed_bar, 2);
    assert_true(a.f.bar[2].decoded);
    assert_int_equal(a.f.bar[2].address, memory);
    assert_int_equal(mmio_read(memory + 0xffe, 2), 0x2211);
    assert_int_equal(a.bar, 2);
    assert_int_equal(a.offset, 0xffe);
    assert_int_equal(mmio_read(memory, 8), a.answer);
    assert_int_equal(mmio_read(memory + 0xffe, 4), 0xffffffff); /* runs out of it */
    mmio_write(memory + 3, 4, 0x12345678);
    assert_int_equal(a.offset, 3);
    assert_int_equal(a.value, 0x12345678);
    assert_int_equal(port_read(PCI_PIO_BASE, 4), 0xffffffff);
    ecam_write(&a, COMMAND, 2, IO);
    assert_int_equal(port_read(PCI_PIO_BASE + 0x1c, 4), 0x44332211);
    assert_int_equal(a.bar, 0);
    assert_int_equal(mmio_read(memory, 4), 0xffffffff);
    assert_int_equal(a.reads, 3);
    assert_int_equal(a.writes, 1);
    ecam_write(&a, COMMAND, 2, IO); /* no change, no call */
    assert_int_equal(a.placed, 3);
    pci_remove(&a.f);
}

static void a_bar_can_be_moved(void **state)
{
    (void)state;
    toy_init(&a, 1);
    pci_add_bar(&a.f, 0, 0x1000, false, true, false);
    toy_add(&a, -1);
    a.answer = 7;
    ecam_write(&a, COMMAND, 2, MEMORY);
    ecam_write(&a, BAR0, 4, PCI_ECAM_BASE - 0x1000);
    assert_int_equal(mmio_read(PCI_MMIO_BASE, 4), 0xffffffff);
    assert_int_equal(mmio_read(PCI_ECAM_BASE - 0x1000, 4), 7);
    /* Halfway of a move of 64 bits it is at an address that nobody meant. */
    ecam_write(&a, BAR0 + 4, 4, WIDE_BASE >> 32);
    assert_int_equal(mmio_read(WIDE_BASE + PCI_ECAM_BASE - 0x1000, 4), 7);
    ecam_write(&a, BAR0, 4, 0);
    assert_int_equal(mmio_read(WIDE_BASE, 4), 7);
    ecam_write(&a, BAR0, 8, WIDE_BASE + WIDE_SIZE - 0x1000);
    assert_int_equal(mmio_read(WIDE_BASE + WIDE_SIZE - 4, 4), 7);
    pci_remove(&a.f);
}

/* RAM, config space, ports of fixed devices, and beyond: not decoded there. */
static void a_bar_stays_in_its_windows(void **state)
{
    static const uint64_t wrong[] = {
        0,
        0x100000,
        PCI_MMIO_BASE - 0x1000,
        PCI_ECAM_BASE,
        0xfee00000,
        UINT64_C(0xfffffffffffff000),
        WIDE_BASE - 0x1000,
        WIDE_BASE + WIDE_SIZE,
    };

    (void)state;
    toy_init(&a, 1);
    pci_add_bar(&a.f, 0, 0x1000, false, true, false);
    pci_add_bar(&a.f, 2, 0x100, true, false, false);
    toy_add(&a, -1);
    ecam_write(&a, COMMAND, 2, MEMORY | IO);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        ecam_write(&a, BAR0, 8, wrong[i]);
        assert_false(a.f.bar[0].decoded);
        mmio_write(wrong[i], 4, 0);
    }
    ecam_write(&a, BAR2, 4, 0x0300); /* COM1 is there */
    assert_false(a.f.bar[2].decoded);
    ecam_write(&a, BAR2, 4, 0x1c000);
    assert_false(a.f.bar[2].decoded);
    ecam_write(&a, BAR2, 4, 0xff00);
    assert_true(a.f.bar[2].decoded);
    (void)port_read(0xffff, 1);
    assert_int_equal(a.reads, 1);
    assert_int_equal(a.writes, 0);
    assert_int_equal(mmio_read(PCI_ECAM_BASE, 4), 0x00081b36);
    pci_remove(&a.f);
}

static void the_lower_device_wins(void **state)
{
    (void)state;
    toy_init(&b, 2);
    pci_add_bar(&b.f, 0, 0x1000, false, false, false);
    toy_add(&b, PCI_DEVFN(9, 0));
    toy_init(&a, 1);
    pci_add_bar(&a.f, 0, 0x100, false, false, false);
    toy_add(&a, PCI_DEVFN(4, 0));
    a.answer = 0xa;
    b.answer = 0xb;
    ecam_write(&b, COMMAND, 2, MEMORY);
    ecam_write(&a, COMMAND, 2, MEMORY);
    ecam_write(&b, BAR0, 4, 0xd0000000);
    ecam_write(&a, BAR0, 4, 0xd0000200);
    assert_int_equal(mmio_read(0xd0000200, 1), 0xa);
    assert_int_equal(mmio_read(0xd00002fc, 4), 0xa);
    assert_int_equal(mmio_read(0xd00001fc, 4), 0xb);
    assert_int_equal(mmio_read(0xd0000300, 4), 0xb);
    assert_int_equal(mmio_read(0xd00001fe, 4), 0xb); /* no part of it is a's alone */
    ecam_write(&a, COMMAND, 2, 0);
    assert_int_equal(mmio_read(0xd0000200, 1), 0xb);
    pci_remove(&a.f);
    pci_remove(&b.f);
    assert_int_equal(mmio_read(0xd0000200, 1), 0xff);
}

static void addresses_do_not_overlap(void **state)
{
    static struct toy many[20];
    uint64_t end = PCI_MMIO_BASE;

    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        uint64_t at;

        toy_init(&many[i], (uint16_t)i);
        pci_add_bar(&many[i].f, 0, UINT64_C(16) << (i % 13), false, false, false);
        toy_add(&many[i], -1);
        at = ecam_read(&many[i], BAR0, 4);
        assert_true(at >= end);
        assert_int_equal(at % many[i].f.bar[0].size, 0);
        end = at + many[i].f.bar[0].size;
    }
    for (unsigned i = 0; i < 20; i++)
        pci_remove(&many[i].f);
}

/* Moves its own BAR away, as no vCPU should have to wait for itself. */
static void move_away(void *dev, unsigned which, uint64_t offset, unsigned size, uint64_t value)
{
    struct toy *t = dev;

    (void)which;
    (void)offset;
    (void)size;
    t->writes++;
    ecam_write(t, BAR0, 4, value);
}

static void a_handler_may_write_config_space(void **state)
{
    struct pci_ops ops = toy_ops;

    (void)state;
    ops.bar_write = move_away;
    toy_init(&a, 1);
    a.f.ops = &ops;
    pci_add_bar(&a.f, 0, 0x1000, false, false, false);
    toy_add(&a, -1);
    ecam_write(&a, COMMAND, 2, MEMORY);
    mmio_write(PCI_MMIO_BASE, 4, 0xd0000000);
    assert_int_equal(a.f.bar[0].address, 0xd0000000);
    mmio_write(PCI_MMIO_BASE, 4, 0xd1000000); /* there is nobody any more */
    mmio_write(0xd0000000, 4, PCI_MMIO_BASE);
    assert_int_equal(a.writes, 2);
    pci_remove(&a.f);
}

#define ROUNDS 20000

static void *mover(void *arg)
{
    (void)arg;
    for (int i = 0; i < ROUNDS; i++) {
        ecam_write(&a, BAR0, 4, i % 2 ? PCI_MMIO_BASE : 0xd0000000);
        ecam_write(&a, COMMAND, 2, i % 3 ? MEMORY : 0);
    }
    return NULL;
}

/* One vCPU uses a BAR while another one moves it: an access finds the device, or nobody. */
static void accesses_while_it_moves(void **state)
{
    pthread_t thread;
    unsigned found = 0;

    (void)state;
    toy_init(&a, 1);
    pci_add_bar(&a.f, 0, 0x1000, false, false, false);
    toy_add(&a, -1);
    a.answer = 0x1234;
    assert_int_equal(pthread_create(&thread, NULL, mover, NULL), 0);
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t value = mmio_read((i % 2 ? PCI_MMIO_BASE : 0xd0000000) + 0x10, 4);

        assert_true(value == 0x1234 || value == UINT32_MAX);
        found += value == 0x1234;
        assert_int_equal(a.reads, found);
        assert_true(!found || a.offset == 0x10);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    pci_remove(&a.f);
}

/* --- what can't be ------------------------------------------------------------------------------
 */

static int add(uint64_t size, bool io, bool wide, int devfn, struct error *err)
{
    int rc;

    toy_init(&a, 1);
    pci_add_bar(&a.f, 0, size, io, wide, false);
    rc = pci_add(world.pci, &a.f, devfn, err);
    pci_remove(&a.f);
    return rc;
}

static void bad_bars_are_refused(void **state)
{
    struct error err;

    (void)state;
    assert_int_equal(add(8, false, false, -1, &err), -EINVAL);
    assert_int_equal(add(0x3000, false, false, -1, &err), -EINVAL);
    assert_int_equal(add(UINT64_C(1) << 32, false, false, -1, &err), -EINVAL);
    assert_int_equal(add(512, true, false, -1, &err), -EINVAL);
    assert_non_null(strstr(err.text, "toy"));
    assert_int_equal(add(UINT64_C(1) << 30, false, false, -1, &err), -ENOSPC);
    assert_int_equal(add(WIDE_SIZE * 2, false, true, -1, &err), -ENOSPC);
    assert_non_null(strstr(err.text, "less memory"));
    assert_int_equal(add(WIDE_SIZE, false, true, -1, &err), 0);
}

static void places_run_out(void **state)
{
    static struct toy many[31];
    struct error err;

    (void)state;
    assert_int_equal(add(16, false, false, 256, &err), -EINVAL);
    assert_int_equal(add(16, false, false, 0, &err), -EEXIST);
    assert_non_null(strstr(err.text, "host bridge"));
    for (unsigned i = 0; i < 31; i++) {
        toy_init(&many[i], 1);
        toy_add(&many[i], -1);
        assert_int_equal(many[i].f.devfn, PCI_DEVFN(i + 1, 0));
    }
    assert_int_equal(add(16, false, false, -1, &err), -ENOSPC);
    pci_remove(&many[7].f);
    assert_int_equal(add(16, false, false, -1, &err), 0);
    for (unsigned i = 0; i < 31; i++)
        pci_remove(&many[i].f);
}

static void functions_of_one_device(void **state)
{
    (void)state;
    toy_init(&a, 1);
    toy_add(&a, PCI_DEVFN(3, 0));
    assert_int_equal(ecam_read(&a, 0x0e, 1), 0);
    toy_init(&b, 2);
    pci_use_intx(&b.f);
    toy_add(&b, PCI_DEVFN(3, 2));
    assert_int_equal(ecam_read(&a, 0x0e, 1), 0x80);
    assert_int_equal(ecam_read(&b, 0x0e, 1), 0x80);
    assert_int_equal(ecam_read(&b, 0x3d, 1), 3);                /* INTC */
    assert_int_equal(ecam_read(&b, 0x3c, 1), 16 + (3 + 2) % 4); /* as firmware would say */
    assert_ptr_equal(pci_at(world.pci, 1), &a.f);
    assert_ptr_equal(pci_at(world.pci, 2), &b.f);
    assert_null(pci_at(world.pci, 3));
    pci_remove(&b.f);
    assert_int_equal(ecam_read(&a, 0x0e, 1), 0);
    pci_remove(&a.f);
}

static void stat_tells_what_is_there(void **state)
{
    struct pci_stat st;

    (void)state;
    toy_init(&a, 0xbeef);
    pci_add_bar(&a.f, 1, 0x1000, false, false, false);
    pci_use_intx(&a.f);
    toy_add(&a, PCI_DEVFN(3, 1));
    assert_true(pci_stat_read(world.pci, 0, &st));
    assert_string_equal(st.name, "host bridge");
    assert_int_equal(st.kind, PCI_NONE);
    assert_true(pci_stat_read(world.pci, 1, &st));
    assert_int_equal(st.devfn, PCI_DEVFN(3, 1));
    assert_int_equal(st.vendor, 0x1234);
    assert_int_equal(st.device, 0xbeef);
    assert_int_equal(st.class, 0xff0000);
    assert_int_equal(st.bar[0].size, 0);
    assert_int_equal(st.bar[1].size, 0x1000);
    assert_int_equal(st.bar[1].address, PCI_MMIO_BASE); /* where it will be */
    assert_false(st.bar[1].decoded);
    assert_false(st.bus_master);
    ecam_write(&a, COMMAND, 2, 6);
    assert_true(pci_notify(&a.f, 0));
    assert_true(pci_stat_read(world.pci, 1, &st));
    assert_true(st.bar[1].decoded);
    assert_true(st.bus_master);
    assert_int_equal(st.kind, PCI_INTX);
    assert_int_equal(st.sent[PCI_INTX], 1);
    assert_false(pci_stat_read(world.pci, 2, &st));
    pci_remove(&a.f);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, world_start, world_stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_bridge_is_there),
        TEST(nobody_is_all_ones),
        TEST(the_address_port_is_a_dword),
        TEST(only_writable_bits_change),
        TEST(ones_clear_status_bits),
        TEST(accesses_may_cross_dwords),
        TEST(capabilities_are_a_list),
        TEST(bars_tell_their_size),
        TEST(the_command_register_decodes),
        TEST(a_bar_can_be_moved),
        TEST(a_bar_stays_in_its_windows),
        TEST(the_lower_device_wins),
        TEST(addresses_do_not_overlap),
        TEST(a_handler_may_write_config_space),
        TEST(accesses_while_it_moves),
        TEST(bad_bars_are_refused),
        TEST(places_run_out),
        TEST(functions_of_one_device),
        TEST(stat_tells_what_is_there),
    };

    return cmocka_run_group_tests_name("pci", tests, NULL, NULL);
}
