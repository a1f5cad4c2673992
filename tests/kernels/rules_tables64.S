/*
 * Tables as no kernel should have them: entries with reserved bits, tables and pages where no RAM
 * is, tables that contain themselves, all 512 entries of the root; and the fault codes. "nested":
 * without what KVM itself makes otherwise. "broken": eleven faults by broken tables, then it spins.
 */
#include "tests/kernels/rules.inc"

#define WINDOW	0xffffc00000000000	/* PML4 entry 384: the monitor's with shadow paging */
#define NOWHERE 0x30000000		/* no RAM */
#define NX	0x8000000000000000

	.macro map raw
	movabs $\raw, %rax
	mov %rax, PT
	invlpg (%rbx)
	.endm

	.code64
	.text
long_mode:
	movabs $MAPPED, %rbx
	mov arguments, %rsi
	cmpb $'n', (%rsi)
	je 1f
	call tables_nowhere
	mov arguments, %rsi
	cmpb $'b', (%rsi)
	je broken
1:	call codes
	call reserved
	call pages_nowhere
	call window_empty
	call window_used
	call all_slots
	call recursion
	jmp pass64

broken:
	call reserved
	mov $ready, %esi
	call puts64
	jmp .

/* Codes: 1 present, 2 write, 4 ring 3, 8 reserved bits, 10h fetch. */
codes:
	map 0
	faults 14, 0, "read of nothing", mov (%rbx), %al
	cmp %rbx, seen_cr2
	must e, "CR2"
	faults 14, 2, "write to nothing", mov %al, 5(%rbx)
	lea 5(%rbx), %rcx
	cmp %rcx, seen_cr2
	must e, "CR2 within the page"
	faults3 14, 4, "read of nothing, ring 3", mov (%rbx), %al
	faults3 14, 6, "write to nothing, ring 3", mov %al, (%rbx)
	before
	jmp *%rbx
7:	came 14, 0x10, "fetch of nothing"
	map PAGE + P
	faults 14, 3, "write to what is read-only", mov %al, (%rbx)
	faults3 14, 5, "read of ring 0's, ring 3", mov (%rbx), %al
	map PAGE + P + W + U + NX
	before
	jmp *%rbx
7:	came 14, 0x11, "fetch of what is not code"
	before
	to_ring3 0x8000000000
7:	came 14, 0x15, "fetch of what is not code, ring 3"
	mov %cr0, %rax
	btr $16, %rax
	mov %rax, %cr0
	map PAGE + P
	movl $0x600df00d, (%rbx)	/* without WP ring 0 may */
	cmpl $0x600df00d, PAGE
	must e, "write without WP"
	mov %cr0, %rax
	bts $16, %rax
	mov %rax, %cr0
	faults 14, 3, "write with WP again", mov %al, (%rbx)
	ret

reserved:
	map PAGE + P + W + U + (1 << 51)
	faults 14, 9, "PTE: bit 51, read", mov (%rbx), %al
	faults 14, 0xb, "PTE: bit 51, write", mov %al, (%rbx)
	faults3 14, 0xd, "PTE: bit 51, ring 3", mov (%rbx), %al
	faults3 14, 0xf, "PTE: bit 51, write, ring 3", mov %al, (%rbx)
	map PAGE + P + W + U
	mov (%rbx), %al
	movq $0x202000 + P + W + PS, PD
	invlpg (%rbx)
	faults 14, 9, "PDE of 2 MiB: bit 13", mov (%rbx), %al
	movq $PT + P + W + U, PD
	movq $0x200000 + P + W + PS, PDPT
	invlpg (%rbx)
	faults 14, 9, "PDPTE of 1 GiB: bit 21", mov (%rbx), %al
	movq $PD + P + W + U, PDPT
	movq $PDPT + P + W + U + PS, PML4 + 8
	invlpg (%rbx)
	faults 14, 9, "PML4E: PS", mov (%rbx), %al
	faults3 14, 0xf, "PML4E: PS, write of ring 3", mov %al, (%rbx)
	movq $PDPT + P + W + U, PML4 + 8
	invlpg (%rbx)
	mov (%rbx), %al
	mov $0xc0000080, %ecx
	mov $0x101, %eax		/* EFER: no NXE */
	xor %edx, %edx
	wrmsr
	map PAGE + P + W + U + NX
	faults 14, 9, "PTE: NX without NXE", mov (%rbx), %al
	mov $0xc0000080, %ecx
	mov $0x901, %eax
	xor %edx, %edx
	wrmsr
	mov (%rbx), %al
	ret

pages_nowhere:
	map NOWHERE + P + W + U
	cmpb $0xff, 3(%rbx)
	must e, "a byte of no RAM"
	movl $0, 4(%rbx)
	cmpl $-1, 4(%rbx)
	must e, "no RAM, written"
	mov 2(%rbx), %rax
	cmp $-1, %rax
	must e, "eight bytes of no RAM, not aligned"
	mov 0x3d0(%rbx), %eax
	inc %eax
	must z, "no RAM elsewhere"
	call highest_gpa
	mov %rax, PT
	invlpg (%rbx)
	cmpl $-1, (%rbx)
	must e, "the upper half of gpa"
	movl $0, (%rbx)
	cmpl $-1, (%rbx)
	must e, "the upper half of gpa, written"
	movq $NOWHERE + P + W + U + PS, PD
	invlpg (%rbx)
	cmpl $-1, 0x12345(%rbx)
	must e, "2 MiB of no RAM"
	movq $PT + P + W + U, PD
	map PAGE + P + W + U
	ret

/* RAX: an entry for the page in the upper half of gpa, where shadow paging hides its own. */
highest_gpa:
	mov %rbx, %r8
	mov $0x80000008, %eax
	invlpg (%rbx)			/* CPUID's answer is then the monitor's, wherever it runs */
	cpuid
	mov %r8, %rbx
	lea -1(%rax), %ecx
	mov $1, %edx
	shl %cl, %rdx
	lea PAGE + P + W + U(%rdx), %rax
	ret

/* A table where no RAM is reads as all ones: reserved bits are set. */
tables_nowhere:
	movq $NOWHERE + P + W + U, PD
	invlpg (%rbx)
	faults 14, 9, "a page table of no RAM", mov (%rbx), %al
	movq $PT + P + W + U, PD
	movq $NOWHERE + P + W + U, PML4 + 8
	invlpg (%rbx)
	faults3 14, 0xf, "a PDPT of no RAM", mov %al, (%rbx)
	movq $PDPT + P + W + U, PML4 + 8
	invlpg (%rbx)
	ret

	.macro window_faults at
	movabs $WINDOW + \at, %rbp
	faults 14, 0, "window, empty, \at: read", mov %ds:(%rbp), %al
	cmp %rbp, seen_cr2
	must e, "window, \at: CR2"
	faults 14, 2, "window, empty, \at: write", mov %al, %ds:(%rbp)
	faults3 14, 4, "window, empty, \at: read, ring 3", mov %ds:(%rbp), %al
	faults3 14, 6, "window, empty, \at: write, ring 3", mov %al, %ds:(%rbp)
	before
	jmp *%rbp
7:	came 14, 0x10, "window, empty, \at: fetch"
	before
	to_ring3 8f
8:	jmp *%rbp
7:	came 14, 0x14, "window, empty, \at: fetch, ring 3"
	.endm

window_empty:
	window_faults 0
	window_faults 0x10
	window_faults 0x1000
	window_faults 0x6000
	window_faults 0x6ff8
	window_faults 0x46000
	window_faults 0x3fe00000
	window_faults 0x40000000
	window_faults 0x7ffffff000
	ret

/* The guest's own mapping there works as any other. */
window_used:
	movq $PDPT + P + W + U, PML4 + 384 * 8
	map PAGE + P + W + U
	movabs $WINDOW, %rbp
	movl $0x12345678, %ds:(%rbp)
	cmpl $0x12345678, PAGE
	must e, "window: written"
	lock incl %ds:(%rbp)
	cmpl $0x12345679, %ds:(%rbp)
	must e, "window: counted"
	movw $0x9090, PAGE		/* nop; nop; ret */
	movb $0xc3, PAGE + 2
	call *%rbp
	movw $0x80cd, PAGE		/* int 80h */
	before
	to_ring3 WINDOW
7:	came 0x80, 0, "window: INT of ring 3"
	map PAGE + P
	invlpg %ds:(%rbp)
	faults 14, 3, "window: write to what is read-only", mov %al, %ds:(%rbp)
	faults3 14, 5, "window: ring 3", mov %ds:(%rbp), %al
	map PAGE + P + W + U + (1 << 51)
	invlpg %ds:(%rbp)
	faults 14, 9, "window: reserved bits", mov %ds:(%rbp), %al
	faults 14, 0, "window: the page behind", mov %ds:0x1000(%rbp), %al
	map PAGE + P + W + U
	movq $0, PML4 + 384 * 8
	mov %cr3, %rax
	mov %rax, %cr3
	faults 14, 0, "window: empty again", mov %ds:(%rbp), %al
	ret

/* Each entry of the root leads to the page. */
all_slots:
	mov $2, %ecx
1:	movq $PDPT + P + W + U, PML4(, %rcx, 8)
	inc %ecx
	cmp $512, %ecx
	jb 1b
	mov %cr3, %rax
	mov %rax, %cr3
	mov $1, %rcx
2:	mov %rcx, %rbp
	shl $39 + 16, %rbp
	sar $16, %rbp
	mov %rcx, %ds:(%rbp)
	cmp %rcx, PAGE
	must e, "all slots: written"
	notq PAGE
	mov %ds:(%rbp), %rax
	not %rax
	cmp %rax, %rcx
	must e, "all slots: read"
	inc %ecx
	cmp $512, %ecx
	jb 2b
	mov $2, %ecx
3:	movq $0, PML4(, %rcx, 8)
	inc %ecx
	cmp $512, %ecx
	jb 3b
	mov %cr3, %rax
	mov %rax, %cr3
	ret

/* PML4[256] is the PML4: as each level of a walk. Then each free entry is. */
recursion:
	movq $PML4 + P + W, PML4 + 256 * 8
	movabs $0xffff804020100800, %rbp	/* 256 at each level, entry 256 */
	mov %ds:(%rbp), %rax
	and $~0x60, %rax
	cmp $PML4 + P + W, %rax
	must e, "recursion: itself"
	movabs $0xffff800000000000 + (1 << 30), %rbp	/* the page tables of MAPPED: 256, 1, 0, 0 */
	movq $PAGE + P + W + U, %ds:(%rbp)
	invlpg (%rbx)
	movl $0x11111111, (%rbx)
	cmpl $0x11111111, PAGE
	must e, "recursion: a page that it maps"
	movl $0x22222222, PAGE + 0x1000
	mov $100, %ecx
1:	movq $PAGE + 0x1000 + P + W + U, %ds:(%rbp)	/* more often than tables stay unprotected */
	invlpg (%rbx)
	cmpl $0x22222222, (%rbx)
	must e, "recursion: another page"
	movq $PAGE + P + W + U, %ds:(%rbp)
	invlpg (%rbx)
	cmpl $0x11111111, (%rbx)
	must e, "recursion: the first page again"
	mov %cr3, %rax
	mov %rax, %cr3
	dec %ecx
	jnz 1b
	mov $2, %ecx
2:	movq $PML4 + P + W, PML4(, %rcx, 8)
	inc %ecx
	cmp $512, %ecx
	jb 2b
	mov %cr3, %rax
	mov %rax, %cr3
	mov $2, %rcx
3:	mov %rcx, %rdx			/* the same entry at all four levels */
	shl $9, %rdx
	or %rcx, %rdx
	shl $9, %rdx
	or %rcx, %rdx
	shl $9, %rdx
	or %rcx, %rdx
	shl $12 + 16, %rdx
	sar $16, %rdx
	mov (%rdx), %rax		/* entry 0 */
	and $~0x60, %rax
	cmp $PDPT_LOW + P + W + U, %rax
	must e, "recursion: by any entry"
	faults3 14, 5, "recursion: ring 3", mov (%rdx), %al
	inc %ecx
	cmp $512, %ecx
	jb 3b
	ret

	.section .rodata
ready:	.asciz "ready\n"
