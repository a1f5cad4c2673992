/*
 * A 32-bit kernel with code of ring 3, which is interpreted with shadow paging. The argument:
 * "two" levels, or "pae".
 */
#include "tests/kernels/common.inc"
#include "tests/kernels/note.inc"

#define ROOT  0x800000
#define PD0   0x801000	/* pae: of the first GiB, and of the second */
#define PD1   0x802000
#define PT    0x803000	/* of USER */
#define USER  0x40000000
#define PAGE  0xa00000	/* USER's code, then a page of data */
#define STACK (USER + 0x2000)

#define P  1
#define W  2
#define U  4
#define PS 0x80

#define KERNEL_CODE 0x08
#define KERNEL_DATA 0x10
#define USER_CODE   0x1b
#define USER_DATA   0x23
#define TSS	    0x28

	/* Ring 3 runs from `where` of the user's code on, until something comes. */
	.macro user where
	mov %esp, kernel_esp
	movl $7f, resume
	pushl $USER_DATA
	pushl $STACK
	pushl $2
	pushl $USER_CODE
	pushl $USER + \where - user_start
	iret
7:
	.endm

	.macro came number, code, text
	cmpl $\number, seen_vector
	check e, "\text: vector"
	cmpl $\code, seen_error
	check e, "\text: error code"
	.endm

	.text
	.globl _start
_start:
	mov $0x9000, %esp
	cld
	mov 24(%ebx), %esi
	mov (%esi), %al
	mov %al, kind
	lgdt gdt_pointer
	ljmp $KERNEL_CODE, $1f
1:	mov $KERNEL_DATA, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	movl $0x8000, tss + 4
	movl $KERNEL_DATA, tss + 8
	mov $tss, %eax
	mov %ax, gdt + TSS + 2
	shr $16, %eax
	mov %al, gdt + TSS + 4
	mov $TSS, %eax
	ltr %ax
	call make_idt
	lidt idt_pointer
	mov $user_start, %esi
	mov $PAGE, %edi
	mov $user_end - user_start, %ecx
	rep movsb
	cmpb $'p', kind
	je 2f
	call tables_two
	jmp 3f
2:	call tables_pae
3:	mov $ROOT, %eax
	mov %eax, %cr3
	mov %cr0, %eax
	or $0x80010000, %eax		/* PG WP */
	mov %eax, %cr0
	call run
	mov %cr0, %eax			/* off, and on again */
	btr $31, %eax
	mov %eax, %cr0
	bts $31, %eax
	mov %eax, %cr0
	call run
	jmp pass

tables_two:
	mov %cr4, %eax
	or $0x10, %eax			/* PSE */
	mov %eax, %cr4
	movl $P + W + PS, ROOT		/* 16 MiB as they are */
	movl $0x400000 + P + W + PS, ROOT + 4
	movl $0x800000 + P + W + PS, ROOT + 8
	movl $0xc00000 + P + W + PS, ROOT + 12
	movl $PT + P + W + U, ROOT + 0x100 * 4
	movl $PAGE + P + U, PT
	movl $PAGE + 0x1000 + P + W + U, PT + 4
	movl $PAGE + 0x2000 + P + W, PT + 8
	ret

tables_pae:
	mov %cr4, %eax
	or $0x20, %eax			/* PAE */
	mov %eax, %cr4
	mov $0xc0000080, %ecx
	mov $0x800, %eax		/* EFER: NXE */
	xor %edx, %edx
	wrmsr
	movl $PD0 + P, ROOT
	movl $PD1 + P, ROOT + 8
	mov $P + W + PS, %eax
	mov $PD0, %edi
1:	mov %eax, (%edi)
	add $8, %edi
	add $0x200000, %eax
	cmp $0x1000000, %eax
	jb 1b
	movl $PT + P + W + U, PD1
	movl $PAGE + P + U, PT
	movl $PAGE + 0x1000 + P + W + U, PT + 8
	movl $0x80000000, PT + 12	/* no code */
	movl $PAGE + 0x2000 + P + W, PT + 16
	ret

run:
	user user_call
	came 0x80, 0, "INT 80h"
	cmp $0x12345678, %eax
	check e, "INT 80h: EAX"
	cmpl $0x12345678, PAGE + 0x1ffc
	check e, "the user's stack"
	user user_read_none
	came 14, 4, "a read of nothing"
	cmpl $USER + 0x5000, seen_cr2
	check e, "CR2"
	user user_write_code
	came 14, 7, "a write to what is read-only"
	user user_read_kernel
	came 14, 5, "a read of ring 0's"
	user user_no_segment
	came 13, 0, "DS: null"
	user user_port
	came 13, 0, "IN"
	user user_cli
	came 13, 0, "CLI"
	user user_gate
	came 13, 0x182, "INT 30h, DPL 0"
	cmpb $'p', kind
	jne 1f
	user user_jump
	came 14, 0x15, "a fetch of what is no code"
1:	call changes
	/* ring 0's own faults */
	mov %esp, kernel_esp
	movl $7f, resume
	movl $1, USER + 0x5000
7:	came 14, 2, "ring 0's write to nothing"
	mov %esp, kernel_esp
	movl $7f, resume
	movl $1, USER
7:	came 14, 3, "ring 0's write to what is read-only"
	cmpb $'p', kind
	je 2f
	movl $PAGE + 0x3000 + P + W, PT + 8
	jmp 3f
2:	movl $PAGE + 0x3000 + P + W, PT + 16
3:	invlpg USER + 0x2000
	movl $0x33333333, USER + 0x2000
	cmpl $0x33333333, PAGE + 0x3000
	check e, "a page that was remapped"
	movl $0, PAGE + 0x3000
	ret

changes:
	mov $1000, %ecx
1:	mov %cl, 2f + 1
	jmp 2f
2:	mov $0, %al
	cmp %al, %cl
	check e, "code that changes itself"
	dec %ecx
	jnz 1b
	ret

/* Copied to USER. */
user_start:
user_call:
	push $0x12345678
	mov (%esp), %eax
	int $0x80
user_read_none:
	mov $USER_DATA, %eax		/* IRET took ring 0's away */
	mov %eax, %ds
	mov USER + 0x5000, %eax
user_write_code:
	mov $USER_DATA, %eax		/* IRET took ring 0's away */
	mov %eax, %ds
	mov %eax, USER
user_no_segment:
	mov USER + 0x1000, %eax
user_read_kernel:
	mov $USER_DATA, %eax		/* IRET took ring 0's away */
	mov %eax, %ds
	mov USER + 0x2000, %eax
user_port:
	in $0x84, %al
user_cli:
	cli
user_gate:
	int $0x30
user_jump:
	mov $USER + 0x1000, %eax
	jmp *%eax
user_end:

make_idt:
	mov $idt, %edi
	mov $entries, %eax
	xor %ecx, %ecx
1:	mov %eax, %edx
	and $0xffff, %edx
	or $KERNEL_CODE << 16, %edx
	mov %edx, (%edi)
	mov %eax, %edx
	and $0xffff0000, %edx
	or $0x8e00, %edx
	cmp $0x80, %ecx
	jne 2f
	or $0x6000, %edx
2:	mov %edx, 4(%edi)
	add $8, %edi
	add $16, %eax
	inc %ecx
	cmp $129, %ecx
	jb 1b
	ret

	.balign 16
entries:
	.set vector, 0
	.rept 129
	.balign 16
	.if vector != 8 && (vector < 10 || vector > 14) && vector != 17 && vector != 21
	push $0
	.endif
	push $vector
	jmp note
	.set vector, vector + 1
	.endr
note:
	push %eax
	mov $KERNEL_DATA, %eax
	mov %eax, %ds
	mov %cr2, %eax
	mov %eax, seen_cr2
	pop %eax
	popl seen_vector
	popl seen_error
	mov kernel_esp, %esp
	jmp *resume

	.data
	.balign 8
gdt:
	.quad 0
	.quad 0x00cf9b000000ffff
	.quad 0x00cf93000000ffff
	.quad 0x00cffb000000ffff
	.quad 0x00cff3000000ffff
	.quad 0x0000890000000067	/* the TSS; its base is filled in */
gdt_pointer:
	.word gdt_pointer - gdt - 1
	.long gdt
idt_pointer:
	.word 129 * 8 - 1
	.long idt

	.bss
	.balign 8
idt:	.skip 129 * 8
tss:	.skip 104
kernel_esp: .skip 4
resume:	.skip 4
seen_vector: .skip 4
seen_error: .skip 4
seen_cr2: .skip 4
kind:	.skip 4
