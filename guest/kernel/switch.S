/*
 * From one kernel stack to another. What a stack holds while its thread is away:
 * r15 r14 r13 r12 rbp rbx, return address.
 */
    .text
    .globl context_switch
context_switch:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

/* The first return of a stack made by context_prepare(): rbx is the function, r12 its argument. */
    .globl context_begin
context_begin:
    movq %r12, %rdi
    call *%rbx
    ud2

    .section .note.GNU-stack, "", @progbits
