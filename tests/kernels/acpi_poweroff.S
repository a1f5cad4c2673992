/*
 * Powers off by ACPI: finds the FADT by the RSDP of the PVH start information, and
 * writes SLP_EN to the PM1a control register that it names. The VM ends with status 0.
 */
#include "tests/kernels/common.inc"
#include "tests/kernels/note.inc"

	.text
	.globl _start
_start:
	mov $0x9000, %esp
	mov 32(%ebx), %ebp		/* RSDP */
	mov 24(%ebp), %ebp		/* XSDT */
	mov 4(%ebp), %ecx
	sub $36, %ecx
1:	mov 36(%ebp), %esi
	cmpl $0x50434146, (%esi)	/* "FACP" */
	je 2f
	add $8, %ebp
	sub $8, %ecx
	ja 1b
	cmp %esp, %esp
	check ne, "no FADT"
2:	mov 64(%esi), %edx		/* PM1a_CNT_BLK */
	cmp $0x604, %edx
	mov %esi, %edi
	check e, "PM1a control port"
	mov 76(%edi), %edx		/* PM_TMR_BLK: must run */
	in %dx, %eax
	mov %eax, %ebp
	mov $1000, %ecx
1:	in %dx, %eax
	cmp %eax, %ebp
	loope 1b
	check ne, "the PM timer stands still"
	print "power off\n"
	mov 64(%edi), %edx
	mov $0x2000, %eax		/* SLP_EN, SLP_TYP 0 */
	out %ax, %dx
	mov $1000, %ecx
1:	in $0x80, %al
	loop 1b
	print "still running\n"
	mov $1, %eax
	jmp exit
