/*
 * Time: the TSC's and the local APIC timer's frequencies, and nanoseconds since start.
 */
#ifndef GUEST_KERNEL_CLOCK_H
#define GUEST_KERNEL_CLOCK_H

#include <stdint.h>

extern uint64_t clock_tsc_khz;
extern uint64_t clock_apic_khz;

/* Finds both: from CPUID or KVM's clock where they are, else by 2 ms of the PIT. */
void clock_init(void);

/* Nanoseconds since clock_init(). */
uint64_t clock_ns(void);

/* Multiplier of a 32.32 fixed-point number: ns = tsc * clock_mult >> 32. */
extern uint64_t clock_mult;
extern uint64_t clock_tsc_start;

#endif
