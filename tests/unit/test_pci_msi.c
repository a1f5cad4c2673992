/* Interrupts of PCI functions: MSI-X with its masks, MSI, and INTx lines that are shared. */
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/pci_fixture.h"

#define COMMAND 0x04
#define MEMORY  2u
#define MASTER  4u
#define NO_INTX 0x400u

#define VECTORS 70 /* two words of pending bits */
#define TABLE   0x800
#define PENDING 0x400

static struct toy a, b;
static uint64_t bar;

/* A function with MSI-X, MSI and a pin. */
static int start(void **state)
{
    world_start(state);
    toy_init(&a, 1);
    pci_add_bar(&a.f, 1, 0x2000, false, false, false);
    pci_use_intx(&a.f);
    assert_int_equal(pci_add_msi(&a.f), 0);
    assert_int_equal(pci_add_msix(&a.f, VECTORS, 1, TABLE, PENDING), 0);
    toy_add(&a, PCI_DEVFN(5, 0));
    ecam_write(&a, COMMAND, 2, MEMORY | MASTER);
    bar = ecam_read(&a, 0x14, 4);
    a.vectors_changed = 0;
    return 0;
}

static int stop(void **state)
{
    pci_remove(&a.f);
    return world_stop(state);
}

static void msix_control(uint16_t value)
{
    ecam_write(&a, a.f.msix_cap + 2, 2, value);
}

static void set_vector(unsigned vector, uint64_t address, uint32_t data, uint32_t control)
{
    mmio_write(bar + TABLE + 16 * vector, 8, address);
    mmio_write(bar + TABLE + 16 * vector + 8, 4, data);
    mmio_write(bar + TABLE + 16 * vector + 12, 4, control);
}

static unsigned pending(unsigned vector)
{
    return mmio_read(bar + PENDING + vector / 8, 1) >> vector % 8 & 1;
}

/* --- MSI-X ------------------------------------------------------------------------------- */

static void msix_capability(void **state)
{
    (void)state;
    assert_int_equal(ecam_read(&a, a.f.msix_cap, 1), 0x11);
    assert_int_equal(ecam_read(&a, a.f.msix_cap + 2, 2), VECTORS - 1);
    assert_int_equal(ecam_read(&a, a.f.msix_cap + 4, 4), TABLE | 1);
    assert_int_equal(ecam_read(&a, a.f.msix_cap + 8, 4), PENDING | 1);
    ecam_write(&a, a.f.msix_cap, 8, UINT64_MAX);
    assert_int_equal(ecam_read(&a, a.f.msix_cap + 2, 2), 0xc000 | (VECTORS - 1));
    assert_int_equal(ecam_read(&a, a.f.msix_cap + 4, 4), TABLE | 1);
}

static void a_message_is_sent(void **state)
{
    (void)state;
    set_vector(69, UINT64_C(0x1fee01000), 0x4041, 0);
    assert_false(pci_notify(&a.f, 69) && pci_interrupt_kind(&a.f) == PCI_MSIX);
    assert_int_equal(world.messages, 0);
    msix_control(0x8000);
    assert_int_equal(pci_interrupt_kind(&a.f), PCI_MSIX);
    assert_true(pci_notify(&a.f, 69));
    assert_int_equal(world.messages, 1);
    assert_int_equal(world.message[0].address, UINT64_C(0x1fee01000));
    assert_int_equal(world.message[0].data, 0x4041);
    assert_int_equal(world.message[0].requester, PCI_DEVFN(5, 0));
    assert_int_equal(pending(69), 0);
    assert_false(pci_notify(&a.f, VECTORS)); /* there is no such vector */
    assert_false(pci_notify(&a.f, UINT_MAX));
    assert_int_equal(world.messages, 1);
    assert_int_equal(a.f.raised[PCI_MSIX], 1);
}

static void vectors_start_masked(void **state)
{
    struct msi_message m;

    (void)state;
    msix_control(0x8000);
    for (unsigned v = 0; v < VECTORS; v++) {
        assert_int_equal(mmio_read(bar + TABLE + 16 * v + 12, 4), 1);
        assert_false(pci_message(&a.f, v, &m));
        assert_false(pci_notify(&a.f, v));
        assert_int_equal(pending(v), 1);
    }
    assert_int_equal(mmio_read(bar + PENDING, 8), UINT64_MAX);
    assert_int_equal(mmio_read(bar + PENDING + 8, 8), 0x3f);
    assert_int_equal(world.messages, 0);
    mmio_write(bar + PENDING, 8, 0); /* read-only */
    assert_int_equal(mmio_read(bar + PENDING, 8), UINT64_MAX);
    set_vector(3, 0xfee00000, 3, 0); /* and so it goes out, once */
    assert_int_equal(world.messages, 1);
    assert_int_equal(world.message[0].data, 3);
    assert_int_equal(pending(3), 0);
    assert_int_equal(pending(4), 1);
    set_vector(3, 0xfee00000, 3, 1);
    set_vector(3, 0xfee00000, 3, 0);
    assert_int_equal(world.messages, 1);
    msix_control(0); /* what is off has nothing left to send */
    msix_control(0x8000);
    assert_int_equal(pending(4), 0);
    set_vector(4, 0xfee00000, 4, 0);
    assert_int_equal(world.messages, 1);
}

static void the_function_mask(void **state)
{
    struct msi_message m;

    (void)state;
    set_vector(0, 0xfee00000, 0x20, 0);
    set_vector(1, 0xfee00000, 0x21, 1);
    set_vector(64, 0xfee00000, 0x60, 0);
    msix_control(0xc000);
    assert_false(pci_message(&a.f, 0, &m));
    assert_false(pci_notify(&a.f, 0));
    assert_false(pci_notify(&a.f, 0)); /* two of them are one */
    assert_false(pci_notify(&a.f, 1));
    assert_false(pci_notify(&a.f, 64));
    msix_control(0x8000);
    assert_int_equal(world.messages, 2);
    assert_int_equal(world.message[0].data, 0x20);
    assert_int_equal(world.message[1].data, 0x60);
    assert_int_equal(pending(1), 1);
    assert_true(pci_message(&a.f, 0, &m));
    assert_int_equal(m.data, 0x20);
    assert_false(pci_message(&a.f, 1, &m));
}

/* A message is a write to memory, and those are a bus master's. */
static void no_message_without_bus_master(void **state)
{
    struct msi_message m;

    (void)state;
    set_vector(0, 0xfee00000, 0x20, 0);
    msix_control(0x8000);
    ecam_write(&a, COMMAND, 2, MEMORY);
    assert_false(pci_bus_master(&a.f));
    assert_false(pci_message(&a.f, 0, &m));
    assert_false(pci_notify(&a.f, 0));
    assert_int_equal(world.messages, 0);
    ecam_write(&a, COMMAND, 2, MEMORY | MASTER);
    assert_int_equal(world.messages, 1);
}

/* The device sees none of it; entries by any size; reserved bits stay zero. */
static void the_table_is_not_the_devices(void **state)
{
    uint64_t entry = bar + TABLE + 16 * 2;

    (void)state;
    a.answer = UINT64_MAX;
    mmio_write(entry, 8, UINT64_MAX);
    mmio_write(entry + 8, 8, UINT64_MAX);
    assert_int_equal(mmio_read(entry, 8), UINT64_MAX - 3);
    assert_int_equal(mmio_read(entry + 8, 8), UINT64_C(0x1ffffffff));
    mmio_write(entry + 9, 1, 0x12);
    mmio_write(entry + 2, 2, 0x3456);
    assert_int_equal(mmio_read(entry + 8, 4), 0xffff12ff);
    assert_int_equal(mmio_read(entry, 4), 0x3456fffc);
    assert_int_equal(mmio_read(entry + 6, 4), 0x12ffffff);
    mmio_write(bar + TABLE + 16 * VECTORS - 2, 4, UINT32_MAX); /* over its end */
    assert_int_equal(mmio_read(bar + TABLE + 16 * VECTORS - 2, 4), 0);
    mmio_write(bar + TABLE - 2, 4, UINT32_MAX); /* and its start */
    assert_int_equal(mmio_read(bar + TABLE, 2), 0xfffc);
    (void)mmio_read(bar + PENDING + 12, 8);
    mmio_write(bar + PENDING + 12, 8, UINT64_MAX);
    assert_int_equal(a.reads, 0);
    assert_int_equal(a.writes, 0);
    (void)mmio_read(bar + TABLE + 16 * VECTORS, 8);
    (void)mmio_read(bar + PENDING + 16, 8);
    assert_int_equal(a.reads, 2);
}

static void the_device_hears_of_changes(void **state)
{
    (void)state;
    mmio_write(bar + TABLE + 16 * 5, 8, 0xfee00000);
    assert_int_equal(a.vectors_changed, 1);
    assert_int_equal(a.vector, 5);
    mmio_write(bar + TABLE + 16 * 5, 8, 0xfee00000); /* nothing new */
    assert_int_equal(a.vectors_changed, 1);
    mmio_write(bar + TABLE + 16 * 5 - 4, 8, UINT64_C(0xfee0100000000000)); /* mask of 4, then 5 */
    assert_int_equal(a.vectors_changed, 3);
    msix_control(0x8000);
    assert_int_equal(a.vectors_changed, 4);
    assert_int_equal(a.vector, UINT_MAX);
    msix_control(0x8000);
    assert_int_equal(a.vectors_changed, 4);
    ecam_write(&a, COMMAND, 2, MEMORY);
    assert_int_equal(a.vectors_changed, 5);
}

/* In a callback, under the config lock: what a device would do there. */
static void ask_and_notify(void *dev, unsigned vector)
{
    struct toy *t = dev;
    struct msi_message m;

    t->vectors_changed += pci_message(&t->f, 7, &m);
    (void)vector;
    if (t->vectors_changed == 1)
        (void)pci_notify(&t->f, 7);
}

static void a_callback_may_ask(void **state)
{
    struct pci_ops ops = toy_ops;

    (void)state;
    ops.vectors_changed = ask_and_notify;
    a.f.ops = &ops;
    set_vector(7, 0xfee00000, 0x77, 0);
    msix_control(0x8000);
    assert_int_equal(a.vectors_changed, 1);
    assert_int_equal(world.messages, 1);
    assert_int_equal(world.message[0].data, 0x77);
    a.f.ops = &toy_ops;
}

static void bad_tables_are_refused(void **state)
{
    static struct toy bad;
    struct error err;

    (void)state;
    toy_init(&bad, 9);
    pci_add_bar(&bad.f, 0, 0x1000, false, false, false);
    pci_add_bar(&bad.f, 1, 0x100, true, false, false);
    assert_int_equal(pci_add_msix(&bad.f, 0, 0, 0, 0x800), -EINVAL);
    assert_int_equal(pci_add_msix(&bad.f, 2049, 0, 0, 0x800), -EINVAL);
    assert_int_equal(pci_add_msix(&bad.f, 1, 6, 0, 0x800), -EINVAL);
    assert_int_equal(pci_add_msix(&bad.f, 1, 0, 4, 0x800), -EINVAL);
    static const struct {
        unsigned vectors, bar;
        uint64_t table, pending;
    } wrong[] = {
        { 257, 0, 0, 0x800 }, { 1, 0, 0xff8, 0 }, { 1, 0, 0, 0x1000 }, { 1, 0, 0, 8 },
        { 1, 1, 0, 0x80 },    { 1, 3, 0, 0x80 },  { 65, 0, 0x10, 8 },
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(
            pci_add_msix(&bad.f, wrong[i].vectors, wrong[i].bar, wrong[i].table, wrong[i].pending),
            0);
        assert_int_equal(pci_add(world.pci, &bad.f, -1, &err), -EINVAL);
        assert_non_null(strstr(err.text, "MSI-X"));
        pci_remove(&bad.f);
    }
}

/* --- MSI ------------------------------------------------------------------------------------ */

static void msi(void **state)
{
    unsigned cap = a.f.msi_cap;

    (void)state;
    assert_int_equal(ecam_read(&a, cap, 1), 0x05);
    assert_int_equal(ecam_read(&a, cap + 2, 2), 0x0180); /* 64 bits, maskable, one vector */
    ecam_write(&a, cap + 4, 8, UINT64_C(0x2fee0200f));
    ecam_write(&a, cap + 12, 4, 0xffff4242);
    ecam_write(&a, cap + 2, 2, 0xffff);
    assert_int_equal(ecam_read(&a, cap + 2, 2), 0x0181);
    assert_int_equal(ecam_read(&a, cap + 12, 4), 0x4242);
    assert_int_equal(pci_interrupt_kind(&a.f), PCI_MSI);
    assert_true(pci_notify(&a.f, 0));
    assert_int_equal(world.messages, 1);
    assert_int_equal(world.message[0].address, UINT64_C(0x2fee0200c));
    assert_int_equal(world.message[0].data, 0x4242);
    ecam_write(&a, cap + 16, 4, UINT32_MAX);
    assert_int_equal(ecam_read(&a, cap + 16, 4), 1);
    assert_false(pci_notify(&a.f, 0));
    assert_int_equal(ecam_read(&a, cap + 20, 4), 1);
    ecam_write(&a, cap + 20, 4, 0); /* read-only */
    assert_int_equal(ecam_read(&a, cap + 20, 4), 1);
    ecam_write(&a, cap + 16, 4, 0);
    assert_int_equal(world.messages, 2);
    assert_int_equal(ecam_read(&a, cap + 20, 4), 0);
    assert_int_equal(a.f.raised[PCI_MSI], 2);
    assert_int_equal(world.line_changes, 0);
}

static void pending_msi_is_lost_when_off(void **state)
{
    unsigned cap = a.f.msi_cap;

    (void)state;
    ecam_write(&a, cap + 16, 4, 1);
    ecam_write(&a, cap + 2, 2, 1);
    assert_false(pci_notify(&a.f, 0));
    ecam_write(&a, cap + 2, 2, 0);
    ecam_write(&a, cap + 16, 4, 0);
    ecam_write(&a, cap + 2, 2, 1);
    assert_int_equal(world.messages, 0);
    /* MSI-X is stronger, and MSI's pending interrupt is not its own. */
    msix_control(0x8000);
    assert_int_equal(pci_interrupt_kind(&a.f), PCI_MSIX);
}

/* --- INTx ------------------------------------------------------------------------------------ */

static void a_line_rises_and_falls(void **state)
{
    unsigned gsi = 16 + 5 % 4;

    (void)state;
    assert_int_equal(pci_interrupt_kind(&a.f), PCI_INTX);
    assert_true(pci_notify(&a.f, 0));
    assert_int_equal(world.level[gsi], 1);
    assert_int_equal(ecam_read(&a, 6, 1) & 8, 8);
    assert_true(pci_notify(&a.f, 0)); /* it is up */
    assert_int_equal(a.f.raised[PCI_INTX], 1);
    ecam_write(&a, COMMAND, 2, MEMORY | NO_INTX);
    assert_int_equal(world.level[gsi], 0);
    assert_int_equal(ecam_read(&a, 6, 1) & 8, 8); /* the device still wants it */
    assert_false(pci_notify(&a.f, 0));
    ecam_write(&a, COMMAND, 2, MEMORY);
    assert_int_equal(world.level[gsi], 1);
    msix_control(0x8000); /* never both */
    assert_int_equal(world.level[gsi], 0);
    msix_control(0);
    assert_int_equal(world.level[gsi], 1);
    pci_intx_set(&a.f, false);
    assert_int_equal(world.level[gsi], 0);
    assert_int_equal(ecam_read(&a, 6, 1) & 8, 0);
    assert_int_equal(world.messages, 0);
}

static void lines_are_shared(void **state)
{
    (void)state;
    toy_init(&b, 2);
    pci_use_intx(&b.f);
    toy_add(&b, PCI_DEVFN(9, 0)); /* 9 % 4 == 5 % 4 */
    pci_intx_set(&a.f, true);
    pci_intx_set(&b.f, true);
    assert_int_equal(world.line_changes, 1);
    pci_intx_set(&a.f, false);
    assert_int_equal(world.level[17], 1);
    pci_remove(&b.f); /* takes its level along */
    assert_int_equal(world.level[17], 0);
    toy_init(&b, 2);
    pci_use_intx(&b.f);
    toy_add(&b, PCI_DEVFN(6, 0));
    pci_intx_set(&b.f, true);
    assert_int_equal(world.level[18], 1);
    assert_int_equal(world.level[17], 0);
    pci_remove(&b.f);
    assert_int_equal(world.line_changes, 4);
}

static void a_function_without_interrupts(void **state)
{
    (void)state;
    toy_init(&b, 2);
    toy_add(&b, -1);
    assert_int_equal(pci_interrupt_kind(&b.f), PCI_NONE);
    assert_false(pci_notify(&b.f, 0));
    assert_int_equal(ecam_read(&b, 6, 1) & 8, 0);
    pci_remove(&b.f);
    assert_false(pci_notify(&b.f, 0)); /* nor one that is on no bus */
    assert_int_equal(world.line_changes, 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(msix_capability),
        TEST(a_message_is_sent),
        TEST(vectors_start_masked),
        TEST(the_function_mask),
        TEST(no_message_without_bus_master),
        TEST(the_table_is_not_the_devices),
        TEST(the_device_hears_of_changes),
        TEST(a_callback_may_ask),
        TEST(bad_tables_are_refused),
        TEST(msi),
        TEST(pending_msi_is_lost_when_off),
        TEST(a_line_rises_and_falls),
        TEST(lines_are_shared),
        TEST(a_function_without_interrupts),
    };

    return cmocka_run_group_tests_name("pci interrupts", tests, NULL, NULL);
}
