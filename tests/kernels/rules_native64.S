/* CR0.TS, CR0.EM and CR4.TSD: what native code is kept from by the real registers alone. */
#include "tests/kernels/rules.inc"

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
	jmp pass64
