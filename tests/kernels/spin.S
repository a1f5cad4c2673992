/* An endless loop without any exit, interrupts off: only --timeout or stop end it. */
#include "tests/kernels/common.inc"

	.section .note.pvh, "a", @note
	.long 4, 4, 18
	.asciz "Xen"
	.long _start

	.text
	.globl _start
_start:
	mov $0x9000, %esp
	print "spinning\n"
1:	jmp 1b
