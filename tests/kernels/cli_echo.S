/* Sends what it receives on COM1 back; "q" ends it with exit value 3. */
#include "tests/kernels/common.inc"
#include "tests/kernels/note.inc"

	.text
	.globl _start
_start:
	mov $0x9000, %esp
	print "ready\n"
1:	mov $COM1 + 5, %edx
	in %dx, %al
	test $1, %al			/* data ready */
	jz 1b
	mov $COM1, %edx
	in %dx, %al
	cmp $'q', %al
	je 2f
	out %al, %dx
	jmp 1b
2:	mov $3, %eax
	out %eax, $0xf4
3:	hlt
	jmp 3b
