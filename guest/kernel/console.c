/* The console: one exit for a whole buffer on twofold, an 8250 everywhere else. */
#include <stdbool.h>
#include <stdint.h>

#include "guest/abi.h"
#include "guest/kernel/apic.h"
#include "guest/kernel/cpu.h"
#include "guest/kernel/lock.h"
#include "guest/kernel/mm.h"
#include "guest/kernel/printk.h"

#define COM1     0x3f8
#define COM1_IRQ 4

enum { UART_DATA = 0, UART_IER = 1, UART_FCR = 2, UART_LCR = 3, UART_MCR = 4, UART_LSR = 5 };

#define LSR_DATA_READY  0x01
#define LSR_THR_EMPTY   0x20
#define INPUT_RING_SIZE 1024u

/* In the kernel's image, so below 4 GiB as TF_PORT_CONSOLE wants it; one a CPU, so no lock. */
static struct tf_console requests[MAX_CPUS];
static struct lock uart_lock;
static bool panicking;

static struct lock input_lock;
static char input_ring[INPUT_RING_SIZE];
static unsigned input_head, input_tail; /* free-running: written, read */
static bool input_on;

void console_init(void)
{
    if (cpu_features.tf_console)
        return;
    outb(COM1 + UART_IER, 0);
    outb(COM1 + UART_LCR, 0x83); /* divisor 1: 115200 baud */
    outb(COM1 + UART_DATA, 1);
    outb(COM1 + UART_IER, 0);
    outb(COM1 + UART_LCR, 0x03); /* 8n1 */
    outb(COM1 + UART_FCR, 0x07); /* FIFOs on and empty */
    outb(COM1 + UART_MCR, 0x0b); /* DTR, RTS, OUT2: interrupts get out */
}

void console_panic_mode(void)
{
    panicking = true;
}

static void write_twofold(const char *p, size_t len)
{
    struct tf_console *r = &requests[this_cpu()->id];

    while (len) {
        uint32_t n = len < TF_CONSOLE_MAX ? (uint32_t)len : TF_CONSOLE_MAX;

        r->gpa = virt_to_phys(p);
        r->len = n;
        outl(TF_PORT_CONSOLE, (uint32_t)virt_to_phys(r));
        p += n;
        len -= n;
    }
}

static void uart_putc(char c)
{
    while (!(inb(COM1 + UART_LSR) & LSR_THR_EMPTY))
        cpu_relax();
    outb(COM1 + UART_DATA, (uint8_t)c);
}

void console_write(const char *p, size_t len)
{
    if (cpu_features.tf_console) {
        write_twofold(p, len);
        return;
    }
    if (!panicking)
        lock_acquire(&uart_lock);
    for (size_t i = 0; i < len; i++) {
        if (p[i] == '\n')
            uart_putc('\r');
        uart_putc(p[i]);
    }
    if (!panicking)
        lock_release(&uart_lock);
}

void console_irq_init(void)
{
    outb(COM1 + UART_MCR, 0x0b);
    ioapic_route(COM1_IRQ);
    outb(COM1 + UART_IER, 0x01); /* data received */
}

void console_irq(void)
{
    bool got = false;

    lock_acquire(&input_lock);
    while (inb(COM1 + UART_LSR) & LSR_DATA_READY) {
        char c = (char)inb(COM1 + UART_DATA);

        if (input_head - input_tail < INPUT_RING_SIZE)
            input_ring[input_head++ % INPUT_RING_SIZE] = c;
        got = true;
    }
    lock_release(&input_lock);
    if (got)
        console_input_ready();
}

size_t console_read(char *buf, size_t len)
{
    size_t n = 0;

    lock_acquire(&input_lock);
    /* Most programs never read: the set-up waits until one does. */
    if (!input_on) {
        input_on = true;
        console_irq_init();
    }
    while (n < len && input_tail != input_head)
        buf[n++] = input_ring[input_tail++ % INPUT_RING_SIZE];
    lock_release(&input_lock);
    return n;
}
