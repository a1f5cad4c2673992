/*
 * Time: the TSC's and the local APIC timer's frequencies, and nanoseconds since start.
 */
#ifndef GUEST_KERNEL_CLOCK_H
#define GUEST_KERNEL_CLOCK_H

#include <stdint.h>

extern uint64_t clock_tsc_khz;
extern uint64_t clock_apic_khz;

/* Finds both: from CPUID or KVM's clock where they are, else by 3 ms of the PIT. */
void clock_init(void);

/* Nanoseconds since clock_init(). */
uint64_t clock_ns(void);

/*
 * Notes that a stage of start-up has ended, for the list that a program may ask for.
 * `name` is not copied. At most 16 are kept.
 */
void clock_stage(const char *name);

/* Stage `index`: its name, and nanoseconds since the kernel's first C line; NULL after the last. */
const char *clock_stage_get(unsigned index, uint64_t *ns);

#endif
