/* Ports and memory without a device: reads are all ones, writes go nowhere. */
#include "tests/kernels/common.inc"
#include "tests/kernels/note.inc"

	.text
	.globl _start
_start:
	mov $0x9000, %esp
	xor %eax, %eax
	mov 0xd0000001, %al
	cmp $0xff, %eax
	check e, "MMIO read of 1 byte"
	mov 0xd0000002, %ax
	cmp $0xffff, %eax
	check e, "MMIO read of 2 bytes"
	mov 0xd0000003, %eax		/* not aligned */
	cmp $-1, %eax
	check e, "MMIO read of 4 bytes"
	mov 0xd0000fff, %eax		/* across a page: KVM cuts it into 1 and 3 bytes */
	cmp $-1, %eax
	check e, "MMIO read across a page"
	movl $0x12345678, 0xd0000ffe
	lock incl 0xd0000100
	mov $0xd0000200, %esi
	mov $buffer, %edi
	mov $16, %ecx
	rep movsl
	mov $buffer, %edi
	mov $-1, %eax
	mov $16, %ecx
	repe scasl
	check e, "REP MOVS from MMIO"
	mov $0x1234, %edx
	in %dx, %al
	cmp $-1, %eax
	check e, "port read"
	xor %eax, %eax
	in %dx, %eax
	cmp $-1, %eax
	check e, "port read of 4 bytes"
	out %eax, %dx
	jmp pass

	.bss
	.balign 4
buffer:
	.skip 64
