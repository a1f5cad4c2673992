/*
 * Events: software interrupts, fast calls, single steps, breakpoints, interrupts and where they may
 * come, NMI, double faults, code that changes itself.
 */
#include "tests/kernels/rules.inc"

#define ICR_SELF 0x40000	/* destination shorthand: this CPU */
#define ICR_NMI	 0x400

	/* The handler for `vector` from now on; 0: note it. */
	.macro hook vector, handler
	movq $\handler, hooks + 8 * \vector
	.endm

	/* The instructions that are stepped over or into, between `before` and label 7. */
	.macro step_flag
	pushfq
	orl $TF, (%rsp)
	popfq
	.endm

	.macro reset_dr6
	xor %eax, %eax
	mov %rax, %db6
	.endm

	/* A single step ended at `where`. */
	.macro stepped where, text
	came 1, 0, "\text"
	cmpq $\where, seen_rip
	must e, "\text: RIP"
	mov %db6, %rax
	test $0x4000, %eax
	must nz, "\text: DR6.BS"
	xor %eax, %eax
	mov %rax, %db6
	.endm

	/* One instruction with TF set: the step ends behind it. */
	.macro steps text, insn:vararg
	before
	step_flag
	\insn
6:	nop
	nop
	ud2
7:	stepped 6b, "\text"
	.endm

	.macro steps3 text, insn:vararg
	before
	movq $TF + 2, user_flags
	to_ring3 5f
5:	\insn
6:	nop
	nop
	ud2
7:	movq $2, user_flags
	stepped 6b, "\text, ring 3"
	.endm

	.code64
	.text
long_mode:
#ifdef RULES_NMI
	call nmi
#else
	call software
	call fast_calls
	call single_step
	call debug_registers
	call flag
	call interrupts
	call double_faults
	call changes
#endif
	jmp pass64

software:
	comes 0x30, 0, "INT 30h", int $0x30
	comes 3, 0, "INT3", int3
	comes 0x80, 0, "INT 80h", int $0x80
	comes 1, 0, "INT1", .byte 0xf1
	faults3 13, 0x182, "INT 30h, DPL 0", int $0x30
	comes3 3, 0, "INT3 of ring 3", int3
	comes3 0x80, 0, "INT 80h of ring 3", int $0x80
	comes3 1, 0, "INT1 of ring 3", .byte 0xf1
	cmpl $USER_DATA, seen_ss
	must e, "SS of ring 3"
	cmpl $user_stack, seen_rsp
	must e, "RSP of ring 3"
	pushq $KERNEL_DATA
	pushq $1f
	faults 13, KERNEL_DATA, "a far return to a data segment", lretq
1:	add $16, %rsp
	before
	to_ring3 5f
5:	push $KERNEL_DATA		/* IRET to ring 0, from ring 3 */
	push $user_stack
	push $2
	push $KERNEL_CODE
	push $user_code
	iretq
7:	came 13, KERNEL_CODE, "IRET from ring 3 to ring 0"
	ret

	.macro wrmsr64 number, low, high=0
	mov $\number, %ecx
	mov $\low, %eax
	mov $\high, %edx
	wrmsr
	.endm

fast_calls:
	wrmsr64 0xc0000081, 0, 0x180008	/* STAR: rings 3 and 0 */
	wrmsr64 0xc0000082, syscall_entry
	wrmsr64 0xc0000084, IF+0x400	/* SFMASK: IF, DF */
	wrmsr64 0x174, KERNEL_CODE
	wrmsr64 0x175, stack-256
	wrmsr64 0x176, sysenter_entry
	before
	movq $0x602, user_flags
	to_ring3 user_code
7:	movq $2, user_flags
	came 0x80, 0, "SYSCALL and SYSRET"
	cmp $0x5ca11, %rax
	must e, "SYSCALL: the number"
	cmpl $USER_CODE, seen_cs
	must e, "SYSRET: CS"
	cmpl $USER_DATA, seen_ss
	must e, "SYSRET: SS"
	cmpl $user_code_end, seen_rip
	must e, "SYSRET: RIP"
	mov seen_flags, %eax
	and $0x600, %eax
	cmp $0x600, %eax
	must e, "SYSRET: the flags that SYSCALL masked"
	mov %r8, %rax
	and $0x600, %eax
	must z, "SYSCALL: the masked flags"
	before
	movq $0x202, user_flags
	to_ring3 user_sysenter
7:	movq $2, user_flags
	came 0x80, 0, "SYSENTER and SYSEXIT"
	cmp $stack - 256, %r8
	must e, "SYSENTER: RSP"
	cmp $KERNEL_CODE, %r9d
	must e, "SYSENTER: CS"
	cmpl $USER_CODE, seen_cs
	must e, "SYSEXIT: CS"
	cmpl $user_stack - 16, seen_rsp
	must e, "SYSEXIT: RSP"
	testl $IF, seen_flags
	must z, "SYSENTER clears IF, and SYSEXIT leaves it"
	mov $0xc0000080, %ecx
	mov $0x900, %eax		/* EFER: no SCE */
	xor %edx, %edx
	wrmsr
	faults3 6, 0, "SYSCALL that is off", syscall
	faults 6, 0, "SYSRET that is off", sysretq
	mov $0xc0000080, %ecx
	mov $0x901, %eax
	xor %edx, %edx
	wrmsr
	ret

user_code:
	mov $0x5ca11, %eax
	syscall
	int $0x80
user_code_end:
	ud2

syscall_entry:
	pushfq				/* still on the stack of ring 3 */
	pop %r8
	cmp $user_code + 7, %rcx
	must e, "SYSCALL: RCX"
	mov %cs, %edx
	cmp $KERNEL_CODE, %edx
	must e, "SYSCALL: CS"
	sysretq

user_sysenter:
	sysenter
	ud2
user_sysexit:
	int $0x80
	ud2

sysenter_entry:
	mov %rsp, %r8
	mov %cs, %r9d
	mov $user_sysexit, %edx
	mov $user_stack - 16, %ecx
	sysexitq

single_step:
	reset_dr6
	mov %cr3, %rbp
	steps "step over NOP", nop
	steps "step over a privileged instruction", mov %cr0, %rax
	steps "step over CLI", cli
	steps "step over MOV CR3", mov %rbp, %cr3
	steps "step over CPUID", cpuid
	steps "step over OUT", out %al, $0x84
	steps "step over PUSH", push %rax
	steps3 "step over NOP", nop
	steps3 "step over CPUID", cpuid
	xor %ecx, %ecx
	before
	step_flag
	rep movsb
6:	nop
7:	stepped 6b, "step over a REP that does nothing"
	before
	step_flag
	int $0x80			/* its handler is not stepped, and IRET sets the flag again */
6:	nop
	nop
7:	came 0x80, 0, "step into INT"
	testl $TF, seen_flags
	must nz, "step into INT: the flag that is pushed"
	ret

debug_registers:
	mov $0x2400, %eax		/* GD: nobody may touch the debug registers */
	mov %rax, %db7
	faults 1, 0, "DR7.GD", mov %db0, %rax
	mov %db7, %rax
	test $0x2000, %eax
	must z, "DR7.GD is clear in the handler"
	mov %db6, %rax
	test $0x2000, %eax
	must nz, "DR6.BD"
	reset_dr6
	mov $0x400, %eax
	mov %rax, %db7
	ret

/* What PUSHF says of IF. */
flag:
	sti
	nop
	pushfq
	cli
	pop %rax
	test $IF, %eax
	must nz, "PUSHF behind STI"
	mov %cr0, %rax
	nop
	pushfq
	pop %rax
	test $IF, %eax
	must z, "PUSHF behind CLI"
	pushq $KERNEL_DATA
	pushq $stack - 512
	pushq $IF + 2
	pushq $KERNEL_CODE
	pushq $1f
	mov %rsp, %rbp
	iretq
1:	pushfq
	pop %rax
	cli
	lea 40(%rbp), %rsp
	test $IF, %eax
	must nz, "PUSHF behind IRET"
	ret

	.macro send command:vararg	/* changes RDI, as the next */
	mov $APIC, %edi
	movl $\command, 0x300(%rdi)
	.endm
	.macro end_of_interrupt
	mov $APIC, %edi
	movl $0, 0xb0(%rdi)
	.endm

interrupts:
	before
	send ICR_SELF + 0x51		/* waits: IF is clear */
	mov $1000, %ecx
1:	loop 1b
	cmpl $-1, seen_vector
	must e, "an interrupt while IF is clear"
	mov $1000, %ebp
1:	sti				/* open for the end of one instruction, again and again */
	nop
6:	cli
	dec %ebp
	jnz 1b
	ud2
7:	end_of_interrupt
	came 0x51, 0, "interrupt between STI and CLI"
	cmpq $6b, seen_rip
	must e, "interrupt: behind the instruction that follows STI"
	before
	send ICR_SELF + 0x52
	mov $100, %ebp
1:	sti				/* never open for a whole instruction */
	cli
	dec %ebp
	jnz 1b
	cmpl $-1, seen_vector
	must e, "an interrupt between STI and CLI"
	mov $6, %eax
	mov %rax, %cr8			/* above 52h's class: it waits on */
	sti
	nop
	nop
	cpuid
	nop
	cli
	cmpl $-1, seen_vector
	must e, "an interrupt below the task's priority"
	sti
	xor %eax, %eax
	mov %rax, %cr8
	mov $100000, %ecx
1:	loop 1b
	ud2
7:	end_of_interrupt
	came 0x52, 0, "interrupt when CR8 lets it in"
	before
	send ICR_SELF + 0x53
	sti
	hlt				/* it is there already, and comes behind HLT */
6:	ud2
7:	end_of_interrupt
	came 0x53, 0, "interrupt behind STI and HLT"
	cmpq $6b, seen_rip
	must e, "interrupt behind HLT: RIP"
	before
	movq $IF + 2, user_flags
	send ICR_SELF + 0x54
	to_ring3 1f
1:	pause
	jmp 1b
7:	movq $2, user_flags
	end_of_interrupt
	came 0x54, 0, "interrupt of ring 3"
	cmpl $USER_CODE, seen_cs
	must e, "interrupt of ring 3: CS"
	ret

	/* Counts; IRET takes NMIs again. */
nmi_handler:
	incl nmis
	mov saved_rax, %rax
	add $8, %rsp
	iretq
	/* Sends itself another one, which has to wait for IRET. */
nmi_nested:
	incl nmis
	cmpl $1, nmis
	jne 2f
	send ICR_SELF + ICR_NMI
	mov $1000, %rax
1:	dec %rax
	jnz 1b
	mov nmis, %eax
	mov %eax, nmis_inside
2:	mov saved_rax, %rax
	add $8, %rsp
	iretq

nmi:
	hook 2, nmi_handler
	send ICR_SELF + ICR_NMI
	mov $10000, %ecx
1:	cmpl $1, nmis
	loopne 1b
	must e, "NMI while IF is clear"
	movl $0, nmis
	hook 2, nmi_nested
	send ICR_SELF + ICR_NMI
	mov $10000, %ecx
1:	cmpl $2, nmis
	loopne 1b
	must e, "NMI sent by an NMI's handler"
	cmpl $1, nmis_inside
	must e, "NMI within an NMI's handler"
	hook 2, 0
	before
	send ICR_SELF + 0x55		/* both, from ring 3: the page is open for it here */
	orb $U, PD_APIC + 0x1f7 * 8
	orb $U, PDPT_LOW + 3 * 8
	mov %cr3, %rax
	mov %rax, %cr3
	to_ring3 1f
1:	send ICR_SELF + ICR_NMI
2:	pause
	jmp 2b
7:	came 2, 0, "NMI of ring 3"
	cmpl $USER_CODE, seen_cs
	must e, "NMI of ring 3: CS"
	before
	sti
	nop
	nop
	mov $100000, %ecx
1:	loop 1b
	ud2
7:	end_of_interrupt
	came 0x55, 0, "the interrupt behind it"
	ret

double_faults:
	before
	mov $0x100000000, %rsp		/* nothing is mapped there */
	ud2
7:	came 8, 0, "#UD on a stack that is not mapped"
	before
	mov $3, %esp
	shl $46, %rsp			/* not canonical */
	int $0x30
7:	came 8, 0, "INT on a stack that is not canonical"
	before
	mov $3, %esp
	shl $46, %rsp
	ud2
7:	came 8, 0, "#UD on a stack that is not canonical"
	andl $~0x8000, idt + 13 * 16 + 4	/* no gate for #GP */
	before
	mov $1, %eax
	shl $47, %rax
	mov (%rax), %al
7:	came 8, 0, "#GP without a gate"
	andl $~0x8000, idt + 6 * 16 + 4	/* nor for #UD: #NP, which has one */
	faults 11, 0x33, "#UD without a gate", ud2
	ret

/* An instruction that was executed is changed, by ourselves and by another mapping of it. */
changes:
	xor %ebx, %ebx
	mov $1000, %ecx
1:	movb %cl, 2f + 1
	jmp 2f
2:	mov $0, %al
	cmp %al, %cl
	must e, "code that changes itself"
	dec %ecx
	jnz 1b
	movabs $MAPPED, %rbx
	mov $3f, %eax
	mov %eax, %edx
	and $0xfff, %edx
	add %rdx, %rbx
	and $0xfffff000, %eax
	or $P + W, %eax
	mov %eax, PT
	mov $1000, %ecx
1:	mov %cl, 1(%rbx)
	mov %cr0, %rax			/* a privileged one: what follows is interpreted */
	jmp 3f
3:	mov $0, %al
	cmp %al, %cl
	must e, "code that changes by another address"
	dec %ecx
	jnz 1b
	ret

	.bss
nmis:	.skip 4
nmis_inside: .skip 4
