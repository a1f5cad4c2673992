/* Platform ports: ACPI registers, resets, keyboard controller, CMOS clock, exit port. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "vmm/devices.h"
#include "vmm/rtc.h"

static struct {
    struct bus *bus;
    struct platform *platform;
    struct end_hook hook;
    enum vm_end end;
    uint32_t value;
    unsigned ends;
} t;

static void record(void *ctx, enum vm_end end, uint32_t value, const char *why)
{
    (void)ctx;
    (void)why;
    t.end = end;
    t.value = value;
    t.ends++;
}

static int start(void **state)
{
    (void)state;
    memset(&t, 0, sizeof(t));
    t.hook.end = record;
    return bus_create(&t.bus, NULL) < 0 || platform_create(&t.platform, t.bus, &t.hook, NULL) < 0 ||
           debug_exit_create(t.bus, &t.hook, NULL) < 0;
}

static int stop(void **state)
{
    (void)state;
    platform_destroy(t.platform);
    bus_destroy(t.bus);
    return 0;
}

static uint64_t in(uint16_t port, unsigned size)
{
    uint64_t value = 0;

    assert_true(bus_read(t.bus, BUS_PIO, port, size, &value));
    return value;
}

static void out(uint16_t port, unsigned size, uint64_t value)
{
    assert_true(bus_write(t.bus, BUS_PIO, port, size, value));
}

/* --- exit and ACPI ------------------------------------------------------------------------ */

static void exit_port_ends_the_vm(void **state)
{
    (void)state;
    out(0xf4, 4, 42);
    assert_int_equal(t.end, VM_END_EXIT);
    assert_int_equal(t.value, 42);
    out(0xf4, 1, 7);
    assert_int_equal(t.value, 7);
    out(0xf4, 4, 0xffffffff);
    assert_int_equal(t.value, 0xffffffff);
}

static void power_off(void **state)
{
    (void)state;
    out(0x604, 2, 0x2000);
    assert_int_equal(t.end, VM_END_POWEROFF);
    assert_int_equal(t.ends, 1);
}

static void power_off_by_its_high_byte(void **state)
{
    (void)state;
    out(0x604, 1, 0x01);
    assert_int_equal(t.ends, 0);
    out(0x605, 1, 0x20);
    assert_int_equal(t.end, VM_END_POWEROFF);
}

static void other_sleep_states_are_ignored(void **state)
{
    (void)state;
    out(0x604, 2, 0x2000 | 3 << 10);
    assert_int_equal(t.ends, 0);
    assert_int_equal(in(0x604, 2) & 0x2000, 0); /* SLP_EN reads as zero */
    assert_int_equal(in(0x604, 2) & 0x1c00, 3 << 10);
}

static void pm1_registers(void **state)
{
    (void)state;
    assert_int_equal(in(0x604, 2), 1); /* SCI_EN */
    out(0x602, 2, 0x0121);
    assert_int_equal(in(0x600, 4), 0x01210000);
    out(0x600, 2, 0xffff); /* status bits are cleared by ones */
    assert_int_equal(in(0x600, 2), 0);
    assert_int_equal(in(0x602, 2), 0x0121);
    assert_int_equal(t.ends, 0);
}

/* 3.579545 MHz against the host's clock, which is read before and after. */
static void pm_timer_runs_at_its_rate(void **state)
{
    struct timespec a, b, wait = { .tv_nsec = 20000000 };
    uint64_t ns_min, ns_max, ticks, first;
    struct timespec c, d;

    (void)state;
    clock_gettime(CLOCK_MONOTONIC, &a);
    first = in(0x608, 4);
    clock_gettime(CLOCK_MONOTONIC, &b);
    nanosleep(&wait, NULL);
    clock_gettime(CLOCK_MONOTONIC, &c);
    ticks = (uint32_t)(in(0x608, 4) - first);
    clock_gettime(CLOCK_MONOTONIC, &d);
    ns_min = (uint64_t)((c.tv_sec - b.tv_sec) * 1000000000 + c.tv_nsec - b.tv_nsec);
    ns_max = (uint64_t)((d.tv_sec - a.tv_sec) * 1000000000 + d.tv_nsec - a.tv_nsec);
    assert_true((ticks + 1) * 1000000000 / 3579545 >= ns_min);
    assert_true((ticks - 1) * 1000000000 / 3579545 <= ns_max);
}

/* --- resets ---------------------------------------------------------------------------------- */

static void reset_control_register(void **state)
{
    (void)state;
    out(0xcf9, 1, 0x02);
    assert_int_equal(t.ends, 0);
    assert_int_equal(in(0xcf9, 1), 0x02);
    out(0xcf9, 1, 0x06);
    assert_int_equal(t.end, VM_END_RESET);
}

static void keyboard_controller_resets(void **state)
{
    (void)state;
    out(0x64, 1, 0xff); /* pulses nothing */
    assert_int_equal(t.ends, 0);
    out(0x64, 1, 0xfe);
    assert_int_equal(t.end, VM_END_RESET);
}

/* A driver that probes gets an answer to each step, and then finds no keyboard. */
static void keyboard_controller_answers(void **state)
{
    (void)state;
    assert_int_equal(in(0x64, 1) & 3, 0);
    out(0x64, 1, 0x20);
    assert_int_equal(in(0x64, 1) & 3, 1);
    assert_int_equal(in(0x60, 1), 0x30);
    assert_int_equal(in(0x64, 1) & 3, 0);
    out(0x64, 1, 0x60);
    out(0x60, 1, 0x74);
    out(0x64, 1, 0x20);
    assert_int_equal(in(0x60, 1), 0x74);
    out(0x64, 1, 0xaa);
    assert_int_equal(in(0x60, 1), 0x55);
    out(0x60, 1, 0xed); /* to a keyboard that is not there */
    assert_int_equal(in(0x64, 1) & 3, 0);
    assert_int_equal(t.ends, 0);
}

/* --- clock ------------------------------------------------------------------------- */

static uint8_t cmos(uint8_t index)
{
    out(0x70, 1, index);
    return (uint8_t)in(0x71, 1);
}

static int bcd(uint8_t v)
{
    return (v >> 4) * 10 + (v & 15);
}

static time_t clock_bcd(void)
{
    struct tm tm = { 0 };

    tm.tm_sec = bcd(cmos(0));
    tm.tm_min = bcd(cmos(2));
    tm.tm_hour = bcd(cmos(4));
    tm.tm_mday = bcd(cmos(7));
    tm.tm_mon = bcd(cmos(8)) - 1;
    tm.tm_year = bcd(cmos(9)) + bcd(cmos(0x32)) * 100 - 1900;
    return timegm(&tm);
}

/* Reads until no second passes in between, as a driver does. */
static void clock_is_the_hosts(void **state)
{
    time_t before, guest;

    (void)state;
    do {
        before = time(NULL);
        guest = clock_bcd();
    } while (time(NULL) != before);
    assert_int_equal(guest, before);
    assert_int_equal(cmos(0x0d) & 0x80, 0x80);
}

/* 2026-11-21 23:04:05.9999 UTC, a Saturday. */
static const struct timespec moment = { .tv_sec = 1795302245, .tv_nsec = 999900000 };

static uint8_t rtc_get(struct rtc *rtc, uint8_t index)
{
    rtc->index = index;
    return rtc_read(rtc, moment);
}

static void rtc_set(struct rtc *rtc, uint8_t index, uint8_t value)
{
    rtc->index = index;
    rtc_write(rtc, value, moment);
}

static void clock_formats(void **state)
{
    struct rtc rtc;

    (void)state;
    rtc_init(&rtc);
    assert_int_equal(rtc_get(&rtc, 0), 0x05);
    assert_int_equal(rtc_get(&rtc, 2), 0x04);
    assert_int_equal(rtc_get(&rtc, 4), 0x23);
    assert_int_equal(rtc_get(&rtc, 6), 0x07);
    assert_int_equal(rtc_get(&rtc, 7), 0x21);
    assert_int_equal(rtc_get(&rtc, 8), 0x11);
    assert_int_equal(rtc_get(&rtc, 9), 0x26);
    assert_int_equal(rtc_get(&rtc, 0x32), 0x20);
    rtc_set(&rtc, 0x0b, 0x06); /* binary, 24 hours */
    assert_int_equal(rtc_get(&rtc, 4), 23);
    assert_int_equal(rtc_get(&rtc, 9), 26);
    rtc_set(&rtc, 0x0b, 0x04); /* binary, 12 hours */
    assert_int_equal(rtc_get(&rtc, 4), 0x80 | 11);
    rtc_set(&rtc, 0x0b, 0x00); /* BCD, 12 hours */
    assert_int_equal(rtc_get(&rtc, 4), 0x91);
}

static void clock_shows_the_update(void **state)
{
    struct rtc rtc;

    (void)state;
    rtc_init(&rtc);
    assert_int_equal(rtc_get(&rtc, 0x0a), 0xa6);
    assert_int_equal(rtc_read(&rtc, (struct timespec){ .tv_nsec = 500000000 }), 0x26);
    assert_int_equal(rtc_get(&rtc, 0x0c), 0x10);
    assert_int_equal(rtc_get(&rtc, 0x0c), 0x00); /* until the next second */
}

/* A guest that sets its clock, in the way of drivers: stop, write, go on. */
static void clock_can_be_set(void **state)
{
    static const struct {
        uint8_t index, value;
    } field[] = { { 0, 0x58 }, { 2, 0x59 }, { 4, 0x23 },   { 7, 0x31 },
                  { 8, 0x12 }, { 9, 0x99 }, { 0x32, 0x19 } };
    struct timespec later = { .tv_sec = moment.tv_sec + 2 };
    struct rtc rtc;

    (void)state;
    rtc_init(&rtc);
    rtc_set(&rtc, 0x0b, 0x82);
    for (size_t i = 0; i < sizeof(field) / sizeof(field[0]); i++)
        rtc_set(&rtc, field[i].index, field[i].value);
    assert_int_equal(rtc_get(&rtc, 9), 0x99);
    rtc_set(&rtc, 0x0b, 0x02);
    assert_int_equal(rtc_get(&rtc, 0), 0x58);
    rtc.index = 9;
    assert_int_equal(rtc_read(&rtc, later), 0x00); /* the century turned */
    rtc.index = 0x32;
    assert_int_equal(rtc_read(&rtc, later), 0x20);
}

/* Any bytes in the clock are the guest's problem only. */
static void nonsense_in_the_clock(void **state)
{
    struct rtc rtc;

    (void)state;
    rtc_init(&rtc);
    for (int i = 0; i < 256; i++) {
        for (int value = 0; value < 256; value += 15)
            rtc_set(&rtc, (uint8_t)(i & 127), (uint8_t)value);
        for (int index = 0; index < 128; index++)
            rtc_get(&rtc, (uint8_t)index);
    }
    assert_int_equal(rtc_get(&rtc, 0x0d), 0x80);
}

static void cmos_keeps_other_bytes(void **state)
{
    (void)state;
    out(0x70, 1, 0x80 | 0x40); /* bit 7 masks NMI */
    out(0x71, 1, 0x77);
    assert_int_equal(cmos(0x40), 0x77);
    out(0x70, 2, 0x6640); /* index and data at once */
    assert_int_equal(cmos(0x40), 0x66);
    assert_int_equal(in(0x70, 2), 0x66ff);
}

static void post_port_is_taken(void **state)
{
    (void)state;
    out(0x80, 1, 0x55);
    assert_int_equal(in(0x80, 1), 0xff);
    assert_int_equal(t.ends, 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(exit_port_ends_the_vm),
        TEST(power_off),
        TEST(power_off_by_its_high_byte),
        TEST(other_sleep_states_are_ignored),
        TEST(pm1_registers),
        TEST(pm_timer_runs_at_its_rate),
        TEST(reset_control_register),
        TEST(keyboard_controller_resets),
        TEST(keyboard_controller_answers),
        TEST(clock_is_the_hosts),
        TEST(clock_formats),
        TEST(clock_shows_the_update),
        TEST(clock_can_be_set),
        TEST(nonsense_in_the_clock),
        TEST(cmos_keeps_other_bytes),
        TEST(post_port_is_taken),
    };

    return cmocka_run_group_tests_name("platform", tests, NULL, NULL);
}
