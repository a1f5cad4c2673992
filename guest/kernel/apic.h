/*
 * Local APIC (x2APIC MSRs where CPUID has them, else MMIO) and IOAPIC.
 */
#ifndef GUEST_KERNEL_APIC_H
#define GUEST_KERNEL_APIC_H

#include <stdint.h>

void apic_init(void);     /* the boot CPU: masks the PIC, maps and enables the local APIC */
void apic_init_cpu(void); /* each CPU: enables its local APIC */
void apic_eoi(void);
uint32_t apic_id(void);

/*
 * Periodic VECTOR_TIMER interrupts on this CPU, hz times a second; 0 stops them. Where
 * ring 0 is interpreted, an interrupt takes some 0.3 ms: above 1000 Hz nothing else runs.
 */
void apic_timer_start(unsigned hz);

/* One VECTOR_TIMER interrupt after ns nanoseconds (at most a second); replaces a periodic one. */
void apic_timer_once(uint64_t ns);

/* The same with VECTOR_WAKE, which only ends a HLT. */
void apic_timer_wake(uint64_t ns);

/* For finding the frequency: starts a masked countdown; the counts since then. */
void apic_timer_count_down(void);
uint32_t apic_timer_elapsed(void);

/* Sends a fixed interrupt to one CPU (by its number) or to all others. */
void apic_ipi(unsigned cpu, uint8_t vector);
void apic_ipi_others(uint8_t vector);
void apic_nmi_others(void);

/* INIT and STARTUP (first instruction at vector << 12) to a CPU by its APIC id. */
void apic_send_init(uint32_t id);
void apic_send_startup(uint32_t id, uint8_t vector);

/* Routes an IOAPIC input (edge, active high) to VECTOR_IRQ_BASE + irq on the boot CPU. */
void ioapic_route(unsigned irq);

#endif
