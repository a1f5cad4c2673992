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

/*
 * The DMA test device: QEMU's `edu` (1234:11e8), register for register, with MSI as there, and two
 * things more, which it has when TF_EDU_FEATURES is not zero: memory of its own that a CPU can
 * reach (BAR 2), and page requests.
 *
 * A transfer: SOURCE, DESTINATION, COUNT, then COMMAND with TF_EDU_START; START reads as 1 until it
 * is over. Addresses on the device's side begin at TF_EDU_BUFFER and end after 4096 bytes.
 */
#define TF_EDU_VENDOR 0x1234u
#define TF_EDU_DEVICE 0x11e8u

#define TF_EDU_ID          0x00u /* 0x010000ed */
#define TF_EDU_LIVE        0x04u /* reads as the inverse of what was written */
#define TF_EDU_FACTORIAL   0x08u
#define TF_EDU_STATUS      0x20u
#define TF_EDU_IRQ_STATUS  0x24u
#define TF_EDU_IRQ_RAISE   0x60u /* or-ed into IRQ_STATUS */
#define TF_EDU_IRQ_ACK     0x64u
#define TF_EDU_SOURCE      0x80u /* 64 bits each, from here on */
#define TF_EDU_DESTINATION 0x88u
#define TF_EDU_COUNT       0x90u
#define TF_EDU_COMMAND     0x98u

#define TF_EDU_START       1u /* COMMAND */
#define TF_EDU_FROM_DEVICE 2u /* device to memory; else memory to device */
#define TF_EDU_INTERRUPT   4u /* IRQ_STATUS gets TF_EDU_DONE at the end */
#define TF_EDU_DONE        0x100u

#define TF_EDU_BUFFER 0x40000u
#define TF_EDU_BYTES  4096u

/* Ours from here on; QEMU's device reads as all ones or zero there. */
#define TF_EDU_FEATURES     0xa0u /* TF_EDU_HAS_*, in the low half; TF_EDU_MAGIC in the high one */
#define TF_EDU_MAGIC        0x7f01d0edu
#define TF_EDU_RESULT       0xa8u /* of the last transfer: 0, or an enum tf_edu_error */
#define TF_EDU_DEVICE_BYTES 0xb0u /* of BAR 2 */
/*
 * Page requests. While REQUEST_CONTROL has TF_EDU_REQUESTS_ON, a transfer that meets an unmapped
 * page stops there, puts its iova and what it wanted into REQUEST_ADDR (bit 0: to write), sets
 * TF_EDU_REQUEST in IRQ_STATUS and interrupts. The driver makes the page ready and writes
 * REQUEST_ANSWER: 1 tries again, 2 fails the transfer; turning requests off is 2.
 */
#define TF_EDU_REQUEST_CONTROL 0xb8u
#define TF_EDU_REQUEST_ADDR    0xc0u
#define TF_EDU_REQUEST_ANSWER  0xc8u
#define TF_EDU_REQUESTS        0xd0u /* how many there were */
#define TF_EDU_REQUESTS_ON     1u
#define TF_EDU_REQUEST         0x200u
/* Where in BAR 2 a transfer with TF_EDU_OWN_MEMORY begins; it may be as long as BAR 2. */
#define TF_EDU_DEVICE_OFFSET 0xd8u
#define TF_EDU_OWN_MEMORY    8u /* COMMAND: the device's side is BAR 2, not the buffer */

#define TF_EDU_HAS_MEMORY   1u
#define TF_EDU_HAS_REQUESTS 2u

enum tf_edu_error {
    TF_EDU_OK,
    TF_EDU_FAULT,     /* the IOMMU, or no memory there */
    TF_EDU_NO_MASTER, /* bus master is off */
    TF_EDU_BAD_RANGE, /* the device's side of the transfer is out of range */
    TF_EDU_REFUSED,   /* a page request was answered by 2 */
};

#endif
