/* Prints lines for ever. */
#include "tests/kernels/common.inc"
#include "tests/kernels/note.inc"

	.text
	.globl _start
_start:
	mov $0x9000, %esp
1:	print "a line of text\n"
	jmp 1b
