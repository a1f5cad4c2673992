/* What rings 0 and 3 may do, and which fault has what they may not. */
#include "tests/kernels/rules.inc"

	.macro in_and_call
	in $0x84, %al
	int $0x80
	.endm

	.macro privileged_and_call
	in %dx, %al
	cli
	sti
	int $0x80
	.endm

	.code64
	.text
long_mode:
	call control_registers
	call msrs
	call ring3
	call ports
	call addresses
	jmp pass64

control_registers:
	mov %cr4, %rax
	bts $31, %rax
	faults 13, 0, "CR4: a reserved bit", mov %rax, %cr4
	mov %cr4, %rax
	btr $5, %rax
	faults 13, 0, "CR4: no PAE", mov %rax, %cr4
	mov %cr0, %rax
	btr $0, %rax
	faults 13, 0, "CR0: PG without PE", mov %rax, %cr0
	mov %cr0, %rax
	btr $31, %rax
	faults 13, 0, "CR0: PG off in 64-bit code", mov %rax, %cr0
	mov %cr0, %rax
	bts $29, %rax
	faults 13, 0, "CR0: NW without CD", mov %rax, %cr0
	mov %cr0, %rax
	bts $32, %rax
	faults 13, 0, "CR0: bit 32", mov %rax, %cr0
	mov %cr3, %rax
	bts $60, %rax
	faults 13, 0, "CR3: bit 60", mov %rax, %cr3
	mov $16, %eax
	faults 13, 0, "CR8: 16", mov %rax, %cr8
	mov $5, %eax
	mov %rax, %cr8
	mov %cr8, %rbx
	cmp $5, %rbx
	must e, "CR8: reads what was written"
	xor %eax, %eax
	mov %rax, %cr8
	faults 6, 0, "CR1", .byte 0x0f, 0x20, 0xc8
	mov $1, %eax
	shl $32, %rax
	faults 13, 0, "DR7: bit 32", mov %rax, %db7
	mov %cr4, %rax
	or $8, %eax
	mov %rax, %cr4			/* DE */
	faults 6, 0, "DR4", .byte 0x0f, 0x21, 0xe0
	mov %cr4, %rax
	and $~8, %eax
	mov %rax, %cr4
	mov %cr0, %rax
	lmsw %ax			/* PE stays, whatever is written */
	xor %eax, %eax
	lmsw %ax
	mov %cr0, %rax
	test $1, %al
	must nz, "LMSW: PE"
	test $0xe, %al
	must z, "LMSW: MP, EM, TS"
	smsw %ebx
	cmp %ebx, %eax
	must e, "SMSW"
	mov $2, %eax
	lmsw %ax
	ret

	.macro msr number, low=0, high=0
	mov $\number, %ecx
	mov $\low, %eax
	mov $\high, %edx
	.endm

msrs:
	msr 0x12345
	faults 13, 0, "RDMSR", rdmsr
	msr 0x12345
	faults 13, 0, "WRMSR", wrmsr
	msr 0xc0000080, 0x8000d01
	faults 13, 0, "EFER: a reserved bit", wrmsr
	msr 0xc0000080, 0x801
	faults 13, 0, "EFER: LME while paging is on", wrmsr
	msr 0xc0000082, 0, 0x8000
	faults 13, 0, "LSTAR: not canonical", wrmsr
	msr 0xc0000101, 0, 0x8000
	faults 13, 0, "GS base: not canonical", wrmsr
	msr 0x40000001, 0x1001
	faults 13, 0, "Hyper-V's hypercall page, which is not offered", wrmsr
	msr 0x4b564d01, 1, 0x8000
	faults 13, 0, "KVM's clock, above all RAM", wrmsr
	msr 0x4b564d00, 0, 0x8000
	faults 13, 0, "KVM's wall clock, above all RAM", wrmsr
	msr 0x12, 1, 0x8000
	faults 13, 0, "KVM's clock by its first number, above all RAM", wrmsr
	msr 0x4b564d03, PAGE + 1
	faults 13, 0, "KVM's stolen time, which is not offered", wrmsr
	msr 0x4b564d01, PAGE + 1
	wrmsr
	cmpl $0, PAGE + 24		/* the scale of the TSC */
	must ne, "KVM's clock"
	msr 0x4b564d01
	wrmsr
	ret

ring3:
	faults3 13, 0, "CLI", cli
	faults3 13, 0, "STI", sti
	faults3 13, 0, "HLT", hlt
	faults3 13, 0, "CLTS", clts
	faults3 13, 0, "MOV CR0", mov %rax, %cr0
	faults3 13, 0, "MOV from CR3", mov %cr3, %rax
	faults3 13, 0, "MOV DR7", mov %rax, %db7
	faults3 13, 0, "LGDT", lgdt gdt_pointer
	faults3 13, 0, "LTR", ltr %ax
	faults3 13, 0, "LMSW", lmsw %ax
	faults3 13, 0, "INVLPG", invlpg (%rax)
	faults3 13, 0, "SWAPGS", swapgs
	faults3 13, 0, "WBINVD", wbinvd
	faults3 13, 0, "RDMSR", rdmsr
	faults3 13, 0, "SYSRET", sysretq
	faults3 6, 0, "UD2", ud2
	mov $KERNEL_DATA, %eax
	faults3 13, KERNEL_DATA, "DS of ring 0", mov %eax, %ds
	xor %eax, %eax
	faults3 13, 0, "SS: null", mov %eax, %ss
	mov $0x83, %eax
	faults3 13, 0x80, "DS: beyond the GDT", mov %eax, %ds
	with_cr0 0x40000, 0		/* AM */
	movq $0x40002, user_flags
	faults3 17, 0, "an access that is not aligned", mov user_stack - 63, %eax
	pushfq
	orl $0x40000, (%rsp)
	popfq
	mov user_stack - 63, %eax	/* ring 0 has no such checks */
	pushfq
	andl $~0x40000, (%rsp)
	popfq
	movq $2, user_flags
	with_cr0 0, 0x40000
	ret

ports:
	faults3 13, 0, "IN", in $0x84, %al
	faults3 13, 0, "OUT", out %al, $0x84
	faults3 13, 0, "INS", insb
	btrw $4, TSS_AT + TSS_MAP + 0x10	/* port 84h alone */
	comes3 0x80, 0, "IN of a port that is open", in_and_call
	faults3 13, 0, "IN of its neighbour", in $0x85, %al
	faults3 13, 0, "IN of both", in $0x84, %ax
	mov $0x7ff, %edx
	faults3 13, 0, "the last port of the map", in %dx, %al
	mov $0x900, %edx
	faults3 13, 0, "a port behind the map", in %dx, %al
	movq $0x3002, user_flags		/* IOPL 3 */
	mov $0x900, %edx
	comes3 0x80, 0, "IOPL 3: IN, CLI, STI", privileged_and_call
	movq $2, user_flags
	ret

addresses:
	mov $1, %ebx
	shl $47, %rbx			/* the first that is not canonical */
	faults 13, 0, "not canonical", mov (%rbx), %al
	faults3 13, 0, "not canonical", mov (%rbx), %al
	mov %rbx, %rbp
	faults 12, 0, "not canonical, by the stack", mov (%rbp), %al
	faults3 12, 0, "not canonical, by the stack", mov (%rbp), %al
	before
	jmp *%rbx
7:	came 13, 0, "a jump to what is not canonical"
	ret
