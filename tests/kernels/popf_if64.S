/*
 * Gets its interrupts back by POPF, which ring 3 ignores: with shadow paging a warning says so, as
 * soon as such a POPF is interpreted. This one always is, as a privileged instruction is before it.
 */
#include "tests/kernels/rules.inc"

	.code64
	.text
long_mode:
	cli
	pushfq
	orl $IF, (%rsp)
	popfq
	pushfq
	cli
	pop %rax
	test $IF, %eax
	must nz, "POPF"
	jmp pass64
