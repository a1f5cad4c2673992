/*
 * Starts all other CPUs by INIT and SIPI to "all excluding self". The argument is
 * the number of CPUs, decimal. Each CPU marks the APIC id that CPUID gives it: 0
 * to N - 1 must all be there.
 */
#include "tests/kernels/common.inc"
#include "tests/kernels/note.inc"

	.text
	.globl _start
_start:
	mov $0x9000, %esp
	cld
	mov 24(%ebx), %esi		/* command line */
	xor %ecx, %ecx
1:	movzbl (%esi), %eax
	sub $'0', %eax
	cmp $9, %eax
	ja 2f
	imul $10, %ecx
	add %eax, %ecx
	inc %esi
	jmp 1b
2:	mov %ecx, cpus
	test %ecx, %ecx
	check nz, "the argument is the number of CPUs"
	mov $1, %eax
	cpuid
	shr $24, %ebx
	mov %ebx, %eax
	movb $1, seen(%eax)

	mov $trampoline, %esi
	mov $0x8000, %edi
	mov $trampoline_end - trampoline, %ecx
	rep movsb
	movl $0x1ff, 0xfee000f0		/* local APIC: enable */
	movl $0xc4500, 0xfee00300	/* INIT */
	call pause
	movl $0xc4608, 0xfee00300	/* SIPI to 0x8000, twice as the manual asks */
	call pause
	movl $0xc4608, 0xfee00300

	mov $2000, %ebp			/* patience: this many pauses */
3:	mov started, %eax
	inc %eax
	cmp cpus, %eax
	jae 4f
	call pause
	dec %ebp
	jnz 3b
4:	call pause			/* time for one too many */
	print "started "
	mov started, %eax
	call puthex
	print "\n"
	mov started, %eax
	inc %eax
	cmp cpus, %eax
	check e, "number of CPUs that started"
	mov $seen, %edi
	mov cpus, %ecx
	mov $1, %al
	repe scasb
	check e, "an APIC id is missing"
	cmpb $0, (%edi)
	check e, "an APIC id is too large"
	cmpl $0, wrong
	check e, "CPUID leaf 0xb gives another APIC id than leaf 1"
	jmp pass

/* About a millisecond, by exits: a port that no device answers. */
pause:
	mov $100, %ecx
1:	in $0x84, %al
	loop 1b
	ret

/* Runs at 0x8000, in real mode. */
	.code16
trampoline:
	cli
	xor %ax, %ax
	mov %ax, %ds
	lgdtl 0x8000 + (gdtr - trampoline)
	mov %cr0, %eax
	or $1, %eax
	mov %eax, %cr0
	ljmpl $8, $ap_start
	.balign 4
gdtr:
	.word 23
	.long gdt
trampoline_end:

	.code32
ap_start:
	mov $16, %eax
	mov %eax, %ds
	mov $1, %eax
	cpuid
	shr $24, %ebx
	mov %ebx, %edi
	movb $1, seen(%edi)
	xor %eax, %eax
	cpuid
	cmp $0xb, %eax
	jb 1f
	mov $0xb, %eax
	xor %ecx, %ecx
	cpuid
	test %ebx, %ebx			/* no such leaf */
	jz 1f
	cmp %edx, %edi
	je 1f
	lock incl wrong
1:	lock incl started
2:	hlt
	jmp 2b

	.data
	.balign 8
gdt:
	.quad 0
	.quad 0x00cf9b000000ffff
	.quad 0x00cf93000000ffff

	.bss
	.balign 4
cpus:	.skip 4
started: .skip 4
wrong:	.skip 4
seen:	.skip 256
