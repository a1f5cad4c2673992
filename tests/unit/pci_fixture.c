#include "tests/unit/pci_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

struct pci_world world;

static uint64_t toy_bar_read(void *dev, unsigned bar, uint64_t offset, unsigned size)
{
    struct toy *t = dev;

    t->bar = bar;
    t->offset = offset;
    t->size = size;
    t->reads++;
    return t->answer;
}

static void toy_bar_write(void *dev, unsigned bar, uint64_t offset, unsigned size, uint64_t value)
{
    struct toy *t = dev;

    t->bar = bar;
    t->offset = offset;
    t->size = size;
    t->value = value;
    t->writes++;
}

static void toy_placed(void *dev, unsigned bar)
{
    struct toy *t = dev;

    t->placed++;
    t->placed_bar = bar;
}

static void toy_config_written(void *dev, unsigned offset, unsigned size)
{
    struct toy *t = dev;

    t->config_writes++;
    t->config_offset = offset;
    t->config_size = size;
}

static void toy_config_read(void *dev, unsigned offset, unsigned size)
{
    struct toy *t = dev;

    t->config_reads++;
    t->config_offset = offset;
    t->config_size = size;
}

static void toy_vectors_changed(void *dev, unsigned vector)
{
    struct toy *t = dev;

    t->vectors_changed++;
    t->vector = vector;
}

const struct pci_ops toy_ops = {
    .bar_read = toy_bar_read,
    .bar_write = toy_bar_write,
    .bar_placed = toy_placed,
    .config_written = toy_config_written,
    .config_read = toy_config_read,
    .vectors_changed = toy_vectors_changed,
};

static void set_line(void *ctx, unsigned gsi, int level)
{
    (void)ctx;
    assert_in_range(gsi, 16, 19);
    assert_int_not_equal(world.level[gsi], level); /* it is told of changes only */
    world.level[gsi] = level;
    world.line_changes++;
}

static void send(void *ctx, const struct msi_message *message)
{
    (void)ctx;
    world.message[world.messages++ % MESSAGES] = *message;
}

static void end(void *ctx, enum vm_end how, uint32_t value, const char *why)
{
    (void)ctx;
    (void)value;
    (void)why;
    assert_int_equal(how, VM_END_RESET);
    world.ends++;
}

int world_start(void **state)
{
    struct irq_line intx = { .set = set_line, .gsi = 16 };
    struct msi_sink msi = { .send = send };

    (void)state;
    memset(&world, 0, sizeof(world));
    world.hook.end = end;
    assert_int_equal(bus_create(&world.bus, NULL), 0);
    assert_int_equal(platform_create(&world.platform, world.bus, &world.hook, NULL), 0);
    assert_int_equal(pci_create(&world.pci, world.bus, intx, msi, WIDE_BASE, WIDE_SIZE, NULL), 0);
    return 0;
}

int world_stop(void **state)
{
    (void)state;
    pci_destroy(world.pci);
    platform_destroy(world.platform);
    bus_destroy(world.bus);
    return 0;
}

void toy_init(struct toy *t, uint16_t device)
{
    memset(t, 0, sizeof(*t));
    t->f.ops = &toy_ops;
    t->f.dev = t;
    t->f.name = "toy";
    pci_header(&t->f, 0x1234, device, 0xff0000, 3, 0x1234, 1);
}

void toy_add(struct toy *t, int devfn)
{
    assert_int_equal(pci_add(world.pci, &t->f, devfn, NULL), 0);
}

uint64_t mmio_read(uint64_t addr, unsigned size)
{
    uint64_t value;

    (void)bus_read(world.bus, BUS_MMIO, addr, size, &value);
    return value;
}

void mmio_write(uint64_t addr, unsigned size, uint64_t value)
{
    (void)bus_write(world.bus, BUS_MMIO, addr, size, value);
}

uint64_t port_read(uint64_t port, unsigned size)
{
    uint64_t value;

    (void)bus_read(world.bus, BUS_PIO, port, size, &value);
    return value;
}

void port_write(uint64_t port, unsigned size, uint64_t value)
{
    (void)bus_write(world.bus, BUS_PIO, port, size, value);
}

uint64_t ecam_read(const struct toy *t, unsigned offset, unsigned size)
{
    return mmio_read(PCI_ECAM_BASE + t->f.devfn * PCI_CONFIG + offset, size);
}

void ecam_write(const struct toy *t, unsigned offset, unsigned size, uint64_t value)
{
    mmio_write(PCI_ECAM_BASE + t->f.devfn * PCI_CONFIG + offset, size, value);
}
