/* The gate of emulated devices, with and without an IOMMU before it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "iommu/iommu.h"
#include "vmm/bus.h"
#include "vmm/dma.h"

#define RAM   (UINT64_C(4) << 20)
#define PAGES (RAM / PAGE_SIZE_4K)

static struct {
    struct memory *mem;
    struct iommu *iommu;
    uint64_t dirty[PAGES / 64];
    struct dma dma;
} t;

static int start(void **state)
{
    (void)state;
    memset(&t, 0, sizeof(t));
    assert_int_equal(memory_create(&t.mem, RAM, MEM_ANON, NULL), 0);
    memory_note_writes(t.mem, t.dirty);
    t.dma.mem = t.mem;
    return 0;
}

/* Endpoint 0 (a dma without a function) in domain 1. */
static int start_behind(void **state)
{
    (void)start(state);
    assert_int_equal(iommu_create(&t.iommu, 4, false), 0);
    assert_int_equal(iommu_add_endpoint(t.iommu, 0), 0);
    assert_int_equal(iommu_reserve(t.iommu, 0, (iova_t){ DMA_MSI_BASE }, DMA_MSI_SIZE, true), 0);
    assert_int_equal(iommu_attach(t.iommu, 0, 1, false), 0);
    t.dma.iommu = t.iommu;
    return 0;
}

static int stop(void **state)
{
    (void)state;
    memory_destroy(t.mem);
    iommu_destroy(t.iommu);
    return 0;
}

static void map(uint64_t iova, uint64_t len, uint64_t output, unsigned prot)
{
    assert_int_equal(iommu_map(t.iommu, 1, (iova_t){ iova }, len, output, prot), 0);
}

static bool is_dirty(uint64_t page)
{
    return t.dirty[page / 64] >> page % 64 & 1;
}

static uint8_t *ram(uint64_t at)
{
    uint8_t *p = memory_at(t.mem, gpa(at), 1);

    assert_non_null(p);
    return p;
}

static void copies_by_gpa(void **state)
{
    uint8_t out[5000], in[5000];

    (void)state;
    for (size_t i = 0; i < sizeof(out); i++)
        out[i] = (uint8_t)(i * 7);
    assert_int_equal(dma_write(&t.dma, 0x1ff0, out, sizeof(out)), 0);
    assert_memory_equal(ram(0x1ff0), out, sizeof(out));
    assert_true(is_dirty(1) && is_dirty(2) && is_dirty(3) && !is_dirty(4) && !is_dirty(0));
    assert_int_equal(dma_read(&t.dma, 0x1ff0, in, sizeof(in)), 0);
    assert_memory_equal(in, out, sizeof(out));
    assert_int_equal(dma_read(&t.dma, UINT64_MAX, in, 0), 0);
    assert_true(t.dma.stat.reads == 2 && t.dma.stat.writes == 1);
    assert_true(t.dma.stat.bytes_read == 5000 && t.dma.stat.bytes_written == 5000);
}

static void refuses_what_is_no_ram(void **state)
{
    static const uint64_t bad[] = { RAM,           RAM - 4,        DMA_MSI_BASE,
                                    PCI_ECAM_BASE, UINT64_MAX - 2, UINT64_C(1) << 52 };
    uint8_t buf[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
    struct iovec iov[4];
    unsigned count;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint64_t before = t.dma.stat.refused;

        assert_int_equal(dma_read(&t.dma, bad[i], buf, sizeof(buf)), -EFAULT);
        assert_int_equal(dma_write(&t.dma, bad[i], buf, sizeof(buf)), -EFAULT);
        assert_int_equal(dma_map(&t.dma, bad[i], 8, DMA_READ, iov, 4, &count), -EFAULT);
        assert_int_equal(t.dma.stat.refused, before + 3);
    }
    assert_int_equal(t.dma.stat.faults, 0);
    /* A guarded page is refused, too. */
    assert_int_equal(memory_guard(t.mem, gpa(0x5000), 4096, true), 0);
    assert_int_equal(dma_write(&t.dma, 0x5000, buf, 1), -EFAULT);
    assert_int_equal(dma_write(&t.dma, 0x6000, buf, 1), 0);
}

static void needs_a_bus_master(void **state)
{
    struct pci_function f = { .name = "test", .devfn = 24 };
    uint8_t byte = 0;

    (void)state;
    pci_header(&f, 0x1234, 0x5678, 0xff0000, 0, 0, 0);
    t.dma.function = &f;
    assert_int_equal(dma_read(&t.dma, 0x1000, &byte, 1), -EPERM);
    assert_int_equal(t.dma.stat.refused, 1);
    f.config[4] |= 4;
    assert_int_equal(dma_read(&t.dma, 0x1000, &byte, 1), 0);
}

static void copies_through_pages_apart(void **state)
{
    uint8_t out[3 * 4096], in[3 * 4096];

    (void)state;
    map(0x10000, 4096, 0x7000, IOMMU_READ | IOMMU_WRITE);
    map(0x11000, 4096, 0x3000, IOMMU_READ | IOMMU_WRITE);
    map(0x12000, 4096, 0x200000, IOMMU_READ | IOMMU_WRITE);
    map(0x13000, 4096, 0x201000, IOMMU_READ | IOMMU_WRITE);
    for (size_t i = 0; i < sizeof(out); i++)
        out[i] = (uint8_t)(i * 13 >> 3);
    assert_int_equal(dma_write(&t.dma, 0x10800, out, sizeof(out)), 0);
    assert_memory_equal(ram(0x7800), out, 2048);
    assert_memory_equal(ram(0x3000), out + 2048, 4096);
    assert_memory_equal(ram(0x200000), out + 2048 + 4096, 4096 + 2048);
    assert_true(is_dirty(7) && is_dirty(3) && is_dirty(512) && is_dirty(513));
    assert_false(is_dirty(16) || is_dirty(17));
    assert_int_equal(dma_read(&t.dma, 0x10800, in, sizeof(in)), 0);
    assert_memory_equal(in, out, sizeof(out));
}

static enum iommu_reason last_reason(uint64_t *at)
{
    struct iommu_fault f = { 0 };
    size_t n = 0;

    while (iommu_fault(t.iommu, n, &f))
        n++;
    assert_true(n > 0);
    *at = f.iova.v;
    return f.reason;
}

static void faults_where_it_stops(void **state)
{
    uint8_t buf[8192] = { 0 };
    uint64_t at;

    (void)state;
    memset(buf, 0xaa, sizeof(buf));
    map(0x10000, 4096, 0x7000, IOMMU_READ);
    map(0x20000, 4096, 0x8000, IOMMU_WRITE);
    map(0x30000, 4096, RAM, IOMMU_READ | IOMMU_WRITE);
    map(0x40000, 8192, DMA_MSI_BASE, IOMMU_WRITE);
    assert_int_equal(dma_write(&t.dma, 0x10010, buf, 4), -EFAULT);
    assert_int_equal(last_reason(&at), IOMMU_READ_ONLY);
    assert_int_equal(*ram(0x7010), 0);
    /* A prefix is there, the rest isn't. */
    assert_int_equal(dma_write(&t.dma, 0x20ff0, buf, 32), -EFAULT);
    assert_int_equal(last_reason(&at), IOMMU_NOT_MAPPED);
    assert_int_equal(at, 0x21000);
    assert_true(*ram(0x8ff0) == 0xaa && *ram(0x8fff) == 0xaa && *ram(0x9000) == 0);
    assert_true(is_dirty(8) && !is_dirty(7));
    assert_int_equal(dma_read(&t.dma, 0x20000, buf, 4), -EFAULT);
    assert_int_equal(last_reason(&at), IOMMU_WRITE_ONLY);
    assert_int_equal(t.dma.stat.faults, 3);
    assert_int_equal(t.dma.stat.refused, 0);
    assert_int_equal(dma_read(&t.dma, 0x30008, buf, 4), -EFAULT);
    assert_int_equal(last_reason(&at), IOMMU_OUTPUT);
    assert_int_equal(at, 0x30008);
    assert_int_equal(dma_write(&t.dma, 0x40000, buf, 4), -EFAULT);
    assert_int_equal(last_reason(&at), IOMMU_OUTPUT);
    assert_int_equal(t.dma.stat.refused, 2);
    assert_int_equal(dma_write(&t.dma, DMA_MSI_BASE + 16, buf, 4), -EFAULT);
    assert_int_equal(last_reason(&at), IOMMU_RESERVED);
}

static void gives_pieces(void **state)
{
    struct iovec iov[3];
    unsigned count;

    (void)state;
    map(0x10000, 4096, 0x7000, IOMMU_READ | IOMMU_WRITE);
    map(0x11000, 4096, 0x8000, IOMMU_READ | IOMMU_WRITE);
    map(0x12000, 4096, 0x3000, IOMMU_READ | IOMMU_WRITE);
    map(0x13000, 4096, 0x1000, IOMMU_READ | IOMMU_WRITE);
    assert_int_equal(dma_map(&t.dma, 0x10100, 0x2f00, DMA_WRITE, iov, 3, &count), 0);
    assert_int_equal(count, 2); /* what is contiguous here is one piece */
    assert_true(iov[0].iov_base == ram(0x7100) && iov[0].iov_len == 0x1f00);
    assert_true(iov[1].iov_base == ram(0x3000) && iov[1].iov_len == 0x1000);
    assert_false(is_dirty(7));
    dma_wrote(&t.dma, iov, count);
    assert_true(is_dirty(7) && is_dirty(8) && is_dirty(3) && !is_dirty(9) && !is_dirty(1));
    assert_int_equal(dma_map(&t.dma, 0x10000, 0x4000, DMA_READ, iov, 2, &count), -E2BIG);
    assert_int_equal(dma_map(&t.dma, 0x10000, 0x5000, DMA_READ, iov, 3, &count), -EFAULT);
    assert_int_equal(dma_map(&t.dma, 0x10000, 0, DMA_READ, iov, 3, &count), 0);
    assert_int_equal(count, 0);
}

#define PLAIN(fn)  cmocka_unit_test_setup_teardown(fn, start, stop)
#define BEHIND(fn) cmocka_unit_test_setup_teardown(fn, start_behind, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAIN(copies_by_gpa),          PLAIN(refuses_what_is_no_ram),
        PLAIN(needs_a_bus_master),     BEHIND(copies_through_pages_apart),
        BEHIND(faults_where_it_stops), BEHIND(gives_pieces),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
