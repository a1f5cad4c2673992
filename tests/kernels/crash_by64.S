/*
 * Ways to end a 64-bit kernel, by the argument: "cr3", "gdt", "idt" and "tss" leave the CPU nothing
 * to go on with: triple faults, status 127. "loop" faults for ever, and only a time-out ends it.
 */
#include "tests/kernels/rules.inc"

#define NOWHERE 0x30000000	/* no RAM */

	.code64
	.text
long_mode:
	mov $text, %esi
	call puts64
	mov arguments, %rsi
	mov (%rsi), %al
	cmp $'c', %al
	je by_cr3
	cmp $'g', %al
	je by_gdt
	cmp $'i', %al
	je by_idt
	cmp $'t', %al
	je by_tss
	cmp $'l', %al
	je by_loop
	mov $unknown, %esi
	jmp fail64

by_cr3:
	mov $NOWHERE, %eax
	mov %rax, %cr3
	jmp survived

/* The next segment that is loaded is #GP, whose gate needs one too. */
by_gdt:
	movabs $0x700000000000, %rax
	mov %rax, gdt_pointer + 2
	lgdt gdt_pointer
	mov $KERNEL_DATA, %eax
	mov %eax, %ds
	jmp survived

by_idt:
	movabs $0x700000000000, %rax
	mov %rax, idt_pointer + 2
	lidt idt_pointer
	ud2
	jmp survived

/* Ring 3 faults, and there is no stack to go to. */
by_tss:
	movq $0, TSS_AT + 4
	movq $0, TSS_AT + 36
	mov %cr3, %rax
	movq $0x400000 + P + W + U + PS, PD_LOW		/* 0 is mapped, but not below it */
	mov %rax, %cr3
	to_ring3 1f
1:	ud2
	jmp survived

/* Its handler goes back to where it came from. */
by_loop:
	movq $1f, hooks + 6 * 8
	ud2
1:	add $8, %rsp
	iretq

survived:
	mov $running, %esi
	jmp fail64

	.section .rodata
text:	.asciz "crash\n"
running: .asciz "still running"
unknown: .asciz "no such way"
