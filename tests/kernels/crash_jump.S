/* A jump to where there is no RAM: KVM can't fetch there. Status 127 and a dump. */
#include "tests/kernels/common.inc"
#include "tests/kernels/note.inc"

	.text
	.globl _start
_start:
	mov $0x9000, %esp
	print "crash\n"
	mov $0xd0000000, %eax
	jmp *%eax
