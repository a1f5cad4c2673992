/*
 * The kernel's words to a person, and the console below them.
 */
#ifndef GUEST_KERNEL_PRINTK_H
#define GUEST_KERNEL_PRINTK_H

#include <stdarg.h>
#include <stddef.h>

/*
 * %s %c %d %u %x %p %%, with l (or z), a width, - and 0. A call is cut after 255
 * characters and goes out as one piece.
 */
void printk(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Formats into buf (always terminated when size > 0); returns the length written. */
size_t kformat(char *buf, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
size_t kvformat(char *buf, size_t size, const char *format, va_list ap);

/*
 * Writes bytes to the console: in one exit where the monitor offers it. `p` is a
 * direct-map or kernel-image address and the bytes are physically contiguous, so a
 * user buffer is handed over page by page. Whole calls never interleave.
 */
void console_write(const char *p, size_t len);

/*
 * Takes up to `len` bytes of what came in on COM1; returns how many (0: none). The
 * ring holds 1024 bytes, more are dropped.
 */
size_t console_read(char *buf, size_t len);

/* Called with interrupts off after bytes arrived. Implemented by the process part. */
void console_input_ready(void);

void console_init(void);     /* output; the first thing that start() does */
void console_irq_init(void); /* input; needs the IOAPIC */
void console_irq(void);      /* COM1's interrupt */

/* From a panic on: output without locks, whose holders are stopped. */
void printk_panic_mode(void);
void console_panic_mode(void);

#endif
