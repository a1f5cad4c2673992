/* Resets by port 0xcf9: the VM ends with status 0. */
#include "tests/kernels/common.inc"
#include "tests/kernels/note.inc"

	.text
	.globl _start
_start:
	mov $0x9000, %esp
	print "reset\n"
	mov $0xcf9, %edx
	mov $2, %al
	out %al, %dx
	mov $6, %al
	out %al, %dx
	mov $1000, %ecx
1:	in $0x80, %al
	loop 1b
	print "still running\n"
	mov $1, %eax
	jmp exit
