/*
 * One access at a time, in ring 0 or ring 3, that comes back whether it faults or not
 * (access_test.c). The way back from an exception is access_resume, on the stack that
 * access_resume_rsp holds.
 */
#include "guest/kernel/layout.h"

    .text

/*
 * void access_probe(uint64_t gva, uint64_t rip, uint64_t rflags, bool user)
 * Goes to `rip` with RDI = gva and these flags. In ring 0 that code returns by RET; in ring
 * 3 by HLT, which is a #GP there (where ring 0 is interpreted, INT does not work).
 */
    .globl access_probe
access_probe:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, access_resume_rsp
    testb %cl, %cl
    jnz 1f
    pushq %rdx
    popfq
    call *%rsi
    .globl access_resume
access_resume:
    pushq $2
    popfq
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

/* What ring 0 and ring 3 run; access_mmu.c copies those of ring 3 to a page of their own. */
    .globl access_kernel_read, access_kernel_write
access_kernel_read:
    movb (%rdi), %al
    ret
access_kernel_write:
    movb %al, (%rdi)
    ret

    .section .rodata.access, "a"
    .globl access_user_code, access_user_code_end
access_user_code:
    movb (%rdi), %al
    hlt
    .balign 16, 0xf4
    movb %al, (%rdi)
    hlt
    .balign 16, 0xf4
access_user_code_end:

    .section .bss
    .globl access_resume_rsp
    .balign 8
access_resume_rsp:
    .skip 8
    .section .note.GNU-stack, "", @progbits
