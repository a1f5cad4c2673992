/*
 * The paravirtual console of guest/abi.h: prints by descriptor, then hands over
 * descriptors that must be dropped. Nothing but "PASS" may come after the first line.
 */
#include "tests/kernels/common.inc"

#define PV 0x5f0

#include "tests/kernels/note.inc"

	.text
	.globl _start
_start:
	mov $0x9000, %esp
	mov $PV, %edx
	mov $good, %eax
	out %eax, %dx
	mov $bad, %eax
1:	out %eax, %dx
	add $16, %eax
	cmp $bad_end, %eax
	jb 1b
	mov $good + 4, %eax		/* not aligned */
	out %eax, %dx
	mov $good, %eax			/* 16 bits only */
	out %ax, %dx
	mov $0xd0000000, %eax		/* no RAM */
	out %eax, %dx
	mov $0xfffffff8, %eax
	out %eax, %dx
	jmp pass

	.data
	.balign 8
good:
	.long text, 0, text_end - text, 0
bad:
	.long text, 0, 65537, 0		/* too long */
	.long text, 0, 0xffffffff, 0
	.long text, 0, 0, 0		/* nothing */
	.long text, 1, 4, 0		/* above the RAM */
	.long 0xbffffffe, 0, 4, 0	/* into the hole */
	.long 0xfffffffe, 0xffffffff, 4, 0
bad_end:
text:
	.ascii "printed by descriptor\n"
text_end:
