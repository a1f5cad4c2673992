/* Resets by the keyboard controller: the VM ends with status 0. */
#include "tests/kernels/common.inc"
#include "tests/kernels/note.inc"

	.text
	.globl _start
_start:
	mov $0x9000, %esp
	print "reset\n"
1:	in $0x64, %al			/* until the input buffer is empty */
	test $2, %al
	jnz 1b
	mov $0xfe, %al
	out %al, $0x64
	mov $1000, %ecx
1:	in $0x80, %al
	loop 1b
	print "still running\n"
	mov $1, %eax
	jmp exit
