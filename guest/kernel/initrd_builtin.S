/* The programs that are there without an initrd: a tar archive, linked in. */
    .section .initrd, "a"
    .balign 16
    .globl initrd_builtin, initrd_builtin_end
initrd_builtin:
    .incbin INITRD_TAR
initrd_builtin_end:
    .byte 0
    .section .note.GNU-stack, "", @progbits
