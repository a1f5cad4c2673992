/* CR0.TS, CR0.EM, CR4.TSD and DR7: what native code is kept from by the real registers alone. */
#include "tests/kernels/rules.inc"

	.macro with_cr0 set, clear
	mov %cr0, %rax
	or $\set, %eax
	and $~\clear, %eax
	mov %rax, %cr0
	.endm

	.macro reset_dr6
	xor %eax, %eax
	mov %rax, %db6
	.endm

	.code64
	.text
long_mode:
	with_cr0 8, 0
	faults 7, 0, "x87 while TS", fld1
	faults 7, 0, "SSE while TS", movups %xmm0, %xmm1
	faults3 7, 0, "x87 of ring 3 while TS", fld1
	clts
	fninit
	movups %xmm0, %xmm1
	with_cr0 4, 2
	faults 6, 0, "SSE while EM", movups %xmm0, %xmm1
	faults 7, 0, "x87 while EM", fld1
	with_cr0 2, 4
	mov %cr4, %rax
	or $4, %eax
	mov %rax, %cr4			/* TSD */
	faults3 13, 0, "RDTSC", rdtsc
	rdtsc
	mov %cr4, %rax
	and $~4, %eax
	mov %rax, %cr4
	call breakpoints
	jmp pass64

breakpoints:
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
	ret
