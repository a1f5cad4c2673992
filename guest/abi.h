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
