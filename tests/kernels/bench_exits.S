/*
 * PVH, 32 bit: ROUNDS times, COUNT port writes and COUNT MMIO reads that no
 * device answers. After each, one line on COM1: a letter (p, m) and the TSC
 * cycles that all COUNT took, 16 hex digits. For `make bench`; the same file
 * runs under a bare KVM_RUN loop there.
 */
#define ROUNDS 5
#define COUNT  2000

#include "tests/kernels/note.inc"

	.text
	.globl _start
_start:
	mov $0x9000, %esp
	mov $ROUNDS, %ebp
round:
	rdtsc
	mov %eax, start_lo
	mov %edx, start_hi
	mov $COUNT, %ecx
1:	out %al, $0x80
	dec %ecx
	jnz 1b
	mov $'p', %bl
	call report

	rdtsc
	mov %eax, start_lo
	mov %edx, start_hi
	mov $COUNT, %ecx
1:	mov 0xd0000000, %eax
	dec %ecx
	jnz 1b
	mov $'m', %bl
	call report

	dec %ebp
	jnz round
	xor %eax, %eax
	out %eax, $0xf4
1:	hlt
	jmp 1b

/* Prints BL and the cycles since start. */
report:
	rdtsc
	sub start_lo, %eax
	sbb start_hi, %edx
	mov %eax, %esi
	mov %edx, %edi
	mov $0x3f8, %dx
	mov %bl, %al
	out %al, %dx
	mov %edi, %ebx
	call hex
	mov %esi, %ebx
	call hex
	mov $'\n', %al
	out %al, %dx
	ret

/* Prints EBX as 8 hex digits to port DX. */
hex:
	mov $8, %ecx
1:	rol $4, %ebx
	mov %bl, %al
	and $15, %al
	add $'0', %al
	cmp $'9', %al
	jbe 2f
	add $39, %al
2:	out %al, %dx
	dec %ecx
	jnz 1b
	ret

	.data
	.balign 4
start_lo: .long 0
start_hi: .long 0
