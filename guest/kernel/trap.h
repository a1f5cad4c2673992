/*
 * Exceptions, interrupts and the SYSCALL entry. Every way into the kernel builds
 * the same struct trap_frame on the thread's kernel stack and leaves by
 * trap_return(), which uses IRETQ (never SYSRET).
 */
#ifndef GUEST_KERNEL_TRAP_H
#define GUEST_KERNEL_TRAP_H

#include <stdbool.h>
#include <stdint.h>

struct trap_frame {
    uint64_t cr2;     /* of a #PF (vector 14) only */
    uint64_t gs_base; /* of NMI, #DF and #MC only: what to put back */
    uint64_t r15, r14, r13, r12, rbp, rbx;
    uint64_t r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
    uint64_t vector; /* TRAP_SYSCALL for a system call */
    uint64_t error;
    uint64_t rip, cs, rflags, rsp, ss;
};

#define TRAP_SYSCALL 0x100

enum {
    TRAP_DE = 0,
    TRAP_DB = 1,
    TRAP_NMI = 2,
    TRAP_BP = 3,
    TRAP_UD = 6,
    TRAP_NM = 7,
    TRAP_DF = 8,
    TRAP_SS = 12,
    TRAP_GP = 13,
    TRAP_PF = 14,
    TRAP_MF = 16,
    TRAP_AC = 17,
    TRAP_MC = 18,
    TRAP_XF = 19,
};

/* #PF error code bits. */
#define PF_PRESENT  1u
#define PF_WRITE    2u
#define PF_USER     4u
#define PF_RESERVED 8u
#define PF_FETCH    16u

static inline bool trap_from_user(const struct trap_frame *f)
{
    return (f->cs & 3) == 3;
}

/* Restores the registers of the frame and returns to it; works from any kernel stack. */
void trap_return(struct trap_frame *f) __attribute__((noreturn));

/* "#PF page fault" and the like, for any vector. */
const char *trap_name(uint64_t vector);

/*
 * A place in the kernel that may fault on purpose (the copies from and to user
 * memory): when the instruction at label `from` faults, it goes on at `to`.
 * For use inside an asm statement.
 */
#define EXTABLE(from, to)                                                      \
    ".pushsection .extable, \"a\"\n\t.long " from " - 0xffffffff80000000, " to \
    " - 0xffffffff80000000\n\t.popsection\n\t"

/*
 * Around each access to a user address. Seven-byte NOPs; when the CPU has SMAP, head.S
 * makes "pushfq; orb $4, 2(%rsp); popfq" and "pushfq; andb $~4, 2(%rsp); popfq" of them
 * at boot, before paging is on (the text is never writable after). They do what STAC and
 * CLAC do, which some KVMs that interpret ring 0 don't know though CPUID shows SMAP.
 */
#define USER_ACCESS_BEGIN SMAP_SITE_ASM("0x244c809c, 0x9d040224")
#define USER_ACCESS_END   SMAP_SITE_ASM("0x2464809c, 0x9dfb0224")
#define SMAP_SITE_ASM(bytes)                                                     \
    "771: .byte 0x0f, 0x1f, 0x80, 0, 0, 0, 0\n\t"                                \
    ".pushsection .smap_sites, \"a\"\n\t.long 771b - 0xffffffff80000000, " bytes \
    "\n\t.popsection\n\t"

static inline void user_access_begin(void)
{
    __asm__ volatile(USER_ACCESS_BEGIN ::: "memory", "cc");
}

static inline void user_access_end(void)
{
    __asm__ volatile(USER_ACCESS_END ::: "memory", "cc");
}

/*
 * When set, it is shown each exception first (but not NMI, #DF and #MC), whatever ring it came
 * from; when it gives true, the frame is left as it is now. For tests that fault on purpose.
 */
extern bool (*trap_hook)(struct trap_frame *f);

/* --- implemented by the process part ----------------------------------------- */

/* An exception in ring 3. Interrupts are off; may end the thread and not return. */
void user_fault(struct trap_frame *f);

/* A system call; the frame's rax becomes the result. Interrupts are off on entry. */
void syscall_dispatch(struct trap_frame *f);

/* The timer's interrupt (after EOI), interrupts off, on the interrupted thread's kernel stack. */
void sched_tick(struct trap_frame *f);

/* A reschedule IPI (after EOI), same conditions. */
void sched_ipi(struct trap_frame *f);

#endif
