/*
 * From the loader's 32-bit protected mode (PVH: paging off, flat segments, EBX holds
 * the gpa of struct hvm_start_info) to start() in the upper half; and from real mode
 * to ap_start() for the other CPUs.
 */
#include "guest/kernel/layout.h"

#define PHYS(symbol) ((symbol) - KERNEL_BASE)

#define CR0_VALUE 0x80010033 /* PG WP NE ET MP PE */
#define CR4_VALUE 0x000006a0 /* OSXMMEXCPT OSFXSR PGE PAE */
#define MSR_EFER  0xc0000080
#define EFER_BITS 0x00000901 /* NXE LME SCE */
#define EXIT_PORT   0xf4 /* guest/abi.h: TF_PORT_EXIT, TF_EXIT_PANIC */
#define EXIT_PANIC  126

/* XEN_ELFNOTE_PHYS32_ENTRY: where a PVH loader starts us. */
    .section .note.Xen, "a", @note
    .balign 4
    .long 4, 4, 18
    .asciz "Xen"
    .long PHYS(pvh_entry)

    .section .text.boot, "ax"
    .code32
    .globl pvh_entry
pvh_entry:
    cld
    cli
    movl %ebx, %edi
    lgdt PHYS(boot_gdt_pointer)
    ljmp $SEL_KERNEL_CODE_32, $PHYS(1f)
1:  movl $SEL_KERNEL_DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss

    /* Long mode and NX are what this kernel can't do without. */
    movl $0x80000000, %eax
    cpuid
    cmpl $0x80000001, %eax
    jb no_long_mode
    movl $0x80000001, %eax
    cpuid
    andl $0x20100000, %edx
    cmpl $0x20100000, %edx
    jne no_long_mode

    /* With SMAP, the NOPs of trap.h become real while nothing is write-protected yet. */
    xorl %eax, %eax
    cpuid
    cmpl $7, %eax
    jb enter_long
    movl $7, %eax
    xorl %ecx, %ecx
    cpuid
    btl $20, %ebx
    jnc enter_long
    movl $PHYS(smap_sites), %esi
    jmp 3f
2:  movl (%esi), %edx
    movl 4(%esi), %eax
    movl %eax, (%edx)
    movl 8(%esi), %eax
    movl %eax, 3(%edx)
    addl $12, %esi
3:  cmpl $PHYS(smap_sites_end), %esi
    jb 2b

/* EDI: start info of the boot CPU, 0 on the others. */
enter_long:
    movl $CR4_VALUE, %eax
    movl %eax, %cr4
    movl $PHYS(boot_pml4), %eax
    movl %eax, %cr3
    movl $MSR_EFER, %ecx
    rdmsr
    orl $EFER_BITS, %eax
    wrmsr
    movl $CR0_VALUE, %eax
    movl %eax, %cr0
    ljmp $SEL_KERNEL_CODE, $PHYS(long_low)

no_long_mode:
    movl $EXIT_PANIC, %eax
    outb %al, $EXIT_PORT
4:  hlt
    jmp 4b

    .code64
long_low:
    movabsq $long_high, %rax
    jmp *%rax
long_high:
    lgdt boot_gdt_pointer_high
    testl %edi, %edi
    jz ap_high
    movabsq $(KSTACK_BASE + KSTACK_SLOT), %rsp
    movq $PHYS(kernel_pml4), %rax
    movq %rax, %cr3
    xorl %ebp, %ebp
    call start
    ud2

/* An AP finds its struct cpu by its APIC id, and its stack in there. */
ap_high:
    movl $1, %eax
    invlpg ap_numbers /* see cpuid() */
    cpuid
    shrl $24, %ebx
    movzbl ap_numbers(%rbx), %eax
    movq cpus(, %rax, 8), %rdi
    movq 8(%rdi), %rsp
    movq $PHYS(kernel_pml4), %rax
    movq %rax, %cr3
    xorl %ebp, %ebp
    call ap_start
    ud2

/*
 * Copied to TRAMPOLINE: real mode, CS = TRAMPOLINE >> 4. Its only task is to get out
 * of there, into the 32-bit code above.
 */
    .section .rodata.trampoline, "a"
    .code16
    .globl trampoline, trampoline_end
trampoline:
    cli
    cld
    lgdtl %cs:(5f - trampoline)
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $SEL_KERNEL_CODE_32, $PHYS(ap_32)
5:  .short boot_gdt_end - boot_gdt - 1
    .long PHYS(boot_gdt)
trampoline_end:

    .section .text.boot, "ax"
    .code32
ap_32:
    movl $SEL_KERNEL_DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %edi, %edi
    jmp enter_long

/* Until cpu_setup() loads the CPU's own. Accessed is set: rodata can't be written. */
    .section .rodata.gdt, "a"
    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00cf9b000000ffff /* SEL_KERNEL_CODE_32 */
    .quad 0x00af9b000000ffff /* SEL_KERNEL_CODE */
    .quad 0x00cf93000000ffff /* SEL_KERNEL_DATA */
boot_gdt_end:
boot_gdt_pointer:
    .short boot_gdt_end - boot_gdt - 1
    .long PHYS(boot_gdt)
boot_gdt_pointer_high:
    .short boot_gdt_end - boot_gdt - 1
    .quad boot_gdt

    .section .note.GNU-stack, "", @progbits
