/*
 * A guest that does anything to the ports of the fixed devices: reads and writes of
 * all sizes, with input for the serial line in between. What must hold: no crash, the
 * interrupt line is told of changes only, and only the ports that say so end the VM.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guest/abi.h"
#include "vmm/devices.h"

#define RAM (UINT64_C(1) << 20)

static struct {
    struct io_loop *loop;
    struct console *console;
    struct bus *bus;
    struct memory *mem;
    struct serial *serial;
    struct platform *platform;
    struct pv_port *pv;
    struct end_hook hook;
    int level;
    uint16_t port; /* being written */
} d;

static void require(int condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "fuzz_devices: %s\n", what);
    abort();
}

static void set_line(void *ctx, unsigned gsi, int level)
{
    (void)ctx;
    require(gsi == 4 && (level == 0 || level == 1) && level != d.level, "interrupt line");
    d.level = level;
}

static void end(void *ctx, enum vm_end how, uint32_t value, const char *why)
{
    (void)ctx;
    (void)value;
    (void)why;
    switch (how) {
    case VM_END_EXIT:
        require(d.port >= 0xf4 && d.port <= 0xf7, "exit by another port");
        break;
    case VM_END_POWEROFF:
        require(d.port >= 0x600 && d.port <= 0x605, "power-off by another port");
        break;
    case VM_END_RESET:
        require(d.port == 0x64 || d.port == 0xcf9, "reset by another port");
        break;
    default:
        require(0, "another end");
    }
}

static void start(void)
{
    struct irq_line irq = { .set = set_line, .gsi = 4 };

    d.level = 0;
    d.hook.end = end;
    if (!d.console)
        require(io_loop_create(&d.loop, NULL) == 0 &&
                    console_create(&d.console, CONSOLE_FILE, "/dev/null", d.loop, NULL) == 0,
                "no console");
    require(bus_create(&d.bus, NULL) == 0 && memory_create(&d.mem, RAM, MEM_ANON, NULL) == 0 &&
                serial_create(&d.serial, d.bus, irq, d.console, NULL) == 0 &&
                platform_create(&d.platform, d.bus, &d.hook, NULL) == 0 &&
                pv_port_create(&d.pv, d.bus, d.mem, d.console, NULL) == 0 &&
                debug_exit_create(d.bus, &d.hook, NULL) == 0,
            "no devices");
}

static void stop(void)
{
    pv_port_destroy(d.pv);
    platform_destroy(d.platform);
    serial_destroy(d.serial);
    memory_destroy(d.mem);
    bus_destroy(d.bus);
}

/* One step is 8 bytes: what, which port, a value. */
static void step(const uint8_t *s)
{
    static const uint16_t base[] = { 0x3f8, 0x3f8, 0x600, 0x70, 0x60, 0xcf9, 0x80, 0xf4, 0x5f0 };
    unsigned size = 1u << (s[0] >> 2 & 3);
    uint64_t value = 0;

    d.port = (uint16_t)(base[s[1] % (sizeof(base) / sizeof(base[0]))] + s[2] % 12);
    memcpy(&value, s + 3, 5);
    switch (s[0] & 3) {
    case 0:
        if (bus_read(d.bus, BUS_PIO, d.port, size, &value))
            require(size == 8 || value >> (8 * size) == 0, "more bits than asked for");
        break;
    case 1:
        (void)bus_write(d.bus, BUS_PIO, d.port, size, value);
        break;
    case 2:
        serial_input(d.serial, s, 8);
        break;
    default: /* a descriptor for the paravirtual console */
        require(memory_write(d.mem, gpa(0x1000), s, 8) == 0, "no RAM");
        require(memory_write(d.mem, gpa(0x1008), s + 1, 4) == 0, "no RAM");
        d.port = TF_PORT_CONSOLE;
        (void)bus_write(d.bus, BUS_PIO, TF_PORT_CONSOLE, 4, 0x1000);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    start();
    for (; size >= 8; data += 8, size -= 8)
        step(data);
    stop();
    return 0;
}
