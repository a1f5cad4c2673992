/* PVH, 32 bit: sends one byte to COM1 and halts for ever. For `make bench`: the monitor's own memory. */
#include "tests/kernels/note.inc"

	.text
	.globl _start
_start:
	mov $0x3f8, %dx
	mov $'x', %al
	out %al, %dx
	cli
1:	hlt
	jmp 1b
