/* PVH, 32 bit: sends one byte to COM1 and halts for ever. For `make bench`: the monitor's own memory. */
	.section .note.pvh, "a", @note
	.long 4, 4, 18
	.asciz "Xen"
	.long _start

	.text
	.globl _start
_start:
	mov $0x3f8, %dx
	mov $'x', %al
	out %al, %dx
	cli
1:	hlt
	jmp 1b
