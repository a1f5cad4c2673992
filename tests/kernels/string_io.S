/*
 * String I/O in both directions, all sizes, up and down. The line that it prints
 * goes through REP OUTSB; its reads come from the UART's line status (0x60: idle)
 * and from a port without a device.
 */
#include "tests/kernels/common.inc"
#include "tests/kernels/note.inc"

	.text
	.globl _start
_start:
	mov $0x9000, %esp
	cld
	mov $text, %esi
	mov $text_end - text, %ecx
	mov $COM1, %edx
	rep outsb
	mov %esi, %edi			/* check takes ESI */
	test %ecx, %ecx
	check z, "REP OUTSB: count"
	cmp $text_end, %edi
	check e, "REP OUTSB: pointer"

	std
	mov $backwards_end - 1, %esi
	mov $backwards_end - backwards, %ecx
	rep outsb
	cld

	mov $COM1 + 5, %edx
	mov $buffer, %edi
	mov $5000, %ecx			/* more than KVM takes in one exit */
	rep insb
	cmp $buffer + 5000, %edi
	check e, "REP INSB: pointer"
	mov $buffer, %edi
	mov $5000, %ecx
	mov $0x60, %al
	repe scasb
	check e, "REP INSB: data"
	cmpb $0, buffer + 5000
	check e, "REP INSB: wrote too much"

	mov $0x1234, %edx
	mov $buffer, %edi
	mov $7, %ecx
	rep insw
	mov $3, %ecx
	rep insl
	cmp $buffer + 26, %edi
	check e, "REP INSW, REP INSL: pointer"
	mov $buffer, %edi
	mov $26, %ecx
	mov $0xff, %al
	repe scasb
	check e, "REP INSW, REP INSL: data"
	cmpb $0x60, buffer + 26
	check e, "REP INSL: wrote too much"
	mov $buffer, %esi
	mov $1000, %ecx
	rep outsl
	jmp pass

	.data
text:
	.ascii "forward\n"
text_end:
backwards:
	.ascii "\nsdrawkcab"
backwards_end:

	.bss
	.balign 4
buffer:
	.skip 8192
