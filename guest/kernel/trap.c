/* Sorts exceptions and interrupts to those who handle them. */
#include "guest/kernel/trap.h"

#include <stddef.h>

#include "guest/abi.h"
#include "guest/kernel/apic.h"
#include "guest/kernel/boot_info.h"
#include "guest/kernel/cpu.h"
#include "guest/kernel/dma_user.h"
#include "guest/kernel/mailbox.h"
#include "guest/kernel/mm.h"
#include "guest/kernel/panic.h"
#include "guest/kernel/pci.h"
#include "guest/kernel/printk.h"
#include "guest/kernel/smp.h"

/* entry.S has these as numbers. */
_Static_assert(offsetof(struct trap_frame, cr2) == 0, "FRAME_CR2");
_Static_assert(offsetof(struct trap_frame, vector) == 136, "FRAME_VECTOR");
_Static_assert(offsetof(struct trap_frame, cs) - offsetof(struct trap_frame, rip) == 8, "IRETQ_CS");
_Static_assert(offsetof(struct trap_frame, gs_base) == 8, "FRAME_GS_BASE");
_Static_assert(offsetof(struct trap_frame, cs) == 160, "FRAME_CS");
_Static_assert(sizeof(struct trap_frame) == 192, "keeps the stack 16-byte aligned");

struct extable_entry {
    uint32_t from, to; /* offsets from KERNEL_BASE */
};
extern const struct extable_entry extable_start[], extable_end[];

extern const char syscall_entry[];

#define RFLAGS_FIXED 0x2u
#define RFLAGS_IF    0x200u
#define RFLAGS_USER  0x240dd5u /* CF PF AF ZF SF TF DF OF AC ID: what ring 3 may set */

void trap_dispatch(struct trap_frame *f);

bool (*trap_hook)(struct trap_frame *f);

static const char *const exception_names[32] = {
    "#DE divide error",
    "#DB debug",
    "NMI",
    "#BP breakpoint",
    "#OF overflow",
    "#BR bound range",
    "#UD invalid opcode",
    "#NM device not available",
    "#DF double fault",
    "#09 coprocessor overrun",
    "#TS invalid TSS",
    "#NP segment not present",
    "#SS stack fault",
    "#GP general protection",
    "#PF page fault",
    "#15 reserved",
    "#MF x87 floating point",
    "#AC alignment check",
    "#MC machine check",
    "#XF SIMD floating point",
    "#VE virtualization",
    "#CP control protection",
    [28] = "#HV hypervisor injection",
    [29] = "#VC VMM communication",
    [30] = "#SX security",
};

const char *trap_name(uint64_t vector)
{
    if (vector < 32)
        return exception_names[vector] ? exception_names[vector] : "reserved exception";
    return vector == TRAP_SYSCALL ? "system call" : "interrupt";
}

static bool fix_by_table(struct trap_frame *f)
{
    for (const struct extable_entry *e = extable_start; e < extable_end; e++) {
        if (f->rip == KERNEL_BASE + e->from) {
            f->rip = KERNEL_BASE + e->to;
            return true;
        }
    }
    return false;
}

/*
 * On a KVM that interprets ring 0, SYSCALL may do all that it should but leave ring 3:
 * RIP, RCX and R11 are those of the entry, and fetching its first instruction faults. That
 * fault is the system call. A program that jumps there gets just what it could have by
 * SYSCALL itself.
 */
static bool is_stranded_syscall(const struct trap_frame *f)
{
    return f->vector == TRAP_PF && f->rip == (uint64_t)syscall_entry && f->cr2 == f->rip &&
           f->rcx < USER_TOP;
}

static void finish_syscall(struct trap_frame *f)
{
    f->rip = f->rcx;
    f->rflags = (f->r11 & RFLAGS_USER) | RFLAGS_IF | RFLAGS_FIXED;
    f->vector = TRAP_SYSCALL;
    f->error = 0;
    syscall_dispatch(f);
}

static void handle_exception(struct trap_frame *f)
{
    switch (f->vector) {
    case TRAP_NMI:
        smp_stop_if_asked();
        if (trap_from_user(f)) /* in ring 0 this CPU may be the one that holds printk's lock */
            printk("kernel: NMI on CPU %u ignored\n", this_cpu()->id);
        return;
    case TRAP_DF:
    case TRAP_MC:
        panic_trap(f);
    default:
        break;
    }
    if (trap_hook && trap_hook(f))
        return;
    if (trap_from_user(f) && is_stranded_syscall(f))
        finish_syscall(f);
    else if (trap_from_user(f))
        user_fault(f);
    else if (!fix_by_table(f))
        panic_trap(f);
}

void trap_dispatch(struct trap_frame *f)
{
    struct cpu *c;

    if (f->vector < 32) {
        handle_exception(f);
        return;
    }
    c = this_cpu();
    switch (f->vector) {
    case VECTOR_TIMER:
        c->ticks++;
        apic_eoi();
        sched_tick(f);
        break;
    case VECTOR_RESCHEDULE:
        apic_eoi();
        c->need_resched = true;
        sched_ipi(f);
        break;
    case VECTOR_TLB:
        tlb_poll();
        apic_eoi();
        break;
    case VECTOR_WAKE:
        apic_eoi();
        break;
    case VECTOR_WATCHED:
        apic_eoi();
        dma_user_watched();
        break;
    case VECTOR_IRQ_BASE + 4:
        console_irq();
        apic_eoi();
        break;
    case VECTOR_IRQ_BASE + TF_MAILBOX_IRQ:
        apic_eoi(); /* first: the answer may bring the next request at once */
        mailbox_irq();
        break;
    case VECTOR_SPURIOUS: /* has no EOI (Intel SDM vol. 3A, "Spurious Interrupt") */
        break;
    default:
        if (f->vector < UINT8_MAX && pci_msi_interrupt((unsigned)f->vector)) {
            apic_eoi();
            break;
        }
        printk("kernel: unexpected interrupt, vector %lu\n", f->vector);
        apic_eoi();
    }
}
