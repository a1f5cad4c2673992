/*
 * Prints its command line between brackets. Its exit value is the number that
 * the command line starts with, 0 without one.
 */
#include "tests/kernels/common.inc"
#include "tests/kernels/note.inc"

	.text
	.globl _start
_start:
	mov $0x9000, %esp
	mov 24(%ebx), %ebp		/* hvm_start_info.cmdline_paddr */
	print "["
	mov %ebp, %esi
	call puts
	print "]\n"
	mov %ebp, %esi
	xor %ebx, %ebx
1:	movzbl (%esi), %eax
	sub $'0', %eax
	cmp $9, %eax
	ja 2f
	imul $10, %ebx
	add %eax, %ebx
	inc %esi
	jmp 1b
2:	mov %ebx, %eax
	out %eax, $0xf4
3:	hlt
	jmp 3b
