/*
 * Does exactly 1000 OUTs to the POST port and prints "done\n" (5 OUTs), then
 * spins without an exit: its counters must show just that.
 */
#include "tests/kernels/common.inc"
#include "tests/kernels/note.inc"

	.text
	.globl _start
_start:
	mov $0x9000, %esp
	mov $1000, %ecx
1:	out %al, $0x80
	dec %ecx
	jnz 1b
	print "done\n"
2:	jmp 2b
