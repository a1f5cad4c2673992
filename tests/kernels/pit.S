/*
 * The interval timer and the speaker port, as a kernel uses them to calibrate its
 * clock: channel 2 counts 20000 down, its output shows in bit 5 of port 0x61. It
 * may take long, but must not end early: 20000 counts are 16.8 ms.
 */
#include "tests/kernels/common.inc"
#include "tests/kernels/note.inc"

	.text
	.globl _start
_start:
	mov $0x9000, %esp
	in $0x61, %al			/* the first access of all */
	test $0x23, %al
	check z, "port 0x61 after reset"
	and $0xfd, %al
	or $1, %al			/* gate on, speaker off */
	out %al, $0x61
	in $0x61, %al
	and $3, %al
	cmp $1, %al
	check e, "port 0x61 does not keep the gate"
	mov $0xb0, %al			/* channel 2, low and high byte, mode 0 */
	out %al, $0x43
	mov $0x20, %al
	out %al, $0x42
	mov $0x4e, %al
	out %al, $0x42
	in $0x61, %al
	test $0x20, %al
	check z, "channel 2 is through at once"
	mov $2000000, %ecx
1:	in $0x61, %al
	test $0x20, %al
	jnz 2f
	dec %ecx
	jnz 1b
	mov $never, %esi
	jmp fail
2:	mov $0x80, %al			/* latch channel 2 */
	out %al, $0x43
	in $0x42, %al
	in $0x42, %al
	jmp pass

	.section .rodata
never:
	.asciz "channel 2 never gets through"
