/*
 * What the guest and the monitor agree on; the one header that both include.
 * It has to compile in both worlds, so: plain C, <stdint.h>, no functions.
 */
#ifndef TWOFOLD_GUEST_ABI_H
#define TWOFOLD_GUEST_ABI_H

#include <stdint.h>

/*
 * Presence. The monitor answers CPUID leaf TF_CPUID_BASE with
 *   EAX = highest leaf of the range, EBX:ECX:EDX = "TwoFoldTwoFo",
 * and TF_CPUID_FEATURES with TF_FEATURE_* in EAX. A guest that doesn't find
 * the signature (on QEMU, say) uses none of what follows.
 */
#define TF_CPUID_BASE     0x40000100u
#define TF_CPUID_FEATURES 0x40000101u
#define TF_CPUID_EBX      0x466f7754u /* "TwoF" */
#define TF_CPUID_ECX      0x54646c6fu /* "oldT" */
#define TF_CPUID_EDX      0x6f466f77u /* "woFo" */

#define TF_FEATURE_CONSOLE    (1u << 0) /* TF_PORT_CONSOLE is there */
#define TF_FEATURE_ZEROED_RAM (1u << 1) /* RAM that nobody wrote reads as zero */
#define TF_FEATURE_MAILBOX    (1u << 2) /* TF_PORT_MAILBOX is there */

/*
 * Console output in one exit: OUT DWORD, TF_PORT_CONSOLE, gpa of a
 * struct tf_console (below 4 GiB, 8-byte aligned). The monitor copies the
 * bytes before the instruction ends; a buffer outside RAM is dropped.
 */
#define TF_PORT_CONSOLE 0x5f0
#define TF_CONSOLE_MAX  65536u

struct tf_console {
    uint64_t gpa; /* of the bytes, physically contiguous */
    uint32_t len; /* at most TF_CONSOLE_MAX */
    uint32_t reserved;
};

/*
 * The mailbox: what the monitor may look at and ask for. A guest that offers one writes OUT DWORD,
 * TF_PORT_MAILBOX, gpa of a struct tf_mailbox (below 4 GiB, 64-byte aligned, inside RAM); 0 takes
 * it back.
 *
 * To ask, the monitor fills op and arg, then increments `asked`, and pulses interrupt
 * TF_MAILBOX_IRQ. The guest fills result and value, sets `done` = `asked`, and writes the mailbox's
 * gpa to the port once more. One request at a time. Neither side trusts the other's numbers.
 */
#define TF_PORT_MAILBOX  0x5f4
#define TF_MAILBOX_IRQ   5
#define TF_MAILBOX_MAGIC 0x786f626cu

enum tf_request {
    TF_REQUEST_NONE,
    /*
     * arg[0]: gpa of a page of 4096 bytes. The kernel moves its content to another page of RAM and
     * lets everything that mapped the one map the other; no gva changes. value[0]: the new gpa;
     * value[1]: how much moved, as a large page moves as a whole (then value[0] is where the large
     * page begins now, and the old one is the aligned range around arg[0]).
     * Errors: -ENOENT (no RAM of the allocator's), -EBUSY (a page of the kernel's, which stays),
     * -ENOMEM.
     */
    TF_REQUEST_MOVE_PAGE,
};

struct tf_mailbox {
    uint32_t magic;
    uint32_t process_max;   /* entries at processes_gpa */
    uint64_t processes_gpa; /* struct tf_process[process_max], physically contiguous; 0: none */
    uint32_t op, asked;
    uint64_t arg[2];
    int32_t result; /* 0, or a negative errno as Linux numbers it */
    uint32_t done;
    uint64_t value[2];
};

/* One process; an entry of pid 0 is free. The guest writes `pid` last, and clears it first. */
struct tf_process {
    int32_t pid;
    uint32_t reserved;
    uint64_t root; /* gpa of its top-level table: what CR3 holds while it runs */
    char name[32]; /* closed by NUL */
};

/* isa-debug-exit: the value written ends the VM. */
#define TF_PORT_EXIT 0xf4

/*
 * Exit values of the tiny guest.
 *   0..TF_EXIT_PROGRAM_MAX   the program's own exit code
 *   TF_EXIT_PANIC            the kernel panicked
 * A program that dies of exception N exits with TF_EXIT_FAULT_BASE + N.
 */
#define TF_EXIT_PROGRAM_MAX 125
#define TF_EXIT_PANIC       126
#define TF_EXIT_FAULT_BASE  64

#endif
