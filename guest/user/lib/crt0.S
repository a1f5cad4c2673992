/*
 * Where a program starts. The kernel gives RDI = the arguments, each closed by
 * a NUL byte, RSI = their length in bytes, and a stack aligned to 16.
 */
        .section .text.start, "ax"
        .globl  _start
        .type   _start, @function
_start:
        xorl    %ebp, %ebp              # the end of every backtrace
        andq    $-16, %rsp
        call    lib_start
        ud2
        .size   _start, . - _start

        .section .note.GNU-stack, "", @progbits
