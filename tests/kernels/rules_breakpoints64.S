/* DR7: breakpoints and a watchpoint in native code, which the real registers alone make. */
#include "tests/kernels/rules.inc"

	.macro reset_dr6
	xor %eax, %eax
	mov %rax, %db6
	.endm

	.code64
	.text
long_mode:
	mov $5f, %eax
	mov %rax, %db0
	mov $0x401, %eax		/* L0: execution */
	mov %rax, %db7
	before
	nop
5:	nop
	ud2
7:	came 1, 0, "breakpoint"
	cmpq $5b, seen_rip
	must e, "breakpoint: RIP"
	mov %db6, %rax
	and $0x400f, %eax
	cmp $1, %eax
	must e, "breakpoint: DR6"
	reset_dr6
	before
	to_ring3 5b-1
7:	came 1, 0, "breakpoint, ring 3"
	cmpq $5b, seen_rip
	must e, "breakpoint, ring 3: RIP"
	reset_dr6
	movq $0x10002, user_flags	/* RF: passes it once */
	before
	to_ring3 5b
7:	movq $2, user_flags
	came 6, 0, "breakpoint passed with RF"
	mov $PAGE, %eax
	mov %rax, %db1
	mov $0xd00404, %eax		/* L1: writes of 4 bytes */
	mov %rax, %db7
	before
	mov PAGE, %ecx			/* reads are none of its business */
	mov %ecx, PAGE
6:	nop
	nop
	ud2
7:	came 1, 0, "watchpoint"
	cmpq $6b, seen_rip
	must e, "watchpoint: RIP"
	mov %db6, %rax
	and $0x400f, %eax
	cmp $2, %eax
	must e, "watchpoint: DR6"
	reset_dr6
	jmp pass64
