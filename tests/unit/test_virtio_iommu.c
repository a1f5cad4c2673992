/* Requests of virtio-iommu: bytes in, bytes out, and what the IOMMU then does. */
#include <endian.h>
#include <errno.h>
#include <linux/virtio_iommu.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/virtio_iommu.h"

#define F(bit) (UINT64_C(1) << VIRTIO_IOMMU_F_##bit)
#define ALL    (F(INPUT_RANGE) | F(DOMAIN_RANGE) | F(MAP_UNMAP) | F(PROBE) | F(BYPASS_CONFIG))

#define RW (VIRTIO_IOMMU_MAP_F_READ | VIRTIO_IOMMU_MAP_F_WRITE)

#define UNTOUCHED 0xee

static struct iommu *m;

static int start(void **state)
{
    (void)state;
    assert_int_equal(iommu_create(&m, 4, false), 0);
    for (uint32_t e = 16; e <= 32; e += 8) {
        assert_int_equal(iommu_add_endpoint(m, e), 0);
        assert_int_equal(iommu_reserve(m, e, (iova_t){ DMA_MSI_BASE }, DMA_MSI_SIZE, true), 0);
    }
    return 0;
}

static int stop(void **state)
{
    (void)state;
    iommu_destroy(m);
    return 0;
}

/* The status of a request without a list; the tail's reserved bytes are 0. */
static int ask(const void *in, size_t len)
{
    uint8_t out[8];

    memset(out, UNTOUCHED, sizeof(out));
    assert_int_equal(virtio_iommu_request(m, ALL, in, len, out, sizeof(out)), 4);
    assert_true(out[1] == 0 && out[2] == 0 && out[3] == 0 && out[4] == UNTOUCHED);
    return out[0];
}

static int attach(uint32_t domain, uint32_t endpoint, uint32_t flags)
{
    struct virtio_iommu_req_attach r = { .head = { VIRTIO_IOMMU_T_ATTACH, { 1, 2, 3 } },
                                         .domain = htole32(domain),
                                         .endpoint = htole32(endpoint),
                                         .flags = htole32(flags) };

    return ask(&r, sizeof(r) - 4);
}

static int detach(uint32_t domain, uint32_t endpoint)
{
    struct virtio_iommu_req_detach r = { .head.type = VIRTIO_IOMMU_T_DETACH,
                                         .domain = htole32(domain),
                                         .endpoint = htole32(endpoint),
                                         .reserved = { 9 } };

    return ask(&r, sizeof(r) - 4);
}

static int map(uint32_t domain, uint64_t start_at, uint64_t end, uint64_t phys, uint32_t flags)
{
    struct virtio_iommu_req_map r = { .head.type = VIRTIO_IOMMU_T_MAP,
                                      .domain = htole32(domain),
                                      .virt_start = htole64(start_at),
                                      .virt_end = htole64(end),
                                      .phys_start = htole64(phys),
                                      .flags = htole32(flags) };

    return ask(&r, sizeof(r) - 4);
}

static int unmap(uint32_t domain, uint64_t start_at, uint64_t end)
{
    struct virtio_iommu_req_unmap r = { .head.type = VIRTIO_IOMMU_T_UNMAP,
                                        .domain = htole32(domain),
                                        .virt_start = htole64(start_at),
                                        .virt_end = htole64(end) };

    return ask(&r, sizeof(r) - 4);
}

static bool reaches(uint32_t endpoint, uint64_t iova, unsigned prot, uint64_t output)
{
    struct iommu_translation t;

    return iommu_translate(m, endpoint, (iova_t){ iova }, 1, prot, &t) == 0 && t.output == output;
}

static void attaches(void **state)
{
    struct virtio_iommu_req_attach r = { .head.type = VIRTIO_IOMMU_T_ATTACH,
                                         .domain = htole32(1),
                                         .endpoint = htole32(16),
                                         .reserved = { 0, 0, 0, 1 } };
    uint8_t out[4];

    (void)state;
    assert_int_equal(ask(&r, sizeof(r) - 4), VIRTIO_IOMMU_S_INVAL);
    assert_int_equal(attach(1, 8, 0), VIRTIO_IOMMU_S_NOENT);
    assert_int_equal(attach(1, 16, 2), VIRTIO_IOMMU_S_INVAL);
    assert_int_equal(attach(0x10000, 16, 0), VIRTIO_IOMMU_S_RANGE);
    assert_int_equal(attach(1, 16, 0), VIRTIO_IOMMU_S_OK);
    assert_int_equal(attach(1, 24, VIRTIO_IOMMU_ATTACH_F_BYPASS), VIRTIO_IOMMU_S_INVAL);
    assert_int_equal(attach(1, 24, 0), VIRTIO_IOMMU_S_OK);
    assert_int_equal(map(1, 0x1000, 0x1fff, 0x5000, RW), VIRTIO_IOMMU_S_OK);
    assert_true(reaches(16, 0x1001, IOMMU_READ, 0x5001) && reaches(24, 0x1001, IOMMU_READ, 0x5001));
    /* To another domain, which is a bypass domain. */
    assert_int_equal(attach(2, 24, VIRTIO_IOMMU_ATTACH_F_BYPASS), VIRTIO_IOMMU_S_OK);
    assert_true(reaches(24, 0x1001, IOMMU_READ, 0x1001));
    assert_int_equal(map(2, 0x1000, 0x1fff, 0, RW), VIRTIO_IOMMU_S_INVAL);
    assert_int_equal(unmap(2, 0x1000, 0x1fff), VIRTIO_IOMMU_S_INVAL);
    /* The flag is unknown while its feature is not negotiated. */
    r.reserved[3] = 0;
    r.flags = htole32(VIRTIO_IOMMU_ATTACH_F_BYPASS);
    assert_int_equal(
        virtio_iommu_request(m, ALL & ~F(BYPASS_CONFIG), &r, sizeof(r) - 4, out, sizeof(out)), 4);
    assert_int_equal(out[0], VIRTIO_IOMMU_S_INVAL);
}

static void detaches(void **state)
{
    (void)state;
    assert_int_equal(detach(1, 8), VIRTIO_IOMMU_S_NOENT);
    assert_int_equal(detach(1, 16), VIRTIO_IOMMU_S_INVAL);
    assert_int_equal(attach(1, 16, 0), VIRTIO_IOMMU_S_OK);
    assert_int_equal(map(1, 0, 0xfff, 0x5000, RW), VIRTIO_IOMMU_S_OK);
    assert_int_equal(detach(2, 16), VIRTIO_IOMMU_S_INVAL);
    assert_true(reaches(16, 0, IOMMU_READ, 0x5000));
    assert_int_equal(detach(1, 16), VIRTIO_IOMMU_S_OK);
    assert_false(reaches(16, 0, IOMMU_READ, 0x5000));
    /* The domain went with its last endpoint, and its mappings with it. */
    assert_int_equal(map(1, 0, 0xfff, 0x5000, RW), VIRTIO_IOMMU_S_NOENT);
    assert_int_equal(attach(1, 16, 0), VIRTIO_IOMMU_S_OK);
    assert_false(reaches(16, 0, IOMMU_READ, 0x5000));
}

static void maps(void **state)
{
    const uint64_t top = (UINT64_C(1) << 48) - 1;

    (void)state;
    assert_int_equal(map(1, 0, 0xfff, 0, RW), VIRTIO_IOMMU_S_NOENT);
    assert_int_equal(attach(1, 16, 0), VIRTIO_IOMMU_S_OK);
    assert_int_equal(map(1, 0x1000, 0x2fff, 0x9000, VIRTIO_IOMMU_MAP_F_READ), VIRTIO_IOMMU_S_OK);
    assert_true(reaches(16, 0x2fff, IOMMU_READ, 0xafff));
    assert_false(reaches(16, 0x1000, IOMMU_WRITE, 0x9000));
    assert_int_equal(map(1, 0x2000, 0x2fff, 0, RW), VIRTIO_IOMMU_S_INVAL);
    assert_int_equal(map(1, 0x4001, 0x4fff, 0, RW), VIRTIO_IOMMU_S_RANGE);
    assert_int_equal(map(1, 0x4000, 0x4ffe, 0, RW), VIRTIO_IOMMU_S_RANGE);
    assert_int_equal(map(1, 0x4000, 0x4fff, 8, RW), VIRTIO_IOMMU_S_RANGE);
    assert_int_equal(map(1, 0x4000, 0x3fff, 0, RW), VIRTIO_IOMMU_S_INVAL);
    assert_int_equal(map(1, 0x4000, 0x4fff, 0, 0), VIRTIO_IOMMU_S_INVAL);
    assert_int_equal(map(1, 0x4000, 0x4fff, 0, RW | VIRTIO_IOMMU_MAP_F_MMIO), VIRTIO_IOMMU_S_INVAL);
    assert_int_equal(map(1, 0x4000, 0x4fff, 0, RW | 8), VIRTIO_IOMMU_S_INVAL);
    assert_int_equal(map(1, 0, UINT64_MAX, 0, RW), VIRTIO_IOMMU_S_RANGE);
    assert_int_equal(map(1, top + 1, top + 0x1000, 0, RW), VIRTIO_IOMMU_S_RANGE);
    assert_int_equal(map(1, top - 0xfff, top, 0, RW), VIRTIO_IOMMU_S_OK);
    assert_int_equal(map(1, 0x4000, 0x5fff, UINT64_MAX - 0xfff, RW), VIRTIO_IOMMU_S_RANGE);
    assert_int_equal(map(1, 0xfee00000, 0xfee00fff, 0, RW), VIRTIO_IOMMU_S_RANGE);
    /* What the output is matters when it is accessed. */
    assert_int_equal(map(1, 0x4000, 0x4fff, UINT64_C(1) << 50, RW), VIRTIO_IOMMU_S_OK);
    /* Such a mapping needs more tables than a guest may have. */
    assert_int_equal(
        map(1, UINT64_C(1) << 40, (UINT64_C(1) << 40) + (UINT64_C(128) << 30) - 1, 0x1000, RW),
        VIRTIO_IOMMU_S_NOMEM);
}

static void unmaps(void **state)
{
    struct virtio_iommu_req_unmap r = { .head.type = VIRTIO_IOMMU_T_UNMAP,
                                        .domain = htole32(1),
                                        .virt_end = htole64(0xffff),
                                        .reserved = { 1 } };

    (void)state;
    assert_int_equal(unmap(1, 0, 0xfff), VIRTIO_IOMMU_S_NOENT);
    assert_int_equal(attach(1, 16, 0), VIRTIO_IOMMU_S_OK);
    assert_int_equal(unmap(1, 0, 0xfff), VIRTIO_IOMMU_S_OK);
    assert_int_equal(map(1, 0x1000, 0x2fff, 0x9000, RW), VIRTIO_IOMMU_S_OK);
    assert_int_equal(map(1, 0x5000, 0x5fff, 0x9000, RW), VIRTIO_IOMMU_S_OK);
    assert_int_equal(ask(&r, sizeof(r) - 4), VIRTIO_IOMMU_S_INVAL);
    assert_int_equal(unmap(1, 0x1000, 0x1fff), VIRTIO_IOMMU_S_RANGE);
    assert_int_equal(unmap(1, 0x2000, 0x8fff), VIRTIO_IOMMU_S_RANGE);
    assert_int_equal(unmap(1, 0x2000, 0x1000), VIRTIO_IOMMU_S_INVAL);
    assert_true(reaches(16, 0x1000, IOMMU_READ, 0x9000) && reaches(16, 0x5000, IOMMU_READ, 0x9000));
    assert_int_equal(unmap(1, 0, UINT64_MAX), VIRTIO_IOMMU_S_OK);
    assert_false(reaches(16, 0x1000, IOMMU_READ, 0x9000) ||
                 reaches(16, 0x5000, IOMMU_READ, 0x9000));
    assert_int_equal(unmap(1, UINT64_MAX, UINT64_MAX), VIRTIO_IOMMU_S_OK);
}

static void probes(void **state)
{
    struct virtio_iommu_req_probe r = { .head.type = VIRTIO_IOMMU_T_PROBE,
                                        .endpoint = htole32(24),
                                        .reserved = { 5 } };
    uint8_t out[VIRTIO_IOMMU_WRITE_MAX + 8];
    struct virtio_iommu_probe_resv_mem p;

    (void)state;
    memset(out, UNTOUCHED, sizeof(out));
    assert_int_equal(virtio_iommu_request(m, ALL, &r, sizeof(r), out, sizeof(out)),
                     VIRTIO_IOMMU_WRITE_MAX);
    assert_int_equal(out[VIRTIO_IOMMU_PROBE_BYTES], VIRTIO_IOMMU_S_OK);
    assert_int_equal(out[VIRTIO_IOMMU_WRITE_MAX], UNTOUCHED);
    memcpy(&p, out, sizeof(p));
    assert_int_equal(le16toh(p.head.type), VIRTIO_IOMMU_PROBE_T_RESV_MEM);
    assert_int_equal(le16toh(p.head.length), 20);
    assert_int_equal(p.subtype, VIRTIO_IOMMU_RESV_MEM_T_MSI);
    assert_int_equal(le64toh(p.start), 0xfee00000);
    assert_int_equal(le64toh(p.end), 0xfeefffff);
    for (size_t i = sizeof(p); i < VIRTIO_IOMMU_PROBE_BYTES; i++)
        assert_int_equal(out[i], 0);
    /* A list that is too short gets no property. */
    memset(out, UNTOUCHED, sizeof(out));
    assert_int_equal(virtio_iommu_request(m, ALL, &r, sizeof(r), out, 64), 64);
    assert_true(out[0] == 0 && out[60] == VIRTIO_IOMMU_S_INVAL && out[64] == UNTOUCHED);
    r.endpoint = htole32(8);
    assert_int_equal(virtio_iommu_request(m, ALL, &r, sizeof(r), out, VIRTIO_IOMMU_WRITE_MAX),
                     VIRTIO_IOMMU_WRITE_MAX);
    assert_int_equal(out[VIRTIO_IOMMU_PROBE_BYTES], VIRTIO_IOMMU_S_NOENT);
}

/* Nothing is written, and nothing done, for what can't be parsed. */
static void ignores_what_it_cannot_parse(void **state)
{
    struct virtio_iommu_req_attach r = { .head.type = VIRTIO_IOMMU_T_ATTACH,
                                         .domain = htole32(1),
                                         .endpoint = htole32(16) };
    uint8_t out[256];

    (void)state;
    memset(out, UNTOUCHED, sizeof(out));
    for (size_t len = 0; len < sizeof(r) - 4; len++)
        assert_int_equal(virtio_iommu_request(m, ALL, &r, len, out, sizeof(out)), 0);
    for (size_t room = 0; room < 4; room++)
        assert_int_equal(virtio_iommu_request(m, ALL, &r, sizeof(r) - 4, out, room), 0);
    for (unsigned type = 0; type < 256; type++) {
        uint8_t in[VIRTIO_IOMMU_READ_MAX] = { (uint8_t)type };

        if (type < VIRTIO_IOMMU_T_ATTACH || type > VIRTIO_IOMMU_T_PROBE)
            assert_int_equal(virtio_iommu_request(m, ALL, in, sizeof(in), out, sizeof(out)), 0);
        if (type >= VIRTIO_IOMMU_T_MAP)
            assert_int_equal(virtio_iommu_request(m, 0, in, sizeof(in), out, sizeof(out)), 0);
    }
    for (size_t i = 0; i < sizeof(out); i++)
        assert_int_equal(out[i], UNTOUCHED);
    assert_int_equal(map(1, 0, 0xfff, 0, RW), VIRTIO_IOMMU_S_NOENT);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(attaches), TEST(detaches), TEST(maps),
        TEST(unmaps),   TEST(probes),   TEST(ignores_what_it_cannot_parse),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
