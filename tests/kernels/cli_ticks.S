/* Writes to the POST port for ever: a counter that moves as long as the vCPU runs. */
#include "tests/kernels/common.inc"
#include "tests/kernels/note.inc"

	.text
	.globl _start
_start:
	mov $0x9000, %esp
	print "ticking\n"
1:	out %al, $0x80
	jmp 1b
