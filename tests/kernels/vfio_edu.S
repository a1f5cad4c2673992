/*
 * Drives QEMU's DMA test device (1234:11e8), passed through: registers, DMA round trips, MSI with
 * its mask, INTx, a BAR that moves. The argument says how far the device reaches: "all", or "range"
 * when 32 MiB is none of its memory: then a transfer there must change nothing.
 */
#include "tests/kernels/common.inc"
#include "tests/kernels/note.inc"

#define CODE 0x08
#define MSI_VECTOR 0x31
#define INTX_VECTOR 0x32
#define LAPIC 0xfee00000
#define IOAPIC 0xfec00000

#define SOURCE 0x1000000
#define TARGET 0x1100000
#define OUTSIDE 0x2000000
#define BYTES 2048		/* QEMU's device takes no more than half of its buffer */
#define BUFFER 0x40000		/* where that is, on its side */
#define PATIENCE 200000		/* exits */
#define MOVED 0xd0000000

#define EDU_ID 0x00
#define EDU_LIVE 0x04
#define EDU_IRQ_STATUS 0x24
#define EDU_IRQ_RAISE 0x60
#define EDU_IRQ_ACK 0x64
#define EDU_SOURCE 0x80
#define EDU_TARGET 0x88
#define EDU_COUNT 0x90
#define EDU_COMMAND 0x98
#define TO_DEVICE 1
#define FROM_DEVICE 3
#define FROM_DEVICE_INTERRUPT 7

	.text
	.globl _start
_start:
	mov $stack_end, %esp
	cld
	mov 24(%ebx), %esi		/* command line */
	mov (%esi), %al
	mov %al, argument
	call interrupts_on
	call find
	call registers
	call no_bus_master
	call transfers
	call masked
	call intx
	call moved
	call outside
	jmp pass

/* --- config space, by the ports; `function` is the device's address there */

/* The dword at offset ECX: in EAX. */
config_read:
	push %edx
	mov function, %eax
	or %ecx, %eax
	mov $0xcf8, %edx
	out %eax, %dx
	mov $0xcfc, %edx
	in %dx, %eax
	pop %edx
	ret

/* EAX to the dword at offset ECX. */
config_write:
	push %edx
	push %eax
	mov function, %eax
	or %ecx, %eax
	mov $0xcf8, %edx
	out %eax, %dx
	mov $0xcfc, %edx
	pop %eax
	out %eax, %dx
	pop %edx
	ret

/* Command becomes AX; the status' bits that a 1 clears stay. */
command:
	movzwl %ax, %eax
	mov $4, %ecx
	jmp config_write

find:
	movl $0x80000000, function
1:	xor %ecx, %ecx
	call config_read
	cmp $0x11e81234, %eax
	je 2f
	addl $0x800, function
	cmpl $0x80010000, function
	jb 1b
	cmp %esp, %esp
	check ne, "no device 1234:11e8"
2:	mov $0x10, %ecx
	call config_read
	and $~15, %eax
	check nz, "BAR 0 has no address"
	mov %eax, bar
	mov $2, %eax			/* memory */
	call command
	mov $0x34, %ecx			/* the list of capabilities: MSI is one */
	call config_read
	movzbl %al, %ebp
3:	test %ebp, %ebp
	check nz, "no MSI"
	mov %ebp, %ecx
	call config_read
	cmp $5, %al
	je 4f
	movzbl %ah, %ebp
	jmp 3b
4:	mov %ebp, msi
	ret

/* --- the device */

registers:
	mov bar, %edi
	cmpl $0x010000ed, EDU_ID(%edi)
	check e, "the device's identification"
	movl $0x12345678, EDU_LIVE(%edi)
	cmpl $0xedcba987, EDU_LIVE(%edi)
	check e, "a register keeps its value"
	mov $0xffffffff, %eax		/* what the last user left: it may have no reset */
	mov %eax, EDU_IRQ_ACK(%edi)
	print "registers\n"
	ret

/* EAX to ECX by command EDX, and waits for its end. */
transfer:
	mov bar, %edi
	mov %eax, EDU_SOURCE(%edi)
	mov %ecx, EDU_TARGET(%edi)
	movl $BYTES, EDU_COUNT(%edi)
	mov %edx, EDU_COMMAND(%edi)
1:	in $0x84, %al
	testl $1, EDU_COMMAND(%edi)
	jnz 1b
	ret

/* A pattern at SOURCE of which no two words are alike; EAX fills the page at EDI. */
pattern:
	mov $SOURCE, %edi
	mov $BYTES / 4, %ecx
1:	imul $0x9e3779b1, %ecx, %eax
	stosl
	loop 1b
	ret
fill:
	mov $1024, %ecx
	rep stosl
	ret

/* ZF: the page at EDI is still all EAX; or the same as SOURCE. */
unchanged:
	mov $1024, %ecx
	repe scasl
	ret
same:
	mov $SOURCE, %esi
	mov $BYTES, %ecx
	repe cmpsb
	ret

no_bus_master:
	call pattern
	mov $0x55555555, %eax
	mov $TARGET, %edi
	call fill
	mov $BUFFER, %eax
	mov $TARGET, %ecx
	mov $FROM_DEVICE, %edx
	call transfer
	mov $0x55555555, %eax
	mov $TARGET, %edi
	call unchanged
	check e, "DMA without bus master"
	mov $6, %eax			/* memory, bus master */
	call command
	ret

/* There and back, and a message at the end. */
transfers:
	call msi_on
	mov $SOURCE, %eax
	mov $BUFFER, %ecx
	mov $TO_DEVICE, %edx
	call transfer
	mov $BUFFER, %eax
	mov $TARGET, %ecx
	mov $FROM_DEVICE_INTERRUPT, %edx
	call transfer
	mov $TARGET, %edi
	call same
	check e, "DMA: what came back is not what was sent"
	cmpl $0x55555555, TARGET + BYTES
	check e, "DMA: more came back than was asked for"
	mov $1, %eax
	call messages
	mov bar, %edi
	cmpl $0x100, EDU_IRQ_STATUS(%edi)
	check e, "the interrupt's reason"
	movl $0x100, EDU_IRQ_ACK(%edi)
	print "DMA and MSI\n"
	ret

msi_on:
	mov msi, %ecx
	add $4, %ecx
	mov $LAPIC, %eax
	call config_write
	add $4, %ecx
	xor %eax, %eax
	call config_write
	add $4, %ecx
	mov $MSI_VECTOR, %eax
	call config_write
	mov $0x10000, %eax		/* enable */
	jmp msi_control
msi_off:
	xor %eax, %eax
msi_control:
	mov msi, %ecx
	jmp config_write

/* Waits until EAX messages came, at most some seconds. */
messages:
	mov %eax, %ebx
	mov $PATIENCE, %ecx
1:	cmp came_msi, %ebx
	je 2f
	sti
	in $0x84, %al
	cli
	dec %ecx
	jnz 1b
2:	cmp came_msi, %ebx
	check e, "the number of messages"
	ret

/* A masked message waits as pending, and comes once it may. */
masked:
	mov msi, %ecx
	add $16, %ecx
	mov $1, %eax
	call config_write
	mov bar, %edi
	movl $2, EDU_IRQ_RAISE(%edi)
	mov $PATIENCE, %ebp
1:	mov msi, %ecx
	add $20, %ecx
	sti
	call config_read
	cli
	test $1, %al
	jnz 2f
	dec %ebp
	jnz 1b
	test %ebp, %ebp
	check nz, "a masked message does not become pending"
2:	cmpl $1, came_msi
	check e, "a masked message came"
	sub $4, %ecx
	xor %eax, %eax
	call config_write
	mov $2, %eax
	call messages
	mov bar, %edi
	movl $2, EDU_IRQ_ACK(%edi)
	movl $2, EDU_IRQ_RAISE(%edi)
	mov $3, %eax
	call messages
	mov bar, %edi
	movl $2, EDU_IRQ_ACK(%edi)
	print "masked MSI\n"
	ret

/* The handler acknowledges at the device, so that each rise is one interrupt. */
intx:
	call msi_off
	mov $0x3c, %ecx
	call config_read
	movzbl %al, %eax
	lea 0x10(%eax,%eax), %eax	/* the redirection of that pin: level-triggered */
	mov %eax, IOAPIC
	movl $0x8000 | INTX_VECTOR, IOAPIC + 0x10
	inc %eax
	mov %eax, IOAPIC
	movl $0, IOAPIC + 0x10
	mov $3, %ebp
1:	mov bar, %edi
	movl $4, EDU_IRQ_RAISE(%edi)
	mov $PATIENCE, %ecx
2:	sti
	in $0x84, %al
	cli
	mov came_intx, %ebx
	add %ebp, %ebx
	cmp $4, %ebx
	je 3f
	dec %ecx
	jnz 2b
	test %ecx, %ecx
	check nz, "no INTx"
3:	dec %ebp
	jnz 1b
	sti
	in $0x84, %al
	in $0x84, %al
	cli
	cmpl $3, came_intx
	check e, "the number of INTx"
	print "INTx\n"
	ret

/* Elsewhere, after the guest moved it; no more where it was. */
moved:
	mov $4, %eax
	call command
	mov bar, %edi
	cmpl $0xffffffff, EDU_ID(%edi)
	check e, "a BAR that is off answers"
	mov $MOVED, %eax
	mov $0x10, %ecx
	call config_write
	mov $6, %eax
	call command
	mov bar, %edi
	cmpl $0xffffffff, EDU_ID(%edi)
	check e, "a BAR that has moved answers at its old place"
	movl $MOVED, bar
	print "moved: "
	jmp registers

outside:
	mov $0x77777777, %eax
	mov $OUTSIDE, %edi
	call fill
	mov $BUFFER, %eax
	mov $OUTSIDE, %ecx
	mov $FROM_DEVICE, %edx
	call transfer
	cmpb $'r', argument
	je 1f
	mov $OUTSIDE, %edi
	call same
	check e, "DMA to 32 MiB did not arrive"
	ret
1:	mov $0x77777777, %eax
	mov $OUTSIDE, %edi
	call unchanged
	check e, "DMA outside of the range arrived"
	mov $SOURCE, %eax		/* and inside of it all goes on */
	mov $BUFFER, %ecx
	mov $TO_DEVICE, %edx
	call transfer
	mov $BUFFER, %eax
	mov $TARGET, %ecx
	mov $FROM_DEVICE, %edx
	call transfer
	mov $TARGET, %edi
	call same
	check e, "DMA inside of the range"
	print "the range holds\n"
	ret

/* --- interrupts */

	.macro gate vector, handler
	mov $\handler, %eax		/* present, ring 0, 32-bit interrupt */
	mov %ax, idt + \vector * 8
	movw $CODE, idt + \vector * 8 + 2
	movw $0x8e00, idt + \vector * 8 + 4
	shr $16, %eax
	mov %ax, idt + \vector * 8 + 6
	.endm

interrupts_on:
	lgdt gdt_pointer
	ljmp $CODE, $1f
1:	mov $16, %eax
	mov %eax, %ss
	mov %eax, %ds
	mov %eax, %es
	mov $unexpected, %eax		/* each vector has 16 bytes of code there */
	mov $idt, %edi
2:	mov %ax, (%edi)
	movw $CODE, 2(%edi)
	movw $0x8e00, 4(%edi)
	movl %eax, %ecx
	shr $16, %ecx
	mov %cx, 6(%edi)
	add $16, %eax
	add $8, %edi
	cmp $idt + 256 * 8, %edi
	jb 2b
	gate MSI_VECTOR, on_msi
	gate INTX_VECTOR, on_intx
	lidt idt_pointer
	mov $0xff, %al			/* nothing by the 8259s */
	out %al, $0x21
	out %al, $0xa1
	movl $0x1ff, LAPIC + 0xf0	/* local APIC on */
	ret

/* What nobody waits for: its vector is told. */
	.balign 16
unexpected:
	.set vector, 0
	.rept 256
	push $vector
	jmp 1f
	.balign 16
	.set vector, vector + 1
	.endr
1:	pop %eax
	call puthex
	cmp %esp, %esp
	check ne, ": an interrupt or exception that nobody waits for"

on_msi:
	incl came_msi
	movl $0, LAPIC + 0xb0		/* end of interrupt */
	iret

on_intx:
	push %edi
	mov bar, %edi
	cmpl $0, EDU_IRQ_STATUS(%edi)
	je 1f				/* once more: the line may fall later than the write below */
	movl $4, EDU_IRQ_ACK(%edi)
	incl came_intx
1:	movl $0, LAPIC + 0xb0
	pop %edi
	iret

	.data
	FLAT_TABLES

	.bss
	.balign 4
function: .skip 4
bar:	.skip 4
msi:	.skip 4
came_msi: .skip 4
came_intx: .skip 4
argument: .skip 4
	.balign 8
idt:	.skip 256 * 8
	.balign 16
	.skip 4096
stack_end:
