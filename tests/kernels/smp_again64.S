/*
 * INIT and STARTUP for a CPU that runs already, again and again: each time it begins anew. The
 * argument is what it does meanwhile: "ports", "spin" or "halt", with 2 CPUs.
 */
#include "tests/kernels/rules.inc"

#define STARTS 16
#define TRAMPOLINE 0x8000

	.macro command value
	movl $\value, 0x300(%rdi)
	.endm

	.code64
	.text
long_mode:
	mov $trampoline, %esi
	mov $TRAMPOLINE, %edi
	mov $trampoline_end - trampoline, %ecx
	rep movsb
	mov $APIC, %edi
	xor %ebp, %ebp
1:	command 0xc4500			/* INIT to all but this one */
	mov $100, %ebx			/* the host may be busy, so it gets time */
6:	call nap
	dec %ebx
	jnz 6b
	mov beats, %eax			/* it stands still until STARTUP */
	call nap
	cmp beats, %eax
	must e, "it goes on behind INIT"
	command 0xc4608
	inc %ebp
	mov $5000, %ebx			/* patience */
2:	call nap
	cmp %ebp, starts
	je 3f
	dec %ebx
	jnz 2b
	cmp %ebp, starts
	must e, "it did not start"
3:	mov arguments, %rsi
	cmpb $'h', (%rsi)
	je 5f
	mov $5000, %ebx
	movl $0, beats			/* and it goes on as what it is now */
4:	call nap
	cmpl $100, beats
	jae 5f
	dec %ebx
	jnz 4b
	cmpl $100, beats
	must ae, "it does not go on"
5:	cmpl $0, wrong
	must e, "an older start goes on"
	cmp $STARTS, %ebp
	jb 1b
	jmp pass64

/* A tenth of a millisecond, roughly, by exits. */
nap:
	mov $20, %ecx
1:	in $0x84, %al
	loop 1b
	mov beats, %eax
	ret

	.code64
other:
	mov $stack - 2048, %esp
	lock incl starts
	mov starts, %ebp		/* which start this is */
	mov arguments, %rsi
1:	cmp %ebp, starts
	je 2f
	incl wrong
2:	lock incl beats
	cmpb $'s', (%rsi)
	je 3f
	cmpb $'h', (%rsi)
	je 4f
	out %al, $0x84
3:	pause
	jmp 1b
4:	hlt
	jmp 4b

	.code16
trampoline:
	cli
	xor %ax, %ax
	mov %ax, %ds
	lgdtl TRAMPOLINE + (1f - trampoline)
	mov $0x620, %eax
	mov %eax, %cr4
	mov $PML4, %eax
	mov %eax, %cr3
	mov $0xc0000080, %ecx
	mov $0x901, %eax
	xor %edx, %edx
	wrmsr
	mov $0x80010033, %eax		/* PG and PE at once */
	mov %eax, %cr0
	ljmpl $KERNEL_CODE, $other
	.balign 4
1:	.word gdt_pointer - gdt - 1
	.long gdt
trampoline_end:

	.bss
	.balign 4
starts:	.skip 4
beats:	.skip 4
wrong:	.skip 4
