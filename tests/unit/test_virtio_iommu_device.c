/* The virtio-iommu device on its queues: requests, transfers in flight, events, bypass, reset. */
#include <endian.h>
#include <linux/virtio_iommu.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/virtio_fixture.h"
#include "vmm/virtio_iommu.h"

#define F(bit) (UINT64_C(1) << VIRTIO_IOMMU_F_##bit)
#define ALL    (F(INPUT_RANGE) | F(DOMAIN_RANGE) | F(MAP_UNMAP) | F(PROBE) | F(BYPASS_CONFIG))

#define REQUESTS 0
#define EVENTS   1
#define RINGS    UINT64_C(0x100000)
#define DATA     UINT64_C(0x200000)
#define ANSWER   UINT64_C(0x201000)
#define EVENT    UINT64_C(0x202000)

#define BYPASS offsetof(struct virtio_iommu_config, bypass)

/* A device behind the IOMMU that only counts how often it was told to finish. */
struct behind {
    struct pci_function function;
    struct dma dma;
    unsigned drains;
    bool reaches; /* when it was told, what it had in flight was still mapped */
};

static struct {
    struct machine m;
    struct iommu *iommu;
    struct virtio_iommu *v;
    struct driver d;
    struct behind behind[2];
} t;

static void drain(void *dev)
{
    struct behind *b = dev;
    struct iommu_translation tr;

    b->drains++;
    b->reaches =
        iommu_translate(t.iommu, b->function.devfn, (iova_t){ 0x1000 }, 1, IOMMU_READ, &tr) == 0;
}

static int start(void **state)
{
    (void)state;
    memset(&t, 0, sizeof(t));
    machine_make(&t.m);
    assert_int_equal(iommu_create(&t.iommu, 4, false), 0);
    assert_int_equal(virtio_iommu_create(&t.v, t.iommu, &t.m.place, NULL), 0);
    for (unsigned i = 0; i < 2; i++) {
        struct behind *b = &t.behind[i];

        b->function.devfn = (uint8_t)(16 + 8 * i);
        pci_header(&b->function, 0x1234, 0x11e8, 0xff0000, 0, 0, 0);
        b->function.config[4] |= 4; /* bus master */
        b->dma = (struct dma){
            .mem = t.m.mem, .iommu = t.iommu, .function = &b->function, .drain = drain, .dev = b
        };
        assert_int_equal(virtio_iommu_cover(t.v, &b->dma, NULL), 0);
    }
    assert_true(virtio_iommu_cover(t.v, &t.behind[0].dma, NULL) < 0);
    machine_run(&t.m);
    driver_probe(&t.d, &t.m, 1);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    machine_stop(&t.m);
    virtio_iommu_destroy(t.v);
    iommu_destroy(t.iommu);
    machine_drop(&t.m);
    return 0;
}

static void start_driver(uint64_t features)
{
    driver_reset(&t.d);
    (void)driver_negotiate(&t.d, VERSION_1 | features);
    driver_queue(&t.d, REQUESTS, 16, RINGS, 0xffff);
    driver_queue(&t.d, EVENTS, 16, RINGS + 0x10000, 0xffff);
    reg_put(&t.m, t.d.common + STATUS, 1, ST_ACK | ST_DRIVER | ST_FEATURES_OK | ST_DRIVER_OK);
}

/* Sends a request; its status. */
static int ask(const void *request, uint32_t len)
{
    const struct piece p[] = { { DATA, len, false }, { ANSWER, 4, true } };
    uint32_t written;

    memcpy(t.m.ram + DATA, request, len);
    memset(t.m.ram + ANSWER, 0xee, 4);
    driver_offer(&t.d, REQUESTS, 0, p, 2);
    driver_notify(&t.d, REQUESTS);
    assert_int_equal(driver_used(&t.d, REQUESTS, &written), 0);
    return written == 0 ? -1 : t.m.ram[ANSWER];
}

static int attach(uint32_t domain, uint32_t endpoint)
{
    struct virtio_iommu_req_attach r = { .head.type = VIRTIO_IOMMU_T_ATTACH,
                                         .domain = htole32(domain),
                                         .endpoint = htole32(endpoint) };

    return ask(&r, sizeof(r) - 4);
}

static int map(uint32_t domain, uint64_t iova, uint64_t gpa)
{
    struct virtio_iommu_req_map r = { .head.type = VIRTIO_IOMMU_T_MAP,
                                      .domain = htole32(domain),
                                      .virt_start = htole64(iova),
                                      .virt_end = htole64(iova + 0xfff),
                                      .phys_start = htole64(gpa),
                                      .flags = htole32(VIRTIO_IOMMU_MAP_F_READ) };

    return ask(&r, sizeof(r) - 4);
}

static int unmap(uint32_t domain, uint64_t first, uint64_t last)
{
    struct virtio_iommu_req_unmap r = { .head.type = VIRTIO_IOMMU_T_UNMAP,
                                        .domain = htole32(domain),
                                        .virt_start = htole64(first),
                                        .virt_end = htole64(last) };

    return ask(&r, sizeof(r) - 4);
}

/* What a device's DMA does, on the I/O thread as the contract has it. */
struct access {
    struct behind *by;
    uint64_t at;
    bool write;
    int rc;
};

static void do_access(void *arg)
{
    struct access *a = arg;
    uint32_t word = 0x12345678;

    a->rc = a->write ? dma_write(&a->by->dma, a->at, &word, sizeof(word))
                     : dma_read(&a->by->dma, a->at, &word, sizeof(word));
}

static int access_by(unsigned i, uint64_t at, bool write)
{
    struct access a = { .by = &t.behind[i], .at = at, .write = write };

    machine_do(&t.m, do_access, &a);
    return a.rc;
}

static void config_tells_the_limits(void **state)
{
    uint64_t c = t.d.config;

    (void)state;
    start_driver(ALL);
    assert_int_equal(driver_offered(&t.d) & 0xffffff, ALL);
    assert_int_equal(reg_get(&t.m, c, 4) | reg_get(&t.m, c + 4, 4) << 32,
                     PAGE_SIZE_4K | PAGE_SIZE_2M | PAGE_SIZE_1G);
    assert_int_equal(reg_get(&t.m, c + 8, 4) | reg_get(&t.m, c + 12, 4), 0);
    assert_int_equal(reg_get(&t.m, c + 16, 4) | reg_get(&t.m, c + 20, 4) << 32,
                     (UINT64_C(1) << 48) - 1);
    assert_int_equal(reg_get(&t.m, c + 24, 4), 0);
    assert_int_equal(reg_get(&t.m, c + 28, 4), VIRTIO_IOMMU_LAST_DOMAIN);
    assert_int_equal(reg_get(&t.m, c + 32, 4), VIRTIO_IOMMU_PROBE_BYTES);
    assert_int_equal(reg_get(&t.m, c + BYPASS, 1), 0);
    assert_int_equal(config_get(&t.m, 1, 0x09, 1) | config_get(&t.m, 1, 0x0a, 2) << 8, 0x080600);
}

static void unmapping_waits_for_transfers(void **state)
{
    uint32_t head;

    (void)state;
    start_driver(ALL);
    assert_int_equal(attach(1, 16), VIRTIO_IOMMU_S_OK);
    assert_int_equal(attach(2, 24), VIRTIO_IOMMU_S_OK);
    assert_int_equal(map(1, 0x1000, 0x5000), VIRTIO_IOMMU_S_OK);
    assert_int_equal(map(3, 0x1000, 0x5000), VIRTIO_IOMMU_S_NOENT);
    assert_int_equal(access_by(0, 0x1004, false), 0);
    assert_true(access_by(0, 0x1004, true) < 0 && access_by(1, 0x1004, false) < 0);
    assert_int_equal(unmap(1, 0x8000, 0x8fff), VIRTIO_IOMMU_S_OK);
    assert_int_equal(t.behind[0].drains, 0);
    assert_int_equal(unmap(1, 0, UINT64_MAX), VIRTIO_IOMMU_S_OK);
    assert_true(t.behind[0].drains == 1 && t.behind[0].reaches);
    assert_int_equal(t.behind[1].drains, 0);
    assert_true(access_by(0, 0x1004, false) < 0);
    /* What can't be parsed is returned unwritten. */
    head = htole32(77);
    assert_int_equal(ask(&head, 4), -1);
}

static void faults_become_events(void **state)
{
    const struct piece full = { EVENT, 24, true }, small = { EVENT, 23, true };
    struct virtio_iommu_fault f;
    struct virtio_iommu_stat stat;
    uint32_t written;

    (void)state;
    start_driver(ALL);
    assert_int_equal(attach(1, 24), VIRTIO_IOMMU_S_OK);
    assert_int_equal(map(1, 0x1000, 0xf0000000), VIRTIO_IOMMU_S_OK);
    /* No buffer: dropped. */
    assert_true(access_by(0, 0x4444, true) < 0);
    driver_offer(&t.d, EVENTS, 0, &full, 1);
    driver_offer(&t.d, EVENTS, 1, &full, 1);
    driver_offer(&t.d, EVENTS, 2, &small, 1);
    driver_offer(&t.d, EVENTS, 3, &full, 1);
    assert_true(access_by(0, 0x4444, true) < 0);
    assert_int_equal(driver_used(&t.d, EVENTS, &written), 0);
    assert_int_equal(written, sizeof(f));
    memcpy(&f, t.m.ram + EVENT, sizeof(f));
    assert_int_equal(f.reason, VIRTIO_IOMMU_FAULT_R_DOMAIN);
    assert_int_equal(le32toh(f.flags), VIRTIO_IOMMU_FAULT_F_WRITE | VIRTIO_IOMMU_FAULT_F_ADDRESS);
    assert_int_equal(le32toh(f.endpoint), 16);
    assert_int_equal(le64toh(f.address), 0x4444);
    assert_true(access_by(1, 0x5555, false) < 0);
    assert_int_equal(driver_used(&t.d, EVENTS, &written), 1);
    memcpy(&f, t.m.ram + EVENT, sizeof(f));
    assert_int_equal(f.reason, VIRTIO_IOMMU_FAULT_R_MAPPING);
    assert_int_equal(le32toh(f.flags), VIRTIO_IOMMU_FAULT_F_READ | VIRTIO_IOMMU_FAULT_F_ADDRESS);
    assert_int_equal(le32toh(f.endpoint), 24);
    /* Too small a buffer is given back empty. */
    assert_true(access_by(1, 0x5555, false) < 0);
    assert_int_equal(driver_used(&t.d, EVENTS, &written), 2);
    assert_int_equal(written, 0);
    /* Mapped, but to what is no memory. */
    assert_true(access_by(1, 0x1008, false) < 0);
    assert_int_equal(driver_used(&t.d, EVENTS, &written), 3);
    memcpy(&f, t.m.ram + EVENT, sizeof(f));
    assert_int_equal(f.reason, VIRTIO_IOMMU_FAULT_R_UNKNOWN);
    assert_int_equal(le64toh(f.address), 0x1008);
    virtio_iommu_stat(t.v, &stat);
    assert_true(stat.events == 3 && stat.events_dropped == 2);
}

/* The write is performed on the I/O thread: what comes after it in the same thread sees it. */
static void nothing(void *arg)
{
    (void)arg;
}

static void put_bypass(uint8_t value)
{
    reg_put(&t.m, t.d.config + BYPASS, 1, value);
    for (unsigned i = 0; i < 3; i++)
        machine_do(&t.m, nothing, NULL);
}

static void bypass_is_the_drivers(void **state)
{
    (void)state;
    start_driver(ALL & ~F(BYPASS_CONFIG));
    put_bypass(1);
    assert_true(access_by(0, 0x3000, false) < 0);
    start_driver(ALL);
    assert_true(access_by(0, 0x3000, false) < 0);
    put_bypass(1);
    assert_int_equal(access_by(0, 0x3000, false), 0);
    assert_int_equal(reg_get(&t.m, t.d.config + BYPASS, 1), 1);
    put_bypass(2);
    assert_int_equal(reg_get(&t.m, t.d.config + BYPASS, 1), 1);
    /* An attachment ends it for one endpoint, whose transfers are finished first. */
    assert_int_equal(t.behind[0].drains, 1);
    assert_int_equal(attach(1, 16), VIRTIO_IOMMU_S_OK);
    assert_int_equal(t.behind[0].drains, 2);
    assert_true(access_by(0, 0x3000, false) < 0);
    assert_int_equal(access_by(1, 0x3000, false), 0);
    /* A reset detaches, and leaves bypass as it is. */
    driver_reset(&t.d);
    assert_int_equal(access_by(0, 0x3000, false), 0);
    start_driver(ALL);
    put_bypass(0);
    assert_true(access_by(0, 0x3000, false) < 0 && access_by(1, 0x3000, false) < 0);
}

/* A driver that notifies only when the device asked for it (2.7.10). */
static void notify_if_wanted(uint16_t before)
{
    const uint8_t *wanted = t.m.ram + t.d.queue[REQUESTS].used + 4 + 8 * t.d.queue[REQUESTS].size;
    uint16_t now = t.d.queue[REQUESTS].next, event;

    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    event = __atomic_load_n((const uint16_t *)(const void *)wanted, __ATOMIC_ACQUIRE);
    if ((uint16_t)(now - event - 1) >= (uint16_t)(now - before))
        return;
    driver_notify(&t.d, REQUESTS);
}

static void event_index_goes_on(void **state)
{
    struct virtio_iommu_req_attach r = { .head.type = VIRTIO_IOMMU_T_ATTACH,
                                         .domain = htole32(1),
                                         .endpoint = htole32(16) };
    const struct piece p[] = { { DATA, sizeof(r) - 4, false }, { ANSWER, 4, true } };

    (void)state;
    start_driver(ALL | EVENT_IDX);
    memcpy(t.m.ram + DATA, &r, sizeof(r));
    for (unsigned i = 0; i < 40; i++) {
        driver_offer(&t.d, REQUESTS, 0, p, 2);
        notify_if_wanted((uint16_t)i);
        assert_int_equal(driver_used(&t.d, REQUESTS, NULL), 0);
        /* Done with it, the device asks for the next. */
        for (unsigned n = 0; n < 3; n++)
            machine_do(&t.m, nothing, NULL);
        assert_int_equal(t.m.ram[t.d.queue[REQUESTS].used + 4 + 8 * 16], i + 1);
    }
}

static void get_state(void *arg)
{
    virtio_state(virtio_iommu_device(t.v), arg);
}

/* Large mappings, asked for at once, have a turn each. */
static void large_requests_take_turns(void **state)
{
    struct virtio_state before, after;

    (void)state;
    start_driver(ALL);
    assert_int_equal(attach(1, 16), VIRTIO_IOMMU_S_OK);
    machine_do(&t.m, get_state, &before);
    for (unsigned i = 0; i < 4; i++) {
        struct virtio_iommu_req_map r = {
            .head.type = VIRTIO_IOMMU_T_MAP,
            .domain = htole32(1),
            .virt_start = htole64(UINT64_C(0x10000000) * i + 0x1000),
            .virt_end = htole64(UINT64_C(0x10000000) * i + 0x4000fff),
            .flags = htole32(VIRTIO_IOMMU_MAP_F_READ),
        };
        const struct piece p[] = { { DATA + 64 * i, sizeof(r) - 4, false },
                                   { ANSWER + 4 * i, 4, true } };

        memcpy(t.m.ram + DATA + 64 * i, &r, sizeof(r));
        driver_offer(&t.d, REQUESTS, 2 * i, p, 2);
    }
    driver_notify(&t.d, REQUESTS);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(driver_used(&t.d, REQUESTS, NULL), 2 * i);
        assert_int_equal(t.m.ram[ANSWER + 4 * i], VIRTIO_IOMMU_S_OK);
    }
    machine_do(&t.m, get_state, &after);
    assert_true(after.kicks - before.kicks >= 4);
}

static void a_bad_queue_needs_a_reset(void **state)
{
    const struct piece p[] = { { UINT64_C(1) << 40, 20, false }, { ANSWER, 4, true } };

    (void)state;
    start_driver(ALL);
    driver_offer(&t.d, REQUESTS, 0, p, 2);
    driver_notify(&t.d, REQUESTS);
    while (!(reg_get(&t.m, t.d.common + STATUS, 1) & ST_NEEDS_RESET))
        machine_do(&t.m, nothing, NULL);
    start_driver(ALL);
    assert_int_equal(attach(1, 16), VIRTIO_IOMMU_S_OK);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(config_tells_the_limits),   TEST(unmapping_waits_for_transfers),
        TEST(faults_become_events),      TEST(bypass_is_the_drivers),
        TEST(event_index_goes_on),       TEST(large_requests_take_turns),
        TEST(a_bad_queue_needs_a_reset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
