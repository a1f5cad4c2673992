/*
 * An MMIO access by an instruction that no KVM emulates: an internal error of KVM.
 * The VM crashes: status 127 and a dump with the instruction 0f 38 00 05.
 */
#include "tests/kernels/common.inc"
#include "tests/kernels/note.inc"

	.text
	.globl _start
_start:
	mov $0x9000, %esp
	print "crash\n"
	mov %cr4, %eax
	or $0x200, %eax			/* OSFXSR: the instruction is valid */
	mov %eax, %cr4
	pshufb 0xd0000000, %xmm0
	print "still running\n"
	mov $1, %eax
	jmp exit
