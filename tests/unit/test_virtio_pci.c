/* The transport: a driver against a device that echoes. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/virtio_fixture.h"
#include "vmm/virtio_rng.h"

#define NO_VECTOR 0xffffu
#define FEATURE   (UINT64_C(1) << 3)
#define DATA      UINT64_C(0x200000)

static struct {
    struct machine m;
    struct virtio_device *v;
    struct driver d;
    uint8_t config[8];
    atomic_uint kicks, resets, writes, drains;
    atomic_bool slow;   /* reset() waits, and config_written() */
    atomic_bool taking; /* in config_written() */
    unsigned offset, len;
} t;

/* --- the device -------------------------------------------------------------------------- */

static void config_read(void *dev, void *config)
{
    (void)dev;
    memcpy(config, t.config, sizeof(t.config));
}

/* The first four bytes are the device's own. */
static void config_written(void *dev, unsigned offset, const void *bytes, unsigned len)
{
    (void)dev;
    t.taking = true;
    while (t.slow)
        (void)sched_yield();
    for (unsigned i = 0; i < len; i++)
        if (offset + i >= 4)
            t.config[offset + i] = ((const uint8_t *)bytes)[i];
    t.offset = offset;
    t.len = len;
    t.writes++;
}

static void kicked(void *dev, unsigned n)
{
    static struct virtq_chain c;
    struct virtqueue *q = virtio_queue(t.v, n);
    uint8_t buf[256];

    (void)dev;
    t.kicks++;
    while (virtqueue_pop(q, &c) > 0) {
        int64_t len = virtqueue_read(q, &c, 0, buf, sizeof(buf));

        len = virtqueue_write(q, &c, 0, buf, len < 0 ? 0 : (uint64_t)len);
        (void)virtqueue_push(q, c.head, (uint32_t)len);
    }
    virtio_signal(t.v, n);
    if (q->broken)
        virtio_broken(t.v, n);
}

static void reset(void *dev)
{
    (void)dev;
    while (t.slow)
        (void)sched_yield();
    t.resets++;
}

static void drain(void *dev)
{
    (void)dev;
    t.drains++;
}

static const struct virtio_ops echo = {
    .type = VIRTIO_RNG,
    .name = "echo",
    .class = 0xff0000,
    .queues = 2,
    .queue_max = 128,
    .features = FEATURE,
    .config_bytes = 8,
    .config_read = config_read,
    .config_written = config_written,
    .kicked = kicked,
    .reset = reset,
};

static int start(void **state)
{
    (void)state;
    memset(&t, 0, sizeof(t));
    memcpy(t.config, "\1\2\3\4\5\6\7\10", 8);
    machine_make(&t.m);
    assert_int_equal(virtio_create(&t.v, &echo, NULL, &t.m.place, NULL), 0);
    virtio_dma(t.v)->drain = drain;
    machine_run(&t.m);
    driver_probe(&t.d, &t.m, 1);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    t.slow = false; /* of a test that failed */
    machine_stop(&t.m);
    virtio_destroy(t.v);
    machine_drop(&t.m);
    return 0;
}

static uint64_t get(unsigned offset, unsigned size)
{
    return reg_get(&t.m, t.d.common + offset, size);
}

static void put(unsigned offset, unsigned size, uint64_t value)
{
    reg_put(&t.m, t.d.common + offset, size, value);
}

static void echo_once(unsigned n, const char *text)
{
    uint32_t len = (uint32_t)strlen(text), written;
    struct piece p[] = { { DATA, len, false }, { DATA + 0x1000, len, true } };

    memcpy(t.m.ram + DATA, text, len);
    memset(t.m.ram + DATA + 0x1000, 0, len);
    driver_offer(&t.d, n, 0, p, 2);
    driver_notify(&t.d, n);
    assert_int_equal(driver_used(&t.d, n, &written), 0);
    assert_int_equal(written, len);
    assert_memory_equal(t.m.ram + DATA + 0x1000, text, len);
}

static void nothing(void *arg)
{
    (void)arg;
}

/* All that was sent to the I/O thread before has been done. */
static void settle(void)
{
    machine_do(&t.m, nothing, NULL);
    machine_do(&t.m, nothing, NULL);
}

/* --- registers ----------------------------------------------------------------------------- */

static void identity(void **state)
{
    (void)state;
    assert_int_equal(config_get(&t.m, 1, 2, 2), 0x1040 + VIRTIO_RNG);
    assert_int_equal(config_get(&t.m, 1, 8, 4), 0xff000001);
    assert_true(config_get(&t.m, 1, 8, 1) >= 1);
    assert_true(config_get(&t.m, 1, 0x2e, 2) >= 0x40);
    assert_int_equal(t.d.config_bytes, 8);
    assert_int_equal(get(NUM_QUEUES, 2), 2);
    assert_int_equal(get(STATUS, 1), 0);
    assert_int_equal(get(CONFIG_VECTOR, 2), NO_VECTOR);
    assert_int_equal(driver_offered(&t.d), FEATURE | VERSION_1 | INDIRECT_DESC | EVENT_IDX);
    put(DEVICE_FEATURE_SELECT, 4, 2);
    assert_int_equal(get(DEVICE_FEATURE, 4), 0);
    assert_int_equal(get(QUEUE_SIZE, 2), 128);
    put(QUEUE_SELECT, 2, 2); /* there is none */
    assert_int_equal(get(QUEUE_SIZE, 2), 0);
    put(QUEUE_SIZE, 2, 8);
    put(QUEUE_ENABLE, 2, 1);
    assert_int_equal(get(QUEUE_SIZE, 2), 0);
    assert_int_equal(get(QUEUE_ENABLE, 2), 0);
}

static void negotiation(void **state)
{
    uint64_t good = VERSION_1 | FEATURE;

    (void)state;
    assert_false(driver_negotiate(&t.d, FEATURE) & ST_FEATURES_OK); /* legacy */
    driver_reset(&t.d);
    assert_false(driver_negotiate(&t.d, good | 1) & ST_FEATURES_OK); /* not offered */
    assert_int_equal(virtio_features(t.v), 0);
    put(STATUS, 1, ST_ACK | ST_DRIVER | ST_DRIVER_OK);
    assert_int_equal(get(STATUS, 1), ST_ACK | ST_DRIVER); /* nothing was agreed on */
    driver_reset(&t.d);
    put(STATUS, 1, ST_FEATURES_OK); /* no driver yet */
    assert_int_equal(get(STATUS, 1), 0);
    assert_true(driver_negotiate(&t.d, good) & ST_FEATURES_OK);
    assert_int_equal(virtio_features(t.v), good);
    put(DRIVER_FEATURE_SELECT, 4, 0); /* fixed from here on */
    put(DRIVER_FEATURE, 4, 0xffffffff);
    assert_int_equal(virtio_features(t.v), good);
    put(STATUS, 1, ST_ACK); /* bits don't go away */
    assert_int_equal(get(STATUS, 1), ST_ACK | ST_DRIVER | ST_FEATURES_OK);
}

static void queue_registers(void **state)
{
    (void)state;
    put(QUEUE_SELECT, 2, 1);
    put(QUEUE_SIZE, 2, 64);
    assert_int_equal(get(QUEUE_SIZE, 2), 64);
    put(QUEUE_SIZE, 2, 0);
    put(QUEUE_SIZE, 2, 48);
    put(QUEUE_SIZE, 2, 256);
    assert_int_equal(get(QUEUE_SIZE, 2), 64);
    put(QUEUE_DESC, 8, 0x1122334455667780);
    assert_int_equal(get(QUEUE_DESC, 8), 0x1122334455667780);
    put(QUEUE_DESC + 4, 4, 1);
    assert_int_equal(get(QUEUE_DESC, 8), 0x155667780);
    assert_int_equal(get(QUEUE_DESC, 4), 0x55667780);
    put(QUEUE_VECTOR, 2, 2);
    assert_int_equal(get(QUEUE_VECTOR, 2), 2);
    put(QUEUE_VECTOR, 2, 3); /* config and two queues have three vectors */
    assert_int_equal(get(QUEUE_VECTOR, 2), NO_VECTOR);
    assert_int_equal(get(QUEUE_NOTIFY_OFF, 2), 1);
    put(QUEUE_ENABLE, 2, 0);
    assert_int_equal(get(QUEUE_ENABLE, 2), 0);
    put(QUEUE_ENABLE, 2, 1);
    put(QUEUE_ENABLE, 2, 0);
    assert_int_equal(get(QUEUE_ENABLE, 2), 1);
    put(QUEUE_SIZE, 2, 32); /* fixed from here on */
    put(QUEUE_DESC, 8, 0);
    assert_int_equal(get(QUEUE_SIZE, 2), 64);
    assert_int_equal(get(QUEUE_DESC, 8), 0x155667780);
    put(QUEUE_SELECT, 2, 0); /* of one queue only */
    assert_int_equal(get(QUEUE_SIZE, 2), 128);
    put(QUEUE_SIZE, 1, 64); /* a part of a field */
    assert_int_equal(get(QUEUE_SIZE, 2), 128);
}

static void device_config(void **state)
{
    (void)state;
    assert_int_equal(reg_get(&t.m, t.d.config, 4), 0x04030201);
    assert_int_equal(reg_get(&t.m, t.d.config + 5, 1), 6);
    assert_int_equal(reg_get(&t.m, t.d.config + 6, 4), 0); /* over its end */
    reg_put(&t.m, t.d.config + 4, 2, 0xaabb);
    settle();
    assert_int_equal(reg_get(&t.m, t.d.config + 4, 2), 0xaabb);
    assert_int_equal(t.writes, 1);
    assert_int_equal(t.offset, 4);
    assert_int_equal(t.len, 2);
    assert_memory_equal(t.config, "\1\2\3\4\xbb\xaa\7\10", 8);
    reg_put(&t.m, t.d.config, 1, 0xff); /* the device does not take it */
    settle();
    assert_int_equal(reg_get(&t.m, t.d.config, 1), 1);
}

/* Written while the device takes an earlier write: neither lost, nor read back too early. */
static void config_written_twice(void **state)
{
    (void)state;
    t.slow = true;
    reg_put(&t.m, t.d.config + 4, 1, 0x11);
    while (!t.taking)
        (void)sched_yield();
    assert_int_equal(reg_get(&t.m, t.d.config + 4, 1), 5);
    reg_put(&t.m, t.d.config + 4, 1, 0x22);
    reg_put(&t.m, t.d.config + 7, 1, 0x33);
    assert_int_equal(reg_get(&t.m, t.d.config + 4, 4), 0x08070605);
    t.slow = false;
    settle();
    settle();
    assert_int_equal(reg_get(&t.m, t.d.config + 4, 4), 0x33070622);
    assert_memory_equal(t.config + 4, "\x22\6\7\x33", 4);
    assert_int_equal(t.writes, 3); /* no byte that was not written */
}

static void change_config(void *arg)
{
    (void)arg;
    t.config[0]++;
    virtio_config_changed(t.v);
}

static void config_change(void **state)
{
    uint64_t generation;

    (void)state;
    driver_msix(&t.d, 3);
    driver_start(&t.d, VERSION_1);
    put(CONFIG_VECTOR, 2, 2);
    generation = get(GENERATION, 1);
    machine_do(&t.m, change_config, NULL);
    assert_int_equal(get(GENERATION, 1), generation + 1);
    assert_int_equal(reg_get(&t.m, t.d.config, 1), 2);
    assert_int_equal(t.m.vector[2], 1);
}

/* 4.1.4.9: the same registers, through config space. */
static void window(void **state)
{
    uint32_t bar = config_get(&t.m, 1, 0x10, 4);
    unsigned w = t.d.window;

    (void)state;
    config_put(&t.m, 1, w + 4, 1, 0);
    config_put(&t.m, 1, w + 8, 4, (uint32_t)(t.d.common - bar) + NUM_QUEUES);
    config_put(&t.m, 1, w + 12, 4, 2);
    assert_int_equal(config_get(&t.m, 1, w + 16, 2), 2);
    config_put(&t.m, 1, w + 8, 4, (uint32_t)(t.d.common - bar) + QUEUE_SIZE);
    config_put(&t.m, 1, w + 16, 2, 16);
    assert_int_equal(get(QUEUE_SIZE, 2), 16);
    config_put(&t.m, 1, w + 8, 4, (uint32_t)(t.d.common - bar) + QUEUE_SIZE + 1); /* unaligned */
    config_put(&t.m, 1, w + 16, 2, 32);
    config_put(&t.m, 1, w + 12, 4, 8); /* too wide */
    config_put(&t.m, 1, w + 16, 4, 32);
    config_put(&t.m, 1, w + 8, 4, 0xfffffffc); /* beyond the BAR */
    config_put(&t.m, 1, w + 12, 4, 4);
    config_put(&t.m, 1, w + 16, 4, 32);
    assert_int_equal(get(QUEUE_SIZE, 2), 16);
}

static void moved(void **state)
{
    uint64_t by = UINT64_C(0x1000000);

    (void)state;
    config_put(&t.m, 1, 0x10, 4, (uint32_t)(config_get(&t.m, 1, 0x10, 4) + by));
    driver_probe(&t.d, &t.m, 1);
    driver_start(&t.d, VERSION_1);
    echo_once(0, "at its new place");
}

/* --- interrupts ------------------------------------------------------------------------------ */

static void by_msix(void **state)
{
    (void)state;
    driver_msix(&t.d, 3);
    driver_start(&t.d, VERSION_1);
    put(QUEUE_SELECT, 2, 0);
    put(QUEUE_VECTOR, 2, 1);
    echo_once(0, "one");
    settle();
    assert_int_equal(t.m.vector[1], 1);
    reg_put(&t.m, t.d.table + 16 + 12, 4, 1); /* masked: kept */
    echo_once(0, "two");
    settle();
    assert_int_equal(t.m.vector[1], 1);
    reg_put(&t.m, t.d.table + 16 + 12, 4, 0);
    assert_int_equal(t.m.vector[1], 2);
    put(QUEUE_VECTOR, 2, NO_VECTOR);
    echo_once(0, "three");
    settle();
    assert_int_equal(t.m.vector[0] + t.m.vector[1] + t.m.vector[2], 2);
    assert_int_equal(reg_get(&t.m, t.d.isr, 1), 0);
}

static void by_line(void **state)
{
    uint32_t bar = config_get(&t.m, 1, 0x10, 4);

    (void)state;
    driver_start(&t.d, VERSION_1);
    echo_once(0, "one");
    settle();
    assert_int_equal(t.m.line[1], 1); /* device 1, INTA */
    assert_int_equal(reg_get(&t.m, t.d.isr, 1), 1);
    assert_int_equal(t.m.line[1], 0);
    assert_int_equal(reg_get(&t.m, t.d.isr, 1), 0);
    machine_do(&t.m, change_config, NULL);
    assert_int_equal(t.m.line[1], 1);
    echo_once(0, "two");
    settle();
    /* Acknowledged through config space. */
    config_put(&t.m, 1, t.d.window + 8, 4, (uint32_t)(t.d.isr - bar));
    config_put(&t.m, 1, t.d.window + 12, 4, 1);
    assert_int_equal(config_get(&t.m, 1, t.d.window + 16, 1), 3);
    settle();
    assert_int_equal(t.m.line[1], 0);
}

/* --- life ---------------------------------------------------------------------------------------
 */

static void two_queues(void **state)
{
    (void)state;
    driver_reset(&t.d);
    (void)driver_negotiate(&t.d, VERSION_1 | EVENT_IDX);
    driver_queue(&t.d, 0, 16, 0x100000, NO_VECTOR);
    driver_queue(&t.d, 1, 4, 0x110000, NO_VECTOR);
    put(STATUS, 1, 0xf);
    for (unsigned i = 0; i < 200; i++)
        echo_once(i % 2, i % 3 ? "a text" : "another");
    assert_int_equal(virtio_queue(t.v, 0)->chains, 100);
    assert_int_equal(virtio_queue(t.v, 1)->chains, 100);
}

/* Until the device is through with it the status is not 0, and nobody waited. */
static void slow_reset(void **state)
{
    (void)state;
    driver_start(&t.d, VERSION_1);
    echo_once(0, "before");
    t.resets = 0;
    t.slow = true;
    put(STATUS, 1, 0);
    assert_int_equal(get(STATUS, 1), 0xf);
    put(STATUS, 1, ST_ACK); /* dropped */
    put(QUEUE_SELECT, 2, 1);
    assert_int_equal(t.resets, 0);
    t.slow = false;
    while (get(STATUS, 1))
        (void)sched_yield();
    assert_int_equal(t.resets, 1);
    assert_int_equal(get(QUEUE_SELECT, 2), 0);
    assert_int_equal(get(QUEUE_ENABLE, 2), 0);
    assert_int_equal(get(QUEUE_DESC, 8), 0);
    assert_int_equal(get(QUEUE_VECTOR, 2), NO_VECTOR);
    assert_int_equal(virtio_features(t.v), 0);
    driver_start(&t.d, VERSION_1);
    echo_once(0, "after");
}

static void no_work_before_driver_ok(void **state)
{
    struct piece p = { DATA, 4, true };

    (void)state;
    driver_reset(&t.d);
    (void)driver_negotiate(&t.d, VERSION_1);
    driver_queue(&t.d, 0, 16, 0x100000, NO_VECTOR);
    driver_offer(&t.d, 0, 0, &p, 1);
    driver_notify(&t.d, 0);
    settle();
    assert_int_equal(t.kicks, 0);
    put(STATUS, 1, 0xf); /* and then it is seen without another notification */
    assert_int_equal(driver_used(&t.d, 0, NULL), 0);
}

static void broken_queue(void **state)
{
    struct piece p[] = { { DATA, 4, true }, { DATA, 4, false } };
    unsigned kicks;

    (void)state;
    driver_msix(&t.d, 3);
    driver_start(&t.d, VERSION_1);
    put(CONFIG_VECTOR, 2, 2);
    driver_offer(&t.d, 0, 0, p, 2);
    driver_notify(&t.d, 0);
    while (!(get(STATUS, 1) & ST_NEEDS_RESET))
        (void)sched_yield();
    settle();
    assert_int_equal(t.m.vector[2], 1);
    assert_non_null(strstr(virtio_queue(t.v, 0)->why, "readable"));
    kicks = t.kicks;
    driver_notify(&t.d, 0);
    settle();
    assert_int_equal(t.kicks, kicks);
    assert_int_equal(t.m.vector[2], 1);
    driver_start(&t.d, VERSION_1);
    echo_once(0, "healed");
}

static void without_bus_master(void **state)
{
    struct piece p = { DATA, 4, true };

    (void)state;
    driver_start(&t.d, VERSION_1);
    settle();
    config_put(&t.m, 1, 4, 2, 2);
    driver_offer(&t.d, 0, 0, &p, 1);
    driver_notify(&t.d, 0);
    while (!(get(STATUS, 1) & ST_NEEDS_RESET))
        (void)sched_yield();
    assert_non_null(strstr(virtio_queue(t.v, 0)->why, "bus master"));
}

static void hold(void *arg)
{
    virtio_hold(t.v, *(bool *)arg);
}

/* What is asked for meanwhile waits; nothing is lost. */
static void held(void **state)
{
    struct piece p = { DATA, 4, true };
    bool yes = true, no = false;
    unsigned kicks;

    (void)state;
    driver_start(&t.d, VERSION_1);
    echo_once(0, "before");
    machine_do(&t.m, hold, &yes);
    machine_do(&t.m, hold, &yes);
    assert_int_equal(t.drains, 1);
    kicks = t.kicks;
    driver_offer(&t.d, 0, 0, &p, 1);
    driver_notify(&t.d, 0);
    settle();
    assert_int_equal(t.kicks, kicks);
    assert_int_equal(t.m.ram[t.d.queue[0].used + 2], 1);
    machine_do(&t.m, hold, &no);
    assert_int_equal(driver_used(&t.d, 0, NULL), 0);
    machine_do(&t.m, hold, &yes); /* a reset needs no memory: it goes on */
    driver_reset(&t.d);
    machine_do(&t.m, hold, &no);
}

/* Any access of any size anywhere, while requests are served. */
static void storm(void **state)
{
    uint64_t bar = config_get(&t.m, 1, 0x10, 4) & ~15u, ignored;
    uint32_t seed = 1;

    (void)state;
    for (unsigned i = 0; i < 300000; i++) {
        unsigned size = 1u << (seed >> 13 & 3);
        uint64_t at;

        seed = seed * 1664525u + 1013904223u;
        at = bar + ((seed >> 28 & 3) << 12) + (seed >> 16 & 0x7f);
        if (i % 1000 == 0)
            driver_start(&t.d, VERSION_1);
        if (seed & 0x400)
            (void)bus_write(t.m.bus, BUS_MMIO, at, size, seed * UINT64_C(0x100000001));
        else
            (void)bus_read(t.m.bus, BUS_MMIO, at, size, &ignored);
    }
    driver_start(&t.d, VERSION_1);
    echo_once(0, "still there");
}

/* --- another device --------------------------------------------------------------------------- */

/* Behind an IOMMU a driver has to take ACCESS_PLATFORM. */
static void behind_an_iommu(void **state)
{
    struct machine m;
    struct virtio_rng *r;
    struct driver d;

    (void)state;
    machine_make(&m);
    m.place.iommu = (struct iommu *)&m; /* there is no transfer */
    assert_int_equal(virtio_rng_create(&r, &m.place, NULL), 0);
    machine_run(&m);
    driver_probe(&d, &m, 1);
    assert_true(driver_offered(&d) & ACCESS_PLATFORM);
    assert_false(driver_negotiate(&d, VERSION_1) & ST_FEATURES_OK);
    driver_reset(&d);
    assert_true(driver_negotiate(&d, VERSION_1 | ACCESS_PLATFORM) & ST_FEATURES_OK);
    machine_stop(&m);
    virtio_rng_destroy(r);
    machine_drop(&m);
}

static void random_numbers(void **state)
{
    static const struct piece small = { DATA, 64, true }, large = { DATA, 100000, true },
                              none = { DATA, 64, false };
    static uint8_t seen[64];
    struct machine m;
    struct virtio_rng *r;
    struct driver d;
    uint32_t written;

    (void)state;
    machine_make(&m);
    assert_int_equal(virtio_rng_create(&r, &m.place, NULL), 0);
    machine_run(&m);
    driver_probe(&d, &m, 1);
    driver_start(&d, VERSION_1); /* 128 is more than it has: 64 entries stay */
    d.queue[0].size = 64;
    for (unsigned i = 0; i < 100; i++) {
        driver_offer(&d, 0, 0, &small, 1);
        driver_notify(&d, 0);
        (void)driver_used(&d, 0, &written);
        assert_int_equal(written, 64);
        assert_memory_not_equal(m.ram + DATA, seen, 64);
        memcpy(seen, m.ram + DATA, 64);
    }
    driver_offer(&d, 0, 0, &large, 1);
    driver_notify(&d, 0);
    (void)driver_used(&d, 0, &written);
    assert_int_equal(written, 4096);
    assert_int_equal(m.ram[DATA + 4096], 0);
    driver_offer(&d, 0, 0, &none, 1);
    driver_notify(&d, 0);
    (void)driver_used(&d, 0, &written);
    assert_int_equal(written, 0);
    machine_stop(&m);
    virtio_rng_destroy(r);
    machine_drop(&m);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(identity),
        WITH(negotiation),
        WITH(queue_registers),
        WITH(device_config),
        WITH(config_written_twice),
        WITH(config_change),
        WITH(window),
        WITH(moved),
        WITH(by_msix),
        WITH(by_line),
        WITH(two_queues),
        WITH(slow_reset),
        WITH(no_work_before_driver_ok),
        WITH(broken_queue),
        WITH(without_bus_master),
        WITH(held),
        WITH(storm),
        cmocka_unit_test(behind_an_iommu),
        cmocka_unit_test(random_numbers),
    };

    return cmocka_run_group_tests_name("virtio_pci", tests, NULL, NULL);
}
