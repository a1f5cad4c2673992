/*
 * The DMA test device: its registers against a table from QEMU's specification (docs/specs/edu),
 * transfers against plain copies, and all that can go wrong.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest/abi.h"
#include "tests/unit/edu_fixture.h"
#include "vmm/edu_impl.h"

/* --- registers ---------------------------------------------------------------------------------
 */

static void header(void **state)
{
    struct rig r;

    (void)state;
    rig_make(&r, false);
    assert_int_equal(rig_config_read(&r, 0), 0x11e81234);
    assert_int_equal(rig_config_read(&r, 8), 0x00ff0010);
    assert_int_equal(rig_config_read(&r, 0x3c) >> 8 & 0xff, 1); /* INTA */
    assert_int_equal(rig_config_read(&r, 0x10) & 15, 0);        /* 32 bits */
    assert_int_equal(rig_config_read(&r, 0x18) & 15, 0xc);      /* 64 bits, prefetchable */
    rig_config_write(&r, 4, 2, 0);
    rig_config_write(&r, 0x10, 4, UINT32_MAX);
    rig_config_write(&r, 0x18, 4, UINT32_MAX);
    assert_int_equal(rig_config_read(&r, 0x10), 0xfff00000);
    assert_int_equal(rig_config_read(&r, 0x18), 0xfff0000c);
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
        rig_set(&r, row[i].reg, row[i].size, row[i].value);
        assert_int_equal(rig_get(&r, row[i].reg, row[i].size), row[i].reads);
    }
    assert_int_equal(rig_messages(&r), 0);
    rig_free(&r);
}

/* "Only size == 4 accesses are allowed for addresses < 0x80. size == 4 or size == 8 for the rest."
 */
static void sizes(void **state)
{
    struct rig r;

    (void)state;
    rig_make(&r, false);
    rig_set(&r, TF_EDU_LIVE, 4, 0);
    rig_set(&r, TF_EDU_COUNT, 8, 5);
    for (unsigned size = 1; size <= 8; size *= 2) {
        uint64_t ones = size == 8 ? UINT64_MAX : (UINT64_C(1) << 8 * size) - 1;

        if (size != 4) {
            rig_set(&r, TF_EDU_LIVE, size, 0x55);
            assert_int_equal(rig_get(&r, TF_EDU_LIVE, size), ones);
        }
        if (size < 4) {
            rig_set(&r, TF_EDU_COUNT, size, 0x55);
            assert_int_equal(rig_get(&r, TF_EDU_COUNT, size), ones);
        }
    }
    assert_int_equal(rig_get(&r, TF_EDU_LIVE, 4), 0xffffffff);
    assert_int_equal(rig_get(&r, TF_EDU_COUNT, 8), 5);
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
    rig_msi_on(&r);
    for (size_t i = 0; i < sizeof(of) / sizeof(of[0]); i++) {
        rig_set(&r, TF_EDU_FACTORIAL, 4, of[i]);
        while (rig_get(&r, TF_EDU_STATUS, 4) & 1)
            sched_yield();
        assert_int_equal(rig_get(&r, TF_EDU_FACTORIAL, 4), factorial_model(of[i]));
    }
    assert_int_equal(rig_messages(&r), 0);
    rig_set(&r, TF_EDU_STATUS, 4, 0x80);
    before = rig_messages(&r);
    rig_set(&r, TF_EDU_FACTORIAL, 4, UINT32_MAX);
    while (rig_messages(&r) == before)
        sched_yield();
    assert_int_equal(rig_get(&r, TF_EDU_IRQ_STATUS, 4), 1);
    assert_int_equal(rig_get(&r, TF_EDU_STATUS, 4), 0x80);
    assert_int_equal(rig_get(&r, TF_EDU_FACTORIAL, 4), 0);
    rig_free(&r);
}

static void interrupts(void **state)
{
    struct rig r;

    (void)state;
    rig_make(&r, false);
    rig_set(&r, TF_EDU_IRQ_RAISE, 4, 0x5);
    assert_int_equal(r.level, 1);
    rig_set(&r, TF_EDU_IRQ_RAISE, 4, 0xa0);
    assert_int_equal(rig_get(&r, TF_EDU_IRQ_STATUS, 4), 0xa5);
    rig_set(&r, TF_EDU_IRQ_ACK, 4, 0xa1);
    assert_int_equal(rig_get(&r, TF_EDU_IRQ_STATUS, 4), 0x4);
    assert_int_equal(r.level, 1); /* one is left */
    rig_set(&r, TF_EDU_IRQ_ACK, 4, UINT32_MAX);
    assert_int_equal(r.level, 0);
    assert_int_equal(rig_messages(&r), 0);

    rig_msi_on(&r);
    rig_set(&r, TF_EDU_IRQ_RAISE, 4, 0x100);
    assert_int_equal(r.level, 0);
    assert_int_equal(rig_messages(&r), 1);
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
    rig_fill(&r, 0x1000, PAGE, 3);
    assert_int_equal(rig_from_memory(&r, 0x1000, TF_EDU_BUFFER, PAGE), TF_EDU_OK);
    assert_int_equal(rig_to_memory(&r, TF_EDU_BUFFER, 0x5801, PAGE), TF_EDU_OK);
    assert_memory_equal(rig_ram(&r, 0x5801), rig_ram(&r, 0x1000), PAGE);
    assert_int_equal(*rig_ram(&r, 0x5800) | *rig_ram(&r, 0x6801), 0);
    /* A part, from the middle of the buffer. */
    assert_int_equal(rig_to_memory(&r, TF_EDU_BUFFER + 100, 0x8000, 7), TF_EDU_OK);
    assert_memory_equal(rig_ram(&r, 0x8000), rig_ram(&r, 0x1064), 7);
    assert_int_equal(*rig_ram(&r, 0x8007), 0);
    /* Nothing is fine, too. */
    assert_int_equal(rig_to_memory(&r, TF_EDU_BUFFER + PAGE, 0x8000, 0), TF_EDU_OK);
    assert_int_equal(rig_get(&r, TF_EDU_COMMAND, 8), TF_EDU_FROM_DEVICE);
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
    rig_fill(&r, 0, RAM, 1);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(rig_from_memory(&r, 0x1000, bad[i].at, bad[i].len), TF_EDU_BAD_RANGE);
        assert_int_equal(rig_to_memory(&r, bad[i].at, 0x2000, bad[i].len), TF_EDU_BAD_RANGE);
    }
    for (uint64_t i = 0; i < RAM; i++)
        assert_int_equal(rig_ram(&r, 0)[i], (uint8_t)(1 + i * 7 + i / 251));
    rig_free(&r);
}

static void errors(void **state)
{
    struct rig r;

    (void)state;
    rig_make(&r, false);
    rig_fill(&r, 0x1000, PAGE, 3);
    assert_int_equal(rig_to_memory(&r, TF_EDU_BUFFER, RAM, 16), TF_EDU_FAULT);
    assert_int_equal(rig_to_memory(&r, TF_EDU_BUFFER, RAM - 8, 16), TF_EDU_FAULT);
    assert_int_equal(rig_to_memory(&r, TF_EDU_BUFFER, UINT64_MAX - 7, 16), TF_EDU_FAULT);
    assert_int_equal(rig_from_memory(&r, UINT64_MAX, TF_EDU_BUFFER, 1), TF_EDU_FAULT);
    /* A write to where interrupts go is none, without an IOMMU either. */
    rig_msi_on(&r);
    assert_int_equal(rig_to_memory(&r, TF_EDU_BUFFER, MSI, 4), TF_EDU_FAULT);
    assert_int_equal(rig_messages(&r), 0);
    rig_config_write(&r, 4, 2, 2); /* no bus master */
    assert_int_equal(rig_from_memory(&r, 0x1000, TF_EDU_BUFFER, 16), TF_EDU_NO_MASTER);
    assert_int_equal(rig_to_memory(&r, TF_EDU_BUFFER, 0x1000, 16), TF_EDU_NO_MASTER);
    rig_config_write(&r, 4, 2, 6);
    assert_int_equal(rig_from_memory(&r, 0x1000, TF_EDU_BUFFER, 16), TF_EDU_OK);
    rig_free(&r);
}

static void interrupt_at_the_end(void **state)
{
    struct rig r;

    (void)state;
    rig_make(&r, false);
    rig_msi_on(&r);
    rig_start(&r, 0x1000, TF_EDU_BUFFER, 64, TF_EDU_INTERRUPT);
    while (rig_messages(&r) == 0)
        sched_yield();
    assert_int_equal(rig_get(&r, TF_EDU_IRQ_STATUS, 4), TF_EDU_DONE);
    assert_int_equal(rig_get(&r, TF_EDU_COMMAND, 8), TF_EDU_INTERRUPT);
    rig_set(&r, TF_EDU_IRQ_ACK, 4, TF_EDU_DONE);
    rig_start(&r, 0x1000, 0, 64, TF_EDU_INTERRUPT); /* one that fails tells so, too */
    while (rig_messages(&r) == 1)
        sched_yield();
    assert_int_equal(rig_get(&r, TF_EDU_RESULT, 8), TF_EDU_BAD_RANGE);
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

    rig_set(&r, TF_EDU_DEVICE_OFFSET, 8, size - 8);
    rig_start(&r, TF_EDU_BUFFER, 0x3000, 8, TF_EDU_FROM_DEVICE | TF_EDU_OWN_MEMORY);
    assert_int_equal(rig_await(&r), TF_EDU_OK);
    assert_memory_equal(rig_ram(&r, 0x3000), own + size - 8, 8);
    /* More than the buffer has. */
    rig_fill(&r, 0x10000, 64u << 10, 9);
    rig_set(&r, TF_EDU_DEVICE_OFFSET, 8, 0x800);
    rig_start(&r, 0x10000, 0, 64u << 10, TF_EDU_OWN_MEMORY);
    assert_int_equal(rig_await(&r), TF_EDU_OK);
    assert_memory_equal(own + 0x800, rig_ram(&r, 0x10000), 64u << 10);
    rig_set(&r, TF_EDU_DEVICE_OFFSET, 8, size - 7);
    rig_start(&r, 0x10000, TF_EDU_BUFFER, 8, TF_EDU_OWN_MEMORY);
    assert_int_equal(rig_await(&r), TF_EDU_BAD_RANGE);
    rig_set(&r, TF_EDU_DEVICE_OFFSET, 8, UINT64_MAX);
    rig_start(&r, 0x10000, TF_EDU_BUFFER, 8, TF_EDU_OWN_MEMORY);
    assert_int_equal(rig_await(&r), TF_EDU_BAD_RANGE);
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
    /* As when it comes in the round of the loop in which the device was held. */
    edu_work(r->edu, r->edu->kick, EPOLLIN);
    /* Asked for while held; the loop has had its turn since, and nothing was done. */
    assert_true(rig_get(r, TF_EDU_COMMAND, 8) & TF_EDU_START);
    assert_true(rig_get(r, TF_EDU_STATUS, 4) & 1);
    assert_int_equal(*rig_ram(r, 0x7000), 0);
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
    rig_fill(&r, 0x1000, 16, 77);
    assert_int_equal(rig_from_memory(&r, 0x1000, TF_EDU_BUFFER, 16), TF_EDU_OK);
    on_loop(&r, hold);
    rig_start(&r, TF_EDU_BUFFER, 0x7000, 16, TF_EDU_FROM_DEVICE);
    rig_set(&r, TF_EDU_FACTORIAL, 4, 5);
    on_loop(&r, letting_go);
    assert_int_equal(rig_await(&r), TF_EDU_OK);
    assert_memory_equal(rig_ram(&r, 0x7000), rig_ram(&r, 0x1000), 16);
    while (rig_get(&r, TF_EDU_STATUS, 4) & 1)
        sched_yield();
    assert_int_equal(rig_get(&r, TF_EDU_FACTORIAL, 4), 120);
    rig_free(&r);
    (void)pthread_barrier_destroy(&held);
}

/* Several CPUs at once: each transfer is whole, whoever started it. */
static void *writer(void *ctx)
{
    struct rig *r = ctx;

    for (unsigned i = 0; i < 2000; i++) {
        rig_set(r, TF_EDU_IRQ_RAISE, 4, 1);
        rig_set(r, TF_EDU_COMMAND, 8, TF_EDU_START | TF_EDU_FROM_DEVICE);
        rig_set(r, TF_EDU_FACTORIAL, 4, i);
        (void)rig_get(r, TF_EDU_COMMAND, 8);
        rig_set(r, TF_EDU_IRQ_ACK, 4, 1);
    }
    return NULL;
}

static void many_cpus(void **state)
{
    struct rig r;
    pthread_t thread[3];

    (void)state;
    rig_make(&r, false);
    rig_fill(&r, 0x1000, PAGE, 5);
    assert_int_equal(rig_from_memory(&r, 0x1000, TF_EDU_BUFFER, PAGE), TF_EDU_OK);
    rig_set(&r, TF_EDU_SOURCE, 8, TF_EDU_BUFFER);
    rig_set(&r, TF_EDU_DESTINATION, 8, 0x8000);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, writer, &r), 0);
    for (unsigned i = 0; i < 3; i++)
        (void)pthread_join(thread[i], NULL);
    assert_int_equal(rig_await(&r), TF_EDU_OK);
    assert_memory_equal(rig_ram(&r, 0x8000), rig_ram(&r, 0x1000), PAGE);
    assert_int_equal(rig_get(&r, TF_EDU_IRQ_STATUS, 4), 0);
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
        cmocka_unit_test(held_does_nothing),
        cmocka_unit_test(many_cpus),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
