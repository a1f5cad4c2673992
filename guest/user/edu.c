/*
 * edu [--window START+SIZE]: is the DMA test device there, and does it work: registers, a
 * computation, an interrupt, and a transfer there and back. Exit code 0 if so.
 * edu --latency N: N interrupts one after the other, and how long each took from the write of the
 * device's register to the kernel's handler. For programs:
 *   edu: latency median N ns, quartiles N and N ns, n N
 */
#include "guest/user/lib/dma.h"

static void identify(struct sys_dma_info *info)
{
    long rc = dma_info(info);

    if (rc < 0)
        die(2, "no DMA test device, error %ld", rc);
    printf("edu: %s, %s, %lu bytes of memory, transfers of up to %u bytes\n", info->device,
           info->translated ? "behind an IOMMU" : "its addresses are gpas", info->device_bytes,
           info->transfer_max);
}

static void test_registers(void)
{
    uint64_t value = 0x12345678;

    check(dma_value(SYS_DMA_LIVE, &value) == 0 && value == (uint32_t)~0x12345678,
          "the liveness register reads as 0x%lx", value);
    value = 10;
    check(dma_value(SYS_DMA_COMPUTE, &value) == 0 && value == 3628800, "10! = %lu", value);
    printf("edu: 10! = %lu\n", value);
}

static void test_interrupt(const struct sys_dma_info *info)
{
    struct sys_dma_info now;
    uint64_t bits = 0x50;
    long rc = dma_value(SYS_DMA_RAISE, &bits);

    check(rc == 0 && bits == 0x50, "raised 0x50: 0x%lx, error %ld", bits, rc);
    check(dma_info(&now) == 0 && now.vectors > 0 && now.interrupts > info->interrupts,
          "no interrupt came: %lu before, %lu now", info->interrupts, now.interrupts);
    printf("edu: interrupts: %lu\n", now.interrupts);
}

/* Through the whole of the device's buffer that one transfer may have. */
static void test_transfer(const struct dma_window *w, const struct sys_dma_info *info)
{
    uint64_t *out = dma_page(w), *in = dma_page(w), seed = 7, out_iova = 0, in_iova = 0;
    uint64_t len = info->transfer_max;
    long rc = dma_map(out, PAGE_SIZE, SYS_DMA_READ, &out_iova);

    for (size_t i = 0; i < PAGE_SIZE / 8; i++)
        out[i] = next_random(&seed);
    if (rc == 0)
        rc = dma_map(in, PAGE_SIZE, SYS_DMA_WRITE, &in_iova);
    check(rc == 0, "mapping failed: error %ld", rc);
    if (rc != 0)
        return;
    rc = dma_transfer(out_iova, len, 0, 0);
    check(rc == 0, "a transfer to the device ended with %ld", rc);
    rc = dma_transfer(in_iova, len, SYS_DMA_TO_MEMORY, 0);
    check(rc == 0, "a transfer to memory ended with %ld", rc);
    check(memcmp(in, out, len) == 0, "other bytes came back than went out");
    printf("edu: %lu bytes to the device and back, iovas 0x%lx and 0x%lx\n", len, out_iova,
           in_iova);
    check(dma_unmap(out_iova) == 0 && dma_unmap(in_iova) == 0, "unmapping failed");
}

#define LATENCY_MAX 1000u

/* The first one doesn't count: it has caches and tables to fill. */
static void latency(uint64_t n)
{
    uint64_t cycles[LATENCY_MAX + 1], hz = info_general().tsc_hz;

    for (uint64_t i = 0; i <= n; i++) {
        uint64_t bits = 1u << i % 8;
        long rc = dma_raise(&bits, &cycles[i]);

        if (rc < 0 || bits != 1u << i % 8)
            die(1, "interrupt %lu: bits 0x%lx, error %ld", i, bits, rc);
        if (cycles[i] == 0)
            die(3, "the driver has no vector: nothing to measure");
    }
    sort_values(cycles + 1, n);
    for (uint64_t i = 1; i <= n; i++)
        cycles[i] = step_ns100(cycles[i], 1, hz) / 100;
    printf("edu: latency median %lu ns, quartiles %lu and %lu ns, n %lu\n", cycles[1 + n / 2],
           cycles[1 + n / 4], cycles[1 + n * 3 / 4], n);
}

static bool latency_argument(int argc, char **argv, uint64_t *n)
{
    if (argc < 2 || strcmp(argv[1], "--latency") != 0)
        return false;
    if (argc != 3 || !parse_size(argv[2], n) || *n == 0 || *n > LATENCY_MAX)
        die(2, "usage: edu --latency N, N from 1 to %u", LATENCY_MAX);
    return true;
}

int main(int argc, char **argv)
{
    struct dma_window w;
    struct sys_dma_info info;
    uint64_t n;

    if (latency_argument(argc, argv, &n)) {
        identify(&info);
        latency(n);
        return 0;
    }
    w = dma_window_argument(argc, argv);
    identify(&info);
    test_registers();
    test_interrupt(&info);
    test_transfer(&w, &info);
    return check_end();
}
