/*
 * What a PC's chipset has on its ports and a kernel expects to find: ACPI's fixed
 * registers (ACPI 6.4, 4.8.3 Fixed Hardware Registers), the two ways to reset, the
 * keyboard controller without a keyboard, the CMOS clock, the POST port.
 */
#include "vmm/devices.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vmm/acpi.h"
#include "vmm/rtc.h"

#define PM_EVENT   (ACPI_PM1_EVENT - ACPI_PM_BASE)
#define PM_CONTROL (ACPI_PM1_CONTROL - ACPI_PM_BASE)
#define PM_TIMER   (ACPI_PM_TIMER - ACPI_PM_BASE)

#define PM1_SCI_EN    0x0001u /* ACPI mode: there is no other one here */
#define PM1_SLP_SHIFT 10
#define PM1_SLP_MASK  7u
#define PM1_SLP_EN    0x2000u

#define RESET_SYSTEM 0x02
#define RESET_CPU    0x04

#define KBC_DATA   0x60
#define KBC_STATUS 0x64
#define KBC_OBF    0x01 /* status: a byte waits at port 0x60 */
#define KBC_SYSTEM 0x04 /* status: self-test passed */
#define KBC_CTR    0x30 /* control byte: both ports disabled */

struct platform {
    pthread_mutex_t lock;
    struct end_hook *hook;
    uint16_t pm_enable, pm_control;
    uint8_t reset; /* as last written to 0xcf9 */
    uint8_t kbc_ctr, kbc_out;
    bool kbc_full;      /* kbc_out waits to be read */
    bool kbc_ctr_write; /* the next byte at port 0x60 is the control byte */
    struct rtc rtc;
};

/* --- ACPI -------------------------------------------------------------------------- */

/* ACPI 6.4, 4.8.2.1 Power Management Timer: 3.579545 MHz, 32 bits wide here. */
static uint32_t pm_timer(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint32_t)((uint64_t)t.tv_sec * ACPI_PM_TIMER_HZ +
                      (uint64_t)t.tv_nsec * ACPI_PM_TIMER_HZ / 1000000000);
}

/* Little-endian bytes, as the guest reads them at any offset and width. */
static void put(uint8_t *at, uint32_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t acpi_read(void *dev, uint64_t offset, unsigned size)
{
    struct platform *p = dev;
    uint8_t image[ACPI_PM_PORTS] = { 0 };
    uint64_t value = 0;

    pthread_mutex_lock(&p->lock);
    put(image + PM_EVENT + 2, p->pm_enable, 2); /* the status before it is always clear */
    put(image + PM_CONTROL, p->pm_control | PM1_SCI_EN, 2);
    pthread_mutex_unlock(&p->lock);
    put(image + PM_TIMER, pm_timer(), 4);
    for (unsigned i = 0; i < size && offset + i < sizeof(image); i++)
        value |= (uint64_t)image[offset + i] << (8 * i);
    return value;
}

static void acpi_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct platform *p = dev;
    uint8_t image[ACPI_PM_PORTS] = { 0 };
    bool sleep;

    pthread_mutex_lock(&p->lock);
    put(image + PM_EVENT + 2, p->pm_enable, 2);
    put(image + PM_CONTROL, p->pm_control, 2);
    for (unsigned i = 0; i < size && offset + i < sizeof(image); i++)
        image[offset + i] = (uint8_t)(value >> (8 * i));
    p->pm_enable = (uint16_t)(image[PM_EVENT + 2] | image[PM_EVENT + 3] << 8);
    p->pm_control = (uint16_t)(image[PM_CONTROL] | image[PM_CONTROL + 1] << 8);
    sleep = p->pm_control & PM1_SLP_EN &&
            (p->pm_control >> PM1_SLP_SHIFT & PM1_SLP_MASK) == ACPI_S5_TYPE;
    p->pm_control &= (uint16_t)~PM1_SLP_EN; /* write-only */
    pthread_mutex_unlock(&p->lock);
    if (sleep)
        p->hook->end(p->hook->ctx, VM_END_POWEROFF, 0, NULL);
}

static const struct bus_ops acpi_ops = { .read = acpi_read, .write = acpi_write };

/* --- reset --------------------------------------------------------------------------- */

static void end_by_reset(struct platform *p)
{
    p->hook->end(p->hook->ctx, VM_END_RESET, 0, NULL);
}

static uint64_t reset_read(void *dev, uint64_t offset, unsigned size)
{
    struct platform *p = dev;
    uint64_t value;

    (void)offset;
    (void)size;
    pthread_mutex_lock(&p->lock);
    value = p->reset;
    pthread_mutex_unlock(&p->lock);
    return value;
}

static void reset_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct platform *p = dev;
    bool reset;

    (void)offset;
    (void)size;
    pthread_mutex_lock(&p->lock);
    reset = value & ~p->reset & RESET_CPU; /* on its rising edge */
    p->reset = value & (RESET_SYSTEM | RESET_CPU);
    pthread_mutex_unlock(&p->lock);
    if (reset)
        end_by_reset(p);
}

static const struct bus_ops reset_ops = { .read = reset_read, .write = reset_write };

/* --- keyboard controller --------------------------------------------------------------- */

static void kbc_answer(struct platform *p, uint8_t byte)
{
    p->kbc_out = byte;
    p->kbc_full = true;
}

static uint64_t kbc_status_read(void *dev, uint64_t offset, unsigned size)
{
    struct platform *p = dev;
    uint64_t value;

    (void)offset;
    (void)size;
    pthread_mutex_lock(&p->lock);
    value = KBC_SYSTEM | (p->kbc_full ? KBC_OBF : 0);
    pthread_mutex_unlock(&p->lock);
    return value;
}

static void kbc_command(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct platform *p = dev;
    uint8_t command = (uint8_t)value;

    (void)offset;
    (void)size;
    pthread_mutex_lock(&p->lock);
    p->kbc_ctr_write = command == 0x60;
    switch (command) {
    case 0x20: /* read the control byte */
        kbc_answer(p, p->kbc_ctr);
        break;
    case 0xaa: /* self-test: passed */
        kbc_answer(p, 0x55);
        break;
    case 0xa9: /* test of a port: it has no clock */
    case 0xab:
        kbc_answer(p, 0x01);
        break;
    default:
        break;
    }
    pthread_mutex_unlock(&p->lock);
    /* 0xf0-0xff pulse output lines low; line 0 is the CPU's reset. */
    if (command >= 0xf0 && !(command & 1))
        end_by_reset(p);
}

static uint64_t kbc_data_read(void *dev, uint64_t offset, unsigned size)
{
    struct platform *p = dev;
    uint64_t value;

    (void)offset;
    (void)size;
    pthread_mutex_lock(&p->lock);
    value = p->kbc_out;
    p->kbc_full = false;
    pthread_mutex_unlock(&p->lock);
    return value;
}

static void kbc_data_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct platform *p = dev;

    (void)offset;
    (void)size;
    pthread_mutex_lock(&p->lock);
    if (p->kbc_ctr_write)
        p->kbc_ctr = (uint8_t)value;
    p->kbc_ctr_write = false;
    pthread_mutex_unlock(&p->lock);
}

static const struct bus_ops kbc_data_ops = { .read = kbc_data_read, .write = kbc_data_write };
static const struct bus_ops kbc_status_ops = { .read = kbc_status_read, .write = kbc_command };

/* --- CMOS ------------------------------------------------------------------------------ */

static uint64_t cmos_read(void *dev, uint64_t offset, unsigned size)
{
    struct platform *p = dev;
    struct timespec now;
    uint64_t value = 0xff; /* the index is write-only */

    clock_gettime(CLOCK_REALTIME, &now);
    pthread_mutex_lock(&p->lock);
    if (offset == 1)
        value = rtc_read(&p->rtc, now);
    else if (size > 1)
        value |= (uint64_t)rtc_read(&p->rtc, now) << 8;
    pthread_mutex_unlock(&p->lock);
    return value;
}

static void cmos_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct platform *p = dev;
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    pthread_mutex_lock(&p->lock);
    if (offset == 0) {
        p->rtc.index = value & (RTC_REGISTERS - 1); /* bit 7 masks NMI */
        value >>= 8;
        size--;
    }
    if (size)
        rtc_write(&p->rtc, (uint8_t)value, now);
    pthread_mutex_unlock(&p->lock);
}

static const struct bus_ops cmos_ops = { .read = cmos_read, .write = cmos_write };

/* --- POST ------------------------------------------------------------------------------ */

/* Kernels also write here just to wait a microsecond. */
static const struct bus_ops post_ops = { 0 };

/* --- life ------------------------------------------------------------------------------ */

int platform_create(struct platform **out, struct bus *bus, struct end_hook *hook,
                    struct error *err)
{
    static const struct {
        uint64_t base, length;
        const struct bus_ops *ops;
        const char *name;
    } ranges[] = {
        { ACPI_PM_BASE, ACPI_PM_PORTS, &acpi_ops, "acpi" },
        { ACPI_RESET_PORT, 1, &reset_ops, "reset" },
        { KBC_DATA, 1, &kbc_data_ops, "keyboard" },
        { KBC_STATUS, 1, &kbc_status_ops, "keyboard" },
        { 0x70, 2, &cmos_ops, "cmos" },
        { 0x80, 1, &post_ops, "post" },
    };
    struct platform *p = calloc(1, sizeof(*p));
    int rc = 0;

    if (!p)
        return error_set(err, -ENOMEM, "platform devices: out of memory");
    p->hook = hook;
    p->kbc_ctr = KBC_CTR;
    rtc_init(&p->rtc);
    pthread_mutex_init(&p->lock, NULL);
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]) && rc == 0; i++)
        rc = bus_add(bus, BUS_PIO, ranges[i].base, ranges[i].length, ranges[i].ops, p,
                     ranges[i].name, err);
    if (rc < 0) {
        platform_destroy(p);
        return rc;
    }
    *out = p;
    return 0;
}

void platform_destroy(struct platform *p)
{
    if (!p)
        return;
    pthread_mutex_destroy(&p->lock);
    free(p);
}
