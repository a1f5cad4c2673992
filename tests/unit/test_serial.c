/* The 16550A as a driver sees it: by its registers, its interrupt line, and the console. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/devices.h"

#define COM1 0x3f8
enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR };

static struct {
    struct bus *bus;
    struct serial *serial;
    int level;
    unsigned edges; /* rising */
    unsigned asked_for_more;
    char out[4096];
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

void console_take_more(struct console *con)
{
    (void)con;
    t.asked_for_more++;
}

static void set_line(void *ctx, unsigned gsi, int level)
{
    (void)ctx;
    assert_int_equal(gsi, 4);
    assert_int_not_equal(level, t.level); /* told only of changes */
    t.level = level;
    t.edges += level ? 1 : 0;
}

static uint8_t in(unsigned reg)
{
    uint64_t value = 0;

    assert_true(bus_read(t.bus, BUS_PIO, COM1 + reg, 1, &value));
    return (uint8_t)value;
}

static void out(unsigned reg, uint8_t value)
{
    assert_true(bus_write(t.bus, BUS_PIO, COM1 + reg, 1, value));
}

static int has_data(void)
{
    return in(LSR)&1;
}

static void type(const char *text)
{
    serial_input(t.serial, (const unsigned char *)text, strlen(text));
}

static int start(void **state)
{
    struct irq_line irq = { .set = set_line, .gsi = 4 };

    (void)state;
    memset(&t, 0, sizeof(t));
    return bus_create(&t.bus, NULL) < 0 || serial_create(&t.serial, t.bus, irq, NULL, NULL) < 0;
}

static int stop(void **state)
{
    (void)state;
    serial_destroy(t.serial);
    bus_destroy(t.bus);
    return 0;
}

static void after_reset(void **state)
{
    (void)state;
    assert_int_equal(in(IER), 0);
    assert_int_equal(in(IIR), 0x01);
    assert_int_equal(in(MCR), 0);
    assert_int_equal(in(LSR), 0x60);
    assert_int_equal(in(MSR), 0xb0);
    assert_int_equal(t.edges, 0);
}

static void output_is_written_at_once(void **state)
{
    (void)state;
    out(DATA, 'h');
    assert_int_equal(t.out_len, 1);
    out(DATA, 'i');
    assert_memory_equal(t.out, "hi", 2);
    assert_int_equal(in(LSR)&0x60, 0x60);
}

static void divisor_latch_hides_data_and_ier(void **state)
{
    (void)state;
    out(IER, 0x05);
    out(LCR, 0x83);
    out(DATA, 0x0c);
    out(IER, 0x34);
    assert_int_equal(in(DATA), 0x0c);
    assert_int_equal(in(IER), 0x34);
    out(LCR, 0x03);
    assert_int_equal(in(IER), 0x05);
    assert_int_equal(in(DATA), 0);
    assert_int_equal(t.out_len, 0);
}

static void scratch_and_reserved_bits(void **state)
{
    (void)state;
    out(SCR, 0x5a);
    assert_int_equal(in(SCR), 0x5a);
    out(IER, 0xf0);
    assert_int_equal(in(IER), 0);
    out(MCR, 0xe0);
    assert_int_equal(in(MCR), 0);
    out(LSR, 0xff);
    assert_int_equal(in(LSR), 0x60);
}

/* Drivers tell a 16550A from an 8250 by the two FIFO bits in IIR. */
static void fifo_is_seen_in_iir(void **state)
{
    (void)state;
    out(IIR, 0x01);
    assert_int_equal(in(IIR), 0xc1);
    out(IIR, 0x00);
    assert_int_equal(in(IIR), 0x01);
}

static void polling_reads_all(void **state)
{
    (void)state;
    type("ab");
    assert_int_equal(has_data(), 1);
    assert_int_equal(in(DATA), 'a');
    assert_int_equal(has_data(), 1);
    assert_int_equal(in(DATA), 'b');
    assert_int_equal(has_data(), 0);
    assert_int_equal(in(DATA), 0);
}

static void receive_interrupt_rises_and_falls(void **state)
{
    (void)state;
    out(IER, 0x01);
    assert_int_equal(t.level, 0);
    type("x");
    assert_int_equal(t.level, 1);
    assert_int_equal(in(IIR), 0x04);
    assert_int_equal(t.level, 1); /* reading IIR does not serve it */
    assert_int_equal(in(DATA), 'x');
    assert_int_equal(t.level, 0);
    assert_int_equal(in(IIR), 0x01);
}

static void trigger_levels(void **state)
{
    static const struct {
        uint8_t fcr;
        unsigned level;
    } row[] = { { 0x01, 1 }, { 0x41, 4 }, { 0x81, 8 }, { 0xc1, 14 } };

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        out(IIR, row[i].fcr | 0x02);
        out(IER, 0x01);
        for (unsigned n = 1; n <= 16; n++) {
            type("x");
            assert_int_equal(in(IIR), n < row[i].level ? 0xcc : 0xc4);
            assert_int_equal(t.level, 1);
        }
        while (has_data())
            in(DATA);
        assert_int_equal(t.level, 0);
    }
}

static void transmit_interrupt(void **state)
{
    (void)state;
    out(IER, 0x02); /* the holding register is empty: at once */
    assert_int_equal(t.level, 1);
    assert_int_equal(in(IIR), 0x02);
    assert_int_equal(t.level, 0); /* reading IIR as the source clears it */
    assert_int_equal(in(IIR), 0x01);
    out(DATA, 'x');
    assert_int_equal(t.level, 1);
    out(IER, 0x00);
    assert_int_equal(t.level, 0);
    out(IER, 0x02);
    assert_int_equal(t.level, 1);
}

/* A driver may serve it by writing alone: each byte is an edge, which is all that a PIC sees. */
static void transmit_interrupt_is_an_edge_for_each_byte(void **state)
{
    (void)state;
    out(IER, 0x02);
    assert_int_equal(t.edges, 1);
    for (unsigned n = 2; n < 5; n++) {
        out(DATA, 'x');
        assert_int_equal(t.level, 1);
        assert_int_equal(t.edges, n);
    }
}

static void receive_comes_before_transmit(void **state)
{
    (void)state;
    out(IER, 0x03);
    type("x");
    assert_int_equal(in(IIR), 0x04);
    in(DATA);
    assert_int_equal(in(IIR), 0x02); /* was not cleared by the read that gave 0x04 */
    assert_int_equal(in(IIR), 0x01);
}

static void loopback_data(void **state)
{
    (void)state;
    out(MCR, 0x10);
    out(DATA, 'L');
    assert_int_equal(t.out_len, 0);
    assert_int_equal(in(LSR)&3, 1);
    out(DATA, 'M'); /* no FIFO: overrun */
    assert_int_equal(in(LSR)&3, 3);
    assert_int_equal(in(LSR)&3, 1); /* reading clears it */
    assert_int_equal(in(DATA), 'L');
}

static void overrun_interrupt(void **state)
{
    (void)state;
    out(IIR, 0x01);
    out(MCR, 0x10);
    out(IER, 0x05);
    for (int i = 0; i < 17; i++)
        out(DATA, (uint8_t)i);
    assert_int_equal(in(IIR), 0xc6);
    assert_int_equal(in(LSR)&2, 2);
    assert_int_equal(in(IIR), 0xc4);
    for (int i = 0; i < 16; i++)
        assert_int_equal(in(DATA), i);
    assert_int_equal(in(IIR), 0xc1);
    assert_int_equal(t.level, 0);
}

/* The probe of Linux' 8250 driver: MCR's outputs come back as MSR's inputs. */
static void loopback_modem_lines(void **state)
{
    (void)state;
    out(MCR, 0x1a);
    assert_int_equal(in(MSR)&0xf0, 0x90);
    out(MCR, 0x15);
    assert_int_equal(in(MSR)&0xf0, 0x60);
    out(MCR, 0x10);
    assert_int_equal(in(MSR)&0xf0, 0x00);
}

static void modem_status_interrupt(void **state)
{
    (void)state;
    out(MCR, 0x14); /* RI on; DCD, DSR and CTS fall */
    in(MSR);
    out(IER, 0x08);
    assert_int_equal(t.level, 0);
    out(MCR, 0x13);
    assert_int_equal(t.level, 1);
    assert_int_equal(in(IIR), 0x00);
    assert_int_equal(in(MSR), 0x37); /* DSR, CTS and the trailing edge of RI */
    assert_int_equal(t.level, 0);
    assert_int_equal(in(MSR), 0x30);
}

/* Loopback cuts the line off; what was sent meanwhile comes after. */
static void loopback_keeps_input_waiting(void **state)
{
    (void)state;
    out(MCR, 0x12);
    type("later");
    assert_int_equal(has_data(), 0);
    out(MCR, 0x02);
    assert_int_equal(has_data(), 1);
    assert_int_equal(in(DATA), 'l');
}

static void fifo_clear_drops_what_was_seen(void **state)
{
    (void)state;
    out(IIR, 0x01);
    type("seen");
    assert_int_equal(has_data(), 1);
    out(IIR, 0x03);
    assert_int_equal(has_data(), 0);
}

static void early_input_survives_a_simple_start(void **state)
{
    (void)state;
    type("early");
    out(IER, 0x00);
    out(LCR, 0x80);
    out(DATA, 0x01);
    out(IER, 0x00);
    out(LCR, 0x03);
    out(IIR, 0xc7);
    out(MCR, 0x0b);
    for (const char *c = "early"; *c; c++) {
        assert_int_equal(has_data(), 1);
        assert_int_equal(in(DATA), *c);
    }
}

/* As Linux 6.1 finds and opens the port; it reads the data register without being asked. */
static void early_input_survives_a_probing_driver(void **state)
{
    static const struct {
        char what;
        uint8_t reg, value;
    } step[] = {
        { 'w', IER, 0x00 }, { 'w', IIR, 0x00 }, { 'w', MCR, 0x01 }, /* the boot console prints */
        { 'r', LSR, 0 },    { 'w', DATA, 'x' }, { 'r', LSR, 0 },    { 'r', LSR, 0 },
        { 'w', IER, 0x00 }, { 'w', IER, 0x0f }, { 'w', IER, 0x00 }, /* which bits are there? */
        { 'r', LSR, 0 },    { 'w', MCR, 0x1a }, { 'r', MSR, 0 },    { 'w', MCR, 0x01 },
        { 'w', IIR, 0x01 }, { 'w', IIR, 0x07 }, { 'w', IIR, 0x00 }, { 'r', DATA, 0 },
        { 'w', IIR, 0x01 }, { 'w', IIR, 0x07 }, { 'w', IIR, 0x00 }, /* the console is opened */
        { 'r', LSR, 0 },    { 'r', DATA, 0 },   { 'r', IIR, 0 },    { 'r', MSR, 0 },
        { 'r', LSR, 0 },    { 'r', LSR, 0 },    { 'w', IER, 0x02 }, { 'r', IIR, 0 },
        { 'w', IER, 0x00 }, { 'w', LCR, 0x03 }, { 'w', MCR, 0x09 }, { 'w', IER, 0x02 },
        { 'r', LSR, 0 },    { 'r', IIR, 0 },    { 'w', IER, 0x00 }, { 'r', LSR, 0 },
        { 'r', DATA, 0 },   { 'r', IIR, 0 },    { 'r', MSR, 0 },    { 'w', IER, 0x05 },
        { 'w', LCR, 0x13 }, { 'w', IIR, 0x01 }, { 'w', IIR, 0x81 }, { 'w', MCR, 0x09 },
    };

    (void)state;
    type("early");
    for (size_t i = 0; i < sizeof(step) / sizeof(step[0]); i++) {
        if (step[i].what == 'w')
            out(step[i].reg, step[i].value);
        else
            in(step[i].reg);
    }
    assert_int_equal(t.level, 1);
    for (const char *c = "early"; *c; c++) {
        assert_int_equal(has_data(), 1);
        assert_int_equal(in(DATA), *c);
    }
    assert_int_equal(t.level, 0);
}

static void polling_without_rts_still_reads(void **state)
{
    (void)state;
    out(MCR, 0x00);
    type("p");
    for (int i = 0; i < 8; i++) { /* looks whether it can send */
        assert_int_equal(has_data(), 0);
        out(DATA, 'x');
    }
    for (int i = 0; i < 15; i++)
        assert_int_equal(has_data(), 0);
    assert_int_equal(has_data(), 1);
    assert_int_equal(in(DATA), 'p');
    type("q");
    assert_int_equal(has_data(), 1);
}

static void long_input_stays_in_order(void **state)
{
    enum { LEN = 100000 };
    unsigned char *bytes = malloc(LEN);

    (void)state;
    assert_non_null(bytes);
    for (int i = 0; i < LEN; i++)
        bytes[i] = (unsigned char)(i * 7 + i / 251);
    out(IIR, 0xc1);
    out(IER, 0x01);
    serial_input(t.serial, bytes, LEN / 2);
    for (int i = 0; i < LEN; i++) {
        if (i == 1000)
            serial_input(t.serial, bytes + LEN / 2, LEN / 2);
        assert_int_equal(t.level, 1);
        assert_int_equal(in(DATA), bytes[i]);
    }
    assert_int_equal(t.level, 0);
    assert_int_equal(t.edges, 1);
    free(bytes);
}

/* The host waits from 64 KiB on, and is told once when half of them are read. */
static void much_unread_input_holds_the_host(void **state)
{
    enum { ENOUGH = 64 << 10 };
    unsigned char *bytes = calloc(1, ENOUGH);

    (void)state;
    assert_non_null(bytes);
    out(IIR, 0x00); /* no FIFO: one byte beside those that wait */
    out(IER, 0x01);
    assert_true(serial_input(t.serial, bytes, ENOUGH - 1));
    assert_false(serial_input(t.serial, bytes, ENOUGH / 2));
    while (!t.asked_for_more) {
        assert_int_equal(has_data(), 1);
        in(DATA);
    }
    for (int i = 0; i < ENOUGH / 2 - 1; i++) {
        assert_int_equal(has_data(), 1);
        in(DATA);
    }
    assert_int_equal(t.asked_for_more, 1);
    assert_true(serial_input(t.serial, bytes, 1));
    free(bytes);
}

/* An attached console types while stdin is held: stdin must still be asked for more later. */
static void input_beside_a_held_host_does_not_forget_it(void **state)
{
    enum { ENOUGH = 64 << 10 };
    unsigned char *bytes = calloc(1, ENOUGH);

    (void)state;
    assert_non_null(bytes);
    assert_false(serial_input(t.serial, bytes, ENOUGH));
    for (int i = 0; i < ENOUGH / 4; i++)
        in(DATA);
    assert_int_equal(t.asked_for_more, 0);
    assert_true(serial_input(t.serial, bytes, 1));
    for (int i = 0; i < ENOUGH / 2; i++)
        in(DATA);
    assert_int_equal(t.asked_for_more, 1);
    free(bytes);
}

/* A guest that never reads can't make the monitor grow without bound. */
static void unread_input_is_bounded(void **state)
{
    enum { BLOCK = 1 << 20 };
    unsigned char *bytes = calloc(1, BLOCK);
    unsigned count = 0;

    (void)state;
    assert_non_null(bytes);
    for (int i = 0; i < 20; i++)
        serial_input(t.serial, bytes, BLOCK);
    out(IIR, 0x01);
    for (; has_data(); count++)
        in(DATA);
    assert_int_equal(count, 16 << 20);
    free(bytes);
}

static void wide_access_is_one_to_each_register(void **state)
{
    uint64_t value = 0;

    (void)state;
    assert_true(bus_write(t.bus, BUS_PIO, COM1 + IER, 2, 0x0105)); /* IER 5, FCR 1 */
    assert_int_equal(in(IER), 5);
    assert_true(bus_read(t.bus, BUS_PIO, COM1 + IER, 2, &value));
    assert_int_equal(value, 0xc105);
    assert_false(bus_read(t.bus, BUS_PIO, COM1 + SCR, 2, &value));
}

static void *feeder(void *arg)
{
    unsigned char byte = 0;

    (void)arg;
    for (int i = 0; i < 50000; i++, byte++)
        serial_input(t.serial, &byte, 1);
    return NULL;
}

/* The I/O thread types while a vCPU reads and writes: nothing is lost or reordered. */
static void input_from_another_thread(void **state)
{
    unsigned char expect = 0;
    pthread_t thread;
    int got = 0;

    (void)state;
    out(IIR, 0x81);
    out(IER, 0x01);
    assert_int_equal(pthread_create(&thread, NULL, feeder, NULL), 0);
    while (got < 50000) {
        if (!has_data())
            continue;
        assert_int_equal(in(DATA), expect++);
        got++;
    }
    pthread_join(thread, NULL);
    assert_int_equal(t.level, 0);
}

static void port_is_taken_only_once(void **state)
{
    struct irq_line irq = { .set = set_line, .gsi = 4 };
    struct serial *second = NULL;
    struct error err;

    (void)state;
    assert_true(serial_create(&second, t.bus, irq, NULL, &err) < 0);
    assert_null(second);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(after_reset),
        TEST(output_is_written_at_once),
        TEST(divisor_latch_hides_data_and_ier),
        TEST(scratch_and_reserved_bits),
        TEST(fifo_is_seen_in_iir),
        TEST(polling_reads_all),
        TEST(receive_interrupt_rises_and_falls),
        TEST(trigger_levels),
        TEST(transmit_interrupt),
        TEST(transmit_interrupt_is_an_edge_for_each_byte),
        TEST(receive_comes_before_transmit),
        TEST(loopback_data),
        TEST(overrun_interrupt),
        TEST(loopback_modem_lines),
        TEST(modem_status_interrupt),
        TEST(loopback_keeps_input_waiting),
        TEST(fifo_clear_drops_what_was_seen),
        TEST(early_input_survives_a_simple_start),
        TEST(early_input_survives_a_probing_driver),
        TEST(polling_without_rts_still_reads),
        TEST(long_input_stays_in_order),
        TEST(much_unread_input_holds_the_host),
        TEST(input_beside_a_held_host_does_not_forget_it),
        TEST(unread_input_is_bounded),
        TEST(wide_access_is_one_to_each_register),
        TEST(input_from_another_thread),
        TEST(port_is_taken_only_once),
    };

    return cmocka_run_group_tests_name("serial", tests, NULL, NULL);
}
