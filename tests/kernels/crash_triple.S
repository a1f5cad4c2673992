/* An invalid instruction without an IDT: a triple fault. The VM crashes: status 127 and a dump. */
#include "tests/kernels/common.inc"
#include "tests/kernels/note.inc"

	.text
	.globl _start
_start:
	mov $0x9000, %esp
	print "crash\n"
	lidt empty
	ud2
	print "still running\n"
	mov $1, %eax
	jmp exit

	.data
empty:
	.word 0
	.long 0
