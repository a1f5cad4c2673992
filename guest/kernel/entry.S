/*
 * The ways into the kernel and out of it. Each builds a struct trap_frame (trap.h).
 */
#include "guest/kernel/layout.h"

/*
 * Offsets in struct trap_frame; trap.c asserts them. And where CS is when all below the CPU's own
 * part of the frame was taken off again.
 */
#define FRAME_CR2     0
#define FRAME_GS_BASE 8
#define FRAME_VECTOR  136
#define FRAME_CS      160
#define IRETQ_CS      8

#define PAGE_FAULT 14

#define MSR_GS_BASE 0xc0000101

/* USER_ACCESS_END of trap.h: RFLAGS.AC goes off where there is SMAP. */
.macro CLEAR_AC
771:
    .byte 0x0f, 0x1f, 0x80, 0, 0, 0, 0
    .pushsection .smap_sites, "a"
    .long 771b - KERNEL_BASE, 0x2464809c, 0x9dfb0224
    .popsection
.endm

.macro PUSH_REGISTERS
    pushq %rdi
    pushq %rsi
    pushq %rdx
    pushq %rcx
    pushq %rax
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    subq $16, %rsp
.endm

.macro POP_REGISTERS
    addq $16, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rax
    popq %rcx
    popq %rdx
    popq %rsi
    popq %rdi
    addq $16, %rsp
.endm

/* Vectors whose error code the CPU pushes. */
#define ERROR_CODE_VECTORS 0x60227d00 /* 8, 10-14, 17, 21, 29, 30 */

    .section .text.stubs, "ax"
    .globl trap_stubs
trap_stubs:
    .set vector, 0
    .rept 256
    .balign TRAP_STUB_SIZE
    .if vector >= 32 || !((ERROR_CODE_VECTORS >> (vector & 31)) & 1)
    pushq $0
    .endif
    pushq $vector
    .if vector == 2 || vector == 8 || vector == 18
    jmp paranoid_entry
    .else
    jmp common_entry
    .endif
    .set vector, vector + 1
    .endr
    .balign TRAP_STUB_SIZE

/*
 * What is privileged stands close together: de-privileged, the first one traps, and the monitor
 * goes on from there while the next one is near.
 */
    .text
    .globl common_entry
common_entry:
    PUSH_REGISTERS
    cld
    CLEAR_AC
    testb $3, FRAME_CS(%rsp)
    jz 1f
    swapgs
1:  cmpb $PAGE_FAULT, FRAME_VECTOR(%rsp)
    jne 2f
    movq %cr2, %rax
    movq %rax, FRAME_CR2(%rsp)
2:  movq %rsp, %rdi
    call trap_dispatch
    movq %rsp, %rdi

    .globl trap_return
trap_return:
    movq %rdi, %rsp
    POP_REGISTERS
    testb $3, IRETQ_CS(%rsp)
    jz 1f
    swapgs
1:  iretq

/*
 * NMI, #DF and #MC may come while GS is still (or again) the program's, in ring 0. So
 * these take the CPU from the top of their own stack, and put GS back as it was.
 */
paranoid_entry:
    PUSH_REGISTERS
    cld
    CLEAR_AC
    movl $MSR_GS_BASE, %ecx
    rdmsr
    movl %eax, FRAME_GS_BASE(%rsp)
    movl %edx, FRAME_GS_BASE + 4(%rsp)
    movq %rsp, %rdx
    orq $(KSTACK_SIZE - 1), %rdx
    movq -15(%rdx), %rax
    movq %rax, %rdx
    shrq $32, %rdx
    wrmsr
    movq %rsp, %rdi
    call trap_dispatch
    movl $MSR_GS_BASE, %ecx
    movl FRAME_GS_BASE(%rsp), %eax
    movl FRAME_GS_BASE + 4(%rsp), %edx
    wrmsr
    POP_REGISTERS
    iretq

    .globl syscall_entry
syscall_entry:
    swapgs
    movq %rsp, %gs:16
    movq %gs:8, %rsp
    pushq $SEL_USER_DATA
    pushq %gs:16
    pushq %r11
    pushq $SEL_USER_CODE
    pushq %rcx
    pushq $0
    pushq $0x100
    PUSH_REGISTERS
    movq %rsp, %rdi
    call syscall_dispatch
    movq %rsp, %rdi
    jmp trap_return

    .section .note.GNU-stack, "", @progbits
