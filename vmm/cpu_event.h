/*
 * Exceptions and interrupts delivered to a guest that runs de-privileged, and the transfers and
 * segment loads that go with them, on struct cpu_state. All of it in the guest's own tables: its
 * IDT, GDT, LDT, TSS and stacks, read and written with its own rights.
 */
#ifndef TWOFOLD_VMM_CPU_EVENT_H
#define TWOFOLD_VMM_CPU_EVENT_H

#include "vmm/interp.h"

/*
 * Delivers an exception. When delivering it faults, what the manual says follows: another
 * exception, a double fault, or -1: a triple fault, and the state is that before, but for the CR2
 * of the last page fault. -ENOTSUP: a task gate or virtual-8086 mode; the state is that before.
 * Real mode, 16-, 32- and 64-bit gates, stack switches by TSS and IST. Sets CR2. RF is set in the
 * flags that a fault pushes; a trap, an abort or an interrupt pushes them as they are. Intel SDM
 * vol. 3A, 6.12 "Exception and Interrupt Handling", 6.14 "Exception and Interrupt Handling in
 * 64-bit Mode", 6.15 "Interrupt 8".
 */
int cpu_deliver(struct interp *in, const struct cpu_fault *fault);

/* Delivers an interrupt from outside (also NMI, vector 2); the same result. Ends a HLT. */
int cpu_deliver_interrupt(struct interp *in, uint8_t vector);

/*
 * Carries out, if it is one of these, the instruction of INTERP_SYSTEM: INT n, INT1, INT3, INTO,
 * IRET/D/Q, far JMP, CALL and RET, SYSCALL, SYSRET, SYSENTER, SYSEXIT, MOV and POP to a segment
 * register, LDS and its likes, LGDT, LIDT, SGDT, SIDT, LLDT, LTR, SLDT, STR, LAR, LSL,
 * VERR, VERW. RIP is moved on. INTERP_SYSTEM: none of these. INTERP_UNKNOWN: a form of them that is
 * not supported (call and task gates, switches of tasks, virtual-8086 mode). INTERP_FAULT: nothing
 * changed, but for bits that the CPU sets in descriptors. Software interrupts are delivered here; a
 * fault on the way is the instruction's like any other, for cpu_deliver(). IRET leaves RF as it
 * took it from the stack: a caller that clears RF behind each instruction must not do so behind it.
 */
enum interp_result cpu_transfer(struct interp *in, const struct interp_insn *insn,
                                struct cpu_fault *fault);

/* A segment register as the descriptor of `selector` says it, with all checks for the state's CPL.
 * `which` is not CPU_CS. 0, or -1 with *fault. */
int cpu_load_segment(struct interp *in, enum cpu_seg which, uint16_t selector,
                     struct cpu_fault *fault);

/* The state after INIT, before STARTUP, and after STARTUP with `vector` (real mode, CS base =
 * vector << 12, RIP 0). CR2, CR3, debug registers and so on as after a reset. Intel SDM vol. 3A,
 * 9.1.1 "Processor State After Reset". */
void cpu_reset(struct cpu_state *s);
void cpu_startup(struct cpu_state *s, uint8_t vector);

#endif
