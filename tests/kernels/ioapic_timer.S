/*
 * The timer as the MADT describes it: ISA interrupt 0 has no override, so the PIT must
 * come in on pin 0 of the I/O APIC. Passes after three ticks; hangs when none come.
 */
#include "tests/kernels/common.inc"

#define CODE 0x08
#define VECTOR 0x30
#define LAPIC 0xfee00000
#define IOAPIC 0xfec00000

#include "tests/kernels/note.inc"

	.text
	.globl _start
_start:
	mov $stack_end, %esp
	cld
	mov 32(%ebx), %ebp		/* RSDP */
	mov 24(%ebp), %ebp		/* XSDT */
	call check_madt
	lgdt gdt_pointer
	ljmp $CODE, $1f
1:	mov $tick, %eax			/* IDT gate: present, ring 0, 32-bit interrupt */
	mov %ax, idt + VECTOR * 8
	movw $CODE, idt + VECTOR * 8 + 2
	movw $0x8e00, idt + VECTOR * 8 + 4
	shr $16, %eax
	mov %ax, idt + VECTOR * 8 + 6
	lidt idt_pointer
	mov $0xff, %al			/* nothing by the 8259s */
	out %al, $0x21
	out %al, $0xa1
	movl $0x1ff, LAPIC + 0xf0	/* local APIC on */
	movl $0x11, IOAPIC		/* redirection of pin 0: to APIC 0, edge, open */
	movl $0, IOAPIC + 0x10
	movl $0x10, IOAPIC
	movl $VECTOR, IOAPIC + 0x10
	mov $0x34, %al			/* PIT channel 0: rate generator, 100 Hz */
	out %al, $0x43
	mov $0x9c, %al
	out %al, $0x40
	mov $0x2e, %al
	out %al, $0x40
wait:
	cmpl $3, ticks
	jae pass
	sti
	hlt
	cli
	jmp wait

/* Interrupts nothing but the HLT, so it drops its frame: see serial_echo.S. */
tick:
	add $12, %esp
	incl ticks
	print "tick\n"
	movl $0, LAPIC + 0xb0		/* end of interrupt */
	jmp wait

/* No entry of type 2 (override) may be about ISA interrupt 0. XSDT at EBP. */
check_madt:
	mov 4(%ebp), %ecx
	sub $36, %ecx
1:	mov 36(%ebp), %esi
	cmpl $0x43495041, (%esi)	/* "APIC" */
	je 2f
	add $8, %ebp
	sub $8, %ecx
	ja 1b
	cmp %esp, %esp
	check ne, "no MADT"
2:	mov %esi, %edi
	add 4(%esi), %edi		/* its end */
	add $44, %esi
3:	cmpb $2, (%esi)
	jne 4f
	cmpb $0, 3(%esi)
	mov %esi, %ebp
	check ne, "the timer has an override"
	mov %ebp, %esi
4:	movzbl 1(%esi), %eax
	add %eax, %esi
	cmp %edi, %esi
	jb 3b
	ret

	.data
	FLAT_TABLES

	.bss
ticks:	.skip 4
	.balign 8
idt:	.skip 256 * 8
	.balign 16
	.skip 4096
stack_end:
