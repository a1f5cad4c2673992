/*
 * The end: what happened, where, and how the address in question translates.
 */
#ifndef GUEST_KERNEL_PANIC_H
#define GUEST_KERNEL_PANIC_H

#include <stdint.h>

struct trap_frame;

/* Stops the other CPUs, reports, and ends the VM with TF_EXIT_PANIC. */
void panic(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* The same for an exception in the kernel. */
void panic_trap(struct trap_frame *f) __attribute__((noreturn));

/* Ends the VM with a value (through TF_PORT_EXIT); halts for good when nothing listens. */
void machine_exit(unsigned value) __attribute__((noreturn));

/* panic=MODE on the command line: null, stack, wx, assert, ud, df. Returns if it is none of them.
 */
void panic_on_purpose(const char *mode);

#define ASSERT(x) ((x) ? (void)0 : panic("assertion failed: %s (%s:%d)", #x, __FILE__, __LINE__))

/* "name+0x12" of a kernel address; NULL name when it is none. */
const char *symbol_lookup(uint64_t gva, uint64_t *offset);

#endif
