/*
 * From 64-bit code to compatibility mode, paging off, and back, again and again; tables change
 * while paging is off. Then ring 3 in compatibility mode.
 */
#include "tests/kernels/rules.inc"

	.code64
	.text
long_mode:
	mov $200, %ebp
1:	ljmp *to_compatibility
back:
	movabs $MAPPED, %rbx
	cmpl %ebp, (%rbx)
	must e, "what was mapped while paging was off"
	mov $0xc0000080, %ecx
	rdmsr
	test $0x400, %eax
	must nz, "EFER.LMA in 64-bit mode"
	dec %ebp
	jnz 1b

	faults3 6, 0, "PUSH ES in 64-bit code", .byte 0x06
	before
	pushq $USER_DATA
	pushq $user_stack
	pushq $2
	pushq $USER_CODE32
	pushq $ring3_32
	iretq
7:	came 0x80, 0, "INT 80h of compatibility mode"
	cmpl $USER_CODE32, seen_cs
	must e, "CS of compatibility mode"
	cmpl $user_stack - 4, seen_rsp
	must e, "RSP of compatibility mode"
	cmp $0x55443322, %eax
	must e, "EAX of compatibility mode"
	before
	pushq $USER_DATA
	pushq $user_stack
	pushq $2
	pushq $USER_CODE32
	pushq $ring3_cli
	iretq
7:	came 13, 0, "CLI of compatibility mode"
	before
	pushq $USER_DATA
	pushq $user_stack
	pushq $2
	pushq $USER_CODE32
	pushq $ring3_reach
	iretq
7:	came 14, 6, "a write of compatibility mode"
	mov $0xfffffffc, %eax
	cmp %rax, seen_cr2
	must e, "CR2 of compatibility mode"
	jmp pass64

	.code32
compatibility:
	mov $KERNEL_DATA, %eax
	mov %eax, %ds
	mov %eax, %ss
	mov $stack, %esp
	mov %cr0, %eax
	btr $31, %eax
	mov %eax, %cr0			/* paging is off */
	mov $0xc0000080, %ecx
	rdmsr
	test $0x400, %eax
	jnz wrong
	test $0x100, %eax
	jz wrong
	mov %ebp, %eax			/* another page, with another content */
	and $0xff, %eax
	shl $12, %eax
	add $PAGE, %eax
	mov %ebp, (%eax)
	or $P + W + U, %eax
	mov %eax, PT
	test $1, %ebp
	jz 1f
	mov %cr4, %eax			/* and PAE off and on, every other time */
	btr $5, %eax
	mov %eax, %cr4
	bts $5, %eax
	mov %eax, %cr4
1:	mov %cr0, %eax
	bts $31, %eax
	mov %eax, %cr0
	ljmp $KERNEL_CODE, $back
wrong:
	mov $wrong_text, %esi
	ljmp $KERNEL_CODE, $fail64

ring3_32:
	push $0x55443322
	mov (%esp), %eax
	int $0x80
ring3_cli:
	cli
ring3_reach:
	mov $USER_DATA, %ecx		/* IRET took ring 0's away */
	mov %ecx, %ds
	movl $1, -4

	.section .rodata
wrong_text: .asciz "EFER while paging is off"
	.data
to_compatibility:
	.long compatibility
	.word CODE32
