/*
 * Four-level paging with one 2 MiB page, then a write to 0xc0401234, which is not
 * mapped, without an IDT: status 127; the dump shows the walk of CR2 end in a PDPTE
 * that is 0.
 */
#include "tests/kernels/common.inc"
#include "tests/kernels/note.inc"

	.text
	.globl _start
_start:
	mov $0x9000, %esp
	print "crash\n"
	lidt empty
	movl $pdpt + 3, pml4		/* present, writable */
	movl $pd + 3, pdpt
	movl $0x200083, pd + 8		/* 2 to 4 MiB, where this code is, as one page */
	mov $pml4, %eax
	mov %eax, %cr3
	mov %cr4, %eax
	or $0x20, %eax			/* PAE */
	mov %eax, %cr4
	mov $0xc0000080, %ecx		/* EFER */
	xor %edx, %edx
	mov $0x100, %eax		/* LME */
	wrmsr
	mov %cr0, %eax
	or $0x80000000, %eax
	mov %eax, %cr0
	movl $1, 0xc0401234
	print "still running\n"
	mov $1, %eax
	jmp exit

	.data
empty:
	.word 0
	.long 0

	.bss
	.balign 4096
pml4:	.skip 4096
pdpt:	.skip 4096
pd:	.skip 4096
