/*
 * The fixed devices of every VM, each created with what it needs and attached
 * to the buses. All are owned by the VM and freed with it.
 */
#ifndef TWOFOLD_VMM_DEVICES_H
#define TWOFOLD_VMM_DEVICES_H

#include <stdint.h>

#include "vmm/bus.h"
#include "vmm/console.h"
#include "vmm/error.h"
#include "vmm/memory.h"
#include "vmm/vm.h"

/* Drives interrupt line `gsi`; the VM gives KVM_IRQ_LINE, a unit test its own. */
struct irq_line {
    void (*set)(void *ctx, unsigned gsi, int level);
    void *ctx;
    unsigned gsi;
};

/* 8250/16550A UART on COM1 (0x3f8, IRQ 4), the guest's end of the console. */
struct serial;
int serial_create(struct serial **out, struct bus *bus, struct irq_line irq, struct console *con,
                  struct error *err);
/*
 * Bytes for the guest; what does not fit the FIFO is kept and fed as the guest
 * reads. False once that is much: console_take_more() follows when it is little.
 */
bool serial_input(struct serial *s, const unsigned char *buf, size_t len);
void serial_destroy(struct serial *s);

/*
 * How a device ends the VM: vm_end() in a VM, a recorder in a unit test.
 */
struct end_hook {
    void (*end)(void *ctx, enum vm_end end, uint32_t value, const char *why);
    void *ctx;
};

/* isa-debug-exit at 0xf4: any write ends the VM with the value written. */
int debug_exit_create(struct bus *bus, struct end_hook *hook, struct error *err);

/*
 * What else a PC's firmware leaves on its ports: ACPI PM1 event, control and
 * timer, reset by 0xcf9 and by the keyboard controller, CMOS clock, POST code.
 */
struct platform;
int platform_create(struct platform **out, struct bus *bus, struct end_hook *hook,
                    struct error *err);
void platform_destroy(struct platform *p);

/*
 * The paravirtual port of guest/abi.h: console output by descriptor, one exit
 * for a whole buffer instead of one for each byte.
 */
struct pv_port;
int pv_port_create(struct pv_port **out, struct bus *bus, struct memory *mem, struct console *con,
                   struct error *err);
void pv_port_destroy(struct pv_port *p);

#endif
