#include "tests/unit/edu_fixture.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "guest/abi.h"

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

uint32_t rig_config_read(struct rig *r, unsigned offset)
{
    uint64_t value = 0;

    assert_true(bus_read(r->bus, BUS_MMIO, PCI_ECAM_BASE + DEVFN * PCI_CONFIG + offset, 4, &value));
    return (uint32_t)value;
}

void rig_config_write(struct rig *r, unsigned offset, unsigned size, uint32_t value)
{
    assert_true(
        bus_write(r->bus, BUS_MMIO, PCI_ECAM_BASE + DEVFN * PCI_CONFIG + offset, size, value));
}

uint64_t rig_get(struct rig *r, uint64_t reg, unsigned size)
{
    uint64_t value = 0;

    assert_true(bus_read(r->bus, BUS_MMIO, r->regs + reg, size, &value));
    return value;
}

void rig_set(struct rig *r, uint64_t reg, unsigned size, uint64_t value)
{
    assert_true(bus_write(r->bus, BUS_MMIO, r->regs + reg, size, value));
}

unsigned rig_messages(struct rig *r)
{
    return __atomic_load_n(&r->messages, __ATOMIC_ACQUIRE);
}

/* An address no guest memory is at; the low half of 64 bits, the message's data and "on". */
void rig_msi_on(struct rig *r)
{
    unsigned cap = edu_function(r->edu)->msi_cap;

    rig_config_write(r, cap + 4, 4, (uint32_t)MSI);
    rig_config_write(r, cap + 8, 4, 0);
    rig_config_write(r, cap + 12, 2, 0x31);
    rig_config_write(r, cap + 2, 2, 1);
}

void rig_make(struct rig *r, bool iommu)
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
        assert_int_equal(iommu_reserve(r->iommu, DEVFN, (iova_t){ MSI }, 1u << 20, true), 0);
        assert_int_equal(iommu_attach(r->iommu, DEVFN, 1, false), 0);
    }
    assert_int_equal(edu_create(&r->edu, r->pci, -1, r->loop, r->mem, &err), 0);
    edu_dma(r->edu)->iommu = r->iommu;
    assert_int_equal(edu_function(r->edu)->devfn, DEVFN);
    r->regs = rig_config_read(r, 0x10) & ~15u;
    r->own = (rig_config_read(r, 0x18) & ~15u) | (uint64_t)rig_config_read(r, 0x1c) << 32;
    rig_config_write(r, 4, 2, 6); /* memory, bus master */
    assert_int_equal(pthread_create(&r->thread, NULL, loop_main, r->loop), 0);
}

void rig_free(struct rig *r)
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

uint64_t rig_await(struct rig *r)
{
    while (rig_get(r, TF_EDU_COMMAND, 8) & TF_EDU_START)
        sched_yield();
    return rig_get(r, TF_EDU_RESULT, 8);
}

void rig_start(struct rig *r, uint64_t from, uint64_t to, uint64_t len, uint64_t command)
{
    rig_set(r, TF_EDU_SOURCE, 8, from);
    rig_set(r, TF_EDU_DESTINATION, 8, to);
    rig_set(r, TF_EDU_COUNT, 8, len);
    rig_set(r, TF_EDU_COMMAND, 8, command | TF_EDU_START);
}

uint64_t rig_from_memory(struct rig *r, uint64_t at, uint64_t device, uint64_t len)
{
    rig_start(r, at, device, len, 0);
    return rig_await(r);
}

uint64_t rig_to_memory(struct rig *r, uint64_t device, uint64_t at, uint64_t len)
{
    rig_start(r, device, at, len, TF_EDU_FROM_DEVICE);
    return rig_await(r);
}

void rig_fill(struct rig *r, uint64_t at, uint64_t len, unsigned seed)
{
    uint8_t *p = memory_at(r->mem, gpa(at), len);

    assert_non_null(p);
    for (uint64_t i = 0; i < len; i++)
        p[i] = (uint8_t)(seed + i * 7 + i / 251);
}

uint8_t *rig_ram(struct rig *r, uint64_t at)
{
    uint8_t *p = memory_at(r->mem, gpa(at), 1);

    assert_non_null(p);
    return p;
}
