/*
 * The DMA test device behind an IOMMU: what it reaches, and page requests.
 */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "guest/abi.h"
#include "tests/unit/edu_fixture.h"

/* --- behind an IOMMU ---------------------------------------------------------------------------
 */

static void map(struct rig *r, uint64_t at, uint64_t len, uint64_t output, unsigned prot)
{
    assert_int_equal(iommu_map(r->iommu, 1, (iova_t){ at }, len, output, prot), 0);
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
    rig_msi_on(&r);
    map(&r, 0x100000, PAGE, 0x9000, IOMMU_READ | IOMMU_WRITE);
    map(&r, 0x101000, PAGE, 0x3000, IOMMU_READ);
    rig_fill(&r, 0x9000, PAGE, 5);
    assert_int_equal(rig_from_memory(&r, 0x100000, TF_EDU_BUFFER, PAGE), TF_EDU_OK);
    assert_int_equal(rig_to_memory(&r, TF_EDU_BUFFER, 0x100800, 64), TF_EDU_OK);
    assert_memory_equal(rig_ram(&r, 0x9800), rig_ram(&r, 0x9000), 64);
    assert_int_equal(rig_to_memory(&r, TF_EDU_BUFFER, 0x101000, 64), TF_EDU_FAULT);
    assert_int_equal(last_fault(&r, 0x101000, true), IOMMU_READ_ONLY);
    assert_int_equal(*rig_ram(&r, 0x3000), 0);
    assert_int_equal(rig_from_memory(&r, 0x102000, TF_EDU_BUFFER, 64), TF_EDU_FAULT);
    assert_int_equal(last_fault(&r, 0x102000, false), IOMMU_NOT_MAPPED);
    /* A gpa is no iova. */
    assert_int_equal(rig_to_memory(&r, TF_EDU_BUFFER, 0x9000, 64), TF_EDU_FAULT);
    /* Nor is the window of interrupts memory, or a way to send one. */
    assert_int_equal(rig_to_memory(&r, TF_EDU_BUFFER, MSI, 4), TF_EDU_FAULT);
    assert_int_equal(last_fault(&r, MSI, true), IOMMU_RESERVED);
    assert_int_equal(rig_messages(&r), 0);
    rig_free(&r);
}

/* An iova that leads to BAR 2: the device's memory, also where both sides are, and overlap. */
static void own_memory_by_iova(void **state)
{
    struct rig r;
    uint64_t size;
    uint8_t *own, model[2 * PAGE];

    (void)state;
    rig_make(&r, true);
    own = edu_memory(r.edu, &size);
    for (size_t i = 0; i < 2 * PAGE; i++)
        own[i] = model[i] = (uint8_t)(i * 13 + i / 256);
    map(&r, 0x100000, 2 * PAGE, r.own, IOMMU_READ | IOMMU_WRITE);
    map(&r, 0x200000, 2 * PAGE, r.own + size - PAGE, IOMMU_READ | IOMMU_WRITE);
    assert_int_equal(rig_from_memory(&r, 0x100123, TF_EDU_BUFFER, 100), TF_EDU_OK);
    assert_int_equal(rig_to_memory(&r, TF_EDU_BUFFER, 0x101000, 100), TF_EDU_OK);
    memcpy(model + PAGE, model + 0x123, 100);
    assert_memory_equal(own, model, sizeof(model));
    rig_set(&r, TF_EDU_DEVICE_OFFSET, 8, 64);
    rig_start(&r, 0x100000, 0, PAGE, TF_EDU_OWN_MEMORY);
    assert_int_equal(rig_await(&r), TF_EDU_OK);
    memmove(model + 64, model, PAGE);
    assert_memory_equal(own, model, sizeof(model));
    rig_start(&r, 0, 0x100000, PAGE, TF_EDU_OWN_MEMORY | TF_EDU_FROM_DEVICE);
    assert_int_equal(rig_await(&r), TF_EDU_OK);
    memmove(model, model + 64, PAGE);
    assert_memory_equal(own, model, sizeof(model));
    /* Over its end there is nothing; nor while the guest doesn't decode it. */
    assert_int_equal(rig_to_memory(&r, TF_EDU_BUFFER, 0x200ff8, 16), TF_EDU_FAULT);
    rig_config_write(&r, 4, 2, 4);
    edu_function(r.edu)->ops->bar_write(r.edu, 0, TF_EDU_DESTINATION, 8, 0x100000);
    edu_function(r.edu)->ops->bar_write(r.edu, 0, TF_EDU_COMMAND, 8,
                                        TF_EDU_START | TF_EDU_FROM_DEVICE);
    while (edu_function(r.edu)->ops->bar_read(r.edu, 0, TF_EDU_COMMAND, 8) & TF_EDU_START)
        sched_yield();
    rig_config_write(&r, 4, 2, 6);
    assert_int_equal(rig_get(&r, TF_EDU_RESULT, 8), TF_EDU_FAULT);
    assert_int_equal(rig_to_memory(&r, TF_EDU_BUFFER, 0x100000, 16), TF_EDU_OK);
    rig_free(&r);
}

/* Such an address leads nowhere over the end of BAR 2, nor where that was before it was moved; and
 * the device's registers are no memory. */
static void own_memory_ends(void **state)
{
    struct rig r;
    uint64_t size;

    (void)state;
    rig_make(&r, true);
    (void)edu_memory(r.edu, &size);
    map(&r, 0x300000, 2 * PAGE, r.own + size - PAGE, IOMMU_READ | IOMMU_WRITE);
    map(&r, 0x400000, PAGE, r.regs, IOMMU_READ | IOMMU_WRITE);
    assert_int_equal(rig_to_memory(&r, TF_EDU_BUFFER, 0x300000, PAGE), TF_EDU_OK);
    assert_int_equal(rig_to_memory(&r, TF_EDU_BUFFER, 0x300ff8, 16), TF_EDU_FAULT);
    assert_int_equal(last_fault(&r, 0x301000, true), IOMMU_OUTPUT);
    assert_int_equal(rig_to_memory(&r, TF_EDU_BUFFER, 0x400000, 16), TF_EDU_FAULT);
    rig_config_write(&r, 0x18, 4, (uint32_t)(r.own + 2 * size));
    assert_int_equal(rig_to_memory(&r, TF_EDU_BUFFER, 0x300000, 16), TF_EDU_FAULT);
    rig_free(&r);
}

/* --- page requests -----------------------------------------------------------------------------
 */

/* Waits for the n-th request: its address. */
static uint64_t requested(struct rig *r, uint64_t n)
{
    while (rig_get(r, TF_EDU_REQUESTS, 8) < n)
        sched_yield();
    assert_true(rig_get(r, TF_EDU_COMMAND, 8) & TF_EDU_START);
    assert_true(rig_get(r, TF_EDU_IRQ_STATUS, 4) & TF_EDU_REQUEST);
    rig_set(r, TF_EDU_IRQ_ACK, 4, TF_EDU_REQUEST);
    return rig_get(r, TF_EDU_REQUEST_ADDR, 8);
}

static void page_requests(void **state)
{
    struct rig r;
    struct iommu_stat stat;
    struct edu_stat edu;

    (void)state;
    rig_make(&r, true);
    rig_msi_on(&r);
    rig_set(&r, TF_EDU_REQUEST_CONTROL, 8, TF_EDU_REQUESTS_ON);
    map(&r, 0x100000, PAGE, 0x20000, IOMMU_READ | IOMMU_WRITE);
    rig_fill(&r, 0x20000, 3 * PAGE, 11);

    /* 2 KiB of the first page are there; then two pages are asked for, one after the other. */
    rig_set(&r, TF_EDU_DEVICE_OFFSET, 8, 0);
    rig_start(&r, 0x100800, 0, 2 * PAGE, TF_EDU_OWN_MEMORY | TF_EDU_INTERRUPT);
    assert_int_equal(requested(&r, 1), 0x101000);
    assert_int_equal(rig_messages(&r), 1);
    edu_stat(r.edu, &edu);
    assert_true(edu.waiting);
    map(&r, 0x101000, PAGE, 0x21000, IOMMU_READ);
    /* Meanwhile the transfer's registers are as they were, and an answer that is none is none. */
    rig_set(&r, TF_EDU_SOURCE, 8, 0);
    rig_set(&r, TF_EDU_COUNT, 8, 1);
    rig_set(&r, TF_EDU_COMMAND, 8, TF_EDU_START);
    rig_set(&r, TF_EDU_REQUEST_ANSWER, 8, 0);
    rig_set(&r, TF_EDU_REQUEST_ANSWER, 8, 3);
    assert_int_equal(rig_get(&r, TF_EDU_SOURCE, 8), 0x100800);
    rig_set(&r, TF_EDU_REQUEST_ANSWER, 8, 1);
    assert_int_equal(requested(&r, 2), 0x102000);
    /* An answer without the page: asked again. */
    rig_set(&r, TF_EDU_REQUEST_ANSWER, 8, 1);
    assert_int_equal(requested(&r, 3), 0x102000);
    map(&r, 0x102000, PAGE, 0x22000, IOMMU_READ);
    rig_set(&r, TF_EDU_REQUEST_ANSWER, 8, 1);
    assert_int_equal(rig_await(&r), TF_EDU_OK);
    assert_memory_equal(edu_memory(r.edu, &(uint64_t){ 0 }), rig_ram(&r, 0x20800), 2 * PAGE);
    iommu_stat(r.iommu, &stat);
    assert_int_equal(stat.faults, 0);

    /* To write where only reading is allowed; refused. */
    rig_start(&r, TF_EDU_BUFFER, 0x101010, 16, TF_EDU_FROM_DEVICE);
    assert_int_equal(requested(&r, 4), 0x101001);
    rig_set(&r, TF_EDU_REQUEST_ANSWER, 8, 2);
    assert_int_equal(rig_await(&r), TF_EDU_REFUSED);
    /* An answer that nobody waits for. */
    rig_set(&r, TF_EDU_REQUEST_ANSWER, 8, 2);
    assert_int_equal(rig_from_memory(&r, 0x100000, TF_EDU_BUFFER, 16), TF_EDU_OK);
    /* What no driver could map is no request. */
    assert_int_equal(rig_to_memory(&r, TF_EDU_BUFFER, MSI, 4), TF_EDU_FAULT);
    assert_int_equal(rig_to_memory(&r, TF_EDU_BUFFER, UINT64_C(1) << 60, 4), TF_EDU_FAULT);
    assert_int_equal(rig_get(&r, TF_EDU_REQUESTS, 8), 4);
    rig_free(&r);
}

/* Turned off, unplugged from memory, or gone, while a request waits. */
static void request_ends_otherwise(void **state)
{
    struct rig r;

    (void)state;
    rig_make(&r, true);
    rig_set(&r, TF_EDU_REQUEST_CONTROL, 8, TF_EDU_REQUESTS_ON);
    rig_start(&r, 0x200000, TF_EDU_BUFFER, 16, 0);
    assert_int_equal(requested(&r, 1), 0x200000);
    rig_set(&r, TF_EDU_REQUEST_CONTROL, 8, 0);
    assert_int_equal(rig_await(&r), TF_EDU_REFUSED);
    assert_int_equal(rig_from_memory(&r, 0x200000, TF_EDU_BUFFER, 16), TF_EDU_FAULT);

    rig_set(&r, TF_EDU_REQUEST_CONTROL, 8, TF_EDU_REQUESTS_ON);
    rig_start(&r, 0x200000, TF_EDU_BUFFER, 16, 0);
    assert_int_equal(requested(&r, 2), 0x200000);
    rig_config_write(&r, 4, 2, 2); /* no bus master */
    rig_set(&r, TF_EDU_REQUEST_ANSWER, 8, 1);
    assert_int_equal(rig_await(&r), TF_EDU_NO_MASTER);
    rig_config_write(&r, 4, 2, 6);

    assert_int_equal(iommu_detach(r.iommu, DEVFN, 1), 0);
    assert_int_equal(rig_from_memory(&r, 0x200000, TF_EDU_BUFFER, 16), TF_EDU_FAULT);
    assert_int_equal(last_fault(&r, 0x200000, false), IOMMU_NO_DOMAIN);
    assert_int_equal(iommu_attach(r.iommu, DEVFN, 1, false), 0);
    rig_start(&r, 0x200000, TF_EDU_BUFFER, 16, 0);
    assert_int_equal(requested(&r, 3), 0x200000);
    rig_free(&r);
}

/* Turned off while a transfer is on its way to the page that is missing: nobody would answer. */
static void turned_off_on_the_way(void **state)
{
    struct rig r;
    uint64_t size;
    volatile uint8_t *own;

    (void)state;
    rig_make(&r, true);
    own = edu_memory(r.edu, &size);
    /* Many regions to look at make the way long. */
    assert_int_equal(iommu_detach(r.iommu, DEVFN, 1), 0);
    for (uint64_t i = 0; i < 2000; i++)
        assert_int_equal(
            iommu_reserve(r.iommu, DEVFN, (iova_t){ (UINT64_C(1) << 32) + i * PAGE }, PAGE, false),
            0);
    assert_int_equal(iommu_attach(r.iommu, DEVFN, 1, false), 0);
    map(&r, 0x200000, size - PAGE, 0x100000, IOMMU_READ);
    rig_fill(&r, 0x100000, size, 1);
    rig_set(&r, TF_EDU_DEVICE_OFFSET, 8, 0);
    for (unsigned i = 0; i < 20; i++) {
        own[0] = 0;
        rig_set(&r, TF_EDU_REQUEST_CONTROL, 8, TF_EDU_REQUESTS_ON);
        rig_start(&r, 0x200000, 0, size, TF_EDU_OWN_MEMORY);
        while (own[0] == 0)
            sched_yield();
        rig_set(&r, TF_EDU_REQUEST_CONTROL, 8, 0);
        assert_int_equal(rig_await(&r), TF_EDU_REFUSED);
    }
    rig_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(behind_an_iommu),        cmocka_unit_test(own_memory_by_iova),
        cmocka_unit_test(own_memory_ends),        cmocka_unit_test(page_requests),
        cmocka_unit_test(request_ends_otherwise), cmocka_unit_test(turned_off_on_the_way),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
