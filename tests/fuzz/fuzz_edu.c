/*
 * A guest that does anything to the DMA test device: registers, its memory, the PCI command, and
 * mappings of the IOMMU that it stands behind, with turns of the I/O thread in between. What must
 * hold: no crash; memory that is not mapped for writing stays as it was; a transfer ends unless it
 * waits for an answer; each message is the one that the guest set up.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "iommu/iommu.h"
#include "vmm/edu_impl.h"

#define RAM       (UINT64_C(128) << 10)
#define PAGE      UINT64_C(4096)
#define WRITABLE  16u /* pages from here on may be mapped for writing... */
#define READABLE  24u /* ... and these for reading only */
#define BEHIND    28u
#define IOVA      UINT64_C(0x100000)
#define MSI_DATA  0x31u
#define MSI_WHERE UINT64_C(0xfee00000)

static struct {
    struct io_loop *loop;
    struct bus *bus;
    struct pci *pci;
    struct memory *mem;
    struct iommu *iommu;
    struct edu *edu;
} d;

static void require(int condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "fuzz_edu: %s\n", what);
    abort();
}

static void on_message(void *ctx, const struct msi_message *m)
{
    (void)ctx;
    require(m->address == MSI_WHERE && m->data == MSI_DATA, "another message");
}

static void on_line(void *ctx, unsigned gsi, int level)
{
    (void)ctx;
    require(gsi >= 16 && gsi < 20 && (level == 0 || level == 1), "another line");
}

static uint8_t pattern[RAM];

static void config_write(unsigned offset, unsigned size, uint32_t value)
{
    (void)bus_write(d.bus, BUS_MMIO, PCI_ECAM_BASE + d.edu->function.devfn * PCI_CONFIG + offset,
                    size, value);
}

static void start(void)
{
    struct irq_line line = { .set = on_line, .gsi = 16 };
    struct msi_sink sink = { .send = on_message };

    for (uint64_t i = 0; i < RAM && pattern[1] == 0; i++)
        pattern[RAM - 1 - i] = (uint8_t)((RAM - 1 - i) * 7 + i / 253);
    require(io_loop_create(&d.loop, NULL) == 0 && bus_create(&d.bus, NULL) == 0 &&
                memory_create(&d.mem, RAM, MEM_ANON, NULL) == 0 &&
                iommu_create(&d.iommu, 3, false) == 0 &&
                pci_create(&d.pci, d.bus, line, sink, UINT64_C(1) << 40, UINT64_C(1) << 40, NULL) ==
                    0 &&
                edu_create(&d.edu, d.pci, -1, d.loop, d.mem, NULL) == 0,
            "no device");
    d.edu->dma.iommu = d.iommu;
    require(iommu_add_endpoint(d.iommu, d.edu->function.devfn) == 0 &&
                iommu_reserve(d.iommu, d.edu->function.devfn, (iova_t){ MSI_WHERE }, 1u << 20,
                              true) == 0 &&
                iommu_attach(d.iommu, d.edu->function.devfn, 1, false) == 0,
            "no domain");
    require(memory_write(d.mem, gpa(0), pattern, RAM) == 0, "no RAM");
    config_write(d.edu->function.msi_cap + 4, 4, (uint32_t)MSI_WHERE);
    config_write(d.edu->function.msi_cap + 8, 4, 0);
    config_write(d.edu->function.msi_cap + 12, 2, MSI_DATA);
    config_write(d.edu->function.msi_cap + 2, 2, 1);
    config_write(4, 2, 6);
}

static void check(void)
{
    const uint8_t *ram = memory_at(d.mem, gpa(0), RAM);

    require(memcmp(ram, pattern, WRITABLE * PAGE) == 0 &&
                memcmp(ram + READABLE * PAGE, pattern + READABLE * PAGE, RAM - READABLE * PAGE) ==
                    0,
            "memory that was never mapped for writing changed");
}

static void stop(void)
{
    edu_destroy(d.edu);
    pci_destroy(d.pci);
    iommu_destroy(d.iommu);
    memory_destroy(d.mem);
    bus_destroy(d.bus);
    io_loop_destroy(d.loop);
}

/* The I/O thread's turn. */
static void work(void)
{
    edu_work(d.edu, d.edu->kick, EPOLLIN);
    require(d.edu->phase != EDU_STARTED && !(d.edu->status & EDU_COMPUTING), "work was left");
    require(!(d.edu->command & TF_EDU_START) == (d.edu->phase == EDU_IDLE), "START lies");
}

static void change_mapping(uint8_t how, uint64_t value)
{
    uint64_t at = IOVA + value % 8 * PAGE, len = (1 + value / 8 % 3) * PAGE, covered;
    unsigned page = WRITABLE + value / 64 % (BEHIND - WRITABLE - 2);
    unsigned prot = page + len / PAGE <= READABLE ? 1 + how % 3 : IOMMU_READ;

    if (how & 0x40)
        (void)iommu_unmap(d.iommu, 1, (iova_t){ at }, len, &covered);
    else
        (void)iommu_map(d.iommu, 1, (iova_t){ at }, len,
                        how & 0x20 ? d.edu->function.bar[2].address : page * PAGE, prot);
}

/* Values near something are met more often than by chance. */
static uint64_t value_near(uint8_t how, uint64_t value)
{
    switch (how >> 3 & 7) {
    case 0:
        return IOVA + value % (9 * PAGE);
    case 1:
        return TF_EDU_BUFFER + value % (PAGE + 2);
    case 2:
        return value % (2 * PAGE);
    case 3:
        return value & 15; /* commands, answers */
    case 4:
        return EDU_MEMORY - value % PAGE;
    case 5:
        return MSI_WHERE + value % 8;
    default:
        return value;
    }
}

/* One step is 11 bytes: what, which register, how, a value. */
static void step(const uint8_t *s)
{
    static const uint16_t regs[] = {
        TF_EDU_SOURCE,        TF_EDU_DESTINATION,    TF_EDU_COUNT,           TF_EDU_COMMAND,
        TF_EDU_DEVICE_OFFSET, TF_EDU_REQUEST_ANSWER, TF_EDU_REQUEST_CONTROL, TF_EDU_STATUS,
        TF_EDU_FACTORIAL,     TF_EDU_IRQ_RAISE,      TF_EDU_IRQ_ACK,         TF_EDU_LIVE,
    };
    uint64_t reg = s[1] < 192 ? regs[s[1] % (sizeof(regs) / sizeof(regs[0]))] : s[1], value, got;
    unsigned size = s[1] < 192 ? (reg < 0x80 ? 4 : 8) : 1u << (s[2] & 3);

    memcpy(&value, s + 3, sizeof(value));
    switch (s[0] & 7) {
    case 0:
        work();
        break;
    case 1:
        got = d.edu->function.ops->bar_read(d.edu, s[2] & 4 ? 2 : 0, s[2] & 4 ? value : reg, size);
        require(size == 8 || got >> 8 * size == 0, "more bits than asked for");
        break;
    case 2:
        d.edu->function.ops->bar_write(d.edu, 2, value_near(s[2], value), size, value);
        break;
    case 3:
        change_mapping(s[2], value);
        break;
    case 4:
        if (s[2] < 32)
            config_write(4, 2, (uint32_t)value & 6);
        break;
    default:
        d.edu->function.ops->bar_write(d.edu, 0, reg, size, value_near(s[2], value));
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    start();
    for (; size >= 11; data += 11, size -= 11)
        step(data);
    work();
    check();
    stop();
    return 0;
}
