/* An endless loop without any exit, interrupts off: only --timeout or stop end it. */
#include "tests/kernels/common.inc"
#include "tests/kernels/note.inc"

	.text
	.globl _start
_start:
	mov $0x9000, %esp
	print "spinning\n"
1:	jmp 1b
