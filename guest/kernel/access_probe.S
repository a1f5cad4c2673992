/*
 * The access of probe.c. The way back from an exception is probe_resume, on the stack that
 * the CPU's probe_rsp holds; that one is 0 while there is no probe.
 */
#include "guest/kernel/layout.h"

#define PROBE_RSP %gs:32

    .text

/* uint64_t probe_go(uint64_t gva, uint64_t rip, uint64_t rflags, bool user): RAX after it. */
    .globl probe_go
probe_go:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, PROBE_RSP
    testb %cl, %cl
    jnz 1f
    pushq %rdx
    popfq
    call *%rsi
    .globl probe_resume
probe_resume:
    pushq $2
    popfq
    movq $0, PROBE_RSP
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret
1:  pushq $SEL_USER_DATA
    pushq $0
    pushq %rdx
    pushq $SEL_USER_CODE
    pushq %rsi
    swapgs
    iretq

/* What ring 0 and ring 3 run. */
    .globl probe_kernel_read, probe_kernel_write
probe_kernel_read:
    movq (%rdi), %rax
    ret
probe_kernel_write:
    movq %rsi, (%rdi)
    ret

    .section .rodata.access, "a"
    .globl probe_user_code, probe_user_code_end
probe_user_code:
    movq (%rdi), %rax
    hlt
    .balign 16, 0xf4
    movq %rsi, (%rdi)
    hlt
    .balign 16, 0xf4
probe_user_code_end:

    .section .note.GNU-stack, "", @progbits
