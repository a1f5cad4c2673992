/* Prints lines for ever. */
#include "tests/kernels/common.inc"

	.section .note.pvh, "a", @note
	.long 4, 4, 18
	.asciz "Xen"
	.long _start

	.text
	.globl _start
_start:
	mov $0x9000, %esp
1:	print "a line of text\n"
	jmp 1b
