/*
 * The DMA test device on a made bus: its registers against a table from QEMU's specification
 * (docs/specs/edu), transfers against plain copies, page requests, and all that can go wrong. The
 * I/O loop runs on a thread of its own, as in a VM; waiting is by asking the device.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest/abi.h"
#include "iommu/iommu.h"
#include "vmm/edu.h"

#define RAM   (UINT64_C(4) << 20)
#define PAGE  4096u
#define DEVFN PCI_DEVFN(1, 0)
#define MSI   UINT64_C(0xfee00000)

static iova_t to_iova(uint64_t v)
{
    return (iova_t){ v };
}

struct rig {
    struct bus *bus;
    struct pci *pci;
    struct io_loop *loop;
    pthread_t thread;
    struct memory *mem;
    struct iommu *iommu;
    struct edu *edu;
    uint64_t regs, own; /* addresses of the BARs */
    unsigned messages;  /* atomic */
    struct msi_message message;
    int level; /* of the INTx line, atomic */
};

static void on_message(void *ctx, const struct msi_message *message)
{
    struct rig *r = ctx;

    r->message = *message;
    (void)__atomic_add_fetch(&r->messages, 1, __ATOMIC_RELEASE);
}

static void on_line(void *ctx, unsigned gsi, int level)
{
    struct rig *r = ctx;

    assert_in_range(gsi, 16, 19);
    __atomic_store_n(&r->level, level, __ATOMIC_RELEASE);
}

static void *loop_main(void *loop)
{
    io_loop_run(loop);
    return NULL;
}

/* --- the bus -----------------------------------------------------------------------------------
 */

static uint32_t config_read(struct rig *r, unsigned offset)
{
    uint64_t value = 0;

    assert_true(bus_read(r->bus, BUS_MMIO, PCI_ECAM_BASE + DEVFN * PCI_CONFIG + offset, 4, &value));
    return (uint32_t)value;
}

static void config_write(struct rig *r, unsigned offset, unsigned size, uint32_t value)
{
    assert_true(
        bus_write(r->bus, BUS_MMIO, PCI_ECAM_BASE + DEVFN * PCI_CONFIG + offset, size, value));
}

static uint64_t get(struct rig *r, uint64_t reg, unsigned size)
{
    uint64_t value = 0;

    assert_true(bus_read(r->bus, BUS_MMIO, r->regs + reg, size, &value));
    return value;
}

static void set(struct rig *r, uint64_t reg, unsigned size, uint64_t value)
{
    assert_true(bus_write(r->bus, BUS_MMIO, r->regs + reg, size, value));
}

static unsigned messages(struct rig *r)
{
    return __atomic_load_n(&r->messages, __ATOMIC_ACQUIRE);
}

/* An address no guest memory is at; the low half of 64 bits, the message's data and "on". */
static void msi_on(struct rig *r)
{
    unsigned cap = edu_function(r->edu)->msi_cap;

    config_write(r, cap + 4, 4, (uint32_t)MSI);
    config_write(r, cap + 8, 4, 0);
    config_write(r, cap + 12, 2, 0x31);
    config_write(r, cap + 2, 2, 1);
}

static void rig_make(struct rig *r, bool iommu)
{
    struct irq_line line = { .set = on_line, .ctx = r, .gsi = 16 };
    struct msi_sink sink = { .send = on_message, .ctx = r };
    struct error err;

    memset(r, 0, sizeof(*r));
    assert_int_equal(bus_create(&r->bus, &err), 0);
    assert_int_equal(
        pci_create(&r->pci, r->bus, line, sink, UINT64_C(1) << 40, UINT64_C(1) << 40, &err), 0);
    assert_int_equal(io_loop_create(&r->loop, &err), 0);
    assert_int_equal(memory_create(&r->mem, RAM, MEM_ANON, &err), 0);
    if (iommu) {
        assert_int_equal(iommu_create(&r->iommu, 4, false), 0);
        assert_int_equal(iommu_add_endpoint(r->iommu, DEVFN), 0);
        assert_int_equal(iommu_reserve(r->iommu, DEVFN, to_iova(MSI), 1u << 20, true), 0);
        assert_int_equal(iommu_attach(r->iommu, DEVFN, 1, false), 0);
    }
    assert_int_equal(edu_create(&r->edu, r->pci, -1, r->loop, r->mem, &err), 0);
    edu_dma(r->edu)->iommu = r->iommu;
    assert_int_equal(edu_function(r->edu)->devfn, DEVFN);
    r->regs = config_read(r, 0x10) & ~15u;
    r->own = (config_read(r, 0x18) & ~15u) | (uint64_t)config_read(r, 0x1c) << 32;
    config_write(r, 4, 2, 6); /* memory, bus master */
    assert_int_equal(pthread_create(&r->thread, NULL, loop_main, r->loop), 0);
}

static void rig_free(struct rig *r)
{
    io_loop_stop(r->loop);
    (void)pthread_join(r->thread, NULL);
    edu_destroy(r->edu);
    pci_destroy(r->pci);
    iommu_destroy(r->iommu);
    memory_destroy(r->mem);
    io_loop_destroy(r->loop);
    bus_destroy(r->bus);
}

/* --- transfers ---------------------------------------------------------------------------------
 */

static uint64_t await(struct rig *r)
{
    while (get(r, TF_EDU_COMMAND, 8) & TF_EDU_START)
        sched_yield();
    return get(r, TF_EDU_RESULT, 8);
}

static void start(struct rig *r, uint64_t from, uint64_t to, uint64_t len, uint64_t command)
{
    set(r, TF_EDU_SOURCE, 8, from);
    set(r, TF_EDU_DESTINATION, 8, to);
    set(r, TF_EDU_COUNT, 8, len);
    set(r, TF_EDU_COMMAND, 8, command | TF_EDU_START);
}

static uint64_t from_memory(struct rig *r, uint64_t at, uint64_t device, uint64_t len)
{
    start(r, at, device, len, 0);
    return await(r);
}

static uint64_t to_memory(struct rig *r, uint64_t device, uint64_t at, uint64_t len)
{
    start(r, device, at, len, TF_EDU_FROM_DEVICE);
    return await(r);
}

static void fill(struct rig *r, uint64_t at, uint64_t len, unsigned seed)
{
    uint8_t *p = memory_at(r->mem, gpa(at), len);

    assert_non_null(p);
    for (uint64_t i = 0; i < len; i++)
        p[i] = (uint8_t)(seed + i * 7 + i / 251);
}

static uint8_t *ram(struct rig *r, uint64_t at)
{
    uint8_t *p = memory_at(r->mem, gpa(at), 1);

    assert_non_null(p);
    return p;
}

/* --- registers ---------------------------------------------------------------------------------
 */

static void header(void **state)
{
    struct rig r;

    (void)state;
    rig_make(&r, false);
    assert_int_equal(config_read(&r, 0), 0x11e81234);
    assert_int_equal(config_read(&r, 8), 0x00ff0010);
    assert_int_equal(config_read(&r, 0x3c) >> 8 & 0xff, 1); /* INTA */
    assert_int_equal(config_read(&r, 0x10) & 15, 0);        /* 32 bits */
    assert_int_equal(config_read(&r, 0x18) & 15, 0xc);      /* 64 bits, prefetchable */
    config_write(&r, 4, 2, 0);
    config_write(&r, 0x10, 4, UINT32_MAX);
    config_write(&r, 0x18, 4, UINT32_MAX);
    assert_int_equal(config_read(&r, 0x10), 0xfff00000);
    assert_int_equal(config_read(&r, 0x18), 0xfff0000c);
    rig_free(&r);
}

/* What a write does, and what is read then; QEMU, docs/specs/edu, "MMIO area spec". */
static void registers(void **state)
{
    static const struct {
        uint64_t reg, value, reads;
        unsigned size;
    } row[] = {
        { TF_EDU_ID, 0, 0x010000ed, 4 },
        { TF_EDU_LIVE, 0x12345678, 0xedcba987, 4 },
        { TF_EDU_LIVE, 0xffffffff, 0, 4 },
        { TF_EDU_STATUS, 0xffffffff, 0x80, 4 }, /* only "raise an interrupt" can be written */
        { TF_EDU_STATUS, 0, 0, 4 },
        { TF_EDU_IRQ_STATUS, 0xff, 0, 4 },      /* read only */
        { TF_EDU_IRQ_RAISE, 0, 0xffffffff, 4 }, /* write only */
        { TF_EDU_IRQ_ACK, 0, 0xffffffff, 4 },
        { TF_EDU_SOURCE, 0x123456789abcdef0, 0x123456789abcdef0, 8 },
        { TF_EDU_SOURCE, 0x89abcdef, 0x89abcdef, 4 },
        { TF_EDU_DESTINATION, UINT64_MAX, UINT64_MAX, 8 },
        { TF_EDU_COUNT, 77, 77, 8 },
        { TF_EDU_COMMAND, TF_EDU_FROM_DEVICE, 0, 8 }, /* without "start" nothing is kept */
        { 0x0c, 1, 0xffffffff, 4 },
        { 0x84, 1, 0xffffffff, 4 },
        { TF_EDU_BUFFER, 1, UINT64_MAX, 8 }, /* no CPU reaches the buffer */
        /* Ours. */
        { TF_EDU_FEATURES, 0, 0x7f01d0ed00000003, 8 },
        { TF_EDU_DEVICE_BYTES, 0, 1 << 20, 8 },
        { TF_EDU_REQUEST_CONTROL, 0xff, 1, 8 },
        { TF_EDU_REQUEST_CONTROL, 0, 0, 4 },
        { TF_EDU_REQUEST_ANSWER, 1, UINT64_MAX, 8 },
        { TF_EDU_REQUESTS, 5, 0, 8 },
        { TF_EDU_DEVICE_OFFSET, 0x1000, 0x1000, 8 },
        { TF_EDU_RESULT, 3, 0, 8 },
    };
    struct rig r;

    (void)state;
    rig_make(&r, false);
    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        set(&r, row[i].reg, row[i].size, row[i].value);
        assert_int_equal(get(&r, row[i].reg, row[i].size), row[i].reads);
    }
    assert_int_equal(messages(&r), 0);
    rig_free(&r);
}

/* "Only size == 4 accesses are allowed for addresses < 0x80. size == 4 or size == 8 for the rest."
 */
static void sizes(void **state)
{
    struct rig r;

    (void)state;
    rig_make(&r, false);
    set(&r, TF_EDU_LIVE, 4, 0);
    set(&r, TF_EDU_COUNT, 8, 5);
    for (unsigned size = 1; size <= 8; size *= 2) {
        uint64_t ones = size == 8 ? UINT64_MAX : (UINT64_C(1) << 8 * size) - 1;

        if (size != 4) {
            set(&r, TF_EDU_LIVE, size, 0x55);
            assert_int_equal(get(&r, TF_EDU_LIVE, size), ones);
        }
        if (size < 4) {
            set(&r, TF_EDU_COUNT, size, 0x55);
            assert_int_equal(get(&r, TF_EDU_COUNT, size), ones);
        }
    }
    assert_int_equal(get(&r, TF_EDU_LIVE, 4), 0xffffffff);
    assert_int_equal(get(&r, TF_EDU_COUNT, 8), 5);
    rig_free(&r);
}

static uint32_t factorial_model(uint32_t n)
{
    uint32_t product = 1;

    while (n > 0)
        product *= n--;
    return product;
}

static void factorial(void **state)
{
    static const uint32_t of[] = { 0, 1, 2, 3, 5, 12, 13, 20, 31, 32, 33, 34, 35, 1000000 };
    struct rig r;
    unsigned before;

    (void)state;
    rig_make(&r, false);
    msi_on(&r);
    for (size_t i = 0; i < sizeof(of) / sizeof(of[0]); i++) {
        set(&r, TF_EDU_FACTORIAL, 4, of[i]);
        while (get(&r, TF_EDU_STATUS, 4) & 1)
            sched_yield();
        assert_int_equal(get(&r, TF_EDU_FACTORIAL, 4), factorial_model(of[i]));
    }
    assert_int_equal(messages(&r), 0);
    set(&r, TF_EDU_STATUS, 4, 0x80);
    before = messages(&r);
    set(&r, TF_EDU_FACTORIAL, 4, UINT32_MAX);
    while (messages(&r) == before)
        sched_yield();
    assert_int_equal(get(&r, TF_EDU_IRQ_STATUS, 4), 1);
    assert_int_equal(get(&r, TF_EDU_STATUS, 4), 0x80);
    assert_int_equal(get(&r, TF_EDU_FACTORIAL, 4), 0);
    rig_free(&r);
}

static void interrupts(void **state)
{
    struct rig r;

    (void)state;
    rig_make(&r, false);
    set(&r, TF_EDU_IRQ_RAISE, 4, 0x5);
    assert_int_equal(r.level, 1);
    set(&r, TF_EDU_IRQ_RAISE, 4, 0xa0);
    assert_int_equal(get(&r, TF_EDU_IRQ_STATUS, 4), 0xa5);
    set(&r, TF_EDU_IRQ_ACK, 4, 0xa1);
    assert_int_equal(get(&r, TF_EDU_IRQ_STATUS, 4), 0x4);
    assert_int_equal(r.level, 1); /* one is left */
    set(&r, TF_EDU_IRQ_ACK, 4, UINT32_MAX);
    assert_int_equal(r.level, 0);
    assert_int_equal(messages(&r), 0);

    msi_on(&r);
    set(&r, TF_EDU_IRQ_RAISE, 4, 0x100);
    assert_int_equal(r.level, 0);
    assert_int_equal(messages(&r), 1);
    assert_int_equal(r.message.address, MSI);
    assert_int_equal(r.message.data, 0x31);
    assert_int_equal(r.message.requester, DEVFN);
    rig_free(&r);
}

/* --- memory ------------------------------------------------------------------------------------
 */

static void transfers(void **state)
{
    struct rig r;
    struct edu_stat stat;

    (void)state;
    rig_make(&r, false);
    fill(&r, 0x1000, PAGE, 3);
    assert_int_equal(from_memory(&r, 0x1000, TF_EDU_BUFFER, PAGE), TF_EDU_OK);
    assert_int_equal(to_memory(&r, TF_EDU_BUFFER, 0x5801, PAGE), TF_EDU_OK);
    assert_memory_equal(ram(&r, 0x5801), ram(&r, 0x1000), PAGE);
    assert_int_equal(*ram(&r, 0x5800) | *ram(&r, 0x6801), 0);
    /* A part, from the middle of the buffer. */
    assert_int_equal(to_memory(&r, TF_EDU_BUFFER + 100, 0x8000, 7), TF_EDU_OK);
    assert_memory_equal(ram(&r, 0x8000), ram(&r, 0x1064), 7);
    assert_int_equal(*ram(&r, 0x8007), 0);
    /* Nothing is fine, too. */
    assert_int_equal(to_memory(&r, TF_EDU_BUFFER + PAGE, 0x8000, 0), TF_EDU_OK);
    assert_int_equal(get(&r, TF_EDU_COMMAND, 8), TF_EDU_FROM_DEVICE);
    edu_stat(r.edu, &stat);
    assert_int_equal(stat.transfers, 4);
    assert_int_equal(stat.failed, 0);
    assert_int_equal(stat.dma.bytes_read, PAGE);
    assert_int_equal(stat.dma.bytes_written, PAGE + 7);
    rig_free(&r);
}

static void ranges(void **state)
{
    static const struct {
        uint64_t at, len;
    } bad[] = {
        { TF_EDU_BUFFER, PAGE + 1 },     { TF_EDU_BUFFER - 1, 1 },
        { TF_EDU_BUFFER + PAGE, 1 },     { TF_EDU_BUFFER + 1, PAGE },
        { TF_EDU_BUFFER + PAGE + 1, 0 }, { 0, 16 },
        { TF_EDU_BUFFER, UINT64_MAX },   { UINT64_MAX, 1 },
        { UINT64_MAX - 7, 16 },          { TF_EDU_BUFFER + 8, UINT64_MAX - TF_EDU_BUFFER },
    };
    struct rig r;

    (void)state;
    rig_make(&r, false);
    fill(&r, 0, RAM, 1);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(from_memory(&r, 0x1000, bad[i].at, bad[i].len), TF_EDU_BAD_RANGE);
        assert_int_equal(to_memory(&r, bad[i].at, 0x2000, bad[i].len), TF_EDU_BAD_RANGE);
    }
    for (uint64_t i = 0; i < RAM; i++)
        assert_int_equal(ram(&r, 0)[i], (uint8_t)(1 + i * 7 + i / 251));
    rig_free(&r);
}

static void errors(void **state)
{
    struct rig r;

    (void)state;
    rig_make(&r, false);
    fill(&r, 0x1000, PAGE, 3);
    assert_int_equal(to_memory(&r, TF_EDU_BUFFER, RAM, 16), TF_EDU_FAULT);
    assert_int_equal(to_memory(&r, TF_EDU_BUFFER, RAM - 8, 16), TF_EDU_FAULT);
    assert_int_equal(to_memory(&r, TF_EDU_BUFFER, UINT64_MAX - 7, 16), TF_EDU_FAULT);
    assert_int_equal(from_memory(&r, UINT64_MAX, TF_EDU_BUFFER, 1), TF_EDU_FAULT);
    /* A write to where interrupts go is none, without an IOMMU either. */
    msi_on(&r);
    assert_int_equal(to_memory(&r, TF_EDU_BUFFER, MSI, 4), TF_EDU_FAULT);
    assert_int_equal(messages(&r), 0);
    config_write(&r, 4, 2, 2); /* no bus master */
    assert_int_equal(from_memory(&r, 0x1000, TF_EDU_BUFFER, 16), TF_EDU_NO_MASTER);
    assert_int_equal(to_memory(&r, TF_EDU_BUFFER, 0x1000, 16), TF_EDU_NO_MASTER);
    config_write(&r, 4, 2, 6);
    assert_int_equal(from_memory(&r, 0x1000, TF_EDU_BUFFER, 16), TF_EDU_OK);
    rig_free(&r);
}

static void interrupt_at_the_end(void **state)
{
    struct rig r;

    (void)state;
    rig_make(&r, false);
    msi_on(&r);
    start(&r, 0x1000, TF_EDU_BUFFER, 64, TF_EDU_INTERRUPT);
    while (messages(&r) == 0)
        sched_yield();
    assert_int_equal(get(&r, TF_EDU_IRQ_STATUS, 4), TF_EDU_DONE);
    assert_int_equal(get(&r, TF_EDU_COMMAND, 8), TF_EDU_INTERRUPT);
    set(&r, TF_EDU_IRQ_ACK, 4, TF_EDU_DONE);
    start(&r, 0x1000, 0, 64, TF_EDU_INTERRUPT); /* one that fails tells so, too */
    while (messages(&r) == 1)
        sched_yield();
    assert_int_equal(get(&r, TF_EDU_RESULT, 8), TF_EDU_BAD_RANGE);
    rig_free(&r);
}

static void own_memory(void **state)
{
    struct rig r;
    uint64_t size, value;
    uint8_t *own;

    (void)state;
    rig_make(&r, false);
    own = edu_memory(r.edu, &size);
    assert_int_equal(size, 1 << 20);
    assert_true(bus_write(r.bus, BUS_MMIO, r.own + size - 8, 8, 0x1122334455667788));
    assert_true(bus_write(r.bus, BUS_MMIO, r.own + size - 3, 1, 0xee));
    assert_true(bus_read(r.bus, BUS_MMIO, r.own + size - 4, 4, &value));
    assert_int_equal(value, 0x1122ee44);
    assert_int_equal(own[size - 1], 0x11);

    set(&r, TF_EDU_DEVICE_OFFSET, 8, size - 8);
    start(&r, TF_EDU_BUFFER, 0x3000, 8, TF_EDU_FROM_DEVICE | TF_EDU_OWN_MEMORY);
    assert_int_equal(await(&r), TF_EDU_OK);
    assert_memory_equal(ram(&r, 0x3000), own + size - 8, 8);
    /* More than the buffer has. */
    fill(&r, 0x10000, 64u << 10, 9);
    set(&r, TF_EDU_DEVICE_OFFSET, 8, 0x800);
    start(&r, 0x10000, 0, 64u << 10, TF_EDU_OWN_MEMORY);
    assert_int_equal(await(&r), TF_EDU_OK);
    assert_memory_equal(own + 0x800, ram(&r, 0x10000), 64u << 10);
    set(&r, TF_EDU_DEVICE_OFFSET, 8, size - 7);
    start(&r, 0x10000, TF_EDU_BUFFER, 8, TF_EDU_OWN_MEMORY);
    assert_int_equal(await(&r), TF_EDU_BAD_RANGE);
    set(&r, TF_EDU_DEVICE_OFFSET, 8, UINT64_MAX);
    start(&r, 0x10000, TF_EDU_BUFFER, 8, TF_EDU_OWN_MEMORY);
    assert_int_equal(await(&r), TF_EDU_BAD_RANGE);
    rig_free(&r);
}

/* --- behind an IOMMU ---------------------------------------------------------------------------
 */

static void map(struct rig *r, uint64_t at, uint64_t len, uint64_t output, unsigned prot)
{
    assert_int_equal(iommu_map(r->iommu, 1, to_iova(at), len, output, prot), 0);
}

static enum iommu_reason last_fault(struct rig *r, uint64_t at, bool write)
{
    struct iommu_fault fault = { .number = 0 };

    for (size_t n = 0; iommu_fault(r->iommu, n, &fault); n++)
        ;
    assert_true(fault.number > 0);
    assert_int_equal(fault.endpoint, DEVFN);
    assert_int_equal(fault.iova.v & ~(PAGE - 1ull), at & ~(PAGE - 1ull));
    assert_int_equal(fault.write, write);
    return fault.reason;
}

static void behind_an_iommu(void **state)
{
    struct rig r;

    (void)state;
    rig_make(&r, true);
    msi_on(&r);
    map(&r, 0x100000, PAGE, 0x9000, IOMMU_READ | IOMMU_WRITE);
    map(&r, 0x101000, PAGE, 0x3000, IOMMU_READ);
    fill(&r, 0x9000, PAGE, 5);
    assert_int_equal(from_memory(&r, 0x100000, TF_EDU_BUFFER, PAGE), TF_EDU_OK);
    assert_int_equal(to_memory(&r, TF_EDU_BUFFER, 0x100800, 64), TF_EDU_OK);
    assert_memory_equal(ram(&r, 0x9800), ram(&r, 0x9000), 64);
    assert_int_equal(to_memory(&r, TF_EDU_BUFFER, 0x101000, 64), TF_EDU_FAULT);
    assert_int_equal(last_fault(&r, 0x101000, true), IOMMU_READ_ONLY);
    assert_int_equal(*ram(&r, 0x3000), 0);
    assert_int_equal(from_memory(&r, 0x102000, TF_EDU_BUFFER, 64), TF_EDU_FAULT);
    assert_int_equal(last_fault(&r, 0x102000, false), IOMMU_NOT_MAPPED);
    /* A gpa is no iova. */
    assert_int_equal(to_memory(&r, TF_EDU_BUFFER, 0x9000, 64), TF_EDU_FAULT);
    /* Nor is the window of interrupts memory, or a way to send one. */
    assert_int_equal(to_memory(&r, TF_EDU_BUFFER, MSI, 4), TF_EDU_FAULT);
    assert_int_equal(last_fault(&r, MSI, true), IOMMU_RESERVED);
    assert_int_equal(messages(&r), 0);
    rig_free(&r);
}

/* --- page requests -----------------------------------------------------------------------------
 */

/* Waits for the n-th request: its address. */
static uint64_t requested(struct rig *r, uint64_t n)
{
    while (get(r, TF_EDU_REQUESTS, 8) < n)
        sched_yield();
    assert_true(get(r, TF_EDU_COMMAND, 8) & TF_EDU_START);
    assert_true(get(r, TF_EDU_IRQ_STATUS, 4) & TF_EDU_REQUEST);
    set(r, TF_EDU_IRQ_ACK, 4, TF_EDU_REQUEST);
    return get(r, TF_EDU_REQUEST_ADDR, 8);
}

static void page_requests(void **state)
{
    struct rig r;
    struct iommu_stat stat;
    struct edu_stat edu;

    (void)state;
    rig_make(&r, true);
    msi_on(&r);
    set(&r, TF_EDU_REQUEST_CONTROL, 8, TF_EDU_REQUESTS_ON);
    map(&r, 0x100000, PAGE, 0x20000, IOMMU_READ | IOMMU_WRITE);
    fill(&r, 0x20000, 3 * PAGE, 11);

    /* 2 KiB of the first page are there; then two pages are asked for, one after the other. */
    set(&r, TF_EDU_DEVICE_OFFSET, 8, 0);
    start(&r, 0x100800, 0, 2 * PAGE, TF_EDU_OWN_MEMORY | TF_EDU_INTERRUPT);
    assert_int_equal(requested(&r, 1), 0x101000);
    assert_int_equal(messages(&r), 1);
    edu_stat(r.edu, &edu);
    assert_true(edu.waiting);
    map(&r, 0x101000, PAGE, 0x21000, IOMMU_READ);
    /* Meanwhile the transfer's registers are as they were, and an answer that is none is none. */
    set(&r, TF_EDU_SOURCE, 8, 0);
    set(&r, TF_EDU_COUNT, 8, 1);
    set(&r, TF_EDU_COMMAND, 8, TF_EDU_START);
    set(&r, TF_EDU_REQUEST_ANSWER, 8, 0);
    set(&r, TF_EDU_REQUEST_ANSWER, 8, 3);
    assert_int_equal(get(&r, TF_EDU_SOURCE, 8), 0x100800);
    set(&r, TF_EDU_REQUEST_ANSWER, 8, 1);
    assert_int_equal(requested(&r, 2), 0x102000);
    /* An answer without the page: asked again. */
    set(&r, TF_EDU_REQUEST_ANSWER, 8, 1);
    assert_int_equal(requested(&r, 3), 0x102000);
    map(&r, 0x102000, PAGE, 0x22000, IOMMU_READ);
    set(&r, TF_EDU_REQUEST_ANSWER, 8, 1);
    assert_int_equal(await(&r), TF_EDU_OK);
    assert_memory_equal(edu_memory(r.edu, &(uint64_t){ 0 }), ram(&r, 0x20800), 2 * PAGE);
    iommu_stat(r.iommu, &stat);
    assert_int_equal(stat.faults, 0);

    /* To write where only reading is allowed; refused. */
    start(&r, TF_EDU_BUFFER, 0x101010, 16, TF_EDU_FROM_DEVICE);
    assert_int_equal(requested(&r, 4), 0x101001);
    set(&r, TF_EDU_REQUEST_ANSWER, 8, 2);
    assert_int_equal(await(&r), TF_EDU_REFUSED);
    /* An answer that nobody waits for. */
    set(&r, TF_EDU_REQUEST_ANSWER, 8, 2);
    assert_int_equal(from_memory(&r, 0x100000, TF_EDU_BUFFER, 16), TF_EDU_OK);
    /* What no driver could map is no request. */
    assert_int_equal(to_memory(&r, TF_EDU_BUFFER, MSI, 4), TF_EDU_FAULT);
    assert_int_equal(to_memory(&r, TF_EDU_BUFFER, UINT64_C(1) << 60, 4), TF_EDU_FAULT);
    assert_int_equal(get(&r, TF_EDU_REQUESTS, 8), 4);
    rig_free(&r);
}

/* Turned off, unplugged from memory, or gone, while a request waits. */
static void request_ends_otherwise(void **state)
{
    struct rig r;

    (void)state;
    rig_make(&r, true);
    set(&r, TF_EDU_REQUEST_CONTROL, 8, TF_EDU_REQUESTS_ON);
    start(&r, 0x200000, TF_EDU_BUFFER, 16, 0);
    assert_int_equal(requested(&r, 1), 0x200000);
    set(&r, TF_EDU_REQUEST_CONTROL, 8, 0);
    assert_int_equal(await(&r), TF_EDU_REFUSED);
    assert_int_equal(from_memory(&r, 0x200000, TF_EDU_BUFFER, 16), TF_EDU_FAULT);

    set(&r, TF_EDU_REQUEST_CONTROL, 8, TF_EDU_REQUESTS_ON);
    start(&r, 0x200000, TF_EDU_BUFFER, 16, 0);
    assert_int_equal(requested(&r, 2), 0x200000);
    config_write(&r, 4, 2, 2); /* no bus master */
    set(&r, TF_EDU_REQUEST_ANSWER, 8, 1);
    assert_int_equal(await(&r), TF_EDU_NO_MASTER);
    config_write(&r, 4, 2, 6);

    assert_int_equal(iommu_detach(r.iommu, DEVFN, 1), 0);
    assert_int_equal(from_memory(&r, 0x200000, TF_EDU_BUFFER, 16), TF_EDU_FAULT);
    assert_int_equal(last_fault(&r, 0x200000, false), IOMMU_NO_DOMAIN);
    assert_int_equal(iommu_attach(r.iommu, DEVFN, 1, false), 0);
    start(&r, 0x200000, TF_EDU_BUFFER, 16, 0);
    assert_int_equal(requested(&r, 3), 0x200000);
    rig_free(&r);
}

/* --- hold --------------------------------------------------------------------------------------
 */

static pthread_barrier_t held;

static void hold(void *ctx, int fd, uint32_t events)
{
    struct rig *r = ctx;

    (void)events;
    io_loop_remove(r->loop, fd);
    edu_hold(r->edu, true);
    (void)pthread_barrier_wait(&held);
}

static void letting_go(void *ctx, int fd, uint32_t events)
{
    struct rig *r = ctx;

    (void)events;
    io_loop_remove(r->loop, fd);
    /* Asked for while held; the loop has had its turn since, and nothing was done. */
    assert_true(get(r, TF_EDU_COMMAND, 8) & TF_EDU_START);
    assert_true(get(r, TF_EDU_STATUS, 4) & 1);
    assert_int_equal(*ram(r, 0x7000), 0);
    edu_hold(r->edu, false);
    (void)pthread_barrier_wait(&held);
}

/* Runs `fn` on the loop's thread. */
static void on_loop(struct rig *r, io_callback fn)
{
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    assert_int_equal(io_loop_add(r->loop, fds[0], EPOLLIN, fn, r), 0);
    (void)pthread_barrier_wait(&held);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

static void held_does_nothing(void **state)
{
    struct rig r;

    (void)state;
    (void)pthread_barrier_init(&held, NULL, 2);
    rig_make(&r, false);
    fill(&r, 0x1000, 16, 77);
    assert_int_equal(from_memory(&r, 0x1000, TF_EDU_BUFFER, 16), TF_EDU_OK);
    on_loop(&r, hold);
    start(&r, TF_EDU_BUFFER, 0x7000, 16, TF_EDU_FROM_DEVICE);
    set(&r, TF_EDU_FACTORIAL, 4, 5);
    on_loop(&r, letting_go);
    assert_int_equal(await(&r), TF_EDU_OK);
    assert_memory_equal(ram(&r, 0x7000), ram(&r, 0x1000), 16);
    while (get(&r, TF_EDU_STATUS, 4) & 1)
        sched_yield();
    assert_int_equal(get(&r, TF_EDU_FACTORIAL, 4), 120);
    rig_free(&r);
    (void)pthread_barrier_destroy(&held);
}

/* Several CPUs at once: each transfer is whole, whoever started it. */
static void *writer(void *ctx)
{
    struct rig *r = ctx;

    for (unsigned i = 0; i < 2000; i++) {
        set(r, TF_EDU_IRQ_RAISE, 4, 1);
        set(r, TF_EDU_COMMAND, 8, TF_EDU_START | TF_EDU_FROM_DEVICE);
        set(r, TF_EDU_FACTORIAL, 4, i);
        (void)get(r, TF_EDU_COMMAND, 8);
        set(r, TF_EDU_IRQ_ACK, 4, 1);
    }
    return NULL;
}

static void many_cpus(void **state)
{
    struct rig r;
    pthread_t thread[3];

    (void)state;
    rig_make(&r, false);
    fill(&r, 0x1000, PAGE, 5);
    assert_int_equal(from_memory(&r, 0x1000, TF_EDU_BUFFER, PAGE), TF_EDU_OK);
    set(&r, TF_EDU_SOURCE, 8, TF_EDU_BUFFER);
    set(&r, TF_EDU_DESTINATION, 8, 0x8000);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, writer, &r), 0);
    for (unsigned i = 0; i < 3; i++)
        (void)pthread_join(thread[i], NULL);
    assert_int_equal(await(&r), TF_EDU_OK);
    assert_memory_equal(ram(&r, 0x8000), ram(&r, 0x1000), PAGE);
    assert_int_equal(get(&r, TF_EDU_IRQ_STATUS, 4), 0);
    assert_int_equal(r.level, 0);
    rig_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header),
        cmocka_unit_test(registers),
        cmocka_unit_test(sizes),
        cmocka_unit_test(factorial),
        cmocka_unit_test(interrupts),
        cmocka_unit_test(transfers),
        cmocka_unit_test(ranges),
        cmocka_unit_test(errors),
        cmocka_unit_test(interrupt_at_the_end),
        cmocka_unit_test(own_memory),
        cmocka_unit_test(behind_an_iommu),
        cmocka_unit_test(page_requests),
        cmocka_unit_test(request_ends_otherwise),
        cmocka_unit_test(held_does_nothing),
        cmocka_unit_test(many_cpus),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
