#include "tests/unit/virtio_fixture.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/bus.h"

/* --- the machine ---------------------------------------------------------------------- */

static void set_line(void *ctx, unsigned gsi, int level)
{
    struct machine *m = ctx;

    assert_in_range(gsi, 16, 19);
    m->line[gsi - 16] = (unsigned)level;
}

static void send_msi(void *ctx, const struct msi_message *message)
{
    struct machine *m = ctx;

    assert_int_equal(message->address, 0xfee00000);
    m->vector[message->data & 0xff]++;
}

void machine_make(struct machine *m)
{
    struct irq_line intx = { .set = set_line, .ctx = m, .gsi = 16 };
    struct msi_sink msi = { .send = send_msi, .ctx = m };

    memset(m, 0, sizeof(*m));
    assert_int_equal(memory_create(&m->mem, MACHINE_RAM, MEM_ANON, NULL), 0);
    m->ram = memory_at(m->mem, gpa(0), MACHINE_RAM);
    assert_int_equal(bus_create(&m->bus, NULL), 0);
    assert_int_equal(io_loop_create(&m->loop, NULL), 0);
    assert_int_equal(pci_create(&m->pci, m->bus, intx, msi, 0, 0, NULL), 0);
    m->place = (struct virtio_place){ .pci = m->pci, .mem = m->mem, .loop = m->loop, .vm_fd = -1 };
}

static void *loop_main(void *arg)
{
    io_loop_run(arg);
    return NULL;
}

void machine_run(struct machine *m)
{
    assert_int_equal(pthread_create(&m->thread, NULL, loop_main, m->loop), 0);
    m->running = true;
}

void machine_stop(struct machine *m)
{
    if (!m->running)
        return;
    io_loop_stop(m->loop);
    (void)pthread_join(m->thread, NULL);
    m->running = false;
}

void machine_drop(struct machine *m)
{
    pci_destroy(m->pci);
    io_loop_destroy(m->loop);
    bus_destroy(m->bus);
    memory_destroy(m->mem);
}

struct call {
    struct machine *m;
    void (*fn)(void *arg);
    void *arg;
    atomic_bool over;
};

static void on_call(void *ctx, int fd, uint32_t events)
{
    struct call *c = ctx;

    (void)events;
    io_loop_remove(c->m->loop, fd);
    c->fn(c->arg);
    c->over = true;
}

void machine_do(struct machine *m, void (*fn)(void *arg), void *arg)
{
    struct call c = { .m = m, .fn = fn, .arg = arg };
    int fd = eventfd(1, EFD_CLOEXEC);

    assert_int_equal(io_loop_add(m->loop, fd, EPOLLIN, on_call, &c), 0);
    while (!c.over)
        (void)sched_yield();
    (void)close(fd);
}

static void select_config(struct machine *m, unsigned device, unsigned offset)
{
    (void)bus_write(m->bus, BUS_PIO, 0xcf8, 4, 0x80000000u | device << 11 | (offset & 0xfc));
}

uint32_t config_get(struct machine *m, unsigned device, unsigned offset, unsigned size)
{
    uint64_t value = 0;

    select_config(m, device, offset);
    (void)bus_read(m->bus, BUS_PIO, 0xcfc + (offset & 3), size, &value);
    return (uint32_t)value;
}

void config_put(struct machine *m, unsigned device, unsigned offset, unsigned size, uint32_t value)
{
    select_config(m, device, offset);
    (void)bus_write(m->bus, BUS_PIO, 0xcfc + (offset & 3), size, value);
}

uint64_t reg_get(struct machine *m, uint64_t addr, unsigned size)
{
    uint64_t value = 0;

    assert_true(bus_read(m->bus, BUS_MMIO, addr, size, &value));
    return value;
}

void reg_put(struct machine *m, uint64_t addr, unsigned size, uint64_t value)
{
    assert_true(bus_write(m->bus, BUS_MMIO, addr, size, value));
}

/* --- the driver -------------------------------------------------------------------------- */

static uint64_t bar_address(struct driver *d, unsigned bar)
{
    return config_get(d->m, d->device, 0x10 + 4 * bar, 4) & ~15u;
}

static void vendor_cap(struct driver *d, unsigned cap)
{
    unsigned type = config_get(d->m, d->device, cap + 3, 1);
    unsigned bar = config_get(d->m, d->device, cap + 4, 1);
    uint64_t at = bar_address(d, bar) + config_get(d->m, d->device, cap + 8, 4);

    switch (type) {
    case 1:
        d->common = at;
        break;
    case 2:
        d->notify = at;
        d->multiplier = config_get(d->m, d->device, cap + 16, 4);
        break;
    case 3:
        d->isr = at;
        break;
    case 4:
        d->config = at;
        d->config_bytes = config_get(d->m, d->device, cap + 12, 4);
        break;
    case 5:
        d->window = cap;
        break;
    default:
        fail_msg("capability of type %u", type);
    }
}

void driver_probe(struct driver *d, struct machine *m, unsigned device)
{
    memset(d, 0, sizeof(*d));
    d->m = m;
    d->device = device;
    assert_int_equal(config_get(m, device, 0, 2), 0x1af4);
    for (unsigned cap = config_get(m, device, 0x34, 1); cap;
         cap = config_get(m, device, cap + 1, 1)) {
        unsigned id = config_get(m, device, cap, 1);

        if (id == 9)
            vendor_cap(d, cap);
        if (id == 0x11) {
            uint32_t table = config_get(m, device, cap + 4, 4);

            d->msix = cap;
            d->table = bar_address(d, table & 7) + (table & ~7u);
        }
    }
    config_put(m, device, 4, 2, 6); /* memory, bus master */
    assert_true(d->common && d->notify && d->isr && d->window && d->msix);
}

static void put(struct driver *d, unsigned offset, unsigned size, uint64_t value)
{
    reg_put(d->m, d->common + offset, size, value);
}

void driver_reset(struct driver *d)
{
    put(d, STATUS, 1, 0);
    while (reg_get(d->m, d->common + STATUS, 1))
        (void)sched_yield();
}

uint64_t driver_offered(struct driver *d)
{
    uint64_t low;

    put(d, DEVICE_FEATURE_SELECT, 4, 0);
    low = reg_get(d->m, d->common + DEVICE_FEATURE, 4);
    put(d, DEVICE_FEATURE_SELECT, 4, 1);
    return low | reg_get(d->m, d->common + DEVICE_FEATURE, 4) << 32;
}

uint8_t driver_negotiate(struct driver *d, uint64_t features)
{
    put(d, STATUS, 1, ST_ACK);
    put(d, STATUS, 1, ST_ACK | ST_DRIVER);
    for (unsigned i = 0; i < 2; i++) {
        put(d, DRIVER_FEATURE_SELECT, 4, i);
        put(d, DRIVER_FEATURE, 4, (uint32_t)(features >> (32 * i)));
    }
    put(d, STATUS, 1, ST_ACK | ST_DRIVER | ST_FEATURES_OK);
    return (uint8_t)reg_get(d->m, d->common + STATUS, 1);
}

void driver_queue(struct driver *d, unsigned n, unsigned size, uint64_t at, uint16_t vector)
{
    memset(d->m->ram + at, 0, 0x10000);
    d->queue[n].size = size;
    d->queue[n].desc = at;
    d->queue[n].avail = at + 0x2000;
    d->queue[n].used = at + 0x4000;
    d->queue[n].next = d->queue[n].seen = 0;
    put(d, QUEUE_SELECT, 2, n);
    put(d, QUEUE_SIZE, 2, size);
    put(d, QUEUE_VECTOR, 2, vector);
    put(d, QUEUE_DESC, 4, (uint32_t)at);
    put(d, QUEUE_DESC + 4, 4, 0);
    put(d, QUEUE_DRIVER, 8, d->queue[n].avail);
    put(d, QUEUE_DEVICE, 8, d->queue[n].used);
    put(d, QUEUE_ENABLE, 2, 1);
}

void driver_start(struct driver *d, uint64_t features)
{
    driver_reset(d);
    assert_int_equal(driver_negotiate(d, features), ST_ACK | ST_DRIVER | ST_FEATURES_OK);
    driver_queue(d, 0, 128, 0x100000, 0);
    put(d, STATUS, 1, ST_ACK | ST_DRIVER | ST_FEATURES_OK | ST_DRIVER_OK);
}

void driver_msix(struct driver *d, unsigned vectors)
{
    for (unsigned i = 0; i < vectors; i++) {
        reg_put(d->m, d->table + 16 * i, 4, 0xfee00000);
        reg_put(d->m, d->table + 16 * i + 4, 4, 0);
        reg_put(d->m, d->table + 16 * i + 8, 4, i);
        reg_put(d->m, d->table + 16 * i + 12, 4, 0);
    }
    config_put(d->m, d->device, d->msix + 2, 2, 0x8000);
}

void driver_offer(struct driver *d, unsigned n, unsigned head, const struct piece *p,
                  unsigned count)
{
    uint8_t *ram = d->m->ram;
    uint16_t at = (uint16_t)(d->queue[n].next % d->queue[n].size), h = (uint16_t)head;

    for (unsigned i = 0; i < count; i++) {
        struct {
            uint64_t addr;
            uint32_t len;
            uint16_t flags, next;
        } desc = { p[i].addr, p[i].len, (uint16_t)((i + 1 < count ? 1 : 0) | (p[i].write ? 2 : 0)),
                   (uint16_t)(head + i + 1) };

        memcpy(ram + d->queue[n].desc + 16 * (head + i), &desc, sizeof(desc));
    }
    memcpy(ram + d->queue[n].avail + 4 + 2 * at, &h, 2);
    d->queue[n].next++;
    __atomic_store_n((uint16_t *)(void *)(ram + d->queue[n].avail + 2), d->queue[n].next,
                     __ATOMIC_RELEASE);
}

void driver_notify(struct driver *d, unsigned n)
{
    put(d, QUEUE_SELECT, 2, n);
    reg_put(d->m, d->notify + d->multiplier * reg_get(d->m, d->common + QUEUE_NOTIFY_OFF, 2), 2, n);
}

unsigned driver_used(struct driver *d, unsigned n, uint32_t *written)
{
    uint8_t *used = d->m->ram + d->queue[n].used;
    uint32_t elem[2];

    while (__atomic_load_n((uint16_t *)(void *)(used + 2), __ATOMIC_ACQUIRE) == d->queue[n].seen)
        (void)sched_yield();
    memcpy(elem, used + 4 + 8 * (d->queue[n].seen % d->queue[n].size), sizeof(elem));
    d->queue[n].seen++;
    if (written)
        *written = elem[1];
    return elem[0];
}
