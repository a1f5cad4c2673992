/* PVH, 32 bit: the first instructions send one byte to COM1, then the VM ends. For `make bench`: start to first instruction. */
#include "tests/kernels/note.inc"

	.text
	.globl _start
_start:
	mov $0x3f8, %dx
	mov $'x', %al
	out %al, %dx
	xor %eax, %eax
	out %eax, $0xf4
1:	hlt
	jmp 1b
