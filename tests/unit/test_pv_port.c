/* The paravirtual console: what it prints, and every descriptor that it must drop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/abi.h"
#include "vmm/devices.h"

#define RAM  (UINT64_C(4) << 20)
#define DESC 0x1000u
#define TEXT 0x2000u

static struct {
    struct bus *bus;
    struct memory *mem;
    struct pv_port *port;
    char out[2 * TF_CONSOLE_MAX];
    size_t out_len;
} t;

/* The test is the console: the library's is not linked in. */
void console_write(struct console *con, const unsigned char *buf, size_t len)
{
    (void)con;
    assert_true(len <= sizeof(t.out) - t.out_len);
    memcpy(t.out + t.out_len, buf, len);
    t.out_len += len;
}

static int start(void **state)
{
    (void)state;
    memset(&t, 0, sizeof(t));
    if (bus_create(&t.bus, NULL) < 0 || memory_create(&t.mem, RAM, MEM_ANON, NULL) < 0 ||
        pv_port_create(&t.port, t.bus, t.mem, NULL, NULL) < 0)
        return -1;
    return memory_write(t.mem, gpa(TEXT), "hello", 5);
}

static int stop(void **state)
{
    (void)state;
    pv_port_destroy(t.port);
    memory_destroy(t.mem);
    bus_destroy(t.bus);
    return 0;
}

static void describe(uint64_t at, uint64_t text, uint32_t len)
{
    struct tf_console desc = { .gpa = text, .len = len };

    assert_int_equal(memory_write(t.mem, gpa(at), &desc, sizeof(desc)), 0);
}

static void out(uint64_t value, unsigned size)
{
    assert_true(bus_write(t.bus, BUS_PIO, TF_PORT_CONSOLE, size, value));
}

static void prints(void **state)
{
    (void)state;
    describe(DESC, TEXT, 5);
    out(DESC, 4);
    assert_int_equal(t.out_len, 5);
    assert_memory_equal(t.out, "hello", 5);
}

static void prints_the_longest(void **state)
{
    (void)state;
    describe(DESC, RAM - TF_CONSOLE_MAX, TF_CONSOLE_MAX);
    out(DESC, 4);
    assert_int_equal(t.out_len, TF_CONSOLE_MAX);
}

static void drops_bad_text(void **state)
{
    static const struct {
        uint64_t gpa;
        uint32_t len;
    } row[] = {
        { TEXT, 0 },           { TEXT, TF_CONSOLE_MAX + 1 },
        { TEXT, UINT32_MAX },  { RAM, 1 },
        { RAM - 4, 5 },        { UINT64_MAX, 1 },
        { UINT64_MAX - 3, 8 }, { MEMORY_HOLE_START, 4 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        describe(DESC, row[i].gpa, row[i].len);
        out(DESC, 4);
        assert_int_equal(t.out_len, 0);
    }
}

static void drops_bad_descriptors(void **state)
{
    (void)state;
    describe(DESC, TEXT, 5);
    describe(DESC + 4, TEXT, 5);
    out(DESC + 4, 4); /* not aligned */
    out(RAM - 8, 4);  /* half of it outside */
    out(RAM, 4);
    out(UINT32_MAX & ~7u, 4);
    out(DESC, 2);
    out(DESC, 1);
    assert_int_equal(t.out_len, 0);
}

static void reads_as_nothing(void **state)
{
    uint64_t value = 0;

    (void)state;
    assert_true(bus_read(t.bus, BUS_PIO, TF_PORT_CONSOLE, 4, &value));
    assert_int_equal(value, UINT32_MAX);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(prints),           TEST(prints_the_longest),
        TEST(drops_bad_text),   TEST(drops_bad_descriptors),
        TEST(reads_as_nothing),
    };

    return cmocka_run_group_tests_name("pv_port", tests, NULL, NULL);
}
