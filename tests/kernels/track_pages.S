/*
 * Touches the same pages again and again, and no others: writes 37, every second one from 8 MiB on,
 * and reads 11, every third one from 12 MiB on. This code is in one page; the stack is not used.
 */
#include "tests/kernels/common.inc"
#include "tests/kernels/note.inc"

#define WRITTEN 37
#define READ    11

	.text
	.globl _start
_start:
	mov $0x9000, %esp
	/* Each page that is read later gets content of its own: no zero page is seen. */
	mov $0xc00000, %edi
	mov $READ, %ecx
1:	mov %edi, (%edi)
	add $0x3000, %edi
	dec %ecx
	jnz 1b
	print "touching\n"
	jmp touch

	.balign 4096
touch:
	mov $0x800000, %edi
	mov $WRITTEN, %ecx
1:	incl (%edi)
	add $0x2000, %edi
	dec %ecx
	jnz 1b
	mov $0xc00000, %edi
	mov $READ, %ecx
2:	cmp %edi, (%edi)
	jne 3f
	add $0x3000, %edi
	dec %ecx
	jnz 2b
	jmp touch
3:	mov $1, %eax			/* what was read is not what was written */
	out %eax, $0xf4
	jmp 3b
