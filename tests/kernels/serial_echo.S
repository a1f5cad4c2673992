/*
 * The serial line by interrupts alone: IRQ 4 through the 8259s, receive and transmit.
 * Echoes what comes, letters in upper case, until 'q', which ends the VM with status 0
 * once all before it is sent. Nothing polls: between interrupts the CPU halts.
 */
#include "tests/kernels/common.inc"

#define CODE 0x08
#define VECTOR 0x24			/* 8259s at 0x20: IRQ 4 */
#define QUEUE 4096

#include "tests/kernels/note.inc"

	.text
	.globl _start
_start:
	mov $stack_end, %esp
	cld
	lgdt gdt_pointer
	ljmp $CODE, $1f
1:	mov $irq4, %eax			/* IDT gate: present, ring 0, 32-bit interrupt */
	mov %ax, idt + VECTOR * 8
	movw $CODE, idt + VECTOR * 8 + 2
	movw $0x8e00, idt + VECTOR * 8 + 4
	shr $16, %eax
	mov %ax, idt + VECTOR * 8 + 6
	lidt idt_pointer
	mov $pic_steps, %esi
2:	movzbl (%esi), %edx
	test %edx, %edx
	jz 3f
	mov 1(%esi), %al
	out %al, %dx
	add $2, %esi
	jmp 2b
3:	mov $uart_steps, %esi
4:	mov (%esi), %dl
	cmp $0xff, %dl
	je 5f
	movzbl %dl, %edx
	add $COM1, %edx
	mov 1(%esi), %al
	out %al, %dx
	add $2, %esi
	jmp 4b
5:	print "ready\n"
	mov $COM1 + 1, %edx		/* receive interrupt; transmit is enabled when there is work */
	mov $1, %al
	out %al, %dx
idle:
	cli
	cmpb $0, quit
	je 6f
	mov head, %eax
	cmp tail, %eax
	je leave
6:	sti
	hlt
	jmp idle
leave:
	print "\n"
	jmp pass

/*
 * Serves every source until IIR names none. It interrupts nothing but the HLT, so it
 * drops its frame instead of returning: a KVM that interprets ring 0 has no 32-bit IRET.
 */
irq4:
	add $12, %esp
1:	mov $COM1 + 2, %edx
	in %dx, %al
	and $0x0f, %al
	test $1, %al
	jnz 4f
	cmp $2, %al
	je 3f
2:	mov $COM1 + 5, %edx		/* received, or the time-out */
	in %dx, %al
	test $1, %al
	jz 5f
	mov $COM1, %edx
	in %dx, %al
	cmp $'q', %al
	jne 6f
	movb $1, quit
	jmp 2b
6:	cmp $'a', %al
	jb 7f
	cmp $'z', %al
	ja 7f
	sub $32, %al
7:	mov tail, %ecx
	mov %al, queue(%ecx)
	inc %ecx
	and $QUEUE - 1, %ecx
	mov %ecx, tail
	jmp 2b
5:	mov $COM1 + 1, %edx		/* there is work for the transmitter, perhaps */
	mov head, %ecx
	cmp tail, %ecx
	je 1b
	mov $3, %al
	out %al, %dx
	jmp 1b
3:	mov head, %ecx			/* transmitter empty: the next byte, or no more interrupts */
	cmp tail, %ecx
	je 8f
	mov queue(%ecx), %al
	inc %ecx
	and $QUEUE - 1, %ecx
	mov %ecx, head
	mov $COM1, %edx
	out %al, %dx
	jmp 1b
8:	mov $COM1 + 1, %edx
	mov $1, %al
	out %al, %dx
	jmp 1b
4:	mov $0x20, %al			/* end of interrupt */
	out %al, $0x20
	jmp idle

	.data
	FLAT_TABLES
pic_steps:				/* port, value: vectors from 0x20 on, only IRQ 4 open */
	.byte 0x20, 0x11, 0xa0, 0x11, 0x21, 0x20, 0xa1, 0x28
	.byte 0x21, 0x04, 0xa1, 0x02, 0x21, 0x01, 0xa1, 0x01
	.byte 0x21, 0xef, 0xa1, 0xff, 0
uart_steps:				/* register, value: 115200 8n1, FIFOs with trigger level 8 */
	.byte 1, 0, 3, 0x83, 0, 1, 1, 0, 3, 3, 2, 0x87, 4, 0x0b, 0xff

	.bss
quit:	.skip 4
head:	.skip 4
tail:	.skip 4
	.balign 8
idt:	.skip 256 * 8
queue:	.skip QUEUE
	.balign 16
	.skip 4096
stack_end:
